"""Parquet shards: the same trials and samples as the files that they were made of, in every command."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2pecnet.audio.containers.content import AudioBytes
from s2pecnet.audio.decoding import BadAudio, inspect, read_audio, read_crop
from s2pecnet.cli import download, report, train
from s2pecnet.corpora import parquet
from s2pecnet.corpora.detect import find_corpus, find_split
from s2pecnet.corpora.trials import CorpusOptions
from s2pecnet.data.loaders import make_loader
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import read_cm_scores
from tests.helpers import ROOT
from tests.helpers.audio_zoo import written
from tests.helpers.made_corpora import make_parquet, write_parquet
from tests.helpers.samples import TINIEST

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def tone(seconds: float = 0.5, format: str = "FLAC") -> bytes:
    samples = 0.3 * np.sin(2 * np.pi * 200 * np.arange(int(16000 * seconds)) / 16000)
    return written(samples, 16000, format=format)


def rows(*labels: str, name: Callable[[int], str | None] = "{}.wav".format) -> dict[str, list[Any]]:
    return {
        "audio": [{"bytes": tone(), "path": name(number)} for number in range(len(labels))],
        "label": list(labels),
    }


@pytest.mark.parametrize("classes", [True, False])
def test_trials_and_samples_are_those_of_the_files(corpus: Path, tmp_path: Path, classes: bool) -> None:
    root = make_parquet(corpus, tmp_path, classes)
    for split in ("train", "dev", "eval"):
        files, shards = find_split(corpus, "LA", split), find_split(root, "LA", split)
        expected = [(f"{one.utterance}.flac", one.attack, one.key, one.speaker) for one in files.trials]
        assert [(one.utterance, one.attack, one.key, one.speaker) for one in shards.trials] == expected
        one, other = AudioFolder.of(files), AudioFolder.of(shards)
        for index in (0, 5, len(expected) - 1):
            assert np.array_equal(one.complete(index), other.complete(index))
            assert np.array_equal(one.crop(index, 2400, lambda spare: spare // 2),
                                  other.crop(index, 2400, lambda spare: spare // 2))  # fmt: skip


@pytest.mark.parametrize("audio_cache", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_files(corpus: Path, tmp_path: Path, audio_cache: bool, workers: int) -> None:
    root = make_parquet(corpus, tmp_path / "shards")
    options = {"batch_size": 6, "seed": 3, "num_workers": workers, "audio_cache": audio_cache}
    batches = [
        list(make_loader(find_split(path, "LA", "train"), cache_dir=tmp_path / "cache", **options))  # type: ignore[arg-type]
        for path in (corpus, root)
    ]
    for (first, labels), (second, same) in zip(*batches, strict=True):
        assert np.array_equal(first, second)
        assert labels.tolist() == same.tolist()


@pytest.mark.slow
def test_a_system_is_trained_scored_and_reported_on(corpus: Path, tmp_path: Path) -> None:
    root, scores = make_parquet(corpus, tmp_path / "shards"), []
    for name, path in (("files", corpus), ("shards", root)):
        config = tmp_path / f"{name}.conf"
        config.write_text(json.dumps(TINIEST | {"database_path": str(path), "num_epochs": 1}))
        train.main(["--config", str(config), "--output_dir", str(tmp_path / name), "--device", "cpu"])
        scores.append(read_cm_scores(next((tmp_path / name).glob("LA_*/eval_scores*model.txt"))))
    assert np.array_equal(scores[0].scores, scores[1].scores)
    page = next((tmp_path / "shards").glob("LA_*")) / "report.html"
    assert page.read_text().count("data:audio/flac;base64,") >= 6
    page.unlink()
    report.main([str(page.parent), "--database_path", str(root)])
    assert page.read_text().count("data:audio/flac;base64,") >= 6


def test_check_counts_and_names_what_is_missing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_parquet(corpus, tmp_path / "whole")
    assert download.main(["--check", str(root)]) == 0
    assert "Parquet eval: 18 trials (6 bona fide, 12 spoof)" in capsys.readouterr().out
    columns = rows("real", "fake", "fake")
    columns["audio"][1]["bytes"] = None
    write_parquet(tmp_path / "gap" / "test-0.parquet", columns)
    assert download.main(["--check", str(tmp_path / "gap")]) != 0
    assert "1 rows without audio bytes" in "".join(capsys.readouterr())
    split = find_split(tmp_path / "gap", "LA", "eval")
    with pytest.raises(BadAudio, match=r"test-0\.parquet:2: the row has no audio bytes, only the path '1\.wav'"):
        AudioFolder.of(split).complete(1)


def test_splits_of_a_column_of_names_or_of_neither(tmp_path: Path) -> None:
    columns = rows("real", "fake") | {"split": ["test", "Validation"]}
    write_parquet(tmp_path / "column" / "a.parquet", columns)
    corpus = find_corpus(tmp_path / "column")
    assert [len(corpus[name].of_any_class().trials) for name in ("dev", "eval")] == [1, 1]
    for folder in ("train", "test"):
        write_parquet(tmp_path / "folders" / folder / "0000.parquet", rows("real", "fake"))
    assert list(find_corpus(tmp_path / "folders").splits) == ["train", "eval"]
    write_parquet(tmp_path / "none" / "part-0.parquet", rows(*["real", "fake"] * 20))
    divided = find_corpus(tmp_path / "none")
    assert divided.note is not None
    assert sum(len(split.trials) for split in divided.splits.values()) == 40
    for whole in ("none", "train_alone"):
        if whole == "train_alone":
            write_parquet(tmp_path / whole / "train-00000-of-00001.parquet", rows(*["real", "fake"] * 20))
        assert len(find_corpus(tmp_path / whole, options=CorpusOptions(split_policy="eval"))["eval"].trials) == 40
    assert list(find_corpus(tmp_path / "none" / "part-0.parquet").splits) == ["train", "dev", "eval"]
    write_parquet(tmp_path / "none" / "test-0.parquet", rows("real"))
    with pytest.raises(InputError, match=r"part-0\.parquet: its name says no split and those of others do"):
        find_corpus(tmp_path / "none")


@pytest.mark.parametrize("named", [True, False])
def test_speakers_and_attacks_that_are_numbers(tmp_path: Path, named: bool) -> None:
    """0 is a number as any other; where the features name the numbers, these are the names."""
    clip, count = tone(0.05), 240
    columns: dict[str, list[Any]] = {
        "audio": [{"bytes": clip, "path": f"{number}.flac"} for number in range(count)],
        "label": ["real", "fake"] * (count // 2),
        "speaker": [number // 2 % 2 for number in range(count)],
        # Of bona fide speech some say 0, some nothing.
        "attack": [(0, None)[number // 2 % 2] if number % 2 == 0 else number // 4 % 2 for number in range(count)],
    }
    if named:
        columns["attack"] = [one if number % 2 else None for number, one in enumerate(columns["attack"])]
    table = pa.table(columns)
    if named:
        names = {"speaker": ["Ann Lee", "Bob"], "attack": ["tts", "vc"]}
        features = {column: {"names": words, "_type": "ClassLabel"} for column, words in names.items()}
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    pq.write_table(table, tmp_path / "all.parquet")
    splits = find_corpus(tmp_path).splits.values()
    trials = [split.read(lambda problem: None) for split in splits]
    assert sum(map(len, trials)) == count
    speakers = [speaker for one in trials for speaker in one.speaker.present()]
    assert sorted(speakers) == (["Ann%20Lee", "Bob"] if named else ["0", "1"])
    attacks = {(trial.key, trial.attack) for one in trials for trial in one}
    spoofs = {("spoof", word) for word in (("tts", "vc") if named else ("0", "1"))}
    assert attacks == {("bonafide", "-")} | spoofs


def test_speakers_that_are_not_known(tmp_path: Path) -> None:
    columns = rows("real", "fake", "fake") | {"speaker": [None, "", "x"], "attack": [None, None, ""]}
    write_parquet(tmp_path / "test-0.parquet", columns)
    trials = find_split(tmp_path, "LA", "eval").trials
    assert [(one.speaker, one.attack) for one in trials] == [("-", "-"), ("-", "unknown"), ("x", "unknown")]


def test_names_are_paths_where_they_differ_else_shard_and_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a" / "test-0.parquet", rows("real", "fake", name="my clip {}.wav".format))
    assert list(find_split(tmp_path / "a", "LA", "eval").trials.utterance) == ["my%20clip%200.wav", "my%20clip%201.wav"]
    write_parquet(tmp_path / "a" / "test-1.parquet", rows("real", "fake", name="my clip {}.wav".format))
    names = list(find_split(tmp_path / "a", "LA", "eval").trials.utterance)
    assert names == ["test-0/1", "test-0/2", "test-1/1", "test-1/2"]
    write_parquet(tmp_path / "b" / "test-0.parquet", rows("real", "fake", name=lambda number: None))
    assert list(find_split(tmp_path / "b", "LA", "eval").trials.utterance) == ["test-0/1", "test-0/2"]


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    def refused(columns: dict[str, list[Any]], message: str) -> None:
        path = write_parquet(tmp_path / "test-0.parquet", columns)
        with pytest.raises(InputError, match=message) as caught:
            _ = find_corpus(path)["eval"].trials
        assert "\n" not in str(caught.value)

    whole = rows("real", "fake")
    refused({"label": ["real"]}, r"test-0\.parquet: no column audio, expected audio and label; has label")
    refused({"audio": whole["audio"]}, "no column label")
    refused(whole | {"audio": ["a.wav", "b.wav"]}, r"the column audio is string, expected \{bytes, path\}")
    refused(whole | {"label": [0, 1]}, r"test-0\.parquet:1: label '0', expected .* numbers are refused")
    refused(whole | {"label": ["real", None]}, r":2: label None, expected one of")
    refused(whole | {"label": ["real", "cat"]}, r":2: label 'cat', expected")
    refused(whole | {"attack": ["tts", "tts"]}, r":1: a bona fide trial with attack 'tts'")
    refused(rows("fake", "fake"), "its eval part is all spoof; both classes are needed")
    path = tmp_path / "test-0.parquet"
    content = path.read_bytes()
    for damaged in (content[:-100], b"PAR1 is not enough", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"test-0\.parquet: no Parquet file, damaged or cut short"):
            find_corpus(path)
    write_parquet(tmp_path / "test-1.parquet", {"audio": whole["audio"], "key": ["real", "fake"]})
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"test-1\.parquet: its columns"):
        find_corpus(tmp_path) if list(
            parquet.ParquetStore(tmp_path, (path, tmp_path / "test-1.parquet")).columns
        ) else 0


def test_damaged_audio_names_its_row(tmp_path: Path) -> None:
    columns = rows("real", "fake", "fake")
    columns["audio"][1]["bytes"] = columns["audio"][1]["bytes"][:1000]
    columns["audio"][2]["bytes"] = b"no audio"
    write_parquet(tmp_path / "test-0.parquet", columns)
    audio = AudioFolder.of(find_split(tmp_path, "LA", "eval"))
    for index in (1, 2):
        with pytest.raises(BadAudio, match=rf"test-0\.parquet:{index + 1} \({index}\.wav\): "):
            audio.complete(index)


def test_a_store_is_handed_to_other_processes(corpus: Path, tmp_path: Path) -> None:
    split = find_split(make_parquet(corpus, tmp_path), "LA", "eval")
    audio = AudioFolder.of(split)
    expected = audio.complete(3)
    assert np.array_equal(pickle.loads(pickle.dumps(audio)).complete(3), expected)


def test_row_groups_are_read_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held stays below the bound, however large the shard is."""
    noise = np.random.default_rng(1).normal(0, 0.1, 16000)
    clip = written(noise, 16000, format="WAV")
    count = 400
    columns = {"audio": [{"bytes": clip, "path": f"{number}.wav"} for number in range(count)],
               "label": ["real", "fake"] * (count // 2)}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "test-0.parquet", row_group_size=20, use_dictionary=False,
                   compression="none")  # fmt: skip
    monkeypatch.setattr(parquet, "HELD", 3 * 20 * len(clip))
    split = find_split(tmp_path, "LA", "eval")
    audio, before = AudioFolder.of(split), pa.total_allocated_bytes()
    most = 0
    tracemalloc.start()
    for index in range(count):
        audio.complete(index)
        most = max(most, pa.total_allocated_bytes() - before)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5 * 20 * len(clip) < count * len(clip) / 3
    assert python < 2_000_000


# ---- bytes in the place of files ---------------------------------------------------------------


@pytest.mark.parametrize("format", ["FLAC", "WAV", "OGG", "MP3"])
def test_bytes_are_read_as_a_file_is(tmp_path: Path, format: str) -> None:
    content = tone(1.5, format)
    path = tmp_path / f"x.{format.lower()}"
    path.write_bytes(content)
    inside = AudioBytes("row 3", content)
    assert np.array_equal(read_audio(path), read_audio(inside))
    assert np.array_equal(read_crop(path, 4000, lambda spare: 777), read_crop(inside, 4000, lambda spare: 777))
    assert inspect(path)[:3] == inspect(inside)[:3]


def test_bytes_are_refused_as_a_file_is() -> None:
    for content, message in ((b"", "row 3: the audio file is empty"), (tone()[:500], "row 3: cannot be decoded"),
                             (written(np.zeros(8000), 16000, format="WAV"), "row 3: is silent")):  # fmt: skip
        with pytest.raises(BadAudio, match=message):
            read_crop(AudioBytes("row 3", content), 400)


# ---- the Hub -----------------------------------------------------------------------------------


def test_a_data_set_of_the_hub(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    root, asked = make_parquet(corpus, tmp_path / "snapshot"), []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options))
        return str(root)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.delenv("S2PEC_OFFLINE", raising=False)
    # A config's path may have gone through pathlib, which makes one slash of two.
    for name in ("hf://datasets/who/what", "hf:/who/what"):
        assert len(find_corpus(name)["eval"].trials) == 18
    find_corpus("hf://datasets/who/what@refs/convert/parquet")
    options = {"repo_type": "dataset", "revision": None, "local_files_only": False}
    assert asked[:2] == [("who/what", options)] * 2
    assert asked[2] == ("who/what", options | {"revision": "refs/convert/parquet"})


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("S2PEC_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        InputError, match=r"S2PEC_OFFLINE is set.*hf download --repo-type dataset nobody/nothing-of-it"
    ) as e:
        find_corpus("hf://datasets/nobody/nothing-of-it")
    assert "\n" not in str(e.value)


@pytest.mark.slow
def test_a_run_takes_a_data_set_from_the_cache_of_the_hub(corpus: Path, tmp_path: Path) -> None:
    """The real command and the real huggingface_hub, without a network; the cache has the Hub's own layout."""
    pytest.importorskip("huggingface_hub")
    commit, home = "a" * 40, tmp_path / "home" / "hub" / "datasets--who--what"
    make_parquet(corpus, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    config = tmp_path / "tiny.conf"
    config.write_text(json.dumps(TINIEST | {"num_epochs": 1, "database_path": "hf://datasets/who/what"}))
    words = [sys.executable, ROOT / "main.py", "--config", config, "--output_dir", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "S2PEC_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "eval, selected epoch" in done.stdout
