"""Files are scored in batches over file borders, and come back in their order, each as its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from s2pecnet.audio.crops import pad
from s2pecnet.audio.paths import Found
from s2pecnet.errors import InputError
from s2pecnet.features import LFCC, FixedFrames
from s2pecnet.scoring.recordings import FileScorer, Prediction, WindowScore
from s2pecnet.systems.inputs import Inputs

LENGTH, HOP = 4000, 2000


class Loudness:
    """Stands in for a scorer: the score is the mean square, so that each window shows what it was computed from."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.features: list[Tensor] = []

    def __call__(self, waveforms: Tensor, *features: Tensor) -> Tensor:
        assert waveforms.shape[1] == LENGTH
        self.batches.append(len(waveforms))
        self.features += features
        return waveforms.square().mean(dim=1)


def scorer_of(loudness: Loudness, feature: FixedFrames | None = None, **options: object) -> FileScorer:
    return FileScorer(loudness, Inputs(LENGTH, feature), HOP, **options)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Files of 1, 1, 3, bad, 1 and 4 windows."""
    rng = np.random.default_rng(0)
    for name, samples in [("a", 700), ("b", 4000), ("c", 7000), ("e", 3999), ("f", 10000)]:
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.9, 0.9, samples), 16000, subtype="FLOAT")
    (tmp_path / "d.wav").write_text("no audio")
    return [str(tmp_path / f"{name}.wav") for name in "abcdef"]


def test_files_come_back_in_order_whatever_the_batch(files: list[str]) -> None:
    for batch, sizes in [(1, [1] * 10), (4, [4, 4, 2]), (100, [10])]:
        loudness = Loudness()
        results = list(scorer_of(loudness, batch=batch)(files))
        assert loudness.batches == sizes
        assert [len(result.windows) if isinstance(result, Prediction) else 0 for result in results] == [
            1,
            1,
            3,
            0,
            1,
            4,
        ]
        for path, result in zip(files, results, strict=True):
            if isinstance(result, InputError):
                assert str(result).startswith(f"{path}: cannot be decoded")
                continue
            assert result.path == path
            waveform = soundfile.read(path, dtype="float32")[0]
            for start, end, score in result.windows:
                own = waveform[round(start * 16000) : round(end * 16000)]
                assert score == pytest.approx(float(np.square(pad(own, LENGTH)).mean()), rel=1e-5)


def test_windows_of_a_file(files: list[str]) -> None:
    (prediction,) = scorer_of(Loudness())([files[2]])
    assert isinstance(prediction, Prediction)
    assert [window[:2] for window in prediction.windows] == [(0, 0.25), (0.125, 0.375), (0.1875, 0.4375)]


def test_the_summary_of_windows() -> None:
    prediction = Prediction("a", tuple(WindowScore(0, 1, score) for score in (1.0, -2.0, 4.0, 0.0)))
    assert (prediction.score, prediction.lowest) == (0.75, -2)
    # The threshold's own score is rejected, as in evaluation.py.
    assert [prediction.share_rejected(threshold) for threshold in (-3, -2, 0, 3.9, 4)] == [0, 0.25, 0.5, 0.75, 1]


def test_paths_are_read_a_few_ahead_only(files: list[str]) -> None:
    taken = 0

    def endless() -> Iterator[Found]:
        nonlocal taken
        while True:
            taken += 1
            yield files[0]

    results = scorer_of(Loudness(), batch=2)(endless())
    for _ in range(3):
        assert isinstance(next(results), Prediction)
    assert taken < 30


def test_where_paths_pause_what_came_is_finished(files: list[str]) -> None:
    def pausing() -> Iterator[Found]:
        yield files[2]
        yield None
        raise AssertionError("asked for more before the first file was given")

    loudness = Loudness()
    first = next(scorer_of(loudness, batch=100)(pausing()))
    assert isinstance(first, Prediction)
    assert first.path == files[2]
    assert loudness.batches == [3]


def test_problems_keep_their_place(files: list[str]) -> None:
    problem = InputError("somewhere: nothing here")
    results = list(scorer_of(Loudness(), batch=3)([files[0], problem, files[1]]))
    assert results[1] is problem
    assert [getattr(result, "path", None) for result in results] == [files[0], None, files[1]]


def test_a_file_that_breaks_off_is_an_error_and_the_others_are_scored(files: list[str], tmp_path: Path) -> None:
    waveform = np.full(200_000, 0.5, dtype=np.float32)
    waveform[-1] = np.inf
    soundfile.write(tmp_path / "broken.wav", waveform, 16000, subtype="FLOAT")
    results = list(scorer_of(Loudness(), batch=4)([str(tmp_path / "broken.wav"), files[0]]))
    assert "NaN or infinite" in str(results[0])
    assert isinstance(results[1], Prediction)


def test_scores_that_are_not_finite_are_an_error(files: list[str]) -> None:
    def broken(waveforms: Tensor) -> Tensor:
        return torch.full((len(waveforms),), torch.nan)

    (result,) = FileScorer(broken, Inputs(LENGTH), HOP)(files[:1])  # type: ignore[arg-type]
    assert str(result) == f"{files[0]}: the score is not finite; the weights or the audio are broken"


def test_the_second_input_is_computed_from_the_windows_own_samples(files: list[str]) -> None:
    loudness, feature = Loudness(), FixedFrames(LFCC(), 30)
    list(scorer_of(loudness, feature=feature)([files[0], files[2]]))
    short, long = (torch.from_numpy(soundfile.read(files[place], dtype="float32")[0]) for place in (0, 2))
    expected = [feature(samples) for samples in (short, long[:4000], long[2000:6000], long[3000:])]
    torch.testing.assert_close(torch.cat(loudness.features), torch.stack(expected))


def test_progress_is_reported_in_windows(files: list[str]) -> None:
    told: list[int] = []
    list(scorer_of(Loudness(), batch=4, on_scored=told.append)(files))
    assert told == [4, 4, 2]
