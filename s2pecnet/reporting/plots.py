"""Plots of a countermeasure: DET curve, score histograms, EER per attack, t-DCF; as one PNG, or for TensorBoard.

What they show is computed in `reporting.chart_data`. Drawn off screen and without pyplot: no display is needed, and
nobody's matplotlib state is touched. Scores are higher for bona fide speech; rates are drawn in per cent.
Colours: Okabe and Ito's palette, which can be told apart with any colour vision.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2pecnet.extras import require
from s2pecnet.files import atomic_write
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.metrics.tdcf import fix_asv
from s2pecnet.reporting.chart_data import (
    Sweep,
    attacks_shown,
    det_limits,
    det_line,
    probit,
    probit_ticks,
    score_edges,
    score_histogram,
    staircase,
    sweep_of,
)
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from s2pecnet.reporting.board import Board

BONAFIDE = "#0072B2"  # blue
SPOOF = "#D55E00"  # vermilion
NEUTRAL = "#666666"
_BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # keeps lines from crossing a text
_MAX_BARS = 40  # attacks; more than that cannot be labelled


def save_figures(path_png: str | os.PathLike[str], cm: CMScores, metrics: Metrics, title: str) -> Path:
    """Draw the three panels into one PNG (1950 x 650 pixels), completely or not at all.

    Args:
        path_png: the file to write; its folder is made where it is missing.
        cm: the scores, both classes present.
        metrics: those of these scores.
        title: the heading, e.g. system and data set.

    Returns:
        The path written.

    Raises:
        InputError: a class has no trials, a score is not finite, or matplotlib is not installed (`MissingExtra`).
        OSError: the file cannot be written.
    """
    # Importing matplotlib takes half a second, which a command that draws nothing should not wait for.
    require("matplotlib", "report", "drawing plots")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    det, histogram, attacks = figure.subplots(1, 3)
    figure.suptitle(title, fontsize=14, parse_math=False)
    _draw_det(det, sweep_of(cm), metrics)
    _draw_histograms(histogram, cm, metrics)
    _draw_attacks(attacks, metrics)
    for axes in (det, histogram, attacks):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path_png, "wb") as stream, _any_layout():
        figure.savefig(stream, format="png", dpi=130)
    return Path(path_png)


def board_figures(
    board: Board, name: str, step: int, cm: CMScores, metrics: Metrics, asv: ASVScores | None = None
) -> None:
    """Put the plots into TensorBoard as images: `DET/<name>`, `scores/<name>`, `attacks/<name>`, `tDCF/<name>`.

    Args:
        name: of the evaluation, e.g. "dev".
        step: the epoch.
        cm: the scores, both classes present.
        metrics: those of these scores.
        asv: ASV scores of the split; without them there is no t-DCF curve.

    Raises:
        InputError: as `save_figures`, or the t-DCF cannot be normalised with the ASV scores.
    """
    require("matplotlib", "report", "drawing plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sweep = sweep_of(cm, None if asv is None else fix_asv(asv)[0])
    plots: dict[str, Callable[[Axes], None]] = {
        "DET": lambda axes: _draw_det(axes, sweep, metrics),
        "scores": lambda axes: _draw_histograms(axes, cm, metrics),
        "attacks": lambda axes: _draw_attacks(axes, metrics),
    }
    if asv is not None:
        plots["tDCF"] = lambda axes: _draw_tdcf(axes, sweep, score_edges(cm))
    for plot, draw in plots.items():
        figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        canvas = FigureCanvasAgg(figure)
        with _any_layout():
            canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        board.add_image(f"{plot}/{name}", pixels, step, dataformats="HWC")


@contextlib.contextmanager
def _any_layout() -> Iterator[None]:
    """Where odd scores make labels so wide that no layout fits, the picture is drawn without, and without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        yield


