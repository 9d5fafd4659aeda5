"""The charts of a report, as SVG: DET curves, score histograms, t-DCF over the threshold, training curves.

Conventions are those of `evaluation`: a score is higher for bona fide speech, rates are drawn in per cent. The DET
curve has probit axes, on which two Gaussian score distributions make a straight line (see `plots`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from s2pecnet.metrics.det import Floats
from s2pecnet.reporting.html.markup import Markup
from s2pecnet.reporting.html.runs import Evaluation, Sweep, finite, mapping
from s2pecnet.reporting.html.svg import Axis, Chart, linear_axis, number
from s2pecnet.reporting.plots import corners, probit
from s2pecnet.score_files.cm_asv import CMScores

SERIES = 8  # colours, each with its own dashes, before they come round again
_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)
_TAIL = 0.0005  # share of a class's trials that a histogram may put into its outermost bin
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


def percent(rate: float, digits: int = 2) -> str:
    """A rate in per cent, without the sign; small ones keep two digits that count.

    >>> percent(0.0773), percent(0.00017), percent(0.0)
    ('7.73', '0.017', '0')
    """
    value = 100 * rate
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.{digits}f}" if value else "0"


# ---- curves over the trials --------------------------------------------------------------------


def det_chart(series: Sequence[Series]) -> Markup | None:
    """DET curves on probit axes, with the EER and the point of the minimum t-DCF; None where nobody has scores."""
    drawn = [(one, one.evaluation.sweep) for one in series if one.evaluation.sweep]
    if not drawn:
        return None
    low, high = _det_limits(drawn)
    rejected, accepted = (_probit_axis(low, high, f"{what} (%)") for what in ("bona fide rejected", "spoofs accepted"))
    chart = Chart(accepted, rejected, height=426)
    chart.line([rejected.low, rejected.high], [rejected.low, rejected.high], "reference", "both rates equal")
    for one, sweep in drawn:
        corner = corners(sweep.frr, sweep.far)
        across, up = (probit(rates[corner].clip(low, 1 - low)) for rates in (sweep.far, sweep.frr))
        chart.line(across, up, one.style, one.label, run=one.number)
    for one, sweep in drawn:
        _mark_points(chart, one, sweep, (low, high))
    if len(drawn) == 1:
        eer = drawn[0][0].evaluation.metrics.eer
        place = float(probit(np.array([eer]).clip(low, high))[0])
        chart.note(place, place, f"EER {percent(eer)} %", where="beside")
    told = "; ".join(f"{one.label}, EER {percent(one.evaluation.metrics.eer)} %" for one, _ in drawn)
    return chart.render(f"Detection error trade-off: {told}")


def _det_limits(drawn: Sequence[tuple[Series, Sweep]]) -> tuple[float, float]:
    """The rates at the ends of the axes: all points that are marked lie between them."""
    # A rate of 0 lies infinitely far out: the axes end at half a trial of the largest class.
    largest = max(max(one.evaluation.metrics.n_bonafide, one.evaluation.metrics.n_spoof) for one, _ in drawn)
    low = min(0.02, 0.5 / largest)
    points = [
        (sweep, point) for _, sweep in drawn for point in (sweep.eer_point, sweep.tdcf_point) if point is not None
    ]
    high = max(max(float(sweep.frr[point]), float(sweep.far[point])) for sweep, point in points)
    return low, min(1 - low, max(0.5, 1.2 * high))


def _mark_points(chart: Chart, one: Series, sweep: Sweep, limits: tuple[float, float]) -> None:
    metrics = one.evaluation.metrics
    place = float(probit(np.array([metrics.eer]).clip(*limits))[0])
    title = f"{one.label}: EER {percent(metrics.eer)} % at threshold {number(metrics.eer_threshold, 4)}"
    chart.dot(place, place, one.style, title, run=one.number)
    best = sweep.tdcf_point
    if best is not None and sweep.tdcf is not None:
        x, y = probit(np.array([sweep.far[best], sweep.frr[best]]).clip(*limits)).tolist()
        title = f"{one.label}: min t-DCF {sweep.tdcf[best]:.4f} at threshold {number(sweep.thresholds[best], 4)}"
        chart.dot(x, y, f"{one.style} hollow", title, run=one.number)


def _probit_axis(low: float, high: float, label: str) -> Axis:
    low_end, high_end = probit(np.array([low, high])).tolist()
    ticks: list[tuple[float, str]] = []
    for rate in _RATES:
        if low <= rate <= high:
            place = float(probit(np.array([rate]))[0])
            # Two labels side by side need about a tenth of the axis.
            if not ticks or place - ticks[-1][0] > (high_end - low_end) / 10:
                ticks.append((place, f"{100 * rate:g}"))
    return Axis(low_end, high_end, label, ticks)


def histogram(evaluation: Evaluation) -> Markup | None:
    """Scores of both classes, each as shares of its own trials."""
    scores = evaluation.scores
    if scores is None:
        return None
    edges = _bin_edges(scores)
    shares = {}
    for name, values in (("spoofed", scores.spoof), ("bona fide", scores.bonafide)):
        shares[name] = 100 * np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / values.size
    top = 1.12 * max(float(share.max()) for share in shares.values())
    chart = Chart(
        linear_axis(edges[0], edges[-1], "score (higher = bona fide)"),
        linear_axis(0, top, "trials of the class per bin (%)", about=5),
    )
    across = np.repeat(edges, 2)[1:-1]
    for name, class_ in (("spoofed", "spoofed"), ("bona fide", "bonafide")):
        chart.area(across, np.repeat(shares[name], 2), class_)
        chart.line(across, np.repeat(shares[name], 2), class_)
    for place, (low, high) in enumerate(pairwise(edges.tolist())):
        told = ", ".join(f"{name} {share[place]:.2f} %" for name, share in reversed(shares.items()))
        chart.column(low, high, f"score {number(low, 4)} to {number(high, 4)}: {told}")
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
    if scores is None or sweep is None or sweep.tdcf is None:
        return None
    edges = _bin_edges(scores)
    chart = Chart(
        linear_axis(edges[0], edges[-1], "threshold (higher = more is rejected)"),
        linear_axis(0, 1.15, "normalised t-DCF", about=5),
    )
    eer_threshold = evaluation.metrics.eer_threshold
    chart.horizontal(1, "reference", "t-DCF 1: the countermeasure accepts or rejects everything")
    chart.vertical(eer_threshold, "mark", f"EER threshold {number(eer_threshold, 4)}")
    chart.line(np.repeat(sweep.thresholds, 2)[1:], np.repeat(sweep.tdcf, 2)[:-1], "tandem")
    least, threshold = float(sweep.tdcf.min()), sweep.thresholds[sweep.tdcf.argmin()]
    title, place = f"minimum {least:.4f} at threshold {number(threshold, 4)}", threshold.clip(edges[0], edges[-1])
    chart.dot(place, least, "tandem", title)
    chart.note(place, least, f"min {least:.4f}", where="below" if least > 0.15 else "above")
    return chart.render(f"Normalised t-DCF over the threshold, {title}")


def tdcf_by_miss_rate(series: Sequence[Series]) -> Markup | None:
    """The t-DCF over the bona fide speech that is rejected: scores of several systems have no common scale.

    None where fewer than two have ASV scores.
    """
    drawn = [(one, sweep) for one in series if (sweep := one.evaluation.sweep) and sweep.tdcf is not None]
    if len(drawn) < 2:
        return None
    low, high = _det_limits(drawn)
    chart = Chart(_probit_axis(low, high, "bona fide rejected (%)"), linear_axis(0, 1.15, "normalised t-DCF", about=5))
    chart.horizontal(1, "reference", "t-DCF 1: the countermeasure accepts or rejects everything")
    least = []
    for one, sweep in drawn:
        cost = np.asarray(sweep.tdcf)
        across = probit(sweep.frr.clip(low, 1 - low))
        chart.line(np.repeat(across, 2)[1:], np.repeat(cost, 2)[:-1], one.style, one.label, run=one.number)
        least.append((float(cost.min()), float(probit(sweep.frr[[cost.argmin()]].clip(low, high))[0])))
    for (one, _), (cost_there, place) in zip(drawn, least, strict=True):
        title = f"{one.label}: min t-DCF {cost_there:.4f}"
        chart.dot(place, cost_there, f"{one.style} hollow", title, run=one.number)
    told = "; ".join(f"{one.label}, minimum {cost:.4f}" for (one, _), (cost, _) in zip(drawn, least, strict=True))
    return chart.render(f"Normalised t-DCF over the bona fide speech that is rejected: {told}")


def _bin_edges(cm: CMScores) -> Floats:
    """What the charts over scores span: all trials, but for outliers that would leave no room for the others."""
    low, high = float(cm.scores.min()), float(cm.scores.max())
    tails = [np.quantile(values, [_TAIL, 1 - _TAIL]) for values in (cm.bonafide, cm.spoof)]
    inner_low, inner_high = float(min(tail[0] for tail in tails)), float(max(tail[1] for tail in tails))
    if high / 2 - low / 2 > 1.3 * (inner_high / 2 - inner_low / 2) > 0:
        low, high = inner_low, inner_high
    # Differences and tick marks of the largest numbers must not overflow, those of equal ones not vanish.
    low, high = max(low, -1e300), min(high, 1e300)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(0.5, abs(low) / 2)
        low, high = low - margin, high + margin
    return np.linspace(low, high, int(np.clip(2 * np.sqrt(cm.scores.size), 12, 60)) + 1)


# ---- curves over the epochs --------------------------------------------------------------------


def training_charts(history: Sequence[Mapping[str, Any]], selected: int | None) -> list[tuple[str, Markup, list[str]]]:
    """Charts of a training: a title, the picture and the names of its lines, for the first colours.

    Args:
        history: what results.json tells of each epoch.
        selected: the epoch that was selected.
    """
    losses = {"loss": _over_epochs(history, "loss")}
    terms = [name for epoch in history for name in mapping(epoch.get("terms"))]
    if len(set(terms)) > 1:
        losses |= {name: _over_epochs(history, "terms", name) for name in dict.fromkeys(terms)}
    eers = {f"{split} EER": _over_epochs(history, split, "eer", factor=100) for split in ("dev", "eval")}
    tdcf = {f"{split} min t-DCF": _over_epochs(history, split, "min_tdcf") for split in ("dev", "eval")}
    rate = {"learning rate": _over_epochs(history, "learning_rate")}
    wanted = (("Loss", "loss", losses), ("EER by epoch", "EER (%)", eers), ("min t-DCF by epoch", "min t-DCF", tdcf),
              ("Learning rate", "learning rate", rate))  # fmt: skip
    charts = []
    for title, label, lines in wanted:
        known = {name: points for name, points in lines.items() if points}
        if known:
            charts.append((title, epoch_chart(list(known.items()), label, selected), list(known)))
    return charts


def epoch_chart(
    lines: Sequence[tuple[str, Sequence[tuple[int, float]]]],
    label: str,
    selected: int | None = None,
    runs: bool = False,
) -> Markup:
    """Lines over epochs.

    Args:
        lines: name and points (epoch, value), at least one each; the first has the first colour.
        selected: an epoch to mark.
        runs: the lines are the runs of the legend, in its order.
    """
    epochs = [epoch for _, points in lines for epoch, _ in points]
    values = [value for _, points in lines for _, value in points]
    low, high = min(0.0, *values), max(values)
    margin = 0.08 * (high - low) or 1.0
    chart = Chart(
        _epoch_axis(min(epochs) - 0.4, max(epochs) + 0.4),
        linear_axis(low - (margin if low < 0 else 0), high + margin, label, about=5),
        height=280,
    )
    if selected is not None and min(epochs) <= selected <= max(epochs):
        chart.vertical(selected, "mark", f"selected epoch {selected}")
        chart.note(selected, high + margin, "selected")
    for place, (name, points) in enumerate(lines):
        if points:
            _draw_epochs(chart, name, points, place, place if runs else None)
    return chart.render(f"{label} over {len(set(epochs))} epochs: {', '.join(name for name, _ in lines)}")


def _epoch_axis(low: float, high: float) -> Axis:
    axis = linear_axis(low, high, "epoch")
    return replace(axis, ticks=[(value, text) for value, text in axis.ticks if value == round(value)])


def _draw_epochs(chart: Chart, name: str, points: Sequence[tuple[int, float]], place: int, run: int | None) -> None:
    style = f"s{place % SERIES}"
    chart.line([epoch for epoch, _ in points], [value for _, value in points], style, name, run=run)
    if len(points) <= _MOST_DOTS:
        for epoch, value in points:
            chart.dot(epoch, value, f"{style} small", f"epoch {epoch}: {name} {number(value, 4)}", run=run)


def dev_eers(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The dev EER in per cent of each epoch that tells it."""
    return _over_epochs(history, "dev", "eer", factor=100)


def _over_epochs(history: Sequence[Mapping[str, Any]], *keys: str, factor: float = 1) -> list[tuple[int, float]]:
    """The epochs that tell the value that lies under `keys`."""
    points = []
    for place, epoch in enumerate(history):
        value: Any = epoch
        for key in keys:
            value = mapping(value).get(key)
        known, told = finite(value), finite(epoch.get("epoch"))
        if known is not None:
            points.append((place if told is None else int(told), factor * known))
    return points
