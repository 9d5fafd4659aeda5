"""Decoded audio is kept exactly, found again, made again where a file changed, and made once by two runs at once.

A cache that is damaged, cut short or taken away never gives a wrong sample.
"""

import multiprocessing
import os
import pickle
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2pecnet.audio.decoding import BadAudio
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import Split, Trials
from s2pecnet.data import cache
from s2pecnet.data.cache import AudioCache, check_headers, read_headers
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError, Stopped
from s2pecnet.locks import waiting_lock


@pytest.fixture
def split(corpus: Path, tmp_path: Path) -> Split:
    """The dev split of a copy of the corpus that a test may damage."""
    root = tmp_path / "LA"
    shutil.copytree(corpus, root)
    return find_split(root, "LA", "dev")


def opened(split: Split) -> tuple[AudioFolder, Trials]:
    trials = read_protocol(split.protocol)
    return AudioFolder(split.audio, trials.utterance, trials=trials), trials


def cached(split: Split, folder: Path) -> AudioCache:
    audio, protocol = opened(split)
    return AudioCache(audio, protocol, read_headers(audio, protocol, folder), folder)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The items that are decoded from now on."""
    decoded: list[int] = []
    real = cache._compact

    def compact(audio: AudioFolder, index: int) -> np.ndarray:
        decoded.append(index)
        return real(audio, index)

    monkeypatch.setattr(cache, "_compact", compact)
    return decoded


def test_the_cache_gives_the_samples_of_the_files(split: Split, tmp_path: Path) -> None:
    names = sorted((split.audio / "flac").iterdir())
    # Beside 16-bit FLAC: 24 bits, another rate, full scale; each of them must come back to the bit.
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, 9001)
    soundfile.write(names[1], noise, 16000, subtype="PCM_24")
    soundfile.write(names[2], noise, 22050)
    soundfile.write(names[3], np.sign(noise), 16000, subtype="PCM_16")
    audio, _ = opened(split)
    cache = cached(split, tmp_path / "cache")
    assert cache._opened is not None
    kinds = set(cache._opened.records["kind"].tolist())
    assert kinds == {0, 1}
    for index in range(len(audio.utterances)):
        np.testing.assert_array_equal(cache.complete(index), audio.complete(index))
        assert cache.complete(index).dtype == np.float32
        np.testing.assert_array_equal(
            cache.crop(index, 3000, lambda spare: spare // 3), audio.crop(index, 3000, lambda spare: spare // 3)
        )


def test_a_cache_is_made_once(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decoded(monkeypatch)
    cached(split, tmp_path / "cache")
    cached(split, tmp_path / "cache")
    assert sorted(decoded) == list(range(18))


@pytest.mark.parametrize("change", ["content", "time", "truncated cache"])
def test_a_cache_that_does_not_fit_is_made_again(
    split: Split, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(split, tmp_path / "cache")
    path = first.path(5)
    if change == "content":
        soundfile.write(path, np.full(5000, 0.125), 16000)
    elif change == "time":
        os.utime(path, ns=(1, 1))
    else:
        first.cache.write_bytes(first.cache.read_bytes()[:100])
    decoded = count_decoded(monkeypatch)
    second = cached(split, tmp_path / "cache")
    assert len(decoded) == 18
    audio, _ = opened(split)
    np.testing.assert_array_equal(second.complete(5), audio.complete(5))


def test_other_protocols_and_folders_have_caches_of_their_own(split: Split, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    paths = {cached(split, folder).cache, cached(find_split(corpus, "LA", "dev"), folder).cache}
    lines = split.protocol.read_text().splitlines(keepends=True)
    split.protocol.write_text("".join(lines[::-1]))
    paths.add(cached(split, folder).cache)
    assert len(paths) == 3


def test_bad_files_are_left_out_and_reported_when_asked_for(split: Split, tmp_path: Path) -> None:
    audio, _ = opened(split)
    audio.path(3).write_bytes(audio.path(3).read_bytes()[:500])
    cache = cached(split, tmp_path / "cache")
    with pytest.raises(BadAudio, match="cannot be decoded"):
        cache.crop(3, 1000)
    np.testing.assert_array_equal(cache.complete(4), audio.complete(4))


def make_in_process(split: Split, folder: Path, start: "multiprocessing.synchronize.Event", made: Path) -> None:
    start.wait()
    real = cache.AudioCache._make

    def counted(self: AudioCache, headers: np.ndarray) -> None:
        with open(made, "a") as stream:
            stream.write("made\n")
        real(self, headers)

    cache.AudioCache._make = counted  # type: ignore[method-assign]
    cached(split, folder)


def test_two_runs_that_start_at_once_make_it_once(split: Split, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    arguments = (split, tmp_path / "cache", start, tmp_path / "made.txt")
    runs = [context.Process(target=make_in_process, args=arguments) for _ in range(3)]
    for run in runs:
        run.start()
    start.set()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert (tmp_path / "made.txt").read_text() == "made\n"


def test_headers_are_read_once_and_again_where_a_file_changed(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, protocol = opened(split)
    before = read_headers(audio, protocol, tmp_path)
    assert before["rate"].tolist() == [16000] * 18
    assert before["frames"][4] == len(audio.complete(4))
    read: list[int] = []
    real = cache._header

    def header(audio: AudioFolder, index: int) -> tuple[int, int, int, bool]:
        read.append(index)
        return real(audio, index)

    monkeypatch.setattr(cache, "_header", header)
    np.testing.assert_array_equal(read_headers(audio, protocol, tmp_path), before)
    assert read == []
    soundfile.write(audio.path(7), np.full(4321, 0.25), 16000)
    assert read_headers(audio, protocol, tmp_path)["frames"][7] == 4321
    assert read == [7]
    next(tmp_path.glob("headers-*.bin")).write_bytes(b"damaged" * 9)
    assert read_headers(audio, protocol, tmp_path)["frames"][7] == 4321


def test_a_file_that_could_not_be_opened_once_is_read_again(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, protocol = opened(split)
    read: list[Path] = []
    failing = {audio.path(4)}
    real = cache.inspect

    def inspect(path: Path) -> Any:
        read.append(path)
        if path in failing:
            raise BadAudio(f"{path}: cannot be opened: Input/output error")
        return real(path)

    monkeypatch.setattr(cache, "inspect", inspect)
    assert np.flatnonzero(read_headers(audio, protocol, tmp_path)["frames"] == 0).tolist() == [4]
    kept = next(tmp_path.glob("headers-*.bin"))
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    read.clear()
    # While it lasts, nothing has changed that would have to be written.
    assert read_headers(audio, protocol, tmp_path)["frames"][4] == 0
    assert read == [audio.path(4)]
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    failing.clear()
    headers = read_headers(audio, protocol, tmp_path)
    assert headers["frames"][4] == len(audio.complete(4))
    check_headers(audio, protocol, headers)
    read.clear()
    np.testing.assert_array_equal(read_headers(audio, protocol, tmp_path), headers)
    assert read == []


@pytest.mark.slow
def test_headers_of_a_long_list_take_a_few_bytes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_stat", lambda audio, index: (index + 1, 7, 7))
    monkeypatch.setattr(cache, "_header", lambda audio, index: (index, 16000, 1, False))
    files: Any = range(50_000)
    tracemalloc.start()
    try:
        headers = read_headers(AudioFolder(tmp_path, files), files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert headers["frames"].tolist() == list(files)
    # 40 of them are the header.
    assert peak < 80 * len(files)


def test_missing_and_unreadable_files_are_named_before_anything_starts(split: Split, tmp_path: Path) -> None:
    audio, protocol = opened(split)

    def check(tolerated: float = 0.0) -> None:
        check_headers(audio, protocol, read_headers(audio, protocol), tolerated)

    check()
    audio.path(6).write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 18 files .* cannot be used: \S+ \(line 7\): .* is empty"):
        check()
    check(tolerated=0.1)
    audio.path(2).unlink()
    with pytest.raises(InputError, match=rf"1 of 18 files .* are missing: {audio.path(2).name} \(line 3\)$"):
        check()
    shutil.rmtree(audio.folder)
    with pytest.raises(InputError, match="no such folder"):
        check()


def test_files_that_need_the_second_decoder_are_counted_and_cached(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    audio, trials = opened(split)
    whole = audio.complete(2)
    audio.path(2).write_bytes(audio.path(2).read_bytes() + b"tail" * 400)
    headers = read_headers(audio, trials, tmp_path)
    assert "dev.trl.txt: 1 of 18 files are read by the second decoder (PyAV)" in caplog.text
    assert (headers["frames"][2], headers["second"].sum()) == (len(whole), 1)
    np.testing.assert_array_equal(read_headers(audio, trials, tmp_path), headers)
    np.testing.assert_array_equal(cached(split, tmp_path).complete(2), whole)


def test_the_length_of_a_file_is_the_true_one(split: Split, tmp_path: Path) -> None:
    audio, trials = opened(split)
    once = len(audio.complete(4))
    audio.path(4).write_bytes(2 * audio.path(4).read_bytes())
    assert read_headers(audio, trials)["frames"][4] == 2 * once == len(cached(split, tmp_path).complete(4))


def test_a_cache_of_another_version_is_not_used(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(split, tmp_path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    cached(split, tmp_path)
    assert len(list(tmp_path.glob("audio-*.bin"))) == len(list(tmp_path.glob("headers-*.bin"))) == 2


def same_samples(cache: AudioCache, audio: AudioFolder) -> None:
    for index in range(len(audio.utterances)):
        np.testing.assert_array_equal(cache.complete(index), audio.complete(index))
        np.testing.assert_array_equal(
            cache.crop(index, 3000, lambda spare: spare // 3), audio.crop(index, 3000, lambda spare: spare // 3)
        )


def test_zeroed_samples_are_noticed_when_they_are_read(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cached(split, tmp_path)
    content = bytearray(first.cache.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    first.cache.write_bytes(content)
    second = cached(split, tmp_path)
    same_samples(second, opened(split)[0])
    assert caplog.text.count("damaged (the samples of") == 1
    # It is gone, and the next run makes it again.
    assert not second.cache.exists()
    same_samples(cached(split, tmp_path), opened(split)[0])
    assert first.cache.exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), head=st.booleans(), cut=st.booleans())
def test_no_flipped_bit_and_no_cut_gives_other_samples(
    split: Split, tmp_path: Path, position: float, bit: int, head: bool, cut: bool
) -> None:
    for kind in ("audio", "headers"):
        cached(split, tmp_path)
        path = next(tmp_path.glob(f"{kind}-*.bin"))
        content = bytearray(path.read_bytes())
        at = int(position * (min(1200, len(content)) if head else len(content)))
        content[at] ^= 1 << bit
        path.write_bytes(content[: at if cut else None])
        same_samples(cached(split, tmp_path), opened(split)[0])


@pytest.mark.parametrize("harm", ["removed", "cut short", "overwritten"])
def test_a_cache_that_is_harmed_in_the_middle_of_a_run_is_passed_by(split: Split, tmp_path: Path, harm: str) -> None:
    made = cached(split, tmp_path)
    forked, spawned = made, pickle.loads(pickle.dumps(made))
    if harm == "removed":
        made.cache.unlink()
    elif harm == "cut short":
        os.truncate(made.cache, 700)
    else:
        with open(made.cache, "r+b") as stream:
            stream.write(os.urandom(made.cache.stat().st_size))
    same_samples(forked, opened(split)[0])
    same_samples(spawned, opened(split)[0])


def test_audio_that_keeps_its_size_and_time_is_noticed(split: Split, tmp_path: Path) -> None:
    audio, _ = opened(split)
    soundfile.write(audio.path(3), np.linspace(-0.5, 0.5, 9000), 16000, format="WAV")
    cached(split, tmp_path)
    before = os.stat(audio.path(3))
    soundfile.write(audio.path(3), np.linspace(0.5, -0.5, 9000), 16000, format="WAV")
    os.utime(audio.path(3), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(audio.path(3)).st_size == before.st_size
    same_samples(cached(split, tmp_path), audio)


def test_a_cache_that_cannot_be_written_is_a_warning(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    same_samples(cached(split, tmp_path / "file"), opened(split)[0])
    assert "headers of the audio are not kept for the next run" in caplog.text
    assert "no audio cache, each file is decoded whenever it is needed" in caplog.text


def test_a_wait_says_for_whom_and_ends_at_a_signal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2pecnet.locks.SECONDS_UNTIL_WARNING", 0.1)
    path = tmp_path / "audio.bin.lock"
    (tmp_path / "audio.bin.pid").write_text("4711 on here\n")

    def waits() -> None:
        with waiting_lock(path, "makes the audio cache"):
            pytest.fail("it is held")

    def stop_after_the_warning(where: str) -> None:
        if caplog.text:
            raise Stopped(f"stopped {where}", 143)

    monkeypatch.setattr("s2pecnet.locks.raise_if_stop_requested", stop_after_the_warning)
    with FileLock(path), pytest.raises(Stopped, match="while another process makes the audio cache"):
        waits()
    assert "waiting: another process (pid 4711 on here) makes the audio cache" in caplog.text
    with waiting_lock(path, "makes the audio cache"):
        assert (tmp_path / "audio.bin.pid").read_text().startswith(f"{os.getpid()} on ")
    assert not (tmp_path / "audio.bin.pid").exists()
