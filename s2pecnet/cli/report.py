"""`s2pecnet report`: an HTML page of a run, or of several side by side."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import check_output, make_parser

log = logging.getLogger(__name__)

EXAMPLES = """examples:
  %(prog)s exp_result/LA_AASIST_ep100_bs24 --database_path LA
  %(prog)s exp_result/LA_S2pecNet_ep100_bs14 exp_result/LA_AASIST_ep100_bs24 --output compared.html
  %(prog)s scores.txt --asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet report") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    from s2pecnet.conventions import RUN_FILES
    from s2pecnet.reporting.html.runs import read_runs
    from s2pecnet.reporting.report import usual_output, write_report

    output = arguments.output or usual_output(arguments.runs)
    names = [name for name in RUN_FILES.values() if name != RUN_FILES["report"]]
    for run in arguments.runs:
        folders = (run / RUN_FILES[name] for name in ("weights", "states"))
        own = [
            *(run / name for name in names),
            *run.glob("*.txt"),
            *(file for one in folders for file in one.glob("*")),
        ]
        check_output(output, own if run.is_dir() else [run])
    runs = read_runs(arguments.runs, arguments.asv, arguments.database_path)
    if arguments.database_path is None and any(run.record for run in runs):
        log.info("without audio and ASV scores of the corpus; --database_path DIR puts those below DIR into the page")
    write_report(runs, output)
    print(f"report in {output}")
    return 0


def build_parser(prog: str = "s2pecnet report") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Write a self-contained HTML report of a run, or of several side by side.", EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a score file")
    add("--output", type=Path, metavar="FILE",
        help="the report (default: report.html in the folder of the run; of several, here)")  # fmt: skip
    add("--asv", type=Path, metavar="FILE", help="ASV scores of eval, for runs whose own are not found")
    add("--database_path", type=Path, metavar="DIR",
        help="the corpus: audio and ASV scores below it are put into the page, and none from elsewhere")  # fmt: skip
    return parser
