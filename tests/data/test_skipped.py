"""Bad audio ends the run, or is left out and listed: never silently, never more than one file in a hundred."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2pecnet.audio.decoding import BadAudio
from s2pecnet.cli import train
from s2pecnet.data.datasets import SkipList
from s2pecnet.errors import InputError
from tests.helpers.samples import TINIEST

SPLITS = {"train": "trn", "dev": "trl", "eval": "trl"}


@pytest.fixture
def large_corpus(corpus: Path, tmp_path: Path) -> Path:
    """A hundred trials a split, links to the few clips of the tiny corpus: one bad file of them may be skipped."""
    root = tmp_path / "LA"
    (root / "ASVspoof2019_LA_cm_protocols").mkdir(parents=True)
    for split, ending in SPLITS.items():
        name = f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{ending}.txt"
        audio = f"ASVspoof2019_LA_{split}/flac"
        (root / audio).mkdir(parents=True)
        rows = [line.split() for line in (corpus / name).read_text().splitlines()]
        lines = []
        for number in range(100):
            speaker, utterance, *rest = rows[number % len(rows)]
            os.link(corpus / audio / f"{utterance}.flac", root / audio / f"X_{number}.flac")
            lines.append(" ".join([speaker, f"X_{number}", *rest]))
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "not audio":
        path.write_bytes(b"RIFF" + bytes(range(200)))
    elif how == "silent":
        soundfile.write(path, np.zeros(8000), 16000)
    elif how == "short":
        soundfile.write(path, np.full(100, 0.1), 16000)
    elif how == "NaN":
        soundfile.write(path, np.full(8000, np.nan), 16000, format="WAV", subtype="FLOAT")


def config_file(root: Path, **changes: object) -> str:
    path = root.parent / "tiny.conf"
    config = TINIEST | {"database_path": str(root), "num_epochs": 1, "batch_size": 20} | changes
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["missing", "truncated", "not audio", "silent", "short", "NaN"])
def test_by_default_a_bad_file_ends_the_run_with_its_name_and_line(large_corpus: Path, how: str) -> None:
    spoil(large_corpus / "ASVspoof2019_LA_train" / "flac" / "X_7.flac", how)
    with pytest.raises(InputError, match=r"X_7\.flac") as caught:
        train.main(["--config", config_file(large_corpus), "--output_dir", str(large_corpus.parent)])
    assert "trn.txt:8" in str(caught.value) or "(line 8)" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_files_are_listed_and_their_trials_are_unscored(large_corpus: Path, workers: int) -> None:
    for split, how in zip(SPLITS, ("truncated", "NaN", "missing"), strict=True):
        spoil(large_corpus / f"ASVspoof2019_LA_{split}" / "flac" / "X_7.flac", how)
    config = config_file(large_corpus, on_bad_audio="skip", num_workers=workers)
    train.main(["--config", config, "--output_dir", str(large_corpus.parent)])
    folder = large_corpus.parent / "LA_tiny_ep1_bs20"
    lines = [(folder / f"skipped_audio_{split}.txt").read_text().splitlines() for split in SPLITS]
    assert all(len(list_) == 1 and list_[0].startswith("X_7\t") for list_ in lines)
    assert ["cannot be decoded" in lines[0][0], "NaN" in lines[1][0], "no such" in lines[2][0]] == [True] * 3
    rows = [line.split() for line in (folder / "eval_scores_using_best_dev_model.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == [f"X_{number}" for number in range(100)]
    assert [row[0] for row in rows if row[3] == "unscored"] == ["X_7"]
    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"]["eval"]["n_unscored"] == 1
    assert results["metrics"]["eval"]["n_bonafide"] + results["metrics"]["eval"]["n_spoof"] == 99


@pytest.mark.slow
def test_more_than_one_in_a_hundred_is_too_many(large_corpus: Path) -> None:
    for number, how in ((7, "truncated"), (8, "silent")):
        spoil(large_corpus / "ASVspoof2019_LA_train" / "flac" / f"X_{number}.flac", how)
    with pytest.raises(InputError, match="2 of 100 files cannot be used"):
        train.main(
            ["--config", config_file(large_corpus, on_bad_audio="skip"), "--output_dir", str(large_corpus.parent)]
        )


def test_too_many_missing_files_are_refused_before_training(large_corpus: Path) -> None:
    for number in (7, 8):
        spoil(large_corpus / "ASVspoof2019_LA_eval" / "flac" / f"X_{number}.flac", "missing")
    with pytest.raises(InputError, match=r"2 of 100 files .* are missing: X_7.flac \(line 8\), X_8.flac \(line 9\)"):
        train.main(
            ["--config", config_file(large_corpus, on_bad_audio="skip"), "--output_dir", str(large_corpus.parent)]
        )
    assert not (large_corpus.parent / "LA_tiny_ep1_bs20").exists()


def test_the_list_holds_a_trial_once(tmp_path: Path) -> None:
    skipped = SkipList(tmp_path / "new" / "list.txt", 1000)
    for _ in range(3):
        skipped.add("a", BadAudio("a.flac: silent"))
    assert skipped.path.read_text() == "a\ta.flac: silent\n"


def test_a_line_break_in_a_name_is_no_second_line(tmp_path: Path) -> None:
    listed = SkipList(tmp_path / "skipped.txt", 1000)
    listed.add("real/bad%0ALA_forged%09x.flac", BadAudio("/c/real/bad\nLA_forged\tx.flac: cannot be decoded"))
    assert listed.path.read_text().count("\n") == 1
    listed.add("other.flac", BadAudio("other\u2028x.flac: silent"))
    assert [line.split("\t")[0] for line in listed.path.read_text().split("\n")[:-1]] == [
        "real/bad%0ALA_forged%09x.flac", "other.flac",
    ]  # fmt: skip
    assert len(listed._listed()) == 2
