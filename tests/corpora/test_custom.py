"""Corpora of one's own: CSV files and folders are read strictly, trained on and scored, and never written to."""

import gc
import json
import os
import pathlib
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.cli import train
from s2pecnet.conventions import LABELS, LONGEST_FIELD
from s2pecnet.corpora.custom import SPLIT_WORDS, divide
from s2pecnet.corpora.detect import CORPORA, find_corpus, find_split
from s2pecnet.corpora.trials import LONGEST_NAME, CorpusOptions, OneClassError, Trial, decode_name, encode_name
from s2pecnet.data.loaders import make_loader
from s2pecnet.errors import InputError
from s2pecnet.systems.inputs import Inputs
from tests.helpers import ROOT
from tests.helpers.made_corpora import make_csv, make_folders
from tests.helpers.samples import TINIEST

HEADER = "path,label,attack,speaker,split\n"
GOOD = HEADER + "a.wav,real,,Ada,train\nb.wav,fake,A01,Ada,train\nc.wav,fake,,Bob,dev\nd.wav,genuine,-,Bob,dev\n"


def listed(folder: Path, text: str | bytes, name: str = "mine.csv", split: str = "train") -> list[Trial]:
    """The trials of a split of a CSV file."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(find_split(folder / name, "LA", split).trials)


def columns(trials: list[Trial]) -> list[tuple[str, str, str, int]]:
    return [(trial.utterance, trial.attack, trial.key, trial.line) for trial in trials]


def test_a_csv_file_is_read(tmp_path: Path) -> None:
    assert columns(listed(tmp_path, GOOD)) == [("a.wav", "-", "bonafide", 2), ("b.wav", "A01", "spoof", 3)]
    assert columns(listed(tmp_path, GOOD, split="dev")) == [
        ("c.wav", "unknown", "spoof", 4),
        ("d.wav", "-", "bonafide", 5),
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (GOOD.replace(",", "\t"), "mine.tsv"),
        (GOOD.replace(",", ";"), "mine.csv"),
        (GOOD.replace("\n", "\r\n").rstrip("\r\n"), "mine.CSV"),
        (b"\xef\xbb\xbf" + GOOD.replace("path", "Path").encode(), "mine.csv"),
        (GOOD.replace("a.wav,real", ' "a.wav", Bona-Fide').replace("\nc.wav", "\n\n./c.wav"), "mine.csv"),
        (GOOD.replace("\n", ",a comment\n").replace("a comment", "comment", 1), "mine.csv"),
        (GOOD.replace("path", "file").replace(",train", ",Training").replace(",dev", ",val"), "mine.csv"),
    ],
)
def test_the_same_list_in_other_words(tmp_path: Path, text: str | bytes, name: str) -> None:
    expected = [("a.wav", "-", "bonafide"), ("b.wav", "A01", "spoof")]
    assert [trial[:3] for trial in columns(listed(tmp_path, text, name))] == expected
    expected = [("c.wav", "unknown", "spoof"), ("d.wav", "-", "bonafide")]
    assert [trial[:3] for trial in columns(listed(tmp_path, text, name, "dev"))] == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b.wav,fake", "b.wav,spof", r"mine.csv:3: label 'spof', expected one of bonafide, .*, deepfake$"),
        ("b.wav,fake", "b.wav,0", r"mine.csv:3: label '0', .*; numbers are refused: in some corpora 1 means fake"),
        ("c.wav,fake,,Bob,dev", "c.wav,fake,,Bob,later", r"mine.csv:4: split 'later', expected one of train, "),
        ("c.wav,fake,,Bob,dev", "c.wav,fake,,Bob", r"mine.csv:4: got 4 fields, expected 5: path,label,attack,"),
        ("c.wav,fake", "a.wav,fake", r"mine.csv:4: utterance 'a.wav' already stands on line 2"),
        ("c.wav,fake", ".//a.wav,fake", r"mine.csv:4: utterance 'a.wav' already stands on line 2"),
        ("c.wav,fake", ",fake", r"mine.csv:4: the path is empty"),
        ("c.wav,fake", "c\\c.wav,fake", r"mine.csv:4: path 'c\\\\c.wav' has a backslash"),
        ("c.wav,fake", f"{'c' * 201},fake", r"mine.csv:4: path of 201 bytes, expected at most 200"),
        ("a.wav,real,", "a.wav,real,A01", r"mine.csv:2: a bona fide trial with attack 'A01'"),
        ("c.wav,fake", '"c.wav,fake', r"mine.csv:4: unexpected end of data; a quoted field is to end on its line"),
        ("c.wav", "c\0.wav", r"mine.csv:4: not a text file in UTF-8, a line holds a zero byte"),
        ("real", "fake", r"mine.csv: its train part is all spoof; both classes are needed"),
        ("train", "eval", r"mine.csv: its train part is empty, though it lists 4 trials"),
        (GOOD[len(HEADER) :], "", r"mine.csv: the protocol is empty"),
        ("label", "labels", r"mine.csv:1: 'path,labels,.*' is no header with the columns path and label"),
        ("attack", "file", r"mine.csv:1: .* is no header"),
        ("attack", "label", r"mine.csv:1: the column label stands twice"),
        (GOOD, "", r"mine.csv:1: '' is no header"),
    ],
)
def test_malformed_lists_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        listed(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine.csv:3: not a text file in UTF-8"):
        listed(tmp_path, GOOD.replace("b.wav", "bär.wav").encode("latin-1"))
    with pytest.raises(InputError, match=r"mine.csv:1: not a text file in UTF-8"):
        listed(tmp_path, GOOD.encode("utf-16"))


def test_missing_lists_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such list of trials"):
        find_split(tmp_path / "mine.csv", "LA", "train")
    (tmp_path / "mine.txt").write_text(GOOD)
    with pytest.raises(InputError, match=r"neither a folder nor a list of trials"):
        find_split(tmp_path / "mine.txt", "LA", "train")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_names_are_one_column_and_give_the_path_back(path: str) -> None:
    assert len(f"a{encode_name(path)}".split()) == 1
    assert decode_name(encode_name(path)) == path


def test_paths_with_blanks_are_one_column_of_score_files(tmp_path: Path) -> None:
    text = 'path,label,attack,split\n"a, 100% b.wav",real,,eval\nd.wav,fake,HiFi GAN,eval\n'
    trials = listed(tmp_path, text, split="eval")
    assert [trial.utterance for trial in trials] == ["a,%20100%25%20b.wav", "d.wav"]
    assert trials[1].attack == "HiFi%20GAN"


def test_absolute_paths_and_other_formats_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    soundfile.write(elsewhere / "a.wav", noise, 8000)
    soundfile.write(tmp_path / "b.ogg", noise, 16000)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mine.csv").write_text(
        f"path,label,split\n{elsewhere}/a.wav,human,test\n../b.ogg,synthetic,test\n"
    )
    split = find_split(tmp_path / "lists" / "mine.csv", "LA", "eval")
    loader = make_loader(split, batch_size=2, seed=0, inputs=Inputs(4000))
    ((waveforms, utterances),) = list(loader)
    assert waveforms.abs().sum(dim=1).min() > 100
    assert list(utterances) == [encode_name(f"{elsewhere}/a.wav"), "../b.ogg"]


def test_a_long_list_takes_a_few_bytes_a_trial(tmp_path: Path) -> None:
    rows = (f"clips/{n:05d}.wav,{'real' if n % 9 else 'fake'},,Ada,{'eval' if n % 2 else 'dev'}" for n in range(20_000))
    (tmp_path / "mine.csv").write_text(HEADER + "\n".join(rows) + "\n")
    split = find_split(tmp_path / "mine.csv", "LA", "eval")
    tracemalloc.start()
    trials = split.trials
    # Cycles that nobody holds wait long for their collection in a process with many objects.
    gc.collect()
    # The parts of a path go through python's table of interned strings, which may be grown just then.
    held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
    tracemalloc.stop()
    assert len(trials) == 10_000
    # Those of dev are read with them.
    assert sum(trace.size for trace in held.traces) < 100 * len(trials)
    assert trials[9_999].utterance == "clips/19999.wav"
    assert trials[9_999].line == 20_001
    assert trials.location(0).endswith("mine.csv:3")
    copy = pickle.loads(pickle.dumps(trials))
    assert copy[4321].utterance == trials[4321].utterance


# ---------------------------------------------------------------------------------- division


def test_speakers_are_divided_as_documented() -> None:
    counts = Counter(divide(f"speaker {number}") for number in range(20_000))
    for split, share in (("train", 0.70), ("dev", 0.15), ("eval", 0.15)):
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)


def test_what_names_no_splits_is_divided_by_speaker_or_taken_as_eval(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    rows = [f"{n}.wav,{'real' if n % 2 else 'fake'},speaker {n // 10}" for n in range(400)]
    file.write_text("path,label,speaker\n" + "\n".join(rows) + "\n")
    found = find_corpus(file)
    assert found.note
    assert "divided by a hash of the speaker, about 70 % train, 15 % dev, 15 % eval" in found.note
    trials = {name: list(split.trials) for name, split in found.splits.items()}
    assert sorted(int(t.utterance[:-4]) for those in trials.values() for t in those) == list(range(400))
    speakers = {name: {trial.speaker for trial in those} for name, those in trials.items()}
    assert all(divide(speaker) == name for name, those in speakers.items() for speaker in those)
    whole = find_split(file, "LA", "eval", split_policy="eval")
    assert len(whole.trials) == 400
    with pytest.raises(InputError, match=r"has no train split, only eval; it can be scored \(--eval\), not trained on"):
        find_split(file, "LA", "train", split_policy="eval")


def test_without_speakers_the_path_decides(tmp_path: Path) -> None:
    rows = [f"my clips/{n}.wav,{'real' if n % 2 else 'fake'}" for n in range(200)]
    text = "path,label\n" + "\n".join(rows) + "\n"
    dev = [trial.utterance for trial in listed(tmp_path, text, split="dev")]
    assert dev == [encode_name(f"my clips/{n}.wav") for n in range(200) if divide(f"my clips/{n}.wav") == "dev"]
    reordered = "path,label\n" + "\n".join(rows[::-1]) + "\n"
    assert [trial.utterance for trial in listed(tmp_path, reordered, split="dev")] == dev[::-1]


def test_too_few_speakers_to_divide_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its dev part is empty, .*divided by a hash.*; add a column split"):
        listed(tmp_path, "path,label,speaker\na.wav,real,Ada\nb.wav,fake,Ada\n", split="dev")


# ---------------------------------------------------------------------------------- folders


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def names(root: Path, split: str = "eval", unsplit: str = "eval") -> list[tuple[str, str, str]]:
    trials = find_split(root, "LA", split, split_policy=unsplit).trials
    return [(trial.utterance, trial.attack, trial.key) for trial in trials]


def test_folders_name_label_and_attack(tmp_path: Path) -> None:
    touch(tmp_path, "Real/a.wav", "Real/ada/b b.FLAC", "fake/c.ogg", "fake/tts 1/d.wav", "fake/vc/x/e.mp3")
    touch(tmp_path, "fake/notes.txt", "fake/.hidden/f.wav", "fake/._c.ogg", "other/g.wav")
    assert names(tmp_path) == [
        ("Real/a.wav", "-", "bonafide"),
        ("Real/ada/b%20b.FLAC", "-", "bonafide"),
        ("fake/c.ogg", "unknown", "spoof"),
        ("fake/tts%201/d.wav", "tts%201", "spoof"),
        ("fake/vc/x/e.mp3", "vc", "spoof"),
    ]


@pytest.mark.parametrize("words", [("train", "dev", "eval"), ("training", "validation", "test")])
def test_folders_of_splits(tmp_path: Path, words: tuple[str, ...]) -> None:
    for word in words:
        touch(tmp_path, f"{word}/bonafide/a.wav", f"{word}/spoof/A01/a.wav")
    for split, word in zip(("train", "dev", "eval"), words, strict=True):
        found = names(tmp_path, split)
        assert found == [(f"{word}/bonafide/a.wav", "-", "bonafide"), (f"{word}/spoof/A01/a.wav", "A01", "spoof")]
    assert find_corpus(tmp_path).note is None


def test_folders_without_splits_are_divided(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{number}.wav" for label in ("real", "fake") for number in range(100)))
    parts = {split: names(tmp_path, split, "divide") for split in ("train", "dev", "eval")}
    assert sorted(trial for those in parts.values() for trial in those) == sorted(names(tmp_path))
    assert all(divide(decode_name(name)) == split for split, those in parts.items() for name, _, _ in those)


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.wav")
    root = touch(tmp_path / "corpus", "spoof/b.wav")
    (root / "bonafide").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(root / "bonafide")
    assert [name for name, _, _ in names(root)] == ["bonafide/a.wav", "spoof/b.wav"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["real/a.wav", "fake/b.raw"], r"b\.raw: libsndfile does not read \.raw files; convert them"),
        (["real/a.wav", "fake/b.txt"], r"the folder is all bonafide; both classes are needed"),
        (["real/a.txt", "fake/b.txt"], r"the folder has no audio files"),
        (["real/a.wav", "fake/b.wav", "test/real/a.wav"], r"holds fake/, real/, test/; expected folders of labels, or"),
        (["val/real/a.wav", "dev/real/b.wav"], r"holds dev/, val/; expected"),
        (["test/real/a.wav", "test/fake/b.txt"], r"test: the folder is all bonafide; both classes"),
        (["real/a.wav", f"fake/{'b' * 200}.wav"], r"path of 209 bytes, expected at most 200"),
        (["genuine/a.wav", "generated/b.wav"], r"holds genuine/ and no folder of the other class \(generated/\)"),
    ],
)
def test_folders_out_of_order_are_one_clear_line(tmp_path: Path, files: list[str], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message) as caught:
        names(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="names of files are text here")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.wav", "fake/b.wav")
    try:
        (tmp_path / "fake" / os.fsdecode(b"\xe9.wav")).write_bytes(b"x")
    except OSError:
        pytest.skip("this disk takes only names that are text")
    with pytest.raises(InputError, match=r"xe9\.wav': a file name that is not valid text"):
        names(tmp_path)


# ---------------------------------------------------------------------------------- from end to end


def contents(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


def trained(root: Path, out: Path, *overrides: str) -> list[list[str]]:
    """The lines of the eval score file after an epoch of training on a corpus, which is as it was before."""
    config = out / "tiniest.conf"
    config.write_text(json.dumps(TINIEST | {"database_path": str(root), "num_epochs": 1, "track": "mine"}))
    before = contents(root)
    train.main(["--config", str(config), "--output_dir", str(out), *(f"--set={override}" for override in overrides)])
    assert contents(root) == before
    scores = out / "mine_tiniest_ep1_bs6" / "eval_scores_using_best_dev_model.txt"
    return [line.split() for line in scores.read_text().splitlines()]


def test_a_csv_file_is_trained_on(corpus: Path, tmp_path: Path) -> None:
    root = make_csv(corpus, tmp_path / "my data")
    rows = trained(root, tmp_path, "audio_cache=true", "num_workers=1", "corpus=csv")
    assert [len(row) for row in rows] == [4] * 18
    trials = find_split(root, "LA", "eval").trials
    assert [row[:3] for row in rows] == [[trial.utterance, trial.attack, trial.key] for trial in trials]
    results = json.loads((tmp_path / "mine_tiniest_ep1_bs6" / "results.json").read_text())
    assert set(results["metrics"]["eval"]["per_attack_eer"]) == {trial.attack for trial in trials} - {"-"}
    assert len(set(results["protocols"].values())) == 3, "the splits of one file are told apart"


def test_folders_are_trained_on(corpus: Path, tmp_path: Path) -> None:
    rows = trained(make_folders(corpus, tmp_path / "mine"), tmp_path)
    assert len(rows) == 18
    assert all(row[0].startswith(f"eval/{'real/' if row[1] == '-' else f'fake/{row[1]}/'}") for row in rows)


def test_a_divided_corpus_is_trained_on_and_says_so(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = make_folders(corpus, tmp_path / "mine", by_split=False)
    rows = trained(root, tmp_path)
    assert {divide(row[0]) for row in rows} == {"eval"}
    assert "names no splits: it is divided by a hash of the path" in caplog.text


def test_missing_audio_names_file_and_line(corpus: Path, tmp_path: Path) -> None:
    root = make_csv(corpus, tmp_path / "mine")
    trial = find_split(root, "LA", "dev").trials[3]
    (root / decode_name(trial.utterance)).unlink()
    with pytest.raises(
        InputError, match=rf"1 of 18 files .*metadata\.csv names are missing: .*\.flac \(line {trial.line}\)"
    ):
        trained(root, tmp_path)


def test_the_longest_name_is_the_longest_that_score_files_take() -> None:
    assert LONGEST_NAME == LONGEST_FIELD


def test_the_docs_have_all_words() -> None:
    text = (ROOT / "docs" / "own-data.md").read_text()
    assert [word for word in (*LABELS, *SPLIT_WORDS, *CORPORA) if f"`{word}`" not in text] == []


def test_folders_of_one_class_are_scored_whole_and_never_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, "fake/tts/a.wav", "fake/tts/b.wav")
    with pytest.raises(InputError, match="split_policy=eval"):
        find_corpus(tmp_path)
    split = find_corpus(tmp_path, options=CorpusOptions(split_policy="eval"))["eval"]
    with pytest.raises(OneClassError, match="is all spoof"):
        _ = split.trials
    assert list(split.of_any_class().trials.attack) == ["tts", "tts"]
