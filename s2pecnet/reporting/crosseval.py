"""A cross-evaluation as a table (text, CSV, Markdown, LaTeX, JSON) and as a picture.

A row is a corpus of a system; the rows `pooled` and `mean` come last. What is not defined is "-", an empty field in CSV
and null in JSON, never 0. Rates are per cent in texts, Markdown, LaTeX and the picture, and fractions in CSV and JSON.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.files import atomic_write
from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.metrics.crosseval import CALIBRATED, COLUMNS, OWN, SHARED, CrossEvaluation, Row
from s2pecnet.reporting.text import text_table
from s2pecnet.text import threshold_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POOLED, MEAN, ABSENT = "pooled", "mean", "-"
# Okabe and Ito's colours but for yellow, which is pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX"
_PANELS = (
    ("eer", "EER (%), own threshold"),
    ("frr", "FRR (%), shared threshold"),
    ("far", "FAR (%), shared threshold"),
)
_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def rows_of(found: CrossEvaluation) -> Iterator[tuple[str, str, Row]]:
    """(corpus, system, row) in the order of the table: the systems of a corpus beside each other."""
    for corpus in found.corpora:
        yield from ((corpus, name, rows[corpus]) for name, rows in found.rows.items() if corpus in rows)
    yield from ((POOLED, name, row) for name, row in found.pooled.items())
    yield from ((MEAN, name, row) for name, row in found.mean.items())


def as_text(found: CrossEvaluation) -> str:
    """Lines for people, within 100 columns."""
    alone = len(found.rows) == 1
    names = [corpus if alone else f"{corpus}, {system}" for corpus, system, _ in rows_of(found)]
    rows = [row for *_, row in rows_of(found)]
    lines = []
    for title, columns in _parts(found):
        shown = [column for column in columns if _has(found, column[0])]
        header = ["", "bona fide", "spoofed", "unscored", "threshold"] if columns is OWN else [""]
        cells = [
            [str(row.n_bonafide), str(row.n_spoof), str(row.n_unscored), _plain(row.eer_threshold)]
            if columns is OWN
            else []
            for row in rows
        ]
        lines.append(title)
        # A value and its interval stay in one block.
        while shown or len(header) > 1:
            block, shown = shown[: 2 if len(header) > 1 else 3], shown[2 if len(header) > 1 else 3 :]
            header += [part for _, heading, _ in block for part in (heading, "95 %")]
            for row, line in zip(rows, cells, strict=True):
                for name, _, factor in block:
                    line += [_number(row.values[name], factor), _ends(row.intervals[name], factor, " to ")]
            lines += [*text_table(header, [[name, *line] for name, line in zip(names, cells, strict=True)]), ""]
            header, cells = [""], [[] for _ in rows]
    return "\n".join([*lines, *notes_of(found)])


def notes_of(found: CrossEvaluation) -> list[str]:
    """What the numbers are of, a line each."""
    lines = []
    for name, shared in found.shared.items():
        what = f"threshold of {name}: " if len(found.rows) > 1 else "shared threshold "
        lines.append(
            f"{what}{threshold_text(shared.value)}, {shared.reason}; a score above it is accepted as bona fide"
        )
    without = [name for name in found.rows if name not in found.shared]
    if without:
        who = "" if not found.shared else f" for {', '.join(without)}"
        lines.append(f"no shared threshold{who}: give one by --threshold, --threshold-of or --calibration")
    if found.pooled:
        held = f", without {found.threshold_of}, which gave the threshold" if found.threshold_of else ""
        lines.append(f"pooled, mean of {', '.join(found.together)}{held}")
        counts = next(iter(found.mean.values())).n_corpora
        fewer = [
            f"{heading.removesuffix(' %')} of {counts[name]}"
            for name, heading, _ in COLUMNS
            if 0 < counts[name] < len(found.together)
        ]
        lines += [f"means of the corpora that have the metric: {', '.join(fewer)}"] if fewer else []
    lines.append(f"{ABSENT} not defined; 95 % intervals of the trials, {found.replicates} bootstrap draws")
    return lines


def as_json(found: CrossEvaluation) -> str:
    """The whole, rates as fractions, what is not defined null."""
    return json.dumps(found.as_dict(), indent=2, allow_nan=False)


def as_csv(found: CrossEvaluation) -> str:
    """A line a row, rates as fractions: the value of each metric, and the ends of its interval."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    metrics = [name for name, *_ in COLUMNS]
    ends = [part for name in metrics for part in (name, f"{name}_low", f"{name}_high")]
    writer.writerow(
        ["corpus", "system", "n_bonafide", "n_spoof", "n_unscored", "eer_threshold", "shared_threshold", *ends]
    )
    for corpus, system, row in rows_of(found):
        shared = found.shared.get(system)
        line: list[object] = [corpus, system, row.n_bonafide, row.n_spoof, row.n_unscored, row.eer_threshold]
        line.append(None if shared is None else shared.value)
        for name in metrics:
            interval = row.intervals[name]
            line += [row.values[name], *((None, None) if interval is None else (interval.low, interval.high))]
        writer.writerow(["" if value is None else value for value in line])
    return stream.getvalue().rstrip("\n")


def as_markdown(found: CrossEvaluation) -> str:
    """A table for READMEs and issues."""
    header, rows = _cells(found)
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    ruler = ["---", "---", *("---:" for _ in header[2:])]
    lines = [f"| {' | '.join(row)} |" for row in (header, ruler, *escaped)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes_of(found))])


