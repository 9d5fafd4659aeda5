"""The tables of a report: metrics with their intervals, EER by attack, thresholds, what differs between runs."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.reporting.chart_data import attacks_shown, operating_points
from s2pecnet.reporting.html.charts import Series, percent
from s2pecnet.reporting.html.markup import Content, Markup, tag
from s2pecnet.reporting.html.runs import Evaluation, Run, finite, mapping
from s2pecnet.reporting.html.svg import number, swatch

_LONG = 80  # bars; more of them would make a chart that nobody scrolls by


cost: Callable[[float], str] = "{:.4f}".format
# Heading, attribute of `Metrics`, its text, and whether it has a column even where no evaluation has a value.
METRICS: tuple[tuple[str, str, Callable[[float], str], bool], ...] = (
    ("EER (%)", "eer", percent, True),
    ("minDCF", "min_dcf", cost, True),
    ("min t-DCF", "min_tdcf", cost, True),
    ("actDCF", "act_dcf", cost, False),
    ("Cllr (bits)", "cllr", cost, False),
)


def metrics_table(series: Sequence[Series], first: str) -> Markup:
    """The metrics of each with their intervals, drawn on a common scale, and the trials they come from.

    Args:
        first: heading of the first column.
    """
    shown = []
    for heading, name, text, always in METRICS:
        values = [getattr(one.evaluation.metrics, name) for one in series]
        highs = [interval.high for one in series if (interval := one.evaluation.intervals.get(name))]
        if always or any(value is not None for value in values):
            # A column's scale ends at its largest value or end of an interval.
            shown.append((heading, name, text, max(0.0, *(value or 0.0 for value in values), *highs)))
    counted = [("bona fide", "n_bonafide"), ("spoofed", "n_spoof")]
    counted += [("unscored", "n_unscored")] if any(one.evaluation.metrics.n_unscored for one in series) else []
    rows = []
    for one in series:
        metrics, intervals = one.evaluation.metrics, one.evaluation.intervals
        cells = [
            _metric(heading, getattr(metrics, name), intervals.get(name), end, text)
            for heading, name, text, end in shown
        ]
        cells += [_count(getattr(metrics, name), heading) for heading, name in counted]
        label = tag("th", tag("span", swatch(one.style), tag("span", one.label), class_="name"), scope="row")
        rows.append(tag("tr", label, cells, data_run=one.number, class_=one.style))
    head: list[tuple[str, str | None]] = [(first, None), *((one[0], "lower is better") for one in shown)]
    head += [(heading, "number") for heading, _ in counted]
    return table(head, rows, "metrics", sortable=len(series) > 2)


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


def attack_table(series: Sequence[Series]) -> Markup | None:
    """EER of each attack as bars, one a series; None where there are no attacks."""
    eers = [one.evaluation.metrics.per_attack_eer for one in series]
    # Spoofs of each attack in the scores; None where the series have not the same number.
    counts: dict[str, int | None] = {}
    for scores in (one.evaluation.scores for one in series if one.evaluation.scores):
        for name, count in Counter(scores.attacks[~scores.is_bonafide].tolist()).items():
            counts[name] = count if counts.get(name, count) == count else None
    return _eer_table("attack", series, eers, counts)


def corpus_table(series: Sequence[Series]) -> Markup | None:
    """EER of each of several corpora as bars, one a series; None where each has trials of one corpus."""
    of_corpora = [one.evaluation.metrics.per_corpus_eer for one in series]
    eers = [{name: eer for name, eer in one.items() if eer is not None} for one in of_corpora]
    return _eer_table("corpus", series, eers, {})


def _eer_table(
    what: str, series: Sequence[Series], eers: Sequence[Mapping[str, float]], counts: Mapping[str, int | None]
) -> Markup | None:
    """EERs by name as bars, one a series, with the number of trials where that is known."""
    names = attacks_shown(eers)
    if not names:
        return None
    end = max(value for one in eers for value in one.values()) or 1.0
    rows = []
    for name in names:
        bars = []
        for one, known in zip(series, eers, strict=True):
            if name in known:
                eer = percent(known[name])
                width = f"width:calc({known[name] / end:.4f}*(100% - 3.9em))"
                bar = tag("span", class_=f"bar {one.style}", style=width), tag("span", eer)
                bars.append(tag("span", bar, class_="row", title=f"{one.label}: EER {eer} %", data_run=one.number))
        worst = max(known[name] for known in eers if name in known)
        cells = [tag("th", name, scope="row"), tag("td", bars, class_="bars", data_value=worst)]
        rows.append(tag("tr", *cells, _count(counts.get(name)) if counts else None))
    head = [(what, None), ("EER (%)", None), *([("trials", "number")] if counts else [])]
    return table(head, rows, "attacks", sortable=True, long=len(rows) * len(series) > _LONG)


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
        threshold = sweep.threshold_at(point)
        # Among equal scores a point may have rates that its threshold has not.
        real = sweep.point_of(threshold)
        cells = [number(threshold, 5), percent(sweep.frr[real]), percent(sweep.far[real])]
        cells += [] if sweep.tdcf is None else [cost(sweep.tdcf[real])]
        rows.append(tag("tr", tag("th", name, scope="row"), [tag("td", text, class_="number") for text in cells]))
    return table(head, rows, "thresholds")


def facts(run: Run) -> dict[str, str]:
    """What is known of a run, by name, for people."""
    about = run.about
    versions, protocols = mapping(about.get("versions")), mapping(about.get("protocols"))
    parameters, seconds, took = about.get("parameters"), finite(about.get("wall_time_s")), None
    if seconds is not None:
        minutes, rest = divmod(round(seconds), 60)
        took = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
        took = took if minutes else f"{seconds:.1f} s"
    known: dict[str, Any] = {
        "system": about.get("system"),
        "parameters": f"{parameters:,}" if isinstance(parameters, int) else None,
        "weights": about.get("weights"),
        "config": about.get("config_file"),
        "seed": about.get("seed"),
        "device": about.get("device"),
        "started": about.get("started"),
        "took": took,
        "commit": about.get("commit"),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        "working directory": about.get("working_directory"),
        **{f"{name} protocol": f"SHA-256 {str(digest)[:16]}" for name, digest in protocols.items() if digest},
        "path": run.path,
    }
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


def difference_table(runs: Sequence[Run]) -> Markup | None:
    """What differs in the facts about runs, in their metrics on dev and of SWA, and in their configs; None: nothing."""
    about = [facts(run) for run in runs]
    for one in about:
        # These two differ always, and the metrics do not depend on them.
        del one["path"]
        one.pop("working directory", None)
    # The configs as they were understood, defaults included, if that is known of all runs.
    configs = [mapping(run.about.get("experiment")) for run in runs]
    if all(configs):
        among_the_facts = ("seed", "device", "protocol of ")
        configs = [{key: one[key] for key in one if not key.startswith(among_the_facts)} for one in configs]
    else:
        configs = [run.config for run in runs]
    rows, unknown = [], tag("span", "not known", class_="muted")
    for section in ([_other_metrics(run) for run in runs], about, [_flat(one) for one in configs]):
        for key in dict.fromkeys(key for one in section for key in one):
            if len({one.get(key) for one in section}) > 1:
                cells = [tag("td", one.get(key, unknown)) for one in section]
                rows.append(tag("tr", tag("th", key, scope="row"), cells))
    return table([("", None), *((run.name, None) for run in runs)], rows, "differences") if rows else None


def _other_metrics(run: Run) -> dict[str, str]:
    """Metrics of dev and of the averaged weights."""
    metrics = {}
    for one in run.evaluations[1:]:
        name = {"eval_swa": "eval SWA"}.get(one.name, one.name)
        costs = [cost(value) for value in (one.metrics.min_dcf, one.metrics.min_tdcf) if value is not None]
        metrics[f"{name} EER, minDCF, min t-DCF"] = ", ".join([f"{percent(one.metrics.eer)} %", *costs])
    selected = run.about.get("selected_epoch")
    return metrics | ({"selected epoch": str(selected)} if isinstance(selected, int) else {})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return flat


def table(
    head: Sequence[tuple[str, str | None]], rows: Content, class_: str, sortable: bool = False, long: bool = False
) -> Markup:
    """A table in a box, in which what is too wide scrolls by itself; what is too `long`, too.

    A heading comes with "number" (its column stands to the right), with a remark, or alone.
    """
    cells = [
        tag("th", title, scope="col", class_="number" if remark == "number" else None,
            title=None if remark == "number" else remark)
        for title, remark in head
    ]  # fmt: skip
    classes = f"{class_} sortable" if sortable else class_
    content = tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), class_=classes)
    return tag("div", content, class_="scrolling long" if long else "scrolling", tabindex=0)
