"""Which corpus lies at a path, and where its splits are.

asvspoof2019, asvspoof2021, asvspoof5, in-the-wild    as published, see `published`
csv, folders                                          custom corpora, see `custom`
"""

from collections.abc import Callable
from pathlib import Path

from s2pecnet.corpora.custom import find_csv, find_folders
from s2pecnet.corpora.published import (
    asvspoof2019,
    find_asvspoof5,
    find_asvspoof2019,
    find_asvspoof2021,
    find_in_the_wild,
)
from s2pecnet.corpora.trials import Corpus, CorpusOptions, Split
from s2pecnet.errors import InputError

# In the order in which they are tried: what is published before what could be anybody's, a list before folders.
CORPORA: dict[str, Callable[[Path, CorpusOptions], Corpus | None]] = {
    "asvspoof2019": find_asvspoof2019,
    "asvspoof2021": find_asvspoof2021,
    "asvspoof5": find_asvspoof5,
    "in-the-wild": find_in_the_wild,
    "csv": find_csv,
    "folders": find_folders,
}
DEFAULT_OPTIONS = CorpusOptions()


def find_corpus(database_path: str | Path, corpus: str = "auto", options: CorpusOptions = DEFAULT_OPTIONS) -> Corpus:
    """The corpus at a path.

    Where nothing is recognised, "auto" gives the layout of ASVspoof2019, whose protocols are then found missing.

    Args:
        corpus: a name of `CORPORA`, or "auto".

    Raises:
        InputError: it is not what `corpus` says, or not in order.
    """
    root = Path(database_path)
    for name, find in CORPORA.items():
        found = find(root, options) if corpus in ("auto", name) else None
        if found:
            return found
    if root.is_file():
        raise InputError(f"{root}: a file; expected a folder, or a list of trials whose name ends in .csv or .tsv")
    if corpus in ("auto", "asvspoof2019"):
        return asvspoof2019(root, options.track)
    raise InputError(f"{root}: no {corpus} corpus here, as docs/own-data.md describes it")


def find_split(database_path: str | Path, track: str, name: str, corpus: str = "auto", **options: str) -> Split:
    """A split ("train", "dev" or "eval") of the corpus at a path; the arguments are those of the config.

    Raises:
        InputError: as `find_corpus`, or the corpus has no such split.
    """
    return find_corpus(database_path, corpus, CorpusOptions(track, **options))[name]
