"""A file read block by block is the file read whole; windows cover all of it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from s2pecnet.audio import decoding, resampling
from s2pecnet.audio.decoding import BadAudio, read_audio, read_blocks
from s2pecnet.audio.streaming import read_windows


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (16000, 2), (22050, 1), (48000, 3)])
def test_blocks_are_the_atomic_write(tmp_path: Path, rate: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 5000)
    monkeypatch.setattr(resampling, "BLOCK", 5000)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(20000 * channels).reshape(-1, channels), rate, subtype="FLOAT")
    blocks = list(read_blocks(path))
    assert max(map(len, blocks)) <= 5000
    whole = read_audio(path)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@settings(max_examples=40)
@given(st.integers(160, 9000), st.integers(1, 3000), st.data())
def test_windows_cover_the_file(
    tmp_path_factory: pytest.TempPathFactory, samples: int, length: int, data: st.DataObject
) -> None:
    hop = data.draw(st.integers(max(1, length // 5), length))
    path = tmp_path_factory.mktemp("windows") / "a.wav"
    waveform = noise(samples)
    soundfile.write(path, waveform, 16000, subtype="FLOAT")
    windows = list(read_windows(path, length, hop))
    for window in windows:
        assert len(window.samples) == min(length, samples)
        np.testing.assert_array_equal(window.samples, waveform[window.start :][:length])
    starts = [window.start for window in windows]
    regular = range(0, max(0, samples - length) + 1, hop)
    assert starts[: len(regular)] == list(regular)
    # At most one more, that ends with the file.
    assert starts[len(regular) :] == ([samples - length] if regular[-1] + length < samples else [])


def test_long_files_are_read_as_far_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 2000)
    waveform = noise(50000)
    waveform[40000] = np.nan
    soundfile.write(tmp_path / "a.wav", waveform, 16000, subtype="FLOAT")
    windows = read_windows(tmp_path / "a.wav", 4000, 4000)
    for number in range(9):
        np.testing.assert_array_equal(next(windows).samples, waveform[4000 * number :][:4000])
    with pytest.raises(BadAudio, match="NaN or infinite"):
        list(windows)


def test_windows_without_sound_are_left_out(tmp_path: Path) -> None:
    waveform = np.concatenate([noise(4000), np.zeros(8000), noise(100), np.zeros(6000)]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, 16000, subtype="FLOAT")
    assert [window.start for window in read_windows(tmp_path / "a.wav", 4000, 4000)] == [0, 12000]


def test_audio_that_cannot_be_used_is_reported_as_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no audio\n" * 99)
    (tmp_path / "some.raw").write_bytes(bytes(4000))
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "short.wav", noise(470), 48000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(9000), 8000)
    for path in [*sorted(tmp_path.iterdir()), tmp_path / "missing.wav"]:
        with pytest.raises(BadAudio) as whole:
            read_audio(path)
        with pytest.raises(BadAudio) as blockwise:
            list(read_windows(path, 4000, 2000))
        assert str(blockwise.value) == str(whole.value)
        assert str(path) in str(whole.value)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3", "aiff", "au", "caf", "w64", "voc", "paf", "nist", "rf64"])
def test_formats(tmp_path: Path, ending: str) -> None:
    time = np.arange(24000) / 24000
    formats = {"sph": "NIST", "caf": "CAF"}
    rate = 16000 if ending == "voc" else 24000
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), rate, format=formats.get(ending, ending.upper()))
    (window,) = read_windows(path, 64600, 32300)
    assert window.samples.max() == pytest.approx(0.5, abs=0.05)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = f"{tmp_path}/caf\udce9.wav"
    soundfile.write(tmp_path / "a.wav", noise(4000), 16000)
    (tmp_path / "a.wav").rename(path)
    assert len(list(read_windows(path, 4000, 2000))) == 1
