"""Lines of figures for people: each task has columns of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.runs import PROCESSOR

FIRST, NARROWEST = 18, 7

Cells = dict[str, str]


class Table:
    """Prints rows as they come, under a line of headings wherever those change."""

    def __init__(self) -> None:
        self.headings: list[str] = []

    def add(self, cells: Cells) -> None:
        """Print a row: text by heading; the first column is flush left."""
        if list(cells) != self.headings:
            self.headings = list(cells)
            print("\n" + self._line(self.headings))
        print(self._line(cells.values()), flush=True)

    def _line(self, texts: Iterable[str]) -> str:
        first, *others = texts
        widths = (max(NARROWEST, len(heading)) for heading in self.headings[1:])
        return " ".join([f"{first:{FIRST}}", *(f"{text:>{width}}" for text, width in zip(others, widths, strict=True))])


def compute_cells(row: Mapping[str, Any]) -> Cells:
    """Of score and train: rates, their ratio, the achieved GFLOP/s against the ceiling, memory."""
    yardstick = row["yardstick"]
    ours, theirs = row["ways"]["ours"], row["ways"][yardstick]
    return {
        "system": row["subject"],
        "task": row["task"],
        "ours utt/s": f"{ours['utterances_per_second']:.2f}",
        f"{yardstick} utt/s": f"{theirs['utterances_per_second']:.2f}",
        "ratio": _ratio(ours),
        "lowest-highest": _spread(ours),
        "cpu ratio": f"{ours['processor_ratio']:.2f}x",
        "GFLOP/utt": f"{row['gflop_per_utterance']:.1f}",
        "GFLOP/s": f"{row['achieved_gflops']:.0f}",
        "ceiling": f"{ours['ceiling_gflops']:.0f}",
        "share": f"{100 * row['share_of_ceiling']:.0f} %",
        "cpu share": f"{100 * row['share_in_processor_time']:.0f} %" if "share_in_processor_time" in row else "-",
        "ours GiB": f"{ours['peak_GiB']:.2f}",
        f"{yardstick} GiB": f"{theirs['peak_GiB']:.2f}",
    }


def load_cells(row: Mapping[str, Any]) -> Cells:
    """Of load: rates of the three ways, their ratios to plain, and processor time without workers."""
    plain, ours, cached = (row["ways"][way] for way in ("plain", "ours", "cached"))
    cells = {
        "loader of": row["subject"],
        "workers": str(row["workers"]),
        "plain utt/s": f"{plain['utterances_per_second']:.1f}",
        "ours utt/s": f"{ours['utterances_per_second']:.1f}",
        "ratio": _ratio(ours),
        "cached utt/s": f"{cached['utterances_per_second']:.1f}",
        "cached ratio": _ratio(cached),
    }
    for name, figures in row["ways"].items():
        if PROCESSOR in figures:
            cells[f"{name} cpu ms"] = f"{1000 * figures[PROCESSOR]:.2f}"
    return cells


def seconds_cells(row: Mapping[str, Any]) -> Cells:
    """Of evaluate and start: seconds."""
    ours, plain = row["ways"]["ours"], row["ways"]["plain"]
    return {
        "task": row["task"],
        "ours s": f"{ours['seconds']:.3f}",
        "plain s": f"{plain['seconds']:.3f}",
        "ratio": _ratio(ours),
        "lowest-highest": _spread(ours),
        "ours cpu s": f"{ours[PROCESSOR]:.3f}",
        "plain cpu s": f"{plain[PROCESSOR]:.3f}",
    }


def memory_cells(row: Mapping[str, Any]) -> Cells:
    """Of memory: the peaks of the short and of the long list."""
    return {
        "task": "memory",
        "trials": str(row["trials"][0]),
        "peak GiB": f"{row['peak_GiB'][0]:.3f}",
        "long list": str(row["trials"][1]),
        "its peak GiB": f"{row['peak_GiB'][1]:.3f}",
        "bytes a trial": f"{row['bytes_per_trial']:.0f}",
    }


def profile_lines(figures: Mapping[str, Any], subject: str, task: str) -> list[str]:
    """The operators that take the most time, a line each."""
    lines = [f"{subject}, {task}: {figures['ms_per_utterance']:.1f} ms an utterance in operators, of which"]
    for row in figures["operators"]:
        shapes = " ".join("x".join(map(str, shape)) for shape in row["shapes"])
        lines.append(
            f"{100 * row['share']:6.1f} % {row['ms_per_utterance']:9.2f} ms {row['calls_per_batch']:6.0f} calls  "
            f"{row['operator']}  {shapes}".rstrip()
        )
    return lines


def _ratio(figures: Mapping[str, Any]) -> str:
    return f"{figures['ratio']:.2f}x"


def _spread(figures: Mapping[str, Any]) -> str:
    return f"{min(figures['ratios']):.2f}-{max(figures['ratios']):.2f}"
