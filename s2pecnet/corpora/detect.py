"""Which corpus lies at a path, and where its splits are.

asvspoof2019, asvspoof2021, asvspoof5, in-the-wild, spoofceleb    as published, see `published`
csv, folders                                                      custom corpora, see `custom`
parquet                                                           shards with the audio in them, see `parquet`
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2pecnet.conventions import LABELS
from s2pecnet.corpora.custom import find_csv, find_folders, folders_named
from s2pecnet.corpora.parquet import fetch_from_hub, find_parquet
from s2pecnet.corpora.published import (
    asvspoof2019,
    find_asvspoof5,
    find_asvspoof2019,
    find_asvspoof2021,
    find_in_the_wild,
    find_spoofceleb,
    lists_wanted,
    tracks_2021,
)
from s2pecnet.corpora.trials import Corpus, CorpusOptions, Split
from s2pecnet.errors import InputError

# In the order in which they are tried: what is published before what could be anybody's, a list before folders.
CORPORA: dict[str, Callable[[Path, CorpusOptions], Corpus | None]] = {
    "asvspoof2019": find_asvspoof2019,
    "asvspoof2021": find_asvspoof2021,
    "asvspoof5": find_asvspoof5,
    "in-the-wild": find_in_the_wild,
    "spoofceleb": find_spoofceleb,
    "csv": find_csv,
    "folders": find_folders,
    "parquet": find_parquet,
}
DEFAULT_OPTIONS = CorpusOptions()


def find_corpus(database_path: str | Path, corpus: str = "auto", options: CorpusOptions = DEFAULT_OPTIONS) -> Corpus:
    """The corpus at a path.

    Args:
        corpus: a name of `CORPORA`, or "auto".

    Raises:
        InputError: it is not what `corpus` says, or not in order; what is there, and what to do, is named.
    """
    found = _find(fetch_from_hub(str(database_path)) or Path(database_path), corpus, options)
    left_out = options.left_out._asdict()
    return replace(found, splits={name: split.without_attacks(left_out[name]) for name, split in found.splits.items()})


def _find(root: Path, corpus: str, options: CorpusOptions) -> Corpus:
    if corpus == "asvspoof2019":
        return asvspoof2019(root, options.track)
    for name, find in CORPORA.items():
        found = find(root, options) if corpus in ("auto", name) else None
        if found:
            return found
    if corpus != "auto" and root.exists():
        raise InputError(f"{root}: no {corpus} corpus here, as docs/own-data.md describes it")
    tracks = [label for label, one in corpora_at(root).items() if one.title == f"ASVspoof2019 {label}"]
    if tracks:
        raise InputError(
            f"{root}: holds ASVspoof2019 {' and '.join(tracks)}, but track is {options.track}; set track={tracks[0]}"
        )
    raise InputError(f"{root}: {why_nothing(root)}")


def corpora_at(root: Path) -> dict[str, Corpus]:
    """The corpora at `root`, all tracks and all subsets, each by a short label.

    Raises:
        InputError: one of them is not in order.
    """
    found = {}
    for folder in sorted(root.glob("ASVspoof2019_*_cm_protocols")):
        track = folder.name.removeprefix("ASVspoof2019_").removesuffix("_cm_protocols")
        found[track] = replace(asvspoof2019(root, track), title=f"ASVspoof2019 {track}")
    published = [find_asvspoof2021(root, CorpusOptions(track, eval_subset="all")) for track in tracks_2021(root)]
    found |= {corpus.title: corpus for corpus in published if corpus}
    for name, find in CORPORA.items():
        corpus = find(root, CorpusOptions()) if not found and not name.startswith("asvspoof20") else None
        if corpus:
            found[corpus.title] = corpus
    return found


def why_nothing(root: Path) -> str:
    """What lies at a path where no corpus was found, and what to do."""
    if not root.exists():
        return (
            "no such folder or file; python download_dataset.py fetches ASVspoof2019 LA (7.1 GB), with --demo it makes "
            "a small synthetic corpus"
        )
    if not root.is_dir():
        return "neither a folder nor a list of trials, whose name ends in .csv, .tsv or .parquet"
    wanted = lists_wanted(root)
    if wanted:
        return wanted
    for inner in sorted(path for path in root.iterdir() if path.is_dir()):
        with contextlib.suppress(InputError):
            if not corpora_at(inner):
                continue
        return f"no corpus in it; did you mean {inner}?"
    labelled = [f"{folder.name}/" for folder in folders_named(root, LABELS)]
    others = [
        f"{folder.name}/" for folder in sorted(root.iterdir()) if folder.is_dir() and f"{folder.name}/" not in labelled
    ]
    if labelled:
        return (
            f"holds {', '.join(labelled)} and no folder of the other class ({', '.join(others) or 'no other folder'}); "
            f"expected one of each: {', '.join(LABELS)}. Files of one class can be scored by s2pecnet predict, and "
            "by s2pecnet crosseval with --set split_policy=eval"
        )
    return (
        "no corpus in it, such as docs/own-data.md describes (no folder ASVspoof2019_<track>_cm_protocols ...); python "
        "download_dataset.py --check PATH says what a folder lacks"
    )


def find_split(database_path: str | Path, track: str, name: str, corpus: str = "auto", **options: Any) -> Split:
    """A split ("train", "dev" or "eval") of the corpus at a path; the arguments are those of the config.

    Raises:
        InputError: as `find_corpus`, or the corpus has no such split.
    """
    return find_corpus(database_path, corpus, CorpusOptions(track, **options))[name]
