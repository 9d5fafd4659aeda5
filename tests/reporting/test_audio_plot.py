"""The picture of a file is a whole PNG for any file that can be scored; its panels show the samples as they are."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2pecnet.audio import decoding
from s2pecnet.audio.decoding import BadAudio
from s2pecnet.reporting.audio_plot import COLUMNS, AudioOverview, save_audio_plot
from s2pecnet.scoring.recordings import Prediction, WindowScore

PNG_SIGNATURE, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def tone(frequency: float, seconds: float, rate: int = 16000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(("samples", "windows"), [(320, 1), (40000, 7)])
def test_any_file_gives_a_complete_png(tmp_path: Path, samples: int, windows: int) -> None:
    path = tmp_path / "50 % of $x_ {.wav"
    soundfile.write(path, tone(440, samples / 16000), 16000)
    scores = tuple(WindowScore(start / 10, start / 10 + 0.2, start % 3 - 1.0) for start in range(windows))
    target = tmp_path / "new" / "plot.png"
    assert save_audio_plot(target, Prediction(str(path), scores), 0.5, "of $x_{ and $y") == target
    content = target.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    assert content.endswith(PNG_END)
    assert [item.name for item in target.parent.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_sketch_shows_time_and_frequency(tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks that are no multiple of a hop: nothing may be lost at their seams.
    monkeypatch.setattr(decoding, "BLOCK", 7001)
    waveform = np.concatenate([tone(1000, 6, rate), 0.1 * tone(5000, 6, rate)])
    soundfile.write(tmp_path / "a.wav", waveform, rate)
    sketch = AudioOverview(tmp_path / "a.wav")
    assert sketch.seconds == 12
    assert sketch.power.shape == (257, 1199)
    assert len(sketch.low) == len(sketch.high) == COLUMNS
    first, second = sketch.power[:, 5:590], sketch.power[:, 610:-5]
    assert set(first.argmax(axis=0)) == {round(1000 / 16000 * 512)}
    assert set(second.argmax(axis=0)) == {round(5000 / 16000 * 512)}
    np.testing.assert_allclose(first.max(axis=0) - second.max(axis=0).mean(), 20, atol=0.5)
    np.testing.assert_allclose(sketch.high[5:740], 0.5, atol=0.01)
    np.testing.assert_allclose(sketch.low[760:-5], -0.05, atol=0.003)


def test_long_files_are_reduced(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waveform = np.concatenate([0.01 * rng.uniform(-1, 1, 400_000), 0.5 * rng.uniform(-1, 1, 400_000)])
    soundfile.write(tmp_path / "a.flac", waveform, 16000)
    sketch = AudioOverview(tmp_path / "a.flac")
    assert sketch.power.shape == (257, COLUMNS)
    assert np.isfinite(sketch.power).all()
    loud = sketch.power[5:-5].mean(axis=0)
    np.testing.assert_allclose(loud[760:].mean() - loud[:740].mean(), 20 * np.log10(50), atol=1)
    assert loud[760:].min() > loud[:740].max()


def test_failure_leaves_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(BadAudio, match="cannot be decoded"):
        save_audio_plot(tmp_path / "a.png", Prediction(str(tmp_path / "a.wav"), (WindowScore(0, 1, 0),)), 0, "why")
    assert not (tmp_path / "a.png").exists()
