"""Whether a corpus on the disk is complete: its lists of trials, their audio files, its splits beside each other.

Only the presence and the size of the audio files are looked at; they are not decoded. All tracks of ASVspoof2019 and
ASVspoof2021 that a folder holds are checked, and of ASVspoof2021 all subsets; any other corpus as `protocols` finds it.
"""

import itertools
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.custom import columns_not_read
from s2pecnet.corpora.detect import CORPORA
from s2pecnet.corpora.published import asvspoof2019, find_asvspoof2021, tracks_2021
from s2pecnet.corpora.trials import PATH_NAMES, Corpus, CorpusOptions, MissingClassError, Split, Trials
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


class _Checked(NamedTuple):
    """What is kept of a split to set it beside the others."""

    trials: int
    utterances: set[str]
    speakers: set[str]


def check_tree(root: Path) -> TreeReport:
    """Check every corpus at `root`, a folder or a list of trials."""
    report = TreeReport()
    try:
        corpora = _corpora_at(root)
    except InputError as error:
        report.problems.append(str(error))
        return report
    if not corpora:
        report.problems.append(_why_nothing(root))
    for label, corpus in corpora.items():
        _check_corpus(label, corpus, report)
    return report


def _corpora_at(root: Path) -> dict[str, Corpus]:
    """The corpora at `root`, each by what its facts are to begin with."""
    found = {}
    for folder in sorted(root.glob("ASVspoof2019_*_cm_protocols")):
        track = folder.name.removeprefix("ASVspoof2019_").removesuffix("_cm_protocols")
        found[track] = replace(asvspoof2019(root, track), title=f"ASVspoof2019 {track}")
    for track in tracks_2021(root):
        corpus = find_asvspoof2021(root, CorpusOptions(track, eval_subset="all"))
        if corpus:
            found[corpus.title] = corpus
    for name, find in CORPORA.items():
        corpus = find(root, CorpusOptions()) if not found and not name.startswith("asvspoof20") else None
        if corpus:
            found[corpus.title] = corpus
    return found


def _why_nothing(root: Path) -> str:
    if not root.exists():
        return f"{root}: no such folder or file"
    if not root.is_dir():
        return f"{root}: neither a folder nor a list of trials, whose name ends in .csv or .tsv"
    for inner in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            found = bool(_corpora_at(inner))
        except InputError:
            found = True
        if found:
            return f"{root}: no corpus in it; did you mean {inner}?"
    return (
        f"{root}: no corpus in it, such as docs/own-data.md describes (no folder ASVspoof2019_<track>_cm_protocols ...)"
    )


def _check_corpus(label: str, corpus: Corpus, report: TreeReport) -> None:
    disk, errors = _Disk(), _Errors()
    checked = {
        name: _check_split(label, corpus.splits[name], disk, errors, report) for name in SPLITS if name in corpus.splits
    }
    report.problems.extend(errors.as_lines(label))
    if corpus.note:
        report.facts.append(f"{label}: note: {corpus.note}")
    if corpus.title == "CSV":
        spare = columns_not_read(next(iter(corpus.splits.values())).protocol)
        report.facts.extend([f"{label}: note: columns that are not read: {', '.join(spare)}"] if spare else [])
    _compare_splits(label, corpus, {name: split for name, split in checked.items() if split}, report)
    full = FULL_CORPORA.get(corpus.title)
    if full and None not in checked.values():
        verdict = "the full" if tuple(split.trials for split in checked.values() if split) == full else "not the full"
        report.facts.append(f"{label}: {verdict} {corpus.title} ({' / '.join(f'{n:,}' for n in full)})")


