"""Whether a corpus on the disk is complete: its lists of trials, their audio files, its splits beside each other.

Only the presence and the size of the audio files are looked at (of Parquet, whether rows have some); they are not
decoded. All tracks of ASVspoof2019 and
ASVspoof2021 that a folder holds are checked, and of ASVspoof2021 all subsets; any other corpus as `protocols` finds it.
"""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.custom import columns_not_read
from s2pecnet.corpora.detect import corpora_at, why_nothing
from s2pecnet.corpora.trials import PATH_NAMES, Corpus, MissingClassError, Split, Trials, audio_path
from s2pecnet.errors import InputError

# Trials of the protocols of the released corpora, by split: 2019 and 2021 from their papers, ASVspoof5 from README.txt.
FULL_CORPORA = {
    "ASVspoof2019 LA": (25_380, 24_844, 71_237),
    "ASVspoof2019 PA": (54_000, 29_700, 134_730),
    "ASVspoof2021 LA": (181_566,),
    "ASVspoof2021 DF": (611_829,),
    "ASVspoof5": (182_357, 140_950, 680_774),
    "In-the-Wild": (31_779,),
}
NAMED_EXAMPLES = 3
NAMED_LINES = 10


@dataclass
class TreeReport:
    """What `check_tree` found: lines that inform, and lines that each name something missing or wrong."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the lists are in order and every trial has its audio."""
        return not self.problems


def check_tree(root: Path) -> TreeReport:
    """Check every corpus at `root`, a folder or a list of trials."""
    report = TreeReport()
    try:
        corpora = corpora_at(root)
    except InputError as error:
        report.problems.append(str(error))
        return report
    if not corpora:
        report.problems.append(f"{root}: {why_nothing(root)}")
    for label, corpus in corpora.items():
        _check_corpus(label, corpus, report)
    return report


def _check_corpus(label: str, corpus: Corpus, report: TreeReport) -> None:
    sizes = functools.cache(_sizes)
    # What is wrong with the lists, each problem once: the splits of a CSV file are read from the same lines.
    errors: dict[str, None] = {}
    tried = {
        name: _check_split(label, corpus.splits[name], sizes, errors, report)
        for name in SPLITS
        if name in corpus.splits
    }
    read = {name: trials for name, trials in tried.items() if trials is not None}
    report.problems += list(errors)[:NAMED_LINES]
    if len(errors) > NAMED_LINES:
        report.problems.append(f"{label}: {len(errors) - NAMED_LINES:,} more problems in its lists")
    if corpus.note:
        report.facts.append(f"{label}: note: {corpus.note}")
    if corpus.unused:
        report.problems.append(
            f"{label}: audio that belongs to no split, and is not used: {_some_of(list(corpus.unused))}"
        )
    stores = {split.store for split in corpus.splits.values() if split.store is not None}
    without = sum(store.without_audio() for store in stores)
    if without:
        report.problems.append(f"{corpus.root}: {without:,} rows without audio bytes")
    if corpus.title == "CSV":
        spare = columns_not_read(next(iter(corpus.splits.values())).protocol)
        report.facts += [f"{label}: note: columns that are not read: {', '.join(spare)}"] if spare else []
    for (one, first), (other, second) in itertools.combinations(read.items(), 2):
        both = f"in both {one} and {other}"
        twice = np.intersect1d(first.utterance.encoded, second.utterance.encoded)
        # What stands twice in one list has been reported with its lines.
        if len(twice) and corpus.splits[one].protocol != corpus.splits[other].protocol:
            utterances = [name.decode() for name in twice.tolist()]
            report.problems.append(f"{label}: utterances {both}: {len(utterances):,} ({_some_of(utterances)})")
        speakers = sorted(set(first.speaker.present()) & set(second.speaker.present()) - {"-"})
        if speakers:
            report.facts.append(f"{label}: note: speakers {both}: {len(speakers):,} ({_some_of(speakers)})")
    full = FULL_CORPORA.get(corpus.title)
    if full and len(read) == len(tried):
        verdict = "the full" if tuple(map(len, read.values())) == full else "not the full"
        report.facts.append(f"{label}: {verdict} {corpus.title} ({' / '.join(f'{n:,}' for n in full)})")


def _check_split(
    label: str, split: Split, sizes: Callable[[str], dict[str, int]], errors: dict[str, None], report: TreeReport
) -> Trials | None:
    """Report on one split; None where its list cannot be read."""
    label = f"{label} {split.name}"
    if split.asv_scores and split.name != "train" and not split.asv_scores.is_file():
        report.facts.append(f"{label}: note: no ASV scores, so no t-DCF ({split.asv_scores})")
    problems: list[InputError] = []
    try:
        trials = split.read(problems.append)
    except InputError as error:
        errors[str(error)] = None
        return None
    incomplete = [problem for problem in problems if isinstance(problem, MissingClassError)]
    errors.update({str(problem): None for problem in problems if problem not in incomplete})
    bonafide = int(trials.is_bonafide.sum())
    counts = f"{len(trials):,} trials ({bonafide:,} bona fide, {len(trials) - bonafide:,} spoof)"
    if split.files != PATH_NAMES:
        # The split has a folder of its own.
        folder, name = os.path.split(split.audio / split.files)
        there = sizes(folder)
        spare = len(there.keys() - {name.format(utterance) for utterance in trials.utterance})
        counts += f"; {len(there):,} files on disk, {spare:,} of them not in the protocol"
    report.facts += [f"{label}: {counts}", *(f"{label}: note: {why}" for why in incomplete)]
    parts = Counter(trials.part)
    if len(parts) > 1:
        subsets = ", ".join(f"{name} {count:,}" for name, count in sorted(parts.items()))
        report.facts.append(f"{label}: subsets {subsets}")
    if split.store is not None:
        return trials
    home = (split.audio / split.files).parent
    missing: list[str] = []
    empty: list[str] = []
    for utterance in trials.utterance:
        path = audio_path(split.audio, split.files, utterance)
        size = sizes(str(path.parent)).get(path.name)
        if not size:
            (missing if size is None else empty).append(os.path.relpath(path, home))
    for fault, files in (("missing", missing), ("empty (0 bytes)", empty)):
        if files:
            report.problems.append(f"{home}: {len(files):,} of {len(trials):,} files {fault}: {_some_of(files)}")
    return trials


def _sizes(folder: str) -> dict[str, int]:
    """Bytes of each file of a folder."""
    if not os.path.isdir(folder):
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _some_of(names: list[str]) -> str:
    more = len(names) - NAMED_EXAMPLES
    return ", ".join(names[:NAMED_EXAMPLES]) + (f" and {more:,} more" if more > 0 else "")
