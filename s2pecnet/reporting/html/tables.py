"""The tables of a report: metrics with their intervals, EER by attack, thresholds, what differs between runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.reporting.chart_data import attacks_shown, operating_points
from s2pecnet.reporting.html.charts import Series, percent
from s2pecnet.reporting.html.markup import Content, Markup, tag
from s2pecnet.reporting.html.runs import Evaluation, Run, finite, mapping
from s2pecnet.reporting.html.svg import number

_LONG = 80  # bars; more of them would make a chart that nobody scrolls by


def cost(value: float) -> str:
    """A cost as it is shown."""
    return f"{value:.4f}"


# Heading, attribute of `Metrics`, its text, and whether it has a column even where no evaluation has a value.
METRICS: tuple[tuple[str, str, Callable[[float], str], bool], ...] = (
    ("EER (%)", "eer", percent, True),
    ("minDCF", "min_dcf", cost, True),
    ("min t-DCF", "min_tdcf", cost, True),
    ("actDCF", "act_dcf", cost, False),
    ("Cllr (bits)", "cllr", cost, False),
)


def swatch(one: Series) -> Markup:
    """The colour and the dashes of a series."""
    line = tag("path", d="M1 6H27", class_=f"line {one.style}")
    return tag("svg", line, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")


# ---- metrics -----------------------------------------------------------------------------------


def metrics_table(series: Sequence[Series], first: str) -> Markup:
    """The metrics of each with their intervals, drawn on a common scale, and the trials they come from.

    Args:
        first: heading of the first column.
    """
    shown = [(heading, name, text) for heading, name, text, always in METRICS if always or _known(series, name)]
    ends = {name: max(_end(one.evaluation, name) for one in series) for _, name, _ in shown}
    counted = [("bona fide", "n_bonafide"), ("spoofed", "n_spoof")]
    counted += [("unscored", "n_unscored")] if any(one.evaluation.metrics.n_unscored for one in series) else []
    rows = []
    for one in series:
        metrics, intervals = one.evaluation.metrics, one.evaluation.intervals
        cells = [
            _metric(heading, getattr(metrics, name), intervals.get(name), ends[name], text)
            for heading, name, text in shown
        ]
        cells += [_count(getattr(metrics, name), heading) for heading, name in counted]
        label = tag("th", tag("span", swatch(one), tag("span", one.label), class_="name"), scope="row")
        rows.append(tag("tr", label, cells, data_run=one.number, class_=one.style))
    head: list[tuple[str, str | None]] = [(first, None), *((heading, "lower is better") for heading, _, _ in shown)]
    head += [(heading, "number") for heading, _ in counted]
    return scrolling(table(head, rows, "metrics", sortable=len(series) > 2))


def _known(series: Sequence[Series], name: str) -> bool:
    return any(getattr(one.evaluation.metrics, name) is not None for one in series)


def _end(evaluation: Evaluation, name: str) -> float:
    interval = evaluation.intervals.get(name)
    return max(getattr(evaluation.metrics, name) or 0.0, interval.high if interval else 0.0)


def _metric(
    label: str, value: float | None, interval: Interval | None, end: float, text: Callable[[float], str]
) -> Markup:
    """A cell with a value, its interval in words and drawn on a scale from 0 to `end`."""
    if value is None:
        nothing = tag("span", "not computed", class_="muted")
        return tag("td", nothing, data_value="Infinity", data_label=label)
    words = tag("span", f"{text(interval.low)} to {text(interval.high)}", class_="muted") if interval else None
    end = end or 1.0
    low, high = (interval.low / end, interval.high / end) if interval else (value / end, value / end)
    whisker = tag("span", class_="whisker", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%")
    point = tag("span", class_="point", style=f"left:{100 * value / end:.2f}%")
    track = tag("span", whisker, point, class_="track", aria_hidden="true")
    return tag("td", tag("strong", text(value)), " ", words, track, data_value=value, data_label=label)


def _count(count: int | None, label: str | None = None) -> Markup:
    text = None if count is None else f"{count:,}"
    return tag("td", text, class_="number", data_value=count or 0, data_label=label)


# ---- attacks -----------------------------------------------------------------------------------


def attack_table(series: Sequence[Series]) -> Markup | None:
    """EER of each attack as bars, one a series; None where there are no attacks."""
    eers = [one.evaluation.metrics.per_attack_eer for one in series]
    attacks = attacks_shown(eers)
    if not attacks:
        return None
    end = max(value for one in eers for value in one.values()) or 1.0
    counts = _attack_counts(series)
    rows = []
    for name in attacks:
        bars = [_bar(one, known[name], end) for one, known in zip(series, eers, strict=True) if name in known]
        worst = max(known[name] for known in eers if name in known)
        cells = [tag("th", name, scope="row"), tag("td", bars, class_="bars", data_value=worst)]
        rows.append(tag("tr", *cells, _count(counts.get(name)) if counts else None))
    head = [("attack", None), ("EER (%)", None), *([("trials", "number")] if counts else [])]
    return scrolling(table(head, rows, "attacks", sortable=True), long=len(rows) * len(series) > _LONG)


def _bar(one: Series, eer: float, end: float) -> Markup:
    bar = tag("span", class_=f"bar {one.style}", style=f"width:calc({eer / end:.4f}*(100% - 3.9em))")
    title = f"{one.label}: EER {percent(eer)} %"
    return tag("span", bar, tag("span", percent(eer)), class_="row", title=title, data_run=one.number)


def _attack_counts(series: Sequence[Series]) -> dict[str, int | None]:
    """Number of spoofs of each attack in the scores; None where the series have not the same number."""
    counts: dict[str, int | None] = {}
    for one in series:
        if one.evaluation.scores:
            spoofs = one.evaluation.scores.attacks[~one.evaluation.scores.is_bonafide]
            for name, count in zip(*(column.tolist() for column in np.unique(spoofs, return_counts=True)), strict=True):
                counts[name] = count if counts.get(name, count) == count else None
    return counts


# ---- thresholds --------------------------------------------------------------------------------


def threshold_table(evaluation: Evaluation) -> Markup | None:
    """Error rates and t-DCF at thresholds that people may want to set; None without scores."""
    sweep = evaluation.sweep
    if sweep is None:
        return None
    head = [("operating point", None), ("threshold", "number"), ("bona fide rejected (%)", "number"),
            ("spoofs accepted (%)", "number"), *([] if sweep.tdcf is None else [("t-DCF", "number")])]  # fmt: skip
    rows = []
    metrics = evaluation.metrics
    for name, point in operating_points(sweep, metrics.n_bonafide, metrics.n_spoof):
        cells = [number(sweep.thresholds[point], 5), percent(sweep.frr[point]), percent(sweep.far[point])]
        cells += [] if sweep.tdcf is None else [cost(sweep.tdcf[point])]
        rows.append(tag("tr", tag("th", name, scope="row"), [tag("td", text, class_="number") for text in cells]))
    return scrolling(table(head, rows, "thresholds"))


# ---- facts about runs --------------------------------------------------------------------------


def facts(run: Run) -> dict[str, str]:
    """What is known of a run, by name, for people."""
    about = run.about
    versions, protocols = mapping(about.get("versions")), mapping(about.get("protocols"))
    parameters, seconds = about.get("parameters"), finite(about.get("wall_time_s"))
    known: dict[str, Any] = {
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
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def difference_table(runs: Sequence[Run]) -> Markup | None:
    """What differs in the facts about runs, in their metrics on dev and of SWA, and in their configs; None: nothing."""
    sections = [map(_other_metrics, runs), map(_own_facts, runs), _configs(runs)]
    rows = [row for section in sections for row in _differing_rows(list(section))]
    head = [("", None), *((run.name, None) for run in runs)]
    return scrolling(table(head, rows, "differences")) if rows else None


def _differing_rows(values: Sequence[Mapping[str, str]]) -> list[Markup]:
    unknown = tag("span", "not known", class_="muted")
    return [
        tag("tr", tag("th", key, scope="row"), [tag("td", one.get(key, unknown)) for one in values])
        for key in dict.fromkeys(key for one in values for key in one)
        if len({one.get(key) for one in values}) > 1
    ]


def _configs(runs: Sequence[Run]) -> list[dict[str, str]]:
    """The configs by dotted key: as they were understood, defaults included, if that is known of all runs."""
    understood = [mapping(run.about.get("experiment")) for run in runs]
    if not all(understood):
        return [_flat(run.config) for run in runs]
    among_the_facts = ("seed", "device", "protocol of ")
    return [_flat({key: one[key] for key in one if not key.startswith(among_the_facts)}) for one in understood]


def _other_metrics(run: Run) -> dict[str, str]:
    """Metrics of dev and of the averaged weights."""
    metrics = {}
    for one in run.evaluations[1:]:
        name = {"eval_swa": "eval SWA"}.get(one.name, one.name)
        costs = [cost(value) for value in (one.metrics.min_dcf, one.metrics.min_tdcf) if value is not None]
        metrics[f"{name} EER, minDCF, min t-DCF"] = ", ".join([f"{percent(one.metrics.eer)} %", *costs])
    selected = run.about.get("selected_epoch")
    return metrics | ({"selected epoch": str(selected)} if isinstance(selected, int) else {})


def _own_facts(run: Run) -> dict[str, str]:
    # These two differ always, and the metrics do not depend on them.
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
    classes = f"{class_} sortable" if sortable else class_
    return tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), class_=classes)


def scrolling(content: Content, long: bool = False) -> Markup:
    """A box in which what is too wide scrolls by itself; what is too long, too."""
    return tag("div", content, class_="scrolling long" if long else "scrolling", tabindex=0)
