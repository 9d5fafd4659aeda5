"""Corpora in the layouts in which they are found: read, or named with what to do; nothing is passed over silently."""

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.check import check_tree
from s2pecnet.corpora.detect import find_corpus, find_split
from s2pecnet.corpora.trials import CorpusOptions, audio_path
from s2pecnet.errors import InputError
from tests.helpers.made_corpora import (
    clips,
    link,
    make_2021,
    make_asvspoof5,
    make_csv,
    make_folders,
    make_in_the_wild,
    make_spoofceleb,
)


def files_of(root: Path, split: str = "eval", **options: str) -> set[Path]:
    """The audio files of a split, all of which must be there."""
    found = find_split(root, options.pop("track", "LA"), split, **options)
    paths = {audio_path(found.audio, found.files, utterance) for utterance in found.trials.utterance}
    assert all(path.is_file() for path in paths)
    assert len(paths) == len(found.trials)
    return paths


def test_fake_or_real(corpus: Path, tmp_path: Path) -> None:
    make_folders(corpus, tmp_path)
    for name, theirs in (("train", "training"), ("dev", "validation"), ("eval", "testing")):
        (tmp_path / name).rename(tmp_path / theirs)
    report = check_tree(tmp_path)
    assert report.complete
    assert {fact.split()[1].rstrip(":") for fact in report.facts} == set(SPLITS)
    assert len(files_of(tmp_path)) == len(list(clips(corpus, "eval")))


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("generated/x.flac", "generated/"),
        ("train/generated/deep/x.flac", "train/generated/"),
        ("others/x.m4a", "others/"),
        ("x.flac", "x.flac"),
    ],
)
def test_audio_that_is_in_no_split_is_named(
    corpus: Path, tmp_path: Path, extra: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_folders(corpus, tmp_path)
    link(next(clips(corpus)).file, tmp_path / extra)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no audio")
    report = check_tree(tmp_path)
    assert not report.complete
    assert report.problems == [f"folders: audio that belongs to no split, and is not used: {named}"]
    assert find_corpus(tmp_path).unused == (named,)


@pytest.mark.parametrize("track", ["LA", "DF"])
@pytest.mark.parametrize("archive", ["{}-keys-full", "{}-keys-stage-1"])
def test_keys_of_2021_in_the_folder_of_their_archive(corpus: Path, tmp_path: Path, track: str, archive: str) -> None:
    make_2021(corpus, tmp_path, track)
    folder = tmp_path / archive.format(track)
    folder.mkdir()
    (tmp_path / "keys").rename(folder / "keys")
    assert check_tree(tmp_path).complete
    assert files_of(tmp_path, track=track, eval_subset="all")


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [
        ("ASVspoof2021_DF_eval/flac", r"keys/DF/CM/trial_metadata.txt is wanted \(DF-keys-full.tar.gz\)"),
        ("flac_T", r"ASVspoof5.train.tsv is wanted beside it \(ASVspoof5_protocols.tar.gz\)"),
        ("flac_E_eval", r"ASVspoof5.eval.track_1.tsv is wanted"),
        ("ASVspoof2019_LA_eval/flac", r"ASVspoof2019_<track>_cm_protocols/ is wanted beside it"),
    ],
)
def test_audio_without_its_list_names_the_list(tmp_path: Path, folder: str, wanted: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=wanted):
        find_corpus(tmp_path)
    assert "is wanted" in check_tree(tmp_path).problems[0]


def test_lists_of_the_challenge_phase_of_asvspoof5(corpus: Path, tmp_path: Path) -> None:
    make_asvspoof5(corpus, tmp_path, "train", "dev")
    for split, file in (("train", "ASVspoof5.train.tsv"), ("dev", "ASVspoof5.dev.track_1.tsv")):
        rows = [line.split() for line in (tmp_path / file).read_text().splitlines()]
        (tmp_path / file).unlink()
        six = "".join(f"{row[0]} {row[1]} {row[2]} {row[6]} {row[7]} {row[8]}\n" for row in rows)
        (tmp_path / f"ASVspoof5.{split}.metadata.txt").write_text(six)
    assert check_tree(tmp_path).complete
    trials = find_split(tmp_path, "LA", "train").trials
    theirs = {trial.utterance: (trial.key, trial.attack) for _, trial, _ in clips(corpus, "train")}
    assert {trial.utterance: (trial.key, trial.attack) for trial in trials} == theirs


def test_in_the_wild_as_on_kaggle(corpus: Path, tmp_path: Path) -> None:
    make_in_the_wild(corpus, tmp_path, by_label=True)
    shutil.move(tmp_path / "release_in_the_wild" / "meta.csv", tmp_path)
    assert find_corpus(tmp_path).title == "In-the-Wild"
    assert {path.parent.name for path in files_of(tmp_path)} == {"real", "fake"}
    assert check_tree(tmp_path).complete


def test_spoofceleb(corpus: Path, tmp_path: Path) -> None:
    make_spoofceleb(corpus, tmp_path)
    assert check_tree(tmp_path).complete
    for split in SPLITS:
        files_of(tmp_path, split)
        theirs = [trial.key for _, trial, _ in clips(corpus, split)]
        assert [trial.key for trial in find_split(tmp_path, "LA", split).trials] == theirs


def test_mlaad_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "fake" / "en" / "some_model"
    folder.mkdir(parents=True)
    (folder / "meta.csv").write_text("path|original_file|language\nfake/en/some_model/a.wav|b.wav|en\n")
    with pytest.raises(InputError, match="MLAAD, which has synthetic speech alone; put bona fide speech beside fake/"):
        find_corpus(tmp_path)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_the_two_spellings_of_an_accented_name(corpus: Path, tmp_path: Path, on_disk: Literal["NFC", "NFD"]) -> None:
    lines = ["path,label,split"]
    for number, (split, trial, file) in enumerate(clips(corpus)):
        name = f"Zoë Müller {number}.flac"
        link(file, tmp_path / unicodedata.normalize(on_disk, name))
        lines.append(f"{unicodedata.normalize('NFC', name)},{trial.key},{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    files_of(tmp_path)
    assert check_tree(tmp_path).complete


@pytest.mark.parametrize("make", [make_csv, make_folders, make_in_the_wild, make_asvspoof5, make_spoofceleb, make_2021])
def test_every_corpus_is_read_from_within_its_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    make(corpus, tmp_path)  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    for path in (".", "./", os.path.relpath(tmp_path, tmp_path.parent / "x"), str(tmp_path)):
        if Path(path).is_dir():
            report = check_tree(Path(path))
            assert report.complete, report.problems
    files_of(Path(), track="LA")


def test_a_list_named_by_itself_from_within_its_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_csv(corpus, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert check_tree(Path("metadata.csv")).complete
    make_in_the_wild(corpus, tmp_path)
    monkeypatch.chdir(tmp_path / "release_in_the_wild")
    assert check_tree(Path("meta.csv")).complete
    assert find_corpus("meta.csv", "auto", CorpusOptions()).title == "In-the-Wild"
