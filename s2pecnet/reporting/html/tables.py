"""The tables of a report: figures with their intervals, EER by attack, thresholds, what differs between configs."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.reporting.html.charts import Series, percent
from s2pecnet.reporting.html.markup import Content, Markup, tag
from s2pecnet.reporting.html.runs import Evaluation, Run, Sweep, finite, mapping
from s2pecnet.reporting.html.svg import number

_LONG = 80  # bars; more of them would make a chart that nobody scrolls by
_RATE_POINTS = (0.01, 0.001)  # error rates at which people set thresholds


def swatch(one: Series) -> Markup:
    """The colour and the dashes of a series."""
    line = tag("path", d="M1 6H27", class_=f"line {one.style}")
    return tag("svg", line, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")


# ---- figures -----------------------------------------------------------------------------------


def figures_table(series: Sequence[Series], first: str) -> Markup:
    """EER and min t-DCF of each with their intervals, drawn on a common scale, and the trials they come from.

    Args:
        first: heading of the first column.
    """
    eer_end = max(_end(one.evaluation.metrics.eer, one.evaluation.intervals.get("eer")) for one in series)
    tdcf_end = max(_end(one.evaluation.metrics.min_tdcf, one.evaluation.intervals.get("min_tdcf")) for one in series)
    has_unscored = any(one.evaluation.metrics.n_unscored for one in series)
    head = [(first, None), ("EER (%)", "lower is better"), ("min t-DCF", "lower is better"), ("bona fide", "number"),
            ("spoofed", "number"), *([("unscored", "number")] if has_unscored else [])]  # fmt: skip
    rows = []
    for one in series:
        metrics, intervals = one.evaluation.metrics, one.evaluation.intervals
        counts = [metrics.n_bonafide, metrics.n_spoof, *([metrics.n_unscored] if has_unscored else [])]
        cells = [
            _figure("EER (%)", metrics.eer, intervals.get("eer"), eer_end, percent),
            _figure("min t-DCF", metrics.min_tdcf, intervals.get("min_tdcf"), tdcf_end, _cost),
            *(_count(count, label) for count, (label, _) in zip(counts, head[3:], strict=True)),
        ]
        name = tag("th", tag("span", swatch(one), tag("span", one.label), class_="name"), scope="row")
        rows.append(tag("tr", name, cells, data_run=one.number, class_=one.style))
    return scrolling(table(head, rows, "figures", sortable=len(series) > 2))


def _end(value: float | None, interval: Interval | None) -> float:
    return max(value or 0.0, interval.high if interval else 0.0)


def _cost(value: float) -> str:
    return f"{value:.4f}"


def _figure(
    label: str, value: float | None, interval: Interval | None, end: float, text: Callable[[float], str]
) -> Markup:
    """A cell with a figure, its interval in words and drawn on a scale from 0 to `end`."""
    if value is None:
        nothing = tag("span", "not computed", class_="muted")
        return tag("td", nothing, data_value="Infinity", data_label=label)
    told = tag("span", f"{text(interval.low)} to {text(interval.high)}", class_="muted") if interval else None
    end = end or 1.0
    low, high = (interval.low / end, interval.high / end) if interval else (value / end, value / end)
    whisker = tag("span", class_="whisker", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%")
    point = tag("span", class_="point", style=f"left:{100 * value / end:.2f}%")
    track = tag("span", whisker, point, class_="track", aria_hidden="true")
    return tag("td", tag("strong", text(value)), " ", told, track, data_value=value, data_label=label)


def _count(count: int | None, label: str | None = None) -> Markup:
    told = None if count is None else f"{count:,}"
    return tag("td", told, class_="number", data_value=count or 0, data_label=label)


# ---- attacks -----------------------------------------------------------------------------------


def attack_table(series: Sequence[Series]) -> Markup | None:
    """EER of each attack as bars, one a series; None where nobody tells attacks."""
    eers = [one.evaluation.metrics.per_attack_eer for one in series]
    attacks = sorted({name for one in eers for name in one})
    if not attacks:
        return None
    end = max(value for one in eers for value in one.values()) or 1.0
    counts = _attack_counts(series)
    rows = []
    for name in attacks:
        bars = [_bar(one, told[name], end) for one, told in zip(series, eers, strict=True) if name in told]
        worst = max(told[name] for told in eers if name in told)
        cells = [tag("th", name, scope="row"), tag("td", bars, class_="bars", data_value=worst)]
        rows.append(tag("tr", *cells, _count(counts.get(name)) if counts else None))
    head = [("attack", None), ("EER (%)", None), *([("trials", "number")] if counts else [])]
    return scrolling(table(head, rows, "attacks", sortable=True), long=len(rows) * len(series) > _LONG)


def _bar(one: Series, eer: float, end: float) -> Markup:
    bar = tag("span", class_=f"bar {one.style}", style=f"width:calc({eer / end:.4f}*(100% - 3.9em))")
    title = f"{one.label}: EER {percent(eer)} %"
    return tag("span", bar, tag("span", percent(eer)), class_="row", title=title, data_run=one.number)


def _attack_counts(series: Sequence[Series]) -> dict[str, int | None]:
    """Spoofs of each attack whose scores are at hand; None where the series have not the same number."""
    counts: dict[str, int | None] = {}
    for one in series:
        if one.evaluation.scores:
            spoofs = one.evaluation.scores.attacks[~one.evaluation.scores.is_bonafide]
            for name, count in zip(*(column.tolist() for column in np.unique(spoofs, return_counts=True)), strict=True):
                counts[name] = count if counts.get(name, count) == count else None
    return counts


# ---- thresholds --------------------------------------------------------------------------------


def threshold_table(evaluation: Evaluation) -> Markup | None:
    """What thresholds that people may want to set give; None without scores."""
    sweep = evaluation.sweep
    if sweep is None:
        return None
    head = [("operating point", None), ("threshold", "number"), ("bona fide rejected (%)", "number"),
            ("spoofs accepted (%)", "number"), *([] if sweep.tdcf is None else [("t-DCF", "number")])]  # fmt: skip
    rows = []
    for name, point in _operating_points(evaluation, sweep):
        told = [number(sweep.thresholds[point], 5), percent(sweep.frr[point]), percent(sweep.far[point])]
        told += [] if sweep.tdcf is None else [_cost(sweep.tdcf[point])]
        rows.append(tag("tr", tag("th", name, scope="row"), [tag("td", text, class_="number") for text in told]))
    return scrolling(table(head, rows, "thresholds"))


def _operating_points(evaluation: Evaluation, sweep: Sweep) -> list[tuple[str, int]]:
    points = [("EER", sweep.eer_point)]
    if sweep.tdcf_point is not None:
        points.append(("min t-DCF", sweep.tdcf_point))
    for rate in _RATE_POINTS:
        # A rate of less than a trial says nothing.
        if rate * evaluation.metrics.n_spoof >= 1:
            points.append((f"at most {100 * rate:g} % of spoofs accepted", int(np.argmax(sweep.far <= rate))))
        if rate * evaluation.metrics.n_bonafide >= 1:
            last = int(np.flatnonzero(sweep.frr <= rate)[-1])
            points.append((f"at most {100 * rate:g} % of bona fide rejected", last))
    return points


# ---- what is told of runs ----------------------------------------------------------------------


def facts(run: Run) -> dict[str, str]:
    """What a run tells of itself, by name, for people."""
    about = run.about
    versions, protocols = mapping(about.get("versions")), mapping(about.get("protocols"))
    parameters, seconds = about.get("parameters"), finite(about.get("wall_time_s"))
    told: dict[str, Any] = {
        "system": about.get("system"),
        "parameters": f"{parameters:,}" if isinstance(parameters, int) else None,
        "weights": about.get("weights"),
        "config": about.get("config_file"),
        "seed": about.get("seed"),
        "device": about.get("device"),
        "started": about.get("started"),
        "took": None if seconds is None else _duration(seconds),
        "commit": about.get("commit"),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        "working directory": about.get("working_directory"),
        **{f"{name} protocol": f"SHA-256 {str(digest)[:16]}" for name, digest in protocols.items() if digest},
        "path": run.path,
    }
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def difference_table(runs: Sequence[Run]) -> Markup | None:
    """What runs tell of themselves, their figures elsewhere than on eval, and their configs: what is not the same.

    None where nothing differs.
    """
    sections = [map(_other_figures, runs), map(_own_facts, runs), _configs(runs)]
    rows = [row for told in sections for row in _differing_rows(list(told))]
    head = [("", None), *((run.name, None) for run in runs)]
    return scrolling(table(head, rows, "differences")) if rows else None


def _differing_rows(told: Sequence[Mapping[str, str]]) -> list[Markup]:
    keys = dict.fromkeys(key for one in told for key in one)
    return [
        tag("tr", tag("th", key, scope="row"), [tag("td", _value(one.get(key))) for one in told])
        for key in keys
        if len({one.get(key) for one in told}) > 1
    ]


def _configs(runs: Sequence[Run]) -> list[dict[str, str]]:
    """The configs by dotted key: as they were understood, defaults included, if all runs tell that."""
    understood = [mapping(run.about.get("experiment")) for run in runs]
    if not all(understood):
        return [_flat(run.config) for run in runs]
    told_already = ("seed", "device", "protocol of ")
    return [_flat({key: one[key] for key in one if not key.startswith(told_already)}) for one in understood]


def _value(text: str | None) -> Content:
    return tag("span", "not told", class_="muted") if text is None else text


def _other_figures(run: Run) -> dict[str, str]:
    """Figures of dev and of the averaged weights."""
    figures = {}
    for one in run.evaluations[1:]:
        name = {"eval_swa": "eval SWA"}.get(one.name, one.name)
        cost = one.metrics.min_tdcf
        figures[f"{name} EER, min t-DCF"] = f"{percent(one.metrics.eer)} %" + (
            "" if cost is None else f", {_cost(cost)}"
        )
    selected = run.about.get("selected_epoch")
    return figures | ({"selected epoch": str(selected)} if isinstance(selected, int) else {})


def _own_facts(run: Run) -> dict[str, str]:
    # Of these two none is like another, and the figures do not depend on them.
    return {name: value for name, value in facts(run).items() if name not in ("path", "working directory")}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return flat


# ---- all tables --------------------------------------------------------------------------------


def table(head: Sequence[tuple[str, str | None]], rows: Content, class_: str, sortable: bool = False) -> Markup:
    """A table; a heading comes with "number" (its column stands to the right), with a remark, or alone."""
    cells = [
        tag("th", title, scope="col", class_="number" if remark == "number" else None,
            title=None if remark == "number" else remark)
        for title, remark in head
    ]  # fmt: skip
    kind = f"{class_} sortable" if sortable else class_
    return tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), class_=kind)


def scrolling(content: Content, long: bool = False) -> Markup:
    """A box in which what is too wide scrolls by itself; what is too long, too."""
    return tag("div", content, class_="scrolling long" if long else "scrolling", tabindex=0)
