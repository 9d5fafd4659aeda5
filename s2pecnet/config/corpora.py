"""An entry of `database_path` where that is a list: one of the corpora that are trained on together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import Float, Text

CorpusKind = Literal[
    "auto", "asvspoof2019", "asvspoof2021", "asvspoof5", "in-the-wild", "spoofceleb", "csv", "folders", "parquet"
]
SplitPolicy = Literal["divide", "eval"]
EvalSubset = Literal["eval", "progress", "hidden", "all"]
EXPECTED = 'a path, or a list of paths and objects {"path": ...}'
# It is the first part of names in score files.
_NAME = re.compile(r"[^\s/:]{1,60}")


@dataclass(frozen=True)
class CorpusEntry:
    """One of several corpora. Where it says nothing of its own, the config's keys of the same names hold."""

    path: Text = Field(description="the corpus: a folder, a list or hf://..., as of a single one")
    name: Text | None = Field(
        None,
        description="what its trials are called in scores and tables, NAME/utterance; null: the name of its folder or "
        'file; no white space, "/" or ":"',
    )
    weight: Float = Field(
        1.0,
        gt=0,
        le=1000,
        description="how often an epoch takes each of its training utterances: 2 is twice, 0.5 another random half "
        "every epoch; dev and eval are always complete",
    )
    splits: Annotated[tuple[Literal["train", "dev", "eval"], ...], Field(min_length=1)] | None = Field(
        None, description="which of its splits are used; null: all that it has"
    )
    track: Text | None = Field(None, description="its `track`; null: the config's, as for the keys below")
    corpus: CorpusKind | None = Field(None, description="which corpus it is")
    split_policy: SplitPolicy | None = Field(None, description="what is done where it names no splits")
    eval_subset: EvalSubset | None = Field(None, description="which trials of ASVspoof2021 are scored")
    asv_score_path: Text | None = Field(None, description="its ASV scores of eval, relative to its path")
    asv_score_path_dev: Text | None = Field(None, description="its ASV scores of dev, relative to its path")


def name_of(entry: CorpusEntry) -> str:
    """What a corpus is called: its own name, or that of its folder or file.

    >>> [name_of(CorpusEntry(path=path)) for path in ("/data/LA/", "mine/list.csv", "hf://datasets/who/what@main")]
    ['LA', 'list', 'what']
    """
    if entry.name is not None:
        return entry.name
    path = Path(entry.path.partition("@")[0] if entry.path.startswith("hf:") else entry.path)
    path = path if path.name not in ("", "..") else path.resolve()
    return path.stem if path.suffix.lower() in (".csv", ".tsv", ".parquet") else path.name


def problems_of(entries: Mapping[str, CorpusEntry]) -> list[tuple[str, str]]:
    """What is wrong with the names of corpora, by the dotted key of each: (key, problem)."""
    problems, first = [], dict[str, str]()
    for key, entry in entries.items():
        name = name_of(entry)
        own = f"{key}.name: {name!r}" if entry.name is not None else f"{key}: the name of its folder, {name!r},"
        if not _NAME.fullmatch(name):
            wanted = '1 to 60 characters without white space, "/" and ":"'
            hint = "" if entry.name is not None else '; give it a "name"'
            problems.append((f"{key}.name", f"{own} cannot be one: expected {wanted}{hint}"))
        elif name in first:
            problems.append((f"{key}.name", f'{own} is that of {first[name]} too; give each corpus another "name"'))
        first.setdefault(name, key)
    return problems
