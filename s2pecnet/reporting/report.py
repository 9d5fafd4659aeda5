"""A report that people look at: one HTML file with the figures of a run, or of several side by side.

    python report.py exp_result/LA_AASIST_ep100_bs24                   writes report.html into that folder
    python report.py exp_result/LA_*_seed[123] --output seeds.html     compares runs
    python report.py scores.txt --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt

The file holds everything it shows, audio included, and asks no network for anything. What a run does not tell, and what
is not on this machine (the corpus, ASV scores), is left out, and the report says so. `docs/report.md` describes it; the
parts are in `reporting/`.
"""

from collections.abc import Sequence
from pathlib import Path

from s2pecnet.errors import InputError


def write_report(
    runs: Sequence[Path], output: Path, *, asv: Path | None = None, database_path: Path | None = None
) -> None:
    """Write the report of one run, or of several side by side, whole or not at all.

    Args:
        runs: folders of runs, or score files; at least one.
        output: the HTML file.
        asv: ASV scores of eval, for runs whose own are not found.
        database_path: where the corpus lies on this machine; None: where each run found it.

    Raises:
        InputError: no run, or one whose files cannot be used.
        OSError: a file cannot be read or written.
    """
    from s2pecnet.files import whole_file
    from s2pecnet.reporting.html.page import page
    from s2pecnet.reporting.html.runs import read_runs

    if not runs:
        raise InputError("no run to report, expected at least one")
    document = page(read_runs(runs, asv, database_path))
    with whole_file(output, "wb") as stream:
        # A path may hold what is no text; that must not keep the rest from being shown.
        stream.write(document.encode("utf-8", "replace"))


def usual_output(runs: Sequence[Path]) -> Path:
    return runs[0] / "report.html" if len(runs) == 1 and runs[0].is_dir() else Path("report.html")
