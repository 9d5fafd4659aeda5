"""Texts of `s2pecnet evaluate`: metrics of systems, side by side or alone, within 100 columns.

Rates are fractions in what these functions take, and per cent in what they write.
"""

import textwrap
from collections.abc import Mapping, Sequence

from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.metrics.breakdown import Breakdown
from s2pecnet.metrics.comparison import Comparison, Difference
from s2pecnet.metrics.countermeasure import NO_LLRS, Metrics
from s2pecnet.metrics.sasv import TandemPoint

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
    rows = [
        [
            name,
            *(_number(getattr(metrics, metric), factor) for metric, _, factor in shown),
            *([_number(points[name].t_eer, 100)] if points else []),
        ]
        for name, metrics in systems.items()
    ]
    lines = [f"trials       {first.n_bonafide} bona fide, {first.n_spoof} spoofed", "", *_table(header, rows)]
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
    lines = [
        f"95 % intervals ({comparison.replicates} draws of the {_HOW})",
        *_table(["", *(heading for _, heading, _ in shown)], rows),
        "",
        "differences, first minus second (below 0: the first is better), by the same draws",
        *_table(*_difference_rows(comparison.differences, len(names) > 2)),
    ]
    return lines


def _difference_rows(differences: Sequence[Difference], corrected: bool) -> tuple[list[str], list[list[str]]]:
    headings = {metric: (heading, factor) for metric, heading, factor in SHOWN}
    header = ["", "metric", "difference", "95 % interval", "p", *(["p (Holm)"] if corrected else [])]
    rows = []
    for one in differences:
        heading, factor = headings[one.metric]
        p_values = [f"{one.p:.4f}", *([f"{one.p_holm:.4f}"] if corrected else [])]
        difference = f"{factor * one.difference:+.4f}"
        rows.append([f"{one.first} - {one.second}", heading, difference, _ends(one.interval, factor), *p_values])
    return header, rows


def describe_breakdown(breakdown: Breakdown) -> list[str]:
    """One system's metrics by the values of a column, a group a line."""
    header = [breakdown.column, "bona fide", "spoofed", "EER %", "minDCF"]
    rows = [
        [
            _short(group.name),
            str(group.n_bonafide),
            str(group.n_spoof),
            _number(group.eer, 100),
            _number(group.min_dcf, 1),
        ]
        for group in breakdown.groups
    ]
    return [_heading(breakdown), *_table(header, rows), *_reasons(breakdown)]


def describe_breakdowns(breakdowns: Mapping[str, Breakdown]) -> list[str]:
    """Several systems' EERs by the values of a column, a group a line, then their minDCFs."""
    first = next(iter(breakdowns.values()))
    lines = [_heading(first)]
    for metric, heading, factor in SHOWN[:2]:
        header = [first.column, "bona fide", "spoofed", *(f"{heading} {name}" for name in breakdowns)]
        groups = zip(*(breakdown.groups for breakdown in breakdowns.values()), strict=True)
        rows = [
            [_short(same[0].name), str(same[0].n_bonafide), str(same[0].n_spoof)]
            + [_number(getattr(group, metric), factor) for group in same]
            for same in groups
        ]
        lines += [*_table(header, rows), ""]
    return lines[:-1] + _reasons(first)


def _heading(breakdown: Breakdown) -> str:
    against = "all bona fide trials" if breakdown.all_bonafide else "the bona fide trials of the same group"
    return f"by {breakdown.column}, spoofed trials against {against}"


def _reasons(breakdown: Breakdown) -> list[str]:
    """Why there are groups without metrics: a reason, and all groups that have it."""
    lines = []
    for reason in sorted({group.reason for group in breakdown.groups} - {""}):
        names = ", ".join(group.name for group in breakdown.groups if group.reason == reason)
        lines += textwrap.wrap(f"n/a, {reason}: {names}", WIDTH, subsequent_indent="  ")
    return lines


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _ends(interval: Interval | None, factor: int) -> str:
    return "n/a" if interval is None else f"{factor * interval.low:.4f} to {factor * interval.high:.4f}"


def _number(value: float | None, factor: int) -> str:
    return "n/a" if value is None else f"{factor * value:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
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
