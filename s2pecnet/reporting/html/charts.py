"""The charts of a report, as SVG: DET curves, score histograms, t-DCF over the threshold, training curves.

What they show is computed in `reporting.chart_data`. A score is higher for bona fide speech; rates are in per cent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from s2pecnet.reporting.chart_data import (
    det_limits,
    det_line,
    probit,
    probit_ticks,
    score_edges,
    score_histogram,
    staircase,
)
from s2pecnet.reporting.html.markup import Markup
from s2pecnet.reporting.html.runs import Evaluation, Sweep, finite, mapping
from s2pecnet.reporting.html.svg import Axis, Chart, linear_axis, number

SERIES = 8  # colours, each with its own dashes, before they come round again
_MOST_DOTS = 60  # epochs that get a dot each


@dataclass(frozen=True)
class Series:
    """One of the things that are compared: runs, or evaluations of a run.

    Attributes:
        number: decides the colour, and is what the legend's switches speak of.
    """

    number: int
    label: str
    evaluation: Evaluation

    @property
    def style(self) -> str:
        """Its class in page.css."""
        return f"s{self.number % SERIES}"


def percent(rate: float) -> str:
    """A rate in per cent, without the sign; small ones keep two digits that count.

    >>> percent(0.0773), percent(0.00017), percent(0.0)
    ('7.73', '0.017', '0')
    """
    value = 100 * rate
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value else "0"


def det_chart(series: Sequence[Series]) -> Markup | None:
    """DET curves on probit axes, with the EER and the point of the minimum t-DCF; None where no series has scores."""
    drawn = [(one, one.evaluation.sweep) for one in series if one.evaluation.sweep]
    if not drawn:
        return None
    limits, (rejected, accepted) = _probit_axes(drawn, "bona fide rejected (%)", "spoofs accepted (%)")
    chart = Chart(accepted, rejected, height=426)
    chart.line([rejected.low, rejected.high], [rejected.low, rejected.high], "reference", "both rates equal")
    for one, sweep in drawn:
        chart.line(*det_line(sweep, limits[0]), one.style, one.label, run=one.number)
    for one, sweep in drawn:
        metrics = one.evaluation.metrics
        position = float(probit(np.array([metrics.eer]).clip(*limits))[0])
        title = f"{one.label}: EER {percent(metrics.eer)} % at threshold {number(metrics.eer_threshold, 4)}"
        chart.dot(position, position, one.style, title, run=one.number)
        best = sweep.tdcf_point
        if best is not None and sweep.tdcf is not None:
            x, y = probit(np.array([sweep.far[best], sweep.frr[best]]).clip(*limits)).tolist()
            title = f"{one.label}: min t-DCF {sweep.tdcf[best]:.4f} at threshold {number(sweep.threshold_at(best), 4)}"
            chart.dot(x, y, f"{one.style} hollow", title, run=one.number)
        if len(drawn) == 1:
            chart.note(position, position, f"EER {percent(metrics.eer)} %", where="beside")
    eers = "; ".join(f"{one.label}, EER {percent(one.evaluation.metrics.eer)} %" for one, _ in drawn)
    return chart.render(f"Detection error trade-off: {eers}")


def _probit_axes(drawn: Sequence[tuple[Series, Sweep]], *labels: str) -> tuple[tuple[float, float], list[Axis]]:
    """The lowest and the highest rate that these curves need, and for each label an axis between the two."""
    largest = max(max(one.evaluation.metrics.n_bonafide, one.evaluation.metrics.n_spoof) for one, _ in drawn)
    limits = det_limits([sweep for _, sweep in drawn], largest)
    low, high = probit(np.array(limits)).tolist()
    return limits, [Axis(low, high, label, probit_ticks(*limits)) for label in labels]


def histogram(evaluation: Evaluation) -> Markup | None:
    """Scores of both classes, each as shares of its own trials."""
    scores = evaluation.scores
    if scores is None:
        return None
    shares = score_histogram(scores)
    top = 1.12 * shares.tallest
    chart = Chart(
        linear_axis(shares.edges[0], shares.edges[-1], "score (higher = bona fide)"),
        linear_axis(0, top, "trials of the class per bin (%)", about=5),
    )
    for share, class_ in ((shares.spoof, "spoofed"), (shares.bonafide, "bonafide")):
        outline = staircase(shares.edges, share)
        chart.area(*outline, class_)
        chart.line(*outline, class_)
    bins = pairwise(shares.edges.tolist())
    for (low, high), bonafide, spoof in zip(bins, shares.bonafide, shares.spoof, strict=True):
        parts = f"bona fide {bonafide:.2f} %, spoofed {spoof:.2f} %"
        chart.column(low, high, f"score {number(low, 4)} to {number(high, 4)}: {parts}")
    threshold = evaluation.metrics.eer_threshold
    chart.vertical(threshold, "mark", f"EER threshold {number(threshold, 4)}")
    chart.note(threshold, top, f"EER threshold {number(threshold, 3)}")
    return chart.render(
        f"Histogram of scores: {scores.bonafide.size} bona fide trials around {number(np.median(scores.bonafide), 3)}, "
        f"{scores.spoof.size} spoofed ones around {number(np.median(scores.spoof), 3)} (medians)"
    )


def tdcf_chart(evaluation: Evaluation) -> Markup | None:
    """The normalised t-DCF at every threshold and its minimum; None without scores of the ASV."""
    scores, sweep = evaluation.scores, evaluation.sweep
    if scores is None or sweep is None or sweep.tdcf is None or sweep.tdcf_point is None:
        return None
    edges = score_edges(scores)
    chart = Chart(
        linear_axis(edges[0], edges[-1], "threshold (higher = more is rejected)"),
        linear_axis(0, 1.15, "normalised t-DCF", about=5),
    )
    eer_threshold = evaluation.metrics.eer_threshold
    chart.horizontal(1, "reference", "t-DCF 1: the countermeasure accepts or rejects everything")
    chart.vertical(eer_threshold, "mark", f"EER threshold {number(eer_threshold, 4)}")
    chart.line(*staircase(sweep.thresholds, sweep.tdcf), "tandem")
    cost, threshold = float(sweep.tdcf[sweep.tdcf_point]), sweep.threshold_at(sweep.tdcf_point)
    title, across = f"minimum {cost:.4f} at threshold {number(threshold, 4)}", np.clip(threshold, edges[0], edges[-1])
    chart.dot(across, cost, "tandem", title)
    chart.note(across, cost, f"min {cost:.4f}", where="below" if cost > 0.15 else "above")
    return chart.render(f"Normalised t-DCF over the threshold, {title}")


def tdcf_by_miss_rate(series: Sequence[Series]) -> Markup | None:
    """The t-DCF over the bona fide speech that is rejected: scores of several systems have no common scale.

    None where fewer than two have ASV scores.
    """
    drawn = [(one, sweep) for one in series if (sweep := one.evaluation.sweep) and sweep.tdcf is not None]
    if len(drawn) < 2:
        return None
    (low, high), (rejected,) = _probit_axes(drawn, "bona fide rejected (%)")
    chart = Chart(rejected, linear_axis(0, 1.15, "normalised t-DCF", about=5))
    chart.horizontal(1, "reference", "t-DCF 1: the countermeasure accepts or rejects everything")
    minima = []
    for one, sweep in drawn:
        cost = np.asarray(sweep.tdcf)
        across = probit(sweep.frr.clip(low, 1 - low))
        chart.line(*staircase(across, cost), one.style, one.label, run=one.number)
        minima.append((one, float(cost.min()), float(probit(sweep.frr[[cost.argmin()]].clip(low, high))[0])))
    for one, least, position in minima:
        chart.dot(position, least, f"{one.style} hollow", f"{one.label}: min t-DCF {least:.4f}", run=one.number)
    described = "; ".join(f"{one.label}, minimum {least:.4f}" for one, least, _ in minima)
    return chart.render(f"Normalised t-DCF over the bona fide speech that is rejected: {described}")


class EpochLine(NamedTuple):
    """A line over epochs: its points are (epoch, value); `run` is the run of the legend that it belongs to, if any."""

    name: str
    points: Sequence[tuple[int, float]]
    run: int | None = None


def training_charts(history: Sequence[Mapping[str, Any]], selected: int | None) -> list[tuple[str, Markup, list[str]]]:
    """Charts of a training: a title, the picture and the names of its lines, for the first colours.

    Args:
        history: what results.json holds of each epoch.
        selected: the epoch that was selected.
    """
    losses = {"loss": over_epochs(history, "loss"), "dev loss": over_epochs(history, "dev_loss")}
    terms = [name for epoch in history for name in mapping(epoch.get("terms"))]
    if len(set(terms)) > 1:
        losses |= {name: over_epochs(history, "terms", name) for name in dict.fromkeys(terms)}
    eers = {f"{split} EER": over_epochs(history, split, "eer", factor=100) for split in ("dev", "eval")}
    tdcf = {f"{split} min t-DCF": over_epochs(history, split, "min_tdcf") for split in ("dev", "eval")}
    rate = {"learning rate": over_epochs(history, "learning_rate"),
            "learning rate of the front end": over_epochs(history, "front_end_learning_rate")}  # fmt: skip
    wanted = (("Loss", "loss", losses), ("EER by epoch", "EER (%)", eers), ("min t-DCF by epoch", "min t-DCF", tdcf),
              ("Learning rate", "learning rate", rate))  # fmt: skip
    charts = []
    for title, label, lines in wanted:
        known = {name: points for name, points in lines.items() if points}
        if known:
            chart = epoch_chart([EpochLine(*line) for line in known.items()], label, selected)
            charts.append((title, chart, list(known)))
    return charts


def epoch_chart(lines: Sequence[EpochLine], label: str, selected: int | None = None) -> Markup:
    """Lines over epochs, of which one at least has points; the first has the first colour.

    Args:
        selected: an epoch to mark.
    """
    epochs = [epoch for line in lines for epoch, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    low, high = min(0.0, *values), max(values)
    margin = 0.08 * (high - low) or 1.0
    x = linear_axis(min(epochs) - 0.4, max(epochs) + 0.4, "epoch")
    x = replace(x, ticks=[(value, text) for value, text in x.ticks if value == round(value)])
    y = linear_axis(low - (margin if low < 0 else 0), high + margin, label, about=5)
    chart = Chart(x, y, height=280)
    if selected is not None and min(epochs) <= selected <= max(epochs):
        chart.vertical(selected, "mark", f"selected epoch {selected}")
        chart.note(selected, high + margin, "selected")
    for index, (name, points, run) in enumerate(lines):
        style = f"s{index % SERIES}"
        if points:
            chart.line([epoch for epoch, _ in points], [value for _, value in points], style, name, run=run)
        for epoch, value in points if len(points) <= _MOST_DOTS else ():
            chart.dot(epoch, value, f"{style} small", f"epoch {epoch}: {name} {number(value, 4)}", run=run)
    return chart.render(f"{label} over {len(set(epochs))} epochs: {', '.join(line.name for line in lines)}")


def over_epochs(history: Sequence[Mapping[str, Any]], *keys: str, factor: float = 1) -> list[tuple[int, float]]:
    """The epochs that have a number under `keys`, and these numbers."""
    points = []
    for index, epoch in enumerate(history):
        value: Any = epoch
        for key in keys:
            value = mapping(value).get(key)
        known, given = finite(value), finite(epoch.get("epoch"))
        if known is not None:
            points.append((index if given is None else int(given), factor * known))
    return points