class _Errors:
    """What is wrong with the lists, each problem once: the splits of a CSV file are read from the same lines."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}
        self.missing: list[str] = []

    def add(self, error: InputError) -> None:
        if isinstance(error, MissingClassError):
            self.missing.append(str(error))
        else:
            self.problems[str(error)] = None

    def as_lines(self, label: str) -> list[str]:
        lines = list(self.problems)
        more = len(lines) - NAMED_LINES
        return lines[:NAMED_LINES] + ([f"{label}: {more:,} more problems in its lists"] if more > 0 else [])


def _check_split(label: str, split: Split, disk: "_Disk", errors: _Errors, report: TreeReport) -> _Checked | None:
    """Report on one split; None where its list cannot be read."""
    if split.asv_scores and split.name != "train" and not split.asv_scores.is_file():
        report.facts.append(f"{label} {split.name}: note: no ASV scores, so no t-DCF ({split.asv_scores})")
    errors.missing.clear()
    try:
        trials = split.read(errors.add)
    except InputError as error:
        errors.add(error)
        return None
    bonafide = int(trials.is_bonafide.sum())
    counts = f"{len(trials):,} trials ({bonafide:,} bona fide, {len(trials) - bonafide:,} spoof)"
    report.facts.append(f"{label} {split.name}: {counts}{_spare_files(split, trials, disk)}")
    report.facts.extend(f"{label} {split.name}: note: {why}" for why in errors.missing)
    parts = Counter(trials.part)
    if len(parts) > 1:
        subsets = ", ".join(f"{name} {count:,}" for name, count in sorted(parts.items()))
        report.facts.append(f"{label} {split.name}: subsets {subsets}")
    _check_files(split, trials, disk, report)
    return _Checked(len(trials), set(trials.utterance), set(trials.speaker.present()) - {"-"})


class _Disk:
    """Sizes of files, by their folders, each of which is listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, int]] = {}

    def size(self, path: Path) -> int | None:
        """Bytes of a file, None where there is none."""
        folder, name = os.path.split(path)
        return self.sizes(folder).get(name)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file of a folder."""
        if folder not in self._folders:
            self._folders[folder] = {}
            if os.path.isdir(folder):
                with os.scandir(folder) as entries:
                    self._folders[folder] = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        return self._folders[folder]


def _spare_files(split: Split, trials: Trials, disk: _Disk) -> str:
    """What lies in the split's folder, where it has one of its own."""
    if split.files == PATH_NAMES:
        return ""
    folder, name = os.path.split(split.audio / split.files)
    there = disk.sizes(folder)
    spare = len(there.keys() - {name.format(utterance) for utterance in trials.utterance})
    return f"; {len(there):,} files on disk, {spare:,} of them not in the protocol"


def _check_files(split: Split, trials: Trials, disk: _Disk, report: TreeReport) -> None:
    folder = (split.audio / split.files).parent
    missing: list[str] = []
    empty: list[str] = []
    for utterance in trials.utterance:
        path = split.audio_file(utterance)
        size = disk.size(path)
        if not size:
            (missing if size is None else empty).append(os.path.relpath(path, folder))
    for fault, files in (("missing", missing), ("empty (0 bytes)", empty)):
        if files:
            report.problems.append(f"{folder}: {len(files):,} of {len(trials):,} files {fault}: {_some_of(files)}")


def _compare_splits(label: str, corpus: Corpus, checked: dict[str, _Checked], report: TreeReport) -> None:
    for (one, first), (other, second) in itertools.combinations(checked.items(), 2):
        both = f"in both {one} and {other}"
        utterances = sorted(first.utterances & second.utterances)
        # What stands twice in one list has been reported with its lines.
        if utterances and corpus.splits[one].protocol != corpus.splits[other].protocol:
            report.problems.append(f"{label}: utterances {both}: {len(utterances):,} ({_some_of(utterances)})")
        speakers = sorted(first.speakers & second.speakers)
        if speakers:
            report.facts.append(f"{label}: note: speakers {both}: {len(speakers):,} ({_some_of(speakers)})")


def _some_of(names: list[str]) -> str:
    more = len(names) - NAMED_EXAMPLES
    return ", ".join(names[:NAMED_EXAMPLES]) + (f" and {more:,} more" if more > 0 else "")
