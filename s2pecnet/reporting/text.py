"""Texts of `s2pecnet evaluate`: metrics of systems, side by side or alone, within 100 columns.

Rates are fractions in what these functions take, and per cent in what they write.
"""

import textwrap
from collections.abc import Mapping, Sequence

from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.metrics.breakdown import Breakdown
from s2pecnet.metrics.comparison import Comparison
from s2pecnet.metrics.countermeasure import NO_LLRS, Metrics
from s2pecnet.metrics.fixed_threshold import RATES, FixedThreshold
from s2pecnet.metrics.sasv import TandemPoint
from s2pecnet.text import threshold_text

WIDTH = 100
_LONGEST_NAME = 40
# Metric, heading, factor: in the order in which they are shown.
SHOWN = (
    ("eer", "EER %", 100),
    ("min_dcf", "minDCF", 1),
    ("act_dcf", "actDCF", 1),
    ("cllr", "Cllr", 1),
    ("min_tdcf", "min t-DCF", 1),
)
_LONG_NAMES = {"eer": "CM EER"}
_HOW = "trials; ASV scores and calibration held fixed"


def describe_systems(systems: Mapping[str, Metrics], points: Mapping[str, TandemPoint]) -> list[str]:
    """Several systems' metrics, a system a line."""
    first = next(iter(systems.values()))
    shown = [column for column in SHOWN if getattr(first, column[0]) is not None]
    header = ["", *(heading for _, heading, _ in shown), *(["t-EER %"] if points else [])]
    rows = []
    for name, metrics in systems.items():
        numbers = [_number(getattr(metrics, metric), factor) for metric, _, factor in shown]
        rows.append([name, *numbers, *([_number(points[name].t_eer, 100)] if points else [])])
    lines = [f"trials       {first.n_bonafide} bona fide, {first.n_spoof} spoofed", "", *text_table(header, rows)]
    return lines if first.cllr is not None else [*lines, f"actDCF, Cllr {NO_LLRS}"]


def describe_intervals(intervals: Mapping[str, Interval | None], replicates: int) -> list[str]:
    """One system's bootstrap intervals."""
    lines = [f"bootstrap intervals ({replicates} draws of the {_HOW})"]
    for metric, heading, factor in SHOWN:
        interval = intervals.get(metric)
        if interval is not None:
            unit = " %" if factor == 100 else ""
            ends = f"{factor * interval.low:8.4f} to {factor * interval.high:8.4f}{unit}"
            name = _LONG_NAMES.get(metric, heading)
            lines.append(f"  {name:<10} {ends:<23} ({100 * interval.level:g} %)")
    return lines


def describe_comparison(comparison: Comparison) -> list[str]:
    """Intervals of several systems' metrics, and the differences between them."""
    names = list(comparison.intervals)
    shown = [column for column in SHOWN if comparison.intervals[names[0]][column[0]] is not None]
    rows = [
        [name, *(_ends(comparison.intervals[name][metric], factor) for metric, _, factor in shown)] for name in names
    ]
    lines = [f"95 % intervals ({comparison.replicates} draws of the {_HOW})"]
    lines += [*text_table(["", *(heading for _, heading, _ in shown)], rows), ""]
    headings = {metric: (heading, factor) for metric, heading, factor in SHOWN}
    # Of two systems there is one pair, and nothing to correct for.
    header = ["", "metric", "difference", "95 % interval", "p", "p (Holm)"][: 6 if len(names) > 2 else 5]
    rows = []
    for one in comparison.differences:
        heading, factor = headings[one.metric]
        numbers = [f"{factor * one.difference:+.4f}", _ends(one.interval, factor), f"{one.p:.4f}", f"{one.p_holm:.4f}"]
        rows.append([f"{one.first} - {one.second}", heading, *numbers][: len(header)])
    lines.append("differences, first minus second (below 0: the first is better), by the same draws")
    return lines + text_table(header, rows)


def describe_breakdowns(breakdowns: Mapping[str, Breakdown]) -> list[str]:
    """Metrics by the values of a column, a group a line; of several systems their EERs, then their minDCFs.

    Last comes why there are groups without metrics: a reason, and all groups that have it.
    """
    first = next(iter(breakdowns.values()))
    against = "all bona fide trials" if first.all_bonafide else "the bona fide trials of the same group"
    lines = [f"by {first.column}, spoofed trials against {against}"]
    alone = len(breakdowns) == 1
    for metrics in [SHOWN[:2]] if alone else [SHOWN[:1], SHOWN[1:2]]:
        header = [first.column, "bona fide", "spoofed"]
        header += [heading if alone else f"{heading} {name}" for name in breakdowns for _, heading, _ in metrics]
        rows = []
        for same in zip(*(breakdown.groups for breakdown in breakdowns.values()), strict=True):
            values = [_number(getattr(one, metric), factor) for one in same for metric, _, factor in metrics]
            rows.append([_clipped(same[0].name), str(same[0].n_bonafide), str(same[0].n_spoof), *values])
        lines += [*([""] if len(lines) > 1 else []), *text_table(header, rows)]
    for reason in sorted({group.reason for group in first.groups} - {""}):
        names = ", ".join(group.name for group in first.groups if group.reason == reason)
        lines += textwrap.wrap(f"n/a, {reason}: {names}", WIDTH, subsequent_indent="  ")
    return lines


def describe_rates(systems: Mapping[str, FixedThreshold]) -> list[str]:
    """Several systems' rates at one threshold, a system a line."""
    threshold = next(iter(systems.values())).threshold
    rows = [[name, *(_number(getattr(one, rate), 100) for rate, _ in RATES)] for name, one in systems.items()]
    lines = [f"at threshold {threshold_text(threshold)}: a score above it is accepted as bona fide"]
    return lines + text_table(["", *(f"{title} %" for _, title in RATES)], rows)


def describe_rates_by(column: str, groups: Mapping[str, FixedThreshold], system: str = "") -> list[str]:
    """Rates at a threshold by the values of a column, a group a line."""
    rows = [
        [_clipped(name), str(one.n_bonafide), str(one.n_spoof), _number(one.frr, 100), _number(one.far, 100)]
        for name, one in groups.items()
    ]
    header = [column, "bona fide", "spoofed", "FRR %", "FAR %"]
    return [f"by {column}{f', {system}' if system else ''}, at the same threshold", *text_table(header, rows)]


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _ends(interval: Interval | None, factor: int) -> str:
    return "n/a" if interval is None else f"{factor * interval.low:.4f} to {factor * interval.high:.4f}"


def _number(value: float | None, factor: int) -> str:
    return "n/a" if value is None else f"{factor * value:.4f}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left, the others to the right.

    Columns that do not fit into `WIDTH` follow in blocks below, each with the first column again.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines: list[str] = []
    start = 1
    while start < len(widths):
        stop, used = start, widths[0]
        while stop < len(widths) and (stop == start or used + 2 + widths[stop] <= WIDTH):
            used += 2 + widths[stop]
            stop += 1
        lines += [""] if lines else []
        for row in (header, *rows):
            cells = [f"  {cell:>{width}}" for cell, width in zip(row[start:stop], widths[start:stop], strict=True)]
            lines.append(f"{row[0]:<{widths[0]}}{''.join(cells)}".rstrip())
        start = stop
    return lines
