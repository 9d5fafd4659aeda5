"""The HTML report: one file with the metrics of a run, or of several side by side.

The file holds everything it shows, audio included, and asks no network for anything. `docs/report.md` describes it;
its parts are in `html/`.
"""

from collections.abc import Sequence
from pathlib import Path

from s2pecnet.conventions import RUN_FILES
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.reporting.html.page import page
from s2pecnet.reporting.html.runs import Run


def write_report(runs: Sequence[Run], output: Path) -> None:
    """Write the report of one run, or of several side by side; the file appears when it is complete.

    Raises:
        InputError: no run.
        OSError: the file cannot be written.
    """
    if not runs:
        raise InputError("no run to report, expected at least one")
    with atomic_write(output, "wb") as stream:
        # A path may hold what is no text; that must not keep the rest from being shown.
        stream.write(page(runs).encode("utf-8", "replace"))


def usual_output(runs: Sequence[Path]) -> Path:
    """Where the report of these runs goes by default: into the folder of a single run, else where the command runs."""
    name = RUN_FILES["report"]
    return runs[0] / name if len(runs) == 1 and runs[0].is_dir() else Path(name)