def as_latex(found: CrossEvaluation) -> str:
    """A tabular for papers, with the rules of the package booktabs; the notes are comments below it."""
    header, rows = _cells(found)
    lines = [r"\begin{tabular}{ll" + "r" * (len(header) - 2) + "}", r"\toprule", _latex_row(header), r"\midrule"]
    for number, row in enumerate(rows):
        if row[0] in (POOLED, MEAN) and row[0] != (rows[number - 1][0] if number else ""):
            lines.append(r"\midrule")
        lines.append(_latex_row(row))
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in notes_of(found))])


FORMATS = {"text": as_text, "json": as_json, "csv": as_csv, "markdown": as_markdown, "latex": as_latex}


def save_picture(found: CrossEvaluation, path_png: str | os.PathLike[str]) -> None:
    """Draw EER, FRR and FAR over the corpora into one PNG: a line a corpus, a colour a system, intervals as bars.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    require("matplotlib", "report", "--plot")
    from matplotlib.figure import Figure

    panels = [panel for panel in _PANELS if _has(found, panel[0])] or list(_PANELS[:1])
    corpora, systems = [*found.corpora, *([POOLED, MEAN] if found.pooled else [])], list(found.rows)
    height = 1.8 + 0.28 * len(corpora) * max(1.3, 0.6 * len(systems))
    figure = Figure(figsize=(1.5 + 4 * len(panels), height), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels,
                                     strict=True):  # fmt: skip
        _draw_panel(axes, found, metric, corpora, systems)
        axes.set(xlabel=title, ylim=(len(corpora) - 0.5, -0.5))
        axes.set_xlim(left=0)
        axes.set_yticks(range(len(corpora)), corpora, parse_math=False)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    if len(systems) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(systems)), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    with atomic_write(path_png, "wb") as stream:
        figure.savefig(stream, format="png", dpi=130)


def _draw_panel(axes: "Axes", found: CrossEvaluation, metric: str, corpora: list[str], systems: list[str]) -> None:
    by_place = {(corpus, system): row for corpus, system, row in rows_of(found)}
    if found.pooled:
        axes.axhline(len(corpora) - 2.5, color="0.6", linewidth=0.8)
    for number, system in enumerate(systems):
        shift = 0.6 * ((number + 0.5) / len(systems) - 0.5)
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        # Drawn first, without a point, so that every panel has the same legend.
        axes.plot([], [], marker, color=colour, label=system)
        for place, corpus in enumerate(corpora):
            row = by_place.get((corpus, system))
            value = None if row is None else row.values[metric]
            if row is None or value is None:
                continue
            interval = row.intervals[metric]
            if interval is not None:
                ends = [100 * interval.low, 100 * interval.high]
                axes.plot(ends, [place + shift] * 2, color=colour, linewidth=1.4, alpha=0.6)
            axes.plot(100 * value, place + shift, marker, color=colour, markersize=6, clip_on=False, zorder=3)
    for place, corpus in enumerate(corpora):
        rows = [row for (name, _), row in by_place.items() if name == corpus]
        if all(row.values[metric] is None for row in rows):
            axes.text(0.02, place, "not defined", transform=axes.get_yaxis_transform(), va="center", color="0.5",
                      fontsize=9)  # fmt: skip


def _parts(found: CrossEvaluation) -> Iterator[tuple[str, tuple[tuple[str, str, int], ...]]]:
    yield "at each corpus' own threshold", OWN
    if any(_has(found, name) for name, *_ in SHARED):
        yield "at one threshold for all corpora", SHARED
    if any(_has(found, name) for name, *_ in CALIBRATED):
        yield "of the log-likelihood ratios, by one calibration for all corpora", CALIBRATED


def _has(found: CrossEvaluation, metric: str) -> bool:
    return any(row.values[metric] is not None for *_, row in rows_of(found))


def _cells(found: CrossEvaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of Markdown and LaTeX: a value and its interval are one cell."""
    shown = [column for column in COLUMNS if _has(found, column[0])]
    rows = []
    for corpus, system, row in rows_of(found):
        cells = [corpus, system, str(row.n_bonafide), str(row.n_spoof)]
        for name, _, factor in shown:
            interval = _ends(row.intervals[name], factor, ", ")
            cells.append(_number(row.values[name], factor) + ("" if interval == ABSENT else f" [{interval}]"))
        rows.append(cells)
    return ["corpus", "system", "bona fide", "spoofed", *(heading for _, heading, _ in shown)], rows


def _latex_row(cells: list[str]) -> str:
    escaped = (re.sub(r"[&%$#_{}\\~^]", lambda mark: _LATEX[mark[0]], cell) for cell in cells)
    return " & ".join("--" if cell == ABSENT else cell for cell in escaped) + r" \\"


def _number(value: float | None, factor: int) -> str:
    if value is None:
        return ABSENT
    return f"{factor * value:.2f}" if factor == 100 else f"{value:.4f}"


def _plain(value: float | None) -> str:
    return ABSENT if value is None else threshold_text(value)


def _ends(interval: Interval | None, factor: int, between: str) -> str:
    if interval is None:
        return ABSENT
    return f"{_number(interval.low, factor)}{between}{_number(interval.high, factor)}"


def check_picture(path: str) -> None:
    """Refuse a picture that could not be made, before anything long starts.

    Raises:
        InputError: the name does not end in .png, or matplotlib is not installed.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"--plot {path}: expected a name that ends in .png")
    require("matplotlib", "report", "--plot")
