"""One PNG of an audio file and what a system makes of it: waveform, spectrogram, and the score over time.

The file is read block by block and reduced on the way, so its length does not matter. Scores are higher for bona fide
speech; colours are those of `plots`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from s2pecnet.audio.decoding import inspect, read_blocks
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.extras import require
from s2pecnet.features import PowerSpectrogram, count_frames
from s2pecnet.files import atomic_write
from s2pecnet.reporting.plots import BONAFIDE, NEUTRAL, SPOOF
from s2pecnet.scoring.recordings import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Columns of the picture that samples are reduced to, and samples from one spectrum to the next.
COLUMNS, HOP = 1500, 160


def save_audio_plot(
    path_png: str | os.PathLike[str], prediction: Prediction, threshold: float | None, reason: str
) -> Path:
    """Draw the three panels over a common axis of time into one PNG (1560 x 1040 pixels), completely or not at all.

    Args:
        prediction: the scores of the file at `prediction.path`, which is read again.
        threshold: the score above which a window counts as bona fide; None: there is none.
        reason: why that one; written into the legend.

    Returns:
        The path written.

    Raises:
        BadAudio: the file cannot be read any more.
        OSError: the picture cannot be written.
    """
    # Importing matplotlib takes half a second, which a command that draws nothing should not wait for.
    require("matplotlib", "report", "drawing")
    from matplotlib.figure import Figure

    overview = AudioOverview(prediction.path)
    figure = Figure(figsize=(12, 8), layout="constrained")
    waveform, spectrogram, scores = figure.subplots(3, 1, sharex=True)
    name = os.path.basename(prediction.path).encode("utf-8", "replace").decode("utf-8")
    figure.suptitle(f"{name}: score {prediction.score:.6f} (higher = bona fide)", parse_math=False)
    times = np.linspace(0, overview.seconds, len(overview.low))
    waveform.fill_between(times, overview.low, overview.high, color=NEUTRAL, linewidth=0.6)
    waveform.set(ylabel="amplitude", title="Waveform")
    extent = (0.0, overview.seconds, 0.0, SAMPLE_RATE / 2000)
    image = spectrogram.imshow(
        overview.power, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0, interpolation="nearest"
    )
    figure.colorbar(image, ax=spectrogram, label="power (dB)", pad=0.01)
    spectrogram.set(ylabel="frequency (kHz)", title="Spectrogram")
    _draw_scores(scores, prediction, threshold, reason)
    scores.set(xlim=(0, overview.seconds), xlabel="time (s)")
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
    with atomic_write(path_png, "wb") as stream:
        figure.savefig(stream, format="png", dpi=130)
    return Path(path_png)


def save_comparison(
    path_png: str | os.PathLike[str], name: str, before: NDArray[np.float32], after: NDArray[np.float32]
) -> Path:
    """Draw two waveforms and their spectrograms, one below the other, into one PNG (1560 x 1040 pixels).

    Args:
        name: what they are called in the title.
        before, after: float32 (samples,), 16 kHz; they may differ in length.

    Returns:
        The path written.

    Raises:
        OSError: the picture cannot be written.
    """
    require("matplotlib", "report", "drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    figure.suptitle(name.encode("utf-8", "replace").decode("utf-8"), parse_math=False)
    spectrum = PowerSpectrogram(hop=HOP)
    powers = [spectrum(torch.from_numpy(waveform)).numpy() for waveform in (before, after)]
    # One scale for both: what has become louder is to look louder.
    loudest = max(max(float(power.max()) for power in powers), 1e-300)
    for column, title, waveform, power in zip(panels.T, ("before", "after"), (before, after), powers, strict=True):
        seconds = len(waveform) / SAMPLE_RATE
        edges = np.linspace(0, len(waveform), min(COLUMNS, len(waveform)) + 1).astype(int)[:-1]
        low, high = (function.reduceat(waveform, edges) for function in (np.minimum, np.maximum))
        column[0].fill_between(np.linspace(0, seconds, len(low)), low, high, color=NEUTRAL, linewidth=0.6)
        column[0].set(title=title, ylabel="amplitude")
        image = column[1].imshow(
            10 * np.log10(np.maximum(power / loudest, 1e-12)),
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds, 0.0, SAMPLE_RATE / 2000),
            vmin=-80,
            vmax=0,
            interpolation="nearest",
        )
        column[1].set(xlabel="time (s)", ylabel="frequency (kHz)")
    panels[0, 0].set_xlim(0, max(len(before), len(after)) / SAMPLE_RATE)
    figure.colorbar(image, ax=panels[1], label="power (dB)", pad=0.01)
    with atomic_write(path_png, "wb") as stream:
        figure.savefig(stream, format="png", dpi=130)
    return Path(path_png)


class AudioOverview:
    """An audio file reduced to the columns of a picture.

    Attributes:
        seconds: length of the file.
        low, high: (columns,) the least and the largest sample of each column; columns divide the file evenly.
        power: (257, other columns) mean power spectrum of each column, dB, relative to the largest value.
    """

    def __init__(self, path: str | Path):
        # The header's length sets the columns; what is read sets the rest.
        info = inspect(path)
        expected = max(1, -(-info.frames * SAMPLE_RATE // info.rate))
        frames, spectrum = count_frames(expected, HOP), PowerSpectrogram(hop=HOP)
        self.low, self.high = np.full(min(COLUMNS, expected), np.inf), np.full(min(COLUMNS, expected), -np.inf)
        power, counts = np.zeros((min(COLUMNS, frames), spectrum.bins)), np.zeros(min(COLUMNS, frames))
        begin, before = 0, np.zeros(0, dtype=np.float32)
        for block in _multiples_of_hop(read_blocks(path)):
            column = _columns_of(begin + np.arange(len(block)), len(self.low), expected)
            np.minimum.at(self.low, column, block)
            np.maximum.at(self.high, column, block)
            # The frame that reaches over the seam belongs to the block before.
            joined = np.concatenate((before, block))
            computed = spectrum(torch.from_numpy(joined)).numpy().T
            column = _columns_of((begin - len(before)) // HOP + np.arange(len(computed)), len(counts), frames)
            np.add.at(power, column, computed)
            np.add.at(counts, column, 1)
            begin, before = begin + len(block), joined[-HOP:]
        self.seconds = begin / SAMPLE_RATE
        mean = power.T / np.maximum(counts, 1)
        self.power: NDArray[np.float64] = 10 * np.log10(np.maximum(mean / max(mean.max(), 1e-300), 1e-12))


def _columns_of(numbers: NDArray[np.int64], columns: int, count: int) -> NDArray[np.int64]:
    """The column that each of `numbers`, out of `count`, falls into."""
    return np.minimum(numbers * columns // count, columns - 1)


def _multiples_of_hop(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same samples in blocks whose lengths, but for the last one's, are multiples of HOP."""
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        joined = np.concatenate((rest, block))
        length = len(joined) // HOP * HOP
        if length:
            yield joined[:length]
        rest = joined[length:]
    if len(rest):
        yield rest


def _draw_scores(axes: "Axes", prediction: Prediction, threshold: float | None, reason: str) -> None:
    starts, ends, scores = map(np.array, zip(*prediction.windows, strict=True))
    axes.plot((starts + ends) / 2, scores, color=NEUTRAL, linewidth=0.8)
    axes.set(ylabel="score (higher = bona fide)", title="Score of each window")
    axes.margins(y=0.15)
    if threshold is None:
        axes.hlines(scores, starts, ends, color=NEUTRAL, linewidth=2.5, label=f"{len(scores)} windows; {reason}")
        return
    accepted = scores > threshold
    for chosen, name, color in ((accepted, "bona fide", BONAFIDE), (~accepted, "spoof", SPOOF)):
        if chosen.any():
            label = f"{name}: {chosen.sum()} of {len(scores)} windows"
            axes.hlines(scores[chosen], starts[chosen], ends[chosen], color=color, linewidth=2.5, label=label)
    # A dollar would begin a formula.
    label = f"threshold {threshold:.6g}, {reason}".replace("$", r"\$")
    axes.axhline(threshold, color="black", linestyle="--", linewidth=1.2, label=label)
