"""`s2pecnet evaluate`: metrics of score files, their intervals, breakdowns and comparisons."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import check_output, make_parser
from s2pecnet.conventions import SUBSETS
from s2pecnet.errors import InputError

_EXAMPLES = """examples:
  %(prog)s --cm exp_result/AASIST/eval_scores.txt \\
      --asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
  %(prog)s --cm eval_scores.txt --calibrate-on dev_scores.txt --bootstrap 1000
  %(prog)s --cm eval_scores.txt --by codec --table trial_metadata.tsv
  %(prog)s --cm A.txt --cm B.txt --names A,B
  %(prog)s --cm scores.txt --keys trial_metadata.txt --threshold -1.5
  %(prog)s --sasv track2_scores.tsv --keys track2_keys.tsv
"""


def main(argv: Sequence[str] | None = None, prog: str = "python evaluation.py") -> int:
    """Print the metrics of score files; see `s2pecnet evaluate --help`."""
    options = build_parser(prog).parse_args(argv)
    _check_options(options)
    inputs = [*(options.cm or ()), *(options.calibrate_on or ()), options.sasv, options.asv]
    check_output(options.output, [*inputs, options.keys, options.calibrate_keys, options.table])
    import json

    from s2pecnet.files import atomic_write
    from s2pecnet.reporting.evaluation import Request, report_sasv, report_scores

    if options.sasv:
        content, lines = report_sasv(options.sasv, options.keys, options.bootstrap)
    else:
        request = Request(
            cm=options.cm,
            names=system_names(options),
            asv=options.asv,
            llr=options.llr,
            calibrate_on=options.calibrate_on or (),
            by=options.by,
            table=options.table,
            replicates=options.bootstrap,
            keys=options.keys,
            calibrate_keys=options.calibrate_keys,
            subset=options.subset,
            threshold=options.threshold,
        )
        content, lines = report_scores(request)
    text = json.dumps(content, indent=2) if options.json else "\n".join(lines)
    if options.output:
        with atomic_write(options.output) as stream:
            stream.write(text + "\n")
    print(text)
    return 0


def system_names(options: argparse.Namespace) -> list[str]:
    """What the systems are called: --names, or the shortest part of their paths in which all differ."""
    if options.names:
        return [name.strip() for name in options.names.split(",")]
    paths = [Path(path) for path in options.cm]
    for candidates in ([path.name.split(".")[0] for path in paths], [path.absolute().parent.name for path in paths]):
        if all(candidates) and len(set(candidates)) == len(paths):
            return candidates
    return [str(path) for path in options.cm]


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that cannot be combined."""
    if options.sasv:
        given = [
            name
            for name in ("cm", "asv", "llr", "calibrate_on", "calibrate_keys", "table", "by", "names")
            if getattr(options, name)
        ]
        given += ["threshold"] if options.threshold is not None else []
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} does not go with --sasv, whose file has all scores")
        return
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise InputError(f"--threshold {options.threshold}: expected a finite number, a score")
    options.by = options.by or []
    if options.by not in ([], ["attack"]) and options.table is None:
        options.table = options.keys
    if options.table is not None and not options.by:
        raise InputError("--table needs --by COLUMN, a column of it by name, or by number where it has no names")
    others = [column for column in options.by if column not in ("attack", "corpus")]
    if options.table is None and others:
        raise InputError(
            f"--by {others[0]} needs --table FILE, a table that has this column; without it: --by attack, and --by "
            "corpus where a run had several"
        )
    if len({column.isdecimal() for column in options.by}) > 1:
        raise InputError(f"--by {', '.join(options.by)}: expected names of columns or numbers, not both")
    if options.llr and options.calibrate_on:
        raise InputError("--llr and --calibrate-on: expected one of them; ratios need no calibration")
    if options.calibrate_keys and not options.calibrate_on:
        raise InputError("--calibrate-keys are the keys of --calibrate-on, which is missing")
    if options.calibrate_on and len(options.calibrate_on) != len(options.cm):
        raise InputError(f"{len(options.calibrate_on)} --calibrate-on, expected one for each of {len(options.cm)} --cm")
    names = system_names(options)
    if len(names) != len(options.cm) or len(set(names)) != len(names) or not all(names):
        raise InputError(f"names {', '.join(names)}: expected a different name for each of {len(options.cm)} --cm")


def build_parser(prog: str = "python evaluation.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog,
        "EER, minDCF, actDCF, Cllr, min t-DCF, t-EER and a-DCF of score files, with intervals, tables and "
        "tests.\nWhat each metric means: docs/evaluation.md",
        _EXAMPLES,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    add_source = source.add_argument
    add_source("--cm", action="append", metavar="SCORES",
        help="scores, 'utterance attack key score' a line, or with --keys 'utterance score'; higher = bona fide; "
        "compares several")  # fmt: skip
    add_source("--sasv", metavar="TABLE",
        help="scores of ASVspoof 5 track 2: columns filename, cm-score, asv-score, sasv-score, key")  # fmt: skip
    add("--asv", metavar="ASV", help="the organisers' ASV scores, 'source key score' a line; without them no t-DCF")
    add("--keys", metavar="FILE",
        help="keys of the trials: for --cm a protocol (ASVspoof2019, 2021, 5) or a table with columns such as filename "
        "and label; for --sasv a table with columns filename, asv-label")  # fmt: skip
    add("--subset", choices=(*SUBSETS, "all"),
        help="trials of --keys that count where it has subsets, as ASVspoof2021 (default: eval)")  # fmt: skip
    add("--threshold", type=float, metavar="SCORE",
        help="FAR, FRR, accuracy and balanced error too, where scores above it are accepted; of trials of one class "
        "these alone")  # fmt: skip
    add("--llr", action="store_true", help="the scores are log-likelihood ratios (natural logarithm): actDCF, Cllr")
    add("--calibrate-on", action="append", metavar="DEV_SCORES",
        help="make ratios of the scores by a line fitted on these dev scores; one for each --cm")  # fmt: skip
    add("--calibrate-keys", metavar="FILE", help="keys of --calibrate-on, as --keys")
    add("--by", action="append", metavar="COLUMN",
        help="metrics by this column (default: attack); corpus, of runs that had several; with --table any column of "
        "it, by name or number")  # fmt: skip
    add("--table", metavar="FILE", help="facts about the trials: CSV, TSV or spaces, one column names the utterances")
    add("--names", metavar="A,B", help="what to call the systems (default: from their paths)")
    add("--bootstrap", type=int, metavar="N",
        help="95 %% intervals from N bootstrap replicates (always, for several --cm: 1000)")  # fmt: skip
    add("--json", action="store_true", help="print JSON (rates as fractions) instead of text")
    add("--output", metavar="FILE", help="write what is printed to this file too")
    return parser
