"""Small corpora of every kind, made of hard links to the clips of the tiny corpus in the ASVspoof2019 layout."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.trials import Trial


class Clip(NamedTuple):
    split: str
    trial: Trial
    file: Path


def clips(corpus: Path, *splits: str) -> Iterator[Clip]:
    for name in splits or SPLITS:
        split = find_split(corpus, "LA", name)
        for trial in split.trials:
            yield Clip(name, trial, split.audio / "flac" / f"{trial.utterance}.flac")


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def make_csv(corpus: Path, root: Path) -> Path:
    """metadata.csv with all columns; a blank in every path."""
    lines = ["path,label,attack,speaker,split"]
    for split, trial, file in clips(corpus):
        path = f"clips of {trial.speaker}/{trial.utterance}.flac"
        link(file, root / path)
        label, attack = ("real", "") if trial.label else ("fake", trial.attack)
        lines.append(f"{path},{label},{attack},{trial.speaker},{split}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def make_folders(corpus: Path, root: Path, by_split: bool = True) -> Path:
    """[<split>/]real/ and [<split>/]fake/<attack>/."""
    for split, trial, file in clips(corpus):
        top = root / split if by_split else root
        link(file, top / ("real" if trial.label else f"fake/{trial.attack}") / file.name)
    return root


def write_parquet(path: Path, columns: dict[str, list[Any]], group: int = 4, classes: bool = False) -> Path:
    """A shard; the numbers of its labels are those of a ClassLabel with `classes`."""
    import pyarrow
    import pyarrow.parquet

    features = {"label": {"names": ["real", "fake"], "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if classes else None
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), path, row_group_size=group)
    return path


def make_parquet(corpus: Path, root: Path, classes: bool = True) -> Path:
    """data/<split>-0000N-of-00002.parquet, as the Hub has it."""
    for split, name in (("train", "train"), ("dev", "validation"), ("eval", "test")):
        rows = list(clips(corpus, split))
        for number, part in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
            columns: dict[str, list[Any]] = {
                "audio": [{"bytes": row.file.read_bytes(), "path": row.file.name} for row in part],
                "label": [1 - row.trial.label if classes else row.trial.key for row in part],
                "attack": [row.trial.attack for row in part],
                "speaker_id": [row.trial.speaker for row in part],
                "transcript": ["not read" for _ in part],
            }
            write_parquet(root / "data" / f"{name}-{number:05d}-of-00002.parquet", columns, classes=classes)
    return root


def make_2021(corpus: Path, root: Path, track: str = "LA") -> Path:
    """The eval set of ASVspoof2021: of the trials, the first two are of the subset progress."""
    lines = []
    for number, (_, trial, file) in enumerate(clips(corpus, "eval")):
        link(file, root / f"ASVspoof2021_{track}_eval" / "flac" / file.name)
        attack = trial.attack if not trial.label else "bonafide" if track == "LA" else "-"
        subset = "progress" if number < 2 else "eval"
        if track == "LA":
            more = f"alaw ita_tx {attack} {trial.key} notrim {subset}"
        else:
            more = f"nocodec asvspoof {attack} {trial.key} notrim {subset} traditional_vocoder - - - -"
        lines.append(f"{trial.speaker} {trial.utterance} {more}\n")
    keys = root / "keys" / track / "CM" / "trial_metadata.txt"
    keys.parent.mkdir(parents=True, exist_ok=True)
    keys.write_text("".join(lines))
    return root


def make_asvspoof5(corpus: Path, root: Path, *splits: str) -> Path:
    """ASVspoof5, of all splits or of some."""
    files = {"train": "train", "dev": "dev.track_1", "eval": "eval.track_1"}
    folders = {"train": "flac_T", "dev": "flac_D", "eval": "flac_E_eval"}
    lines: dict[str, list[str]] = {}
    for split, trial, file in clips(corpus, *splits):
        link(file, root / folders[split] / file.name)
        attack = "- bonafide" if trial.label else f"AC1 {trial.attack}"
        lines.setdefault(split, []).append(f"{trial.speaker} {trial.utterance} F - - - {attack} {trial.key} -\n")
    for split, those in lines.items():
        (root / f"ASVspoof5.{files[split]}.tsv").write_text("".join(those))
    return root


def make_in_the_wild(corpus: Path, root: Path, by_label: bool = False) -> Path:
    """In-the-Wild: release_in_the_wild/meta.csv and clips named by number beside it, or in real/ and fake/ there."""
    lines = ["file,speaker,label"]
    for number, (_, trial, file) in enumerate(clips(corpus, "eval")):
        folder = ("real" if trial.label else "fake") if by_label else ""
        link(file, root / "release_in_the_wild" / folder / f"{number}.flac")
        lines.append(f"{number}.flac,Ada {trial.speaker},{'bona-fide' if trial.label else 'spoof'}")
    (root / "release_in_the_wild" / "meta.csv").write_text("\n".join(lines) + "\n")
    return root


def make_spoofceleb(corpus: Path, root: Path) -> Path:
    """SpoofCeleb: metadata/<split>.csv, flac/<split>/<attack>/<speaker>/<name>.flac."""
    parts = {"train": "train", "dev": "development", "eval": "evaluation"}
    for split, part in parts.items():
        lines = ["file,speaker,attack"]
        for _, trial, file in clips(corpus, split):
            attack = "a00" if trial.label else trial.attack.lower()
            name = f"{attack}/{trial.speaker}/{file.name}"
            link(file, root / "flac" / part / name)
            lines.append(f"{name},{trial.speaker},{attack}")
        (root / "metadata").mkdir(exist_ok=True)
        (root / "metadata" / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root
