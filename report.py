"""A report that people look at: one HTML file with the figures of a run, or of several side by side.

    python report.py exp_result/LA_AASIST_ep100_bs24                   writes report.html into that folder
    python report.py exp_result/LA_*_seed[123] --output seeds.html     compares runs
    python report.py scores.txt --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt

The file holds everything it shows, audio included, and asks no network for anything. What a run does not tell, and what
is not on this machine (the corpus, ASV scores), is left out, and the report says so. `docs/report.md` describes it; the
parts are in `reporting/`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from commands import make_parser
from errors import InputError, run_command

EXAMPLES = """examples:
  python report.py exp_result/LA_AASIST_ep100_bs24
  python report.py exp_result/LA_S2pecNet_ep100_bs14 exp_result/LA_AASIST_ep100_bs24 --output compared.html
  python report.py scores.txt --asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
"""


def main(argv: Sequence[str] | None = None, prog: str = "report.py") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    output = arguments.output or _usual_output(arguments.runs)
    write_report(arguments.runs, output, asv=arguments.asv, database_path=arguments.database_path)
    print(f"report in {output}")
    return 0


def build_parser(prog: str = "report.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Write a self-contained HTML report of a run, or of several side by side.", EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a score file")
    add("--output", type=Path, metavar="FILE",
        help="the report (default: report.html in the folder of the run; of several, here)")  # fmt: skip
    add("--asv", type=Path, metavar="FILE", help="ASV scores of eval, for runs whose own are not found")
    add("--database_path", type=Path, metavar="DIR",
        help="where the corpus with audio and ASV scores lies here (default: where the run found it)")  # fmt: skip
    return parser


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
    from files import whole_file
    from reporting.page import page
    from reporting.runs import read_runs

    if not runs:
        raise InputError("no run to report, expected at least one")
    document = page(read_runs(runs, asv, database_path))
    with whole_file(output, "wb") as stream:
        # A path may hold what is no text; that must not keep the rest from being shown.
        stream.write(document.encode("utf-8", "replace"))


def _usual_output(runs: Sequence[Path]) -> Path:
    return runs[0] / "report.html" if len(runs) == 1 and runs[0].is_dir() else Path("report.html")


if __name__ == "__main__":
    run_command(main)
