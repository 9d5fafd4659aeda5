"""`download_dataset.py --check` on corpora of every kind: what is counted, and what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from s2pecnet.cli import download
from s2pecnet.corpora import check
from s2pecnet.corpora.check import check_tree
from tests.helpers.made_corpora import make_2021, make_asvspoof5, make_csv, make_folders, make_in_the_wild

EVAL = "18 trials (6 bona fide, 12 spoof)"


def make_both_2021(corpus: Path, root: Path) -> Path:
    return make_2021(corpus, make_2021(corpus, root), "DF")


@pytest.mark.parametrize(
    ("make", "first", "others"),
    [
        (make_csv, "CSV train: 24 trials (8 bona fide, 16 spoof)", [f"CSV eval: {EVAL}"]),
        (make_folders, "folders train: 24 trials (8 bona fide, 16 spoof)", [f"folders dev: {EVAL}"]),
        (
            make_both_2021,
            f"ASVspoof2021 LA eval: {EVAL}; 18 files on disk, 0 of them not in the protocol",
            [
                "ASVspoof2021 LA eval: subsets eval 16, progress 2",
                "ASVspoof2021 LA: not the full ASVspoof2021 LA (181,566)",
                f"ASVspoof2021 DF eval: {EVAL}; 18 files on disk, 0 of them not in the protocol",
            ],
        ),
        (
            make_asvspoof5,
            "ASVspoof5 train: 24 trials (8 bona fide, 16 spoof); 24 files on disk, 0 of them not in the protocol",
            ["ASVspoof5: not the full ASVspoof5 (182,357 / 140,950 / 680,774)"],
        ),
        (make_in_the_wild, f"In-the-Wild eval: {EVAL}", ["In-the-Wild: not the full In-the-Wild (31,779)"]),
    ],
)
def test_complete_corpora_are_complete(
    corpus: Path, tmp_path: Path, make: Callable[[Path, Path], Path], first: str, others: list[str]
) -> None:
    report = check_tree(make(corpus, tmp_path / "mine"))
    assert report.problems == []
    assert report.facts[0] == first
    assert [fact for fact in others if fact not in report.facts] == []
    assert download.main(["--check", str(tmp_path / "mine")]) == 0


def test_the_full_corpus_is_recognised_by_its_counts(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.FULL_CORPORA, "In-the-Wild", (18,))
    assert check_tree(make_in_the_wild(corpus, tmp_path)).facts[-1] == "In-the-Wild: the full In-the-Wild (18)"


def test_missing_and_empty_files_are_counted_and_some_named(corpus: Path, tmp_path: Path) -> None:
    root = make_in_the_wild(corpus, tmp_path)
    audio = root / "release_in_the_wild"
    for number in (3, 5, 7, 11):
        (audio / f"{number}.flac").unlink()
    (audio / "2.flac").unlink()
    (audio / "2.flac").touch()
    assert check_tree(root).problems == [
        f"{audio}: 4 of 18 files missing: 3.flac, 5.flac, 7.flac and 1 more",
        f"{audio}: 1 of 18 files empty (0 bytes): 2.flac",
    ]


def test_every_malformed_line_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "path,label,split",
        "a.wav,real,train",
        "b.wav,fake,train",
        "c.wav,2,train",
        "a.wav,real,dev",
        "d.wav,fake",
    ]
    (tmp_path / "mine.csv").write_text("\n".join([*lines, *(f"{n}.wav,?,train" for n in range(20))]))
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "b.wav").write_bytes(b"x")
    assert download.main(["--check", str(tmp_path / "mine.csv")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "mine.csv:4: label '2'" in told[0]
    assert "mine.csv:6: got 2 fields" in told[1]
    assert "mine.csv:16: label '?'" not in "".join(told)
    assert told[-1] == "error: CSV: 13 more problems in its lists"
    assert len(told) == check.NAMED_LINES + 1


def test_an_utterance_that_stands_twice_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label,split\na.wav,real,train\nb.wav,fake,train\na.wav,real,dev\n")
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "b.wav").write_bytes(b"x")
    assert check_tree(tmp_path / "mine.csv").problems == [
        f"{tmp_path / 'mine.csv'}:4: utterance 'a.wav' already stands on line 2"
    ]


def test_splits_that_lack_something_are_notes_and_those_without_are_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "path,label,split,words\na.wav,real,eval,one\nb.wav,fake,eval,two\nc.wav,fake,dev,three\n"
    )
    report = check_tree(tmp_path / "mine.csv")
    assert report.facts == [
        "CSV train: 0 trials (0 bona fide, 0 spoof)",
        f"CSV train: note: {tmp_path / 'mine.csv'}: its train part is empty, though it lists 3 trials",
        "CSV dev: 1 trials (0 bona fide, 1 spoof)",
        f"CSV dev: note: {tmp_path / 'mine.csv'}: its dev part is all spoof; both classes are needed",
        "CSV eval: 2 trials (1 bona fide, 1 spoof)",
        "CSV: note: columns that are not read: words",
    ]
    assert report.problems == [
        f"{tmp_path}: 1 of 1 files missing: c.wav",
        f"{tmp_path}: 2 of 2 files missing: a.wav, b.wav",
    ]


def test_what_splits_share_is_reported(corpus: Path, tmp_path: Path) -> None:
    root = make_asvspoof5(corpus, tmp_path)
    train, dev = root / "ASVspoof5.train.tsv", root / "ASVspoof5.dev.track_1.tsv"
    line = train.read_text().splitlines()[0]
    dev.write_text(dev.read_text() + line + "\n")
    speaker, utterance = line.split()[:2]
    (root / "flac_D" / f"{utterance}.flac").write_bytes(b"x")
    report = check_tree(root)
    assert report.problems == [f"ASVspoof5: utterances in both train and dev: 1 ({utterance})"]
    assert f"ASVspoof5: note: speakers in both train and dev: 1 ({speaker})" in report.facts


def test_a_division_is_described(corpus: Path, tmp_path: Path) -> None:
    report = check_tree(make_folders(corpus, tmp_path, by_split=False))
    counts = [int(fact.split()[2]) for fact in report.facts[:3]]
    assert sum(counts) == 60
    assert any("folders: note:" in fact and "divided by a hash of the path" in fact for fact in report.facts)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a")
    assert "neither a folder nor a list of trials" in check_tree(tmp_path / "notes.txt").problems[0]
    assert "no such folder or file" in check_tree(tmp_path / "nothing").problems[0]
    assert "docs/own-data.md" in check_tree(tmp_path).problems[0]
    assert "is no header" in check_tree_of(tmp_path / "mine.csv", "a,b\n")
    assert "no such list" in check_tree(tmp_path / "other.csv").problems[0]
    (tmp_path / "inner" / "real").mkdir(parents=True)
    (tmp_path / "inner" / "fake").mkdir()
    assert check_tree(tmp_path).problems[0].endswith(f"did you mean {tmp_path / 'inner'}?")


def check_tree_of(path: Path, text: str) -> str:
    path.write_text(text)
    return check_tree(path).problems[0]


def test_all_corpora_of_a_folder_are_checked(corpus: Path, tmp_path: Path) -> None:
    root = make_2021(corpus, tmp_path)
    (root / "ASVspoof2019_LA_cm_protocols").mkdir()
    report = check_tree(root)
    assert sum("no such protocol" in problem for problem in report.problems) == 3
    assert any(fact.startswith("ASVspoof2021 LA eval:") for fact in report.facts)