def draw_det_axes(axes: Axes, low: float, high: float, title: str) -> None:
    """Probit axes of a DET curve between two rates, and the line where both are equal."""
    limits, (positions, labels) = probit(np.array([low, high])), zip(*probit_ticks(low, high), strict=True)
    axes.plot(limits, limits, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.set_xticks(positions, labels)
    axes.set_yticks(positions, labels)
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=title)
    axes.set(xlabel="spoofed speech accepted (%)", ylabel="bona fide speech rejected (%)")
    axes.grid(color="0.9")


def _draw_det(axes: Axes, sweep: Sweep, metrics: Metrics) -> None:
    low, high = det_limits([sweep], max(metrics.n_bonafide, metrics.n_spoof))
    draw_det_axes(axes, low, high, "Detection error trade-off")
    axes.plot(*det_line(sweep, low), color=BONAFIDE, linewidth=1.8)
    # The EER, written towards the middle of the axes.
    position = float(probit(np.clip([metrics.eer], low, high))[0])
    axes.plot(position, position, "o", color=SPOOF, markersize=8, clip_on=False, zorder=3)
    to_middle = position < probit(np.array([low, high])).mean()
    offset, ha, va = ((12, 10), "left", "bottom") if to_middle else ((-12, -10), "right", "top")
    text, at = f"EER {100 * metrics.eer:.2f} %", (position, position)
    axes.annotate(text, at, offset, textcoords="offset points", ha=ha, va=va, fontsize=11, bbox=_BLANK)


def _draw_histograms(axes: Axes, cm: CMScores, metrics: Metrics) -> None:
    shares = score_histogram(cm)
    for share, name, size, color in (
        (shares.spoof, "spoofed", cm.spoof.size, SPOOF),
        (shares.bonafide, "bona fide", cm.bonafide.size, BONAFIDE),
    ):
        axes.stairs(share, shares.edges, fill=True, color=color, alpha=0.35)
        axes.stairs(share, shares.edges, color=color, linewidth=1.4, label=f"{name} ({size:,})")
    threshold = metrics.eer_threshold
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label=f"EER threshold {threshold:.3g}")
    axes.set(title="Scores", xlabel="score (higher = bona fide)", ylabel="trials of the class per bin (%)")
    axes.set(ylim=(0, 1.2 * shares.tallest))
    axes.legend(
        loc="upper center", ncols=3, fontsize=8.5, columnspacing=1.0, handlelength=1.5, framealpha=1, edgecolor="none"
    )


def _draw_attacks(axes: Axes, metrics: Metrics) -> None:
    eers = metrics.per_attack_eer
    names = attacks_shown([eers], _MAX_BARS)
    title = "EER by attack" if len(names) == len(eers) else f"EER by attack, the worst {_MAX_BARS}"
    percent = [100 * eers[name] for name in names]
    overall = 100 * metrics.eer
    bars = axes.barh(names, percent, color=SPOOF, alpha=0.75, height=0.7)
    axes.axvline(overall, color="black", linestyle="--", linewidth=1.2)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, bbox=_BLANK)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(title=f"{title} (dashed: all together, {overall:.2f} %)", xlabel="EER (%)")
    axes.set(xlim=(0, 1.15 * max(*percent, overall) or 1), ylim=(max(len(names), 3) - 0.4, -0.6))


def _draw_tdcf(axes: Axes, sweep: Sweep, edges: NDArray[np.float64]) -> None:
    assert sweep.tdcf is not None
    assert sweep.tdcf_point is not None
    cost, threshold = sweep.tdcf[sweep.tdcf_point], sweep.threshold_at(sweep.tdcf_point)
    axes.plot(*staircase(sweep.thresholds, sweep.tdcf), color=BONAFIDE, linewidth=1.8)
    axes.axhline(1, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(threshold, cost, "o", color=SPOOF, markersize=8, clip_on=False, zorder=3)
    axes.set(title=f"t-DCF, minimum {cost:.4f} at threshold {threshold:.3g}", xlim=edges[[0, -1]], ylim=(0, 1.15))
    axes.set(xlabel="threshold (higher = more is rejected)")
    axes.set(ylabel="normalised t-DCF (1 = accepts or rejects everything)")
    axes.grid(color="0.9")
