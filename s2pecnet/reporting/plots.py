"""Figures of a countermeasure: DET curve, score histograms, EER per attack, t-DCF; as one PNG, or for TensorBoard.

Drawn off screen and without pyplot: no display is needed, and nobody's matplotlib state is touched.
Scores are higher for bona fide speech; rates are drawn in per cent. The DET curve (A. Martin et al., "The DET
curve in assessment of detection task performance", Eurospeech 1997) shows both error rates on probit axes,
on which two Gaussian score distributions make a straight line.
Colours: Okabe and Ito's palette, told apart with any colour vision.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from s2pecnet.extras import require
from s2pecnet.files import atomic_write
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.metrics.det import Floats, compute_det_curve
from s2pecnet.metrics.tdcf import fix_asv, normalised_tdcf
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch.utils.tensorboard import SummaryWriter


_BONAFIDE = "#0072B2"  # blue
_SPOOF = "#D55E00"  # vermilion
_NEUTRAL = "#666666"
_TICKS = (0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
_BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # keeps lines from crossing a text
_MAX_BARS = 40  # attacks; more than that cannot be labelled


def save_figures(path_png: str | os.PathLike[str], cm: CMScores, metrics: Metrics, title: str) -> Path:
    """Draw the three panels into one PNG (1950 x 650 pixels), whole or not at all.

    Args:
        path_png: the file to write; its folder is made where it is missing.
        cm: the scores, both classes present.
        metrics: what `evaluation.evaluate(cm)` gives for them.
        title: the heading, e.g. system and data set.

    Returns:
        The path written.

    Raises:
        InputError: a class has no trials, a score is not finite, or matplotlib is not installed (`MissingExtra`).
        OSError: the file cannot be written.
    """
    # Importing matplotlib takes half a second, which a command that draws nothing should not wait for.
    require("matplotlib", "report", "drawing figures")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    det, histogram, attacks = figure.subplots(1, 3)
    figure.suptitle(title, fontsize=14, parse_math=False)
    _draw_det(det, cm, metrics)
    _draw_histograms(histogram, cm, metrics)
    _draw_attacks(attacks, metrics)
    for axes in (det, histogram, attacks):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path_png, "wb") as stream, _any_layout():
        figure.savefig(stream, format="png", dpi=130)
    return Path(path_png)


def board_figures(
    board: SummaryWriter, name: str, step: int, cm: CMScores, metrics: Metrics, asv: ASVScores | None = None
) -> None:
    """Put the figures into TensorBoard as images: `DET/<name>`, `scores/<name>`, `attacks/<name>`, `tDCF/<name>`.

    Args:
        name: of the evaluation, e.g. "dev".
        step: the epoch.
        cm: the scores, both classes present.
        metrics: what `evaluation.evaluate(cm)` gives for them.
        asv: ASV scores of the split; without them there is no t-DCF curve.

    Raises:
        InputError: as `save_figures`, or the ASV scores leave the t-DCF nothing to normalise by.
    """
    require("matplotlib", "report", "drawing figures")
    board.add_image(f"DET/{name}", _image(lambda axes: _draw_det(axes, cm, metrics)), step, dataformats="HWC")
    board.add_image(f"scores/{name}", _image(lambda axes: _draw_histograms(axes, cm, metrics)), step, dataformats="HWC")
    board.add_image(f"attacks/{name}", _image(lambda axes: _draw_attacks(axes, metrics)), step, dataformats="HWC")
    if asv is not None:
        board.add_image(f"tDCF/{name}", _image(lambda axes: _draw_tdcf(axes, cm, asv)), step, dataformats="HWC")


def _image(draw: Callable[[Axes], None]) -> NDArray[np.uint8]:
    """One panel as pixels (500, 600, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    canvas = FigureCanvasAgg(figure)
    with _any_layout():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@contextlib.contextmanager
def _any_layout() -> Iterator[None]:
    """Where odd scores make labels so wide that no layout fits, the picture is drawn without, and without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        yield


def probit(rates: Floats) -> Floats:
    """Quantiles of the standard normal distribution for `rates` (n,) strictly between 0 and 1.

    >>> probit(np.array([0.5, 0.975])).round(3).tolist()
    [0.0, 1.96]
    """
    return np.fromiter(map(NormalDist().inv_cdf, rates.tolist()), dtype=np.float64, count=rates.size)


def _draw_det(axes: Axes, cm: CMScores, metrics: Metrics) -> None:
    frr, far, _ = compute_det_curve(cm.bonafide, cm.spoof)
    corner = corners(frr, far)
    # A rate of 0 lies infinitely far out: the axes end at half a trial of the larger class.
    low = min(0.02, 0.5 / max(metrics.n_bonafide, metrics.n_spoof))
    high = min(1 - low, max(0.5, 1.5 * metrics.eer))
    limits = probit(np.array([low, high]))
    axes.plot(limits, limits, color=_NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(
        probit(far[corner].clip(low, 1 - low)), probit(frr[corner].clip(low, 1 - low)), color=_BONAFIDE, linewidth=1.8
    )
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    labels = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks(probit(np.array(ticks)), labels)
    axes.set_yticks(probit(np.array(ticks)), labels)
    axes.set(
        xlim=limits,
        ylim=limits,
        aspect="equal",
        title="Detection error trade-off",
        xlabel="spoofed speech accepted (%)",
        ylabel="bona fide speech rejected (%)",
    )
    axes.grid(color="0.9")
    _mark_eer(axes, float(probit(np.clip([metrics.eer], low, 1 - low))[0]), metrics.eer)


def _mark_eer(axes: Axes, place: float, eer: float) -> None:
    """A point on the diagonal at `place` with its value, written towards the middle of the axes."""
    axes.plot(place, place, "o", color=_SPOOF, markersize=8, clip_on=False, zorder=3)
    right = place < sum(axes.get_xlim()) / 2
    axes.annotate(
        f"EER {100 * eer:.2f} %",
        (place, place),
        xytext=(12, 10) if right else (-12, -10),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if right else "top",
        fontsize=11,
        bbox=_BLANK,
    )


def corners(frr: Floats, far: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where the DET staircase turns: the points that suffice to draw it."""
    rises = np.diff(frr) > 0
    return np.concatenate(([True], rises[1:] != rises[:-1], [True]))


def _draw_histograms(axes: Axes, cm: CMScores, metrics: Metrics) -> None:
    edges = _bin_edges(cm.scores)
    tallest = 0.0
    for scores, name, color in ((cm.spoof, "spoofed", _SPOOF), (cm.bonafide, "bona fide", _BONAFIDE)):
        share = 100 * np.histogram(scores, edges)[0] / scores.size
        tallest = max(tallest, float(share.max()))
        axes.stairs(share, edges, fill=True, color=color, alpha=0.35)
        axes.stairs(share, edges, color=color, linewidth=1.4, label=f"{name} ({scores.size:,})")
    axes.axvline(
        metrics.eer_threshold,
        color="black",
        linestyle="--",
        linewidth=1.2,
        label=f"EER threshold {metrics.eer_threshold:.3g}",
    )
    axes.set(
        title="Scores",
        xlabel="score (higher = bona fide)",
        ylabel="trials of the class per bin (%)",
        ylim=(0, 1.2 * tallest),
    )
    axes.legend(
        loc="upper center", ncols=3, fontsize=8.5, columnspacing=1.0, handlelength=1.5, framealpha=1, edgecolor="none"
    )


def _bin_edges(scores: Floats) -> Floats:
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        margin = max(0.5, abs(low) / 2)
        low, high = low - margin, high + margin
    n_bins = int(np.clip(2 * np.sqrt(scores.size), 10, 60))
    return np.linspace(low, high, n_bins + 1)


def _draw_attacks(axes: Axes, metrics: Metrics) -> None:
    eers = metrics.per_attack_eer
    names = list(eers)
    title = "EER by attack"
    if len(names) > _MAX_BARS:
        names = sorted(names, key=lambda name: -eers[name])[:_MAX_BARS]
        title = f"EER by attack, the worst {_MAX_BARS}"
    percent = [100 * eers[name] for name in names]
    overall = 100 * metrics.eer
    axes.barh(names, percent, color=_SPOOF, alpha=0.75, height=0.7)
    axes.axvline(overall, color="black", linestyle="--", linewidth=1.2)
    for place, value in enumerate(percent):
        axes.annotate(
            f"{value:.2f}",
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox=_BLANK,
        )
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(
        title=f"{title} (dashed: all together, {overall:.2f} %)",
        xlabel="EER (%)",
        xlim=(0, 1.15 * max(*percent, overall) or 1),
        ylim=(max(len(names), 3) - 0.4, -0.6),
    )


def _draw_tdcf(axes: Axes, cm: CMScores, asv: ASVScores) -> None:
    frr, far, thresholds = compute_det_curve(cm.bonafide, cm.spoof)
    cost = normalised_tdcf(frr, far, fix_asv(asv)[0])
    best = int(np.argmin(cost))
    axes.step(thresholds, cost, where="post", color=_BONAFIDE, linewidth=1.8)
    axes.axhline(1, color=_NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(thresholds[best], cost[best], "o", color=_SPOOF, markersize=8, clip_on=False, zorder=3)
    axes.set(
        title=f"t-DCF, minimum {cost[best]:.4f} at threshold {thresholds[best]:.3g}",
        xlabel="threshold (higher = more is rejected)",
        ylabel="normalised t-DCF (1 = accepts or rejects everything)",
        xlim=_bin_edges(cm.scores)[[0, -1]],
        ylim=(0, 1.15),
    )
    axes.grid(color="0.9")
