"""`s2pecnet calibrate`: log-likelihood ratios and thresholds from dev scores."""

import argparse
import logging
import os
from collections.abc import Sequence

from s2pecnet.cli.command import check_output, make_parser
from s2pecnet.conventions import SUBSETS
from s2pecnet.text import printable

log = logging.getLogger(__name__)

EXAMPLES = """examples:
  %(prog)s --cm exp_result/LA_AASIST_ep100_bs24/dev_scores.txt --output calibration.json
  s2pecnet predict --config AASIST --weights AASIST.pth --calibration calibration.json clips/
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet calibrate") -> int:
    """Fit on a score file; see `s2pecnet calibrate --help`."""
    arguments = build_parser(prog).parse_args(argv)
    from s2pecnet.files import write_json
    from s2pecnet.metrics.calibration import fit
    from s2pecnet.metrics.countermeasure import evaluate
    from s2pecnet.score_files.joined import read_keys, read_scores

    check_output(arguments.output, (arguments.cm, arguments.keys))
    keys = read_keys(arguments.keys, arguments.subset) if arguments.keys else None
    scores = read_scores(arguments.cm, keys)
    # A file's name need not be text.
    calibration = fit(scores, printable(os.fsencode(arguments.cm).decode("utf-8", "backslashreplace")))
    for remark in evaluate(scores).remarks():
        log.warning("%s: %s", arguments.cm, remark)
    if arguments.output:
        write_json(arguments.output, calibration.as_dict())
    print(calibration.summary())
    return 0


def build_parser(prog: str = "s2pecnet calibrate") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Fit log-likelihood ratios and thresholds on development scores, for s2pecnet predict.", EXAMPLES
    )
    add = parser.add_argument
    add("--cm", required=True, metavar="SCORES",
        help="scores of dev, 'utterance attack key score' a line, or with --keys 'utterance score'; higher = bona fide"
    )  # fmt: skip
    add(
        "--keys", metavar="FILE", help="keys of the trials: a protocol, or a table with columns such as filename, label"
    )
    add("--subset", choices=(*SUBSETS, "all"),
        help="trials of --keys that count where it has subsets (default: eval)")  # fmt: skip
    add("--output", metavar="FILE", help="write the calibration here, as JSON, for --calibration of the prediction")
    return parser
