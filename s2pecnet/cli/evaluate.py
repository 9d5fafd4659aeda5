"""Figures of spoofing countermeasures from their score files: the command line, and the functions users look for here.

    score files --read_cm_scores, read_asv_scores--> arrays --evaluate--> Metrics --> summary, JSON

What the figures are and their conventions: `error_rates` (DET curve, EER), `dcf` (minDCF, actDCF, Cllr), `tdcf`
(tandem detection cost), `sasv` (t-EER, a-DCF), `bootstrap` and `comparison` (intervals, differences), `breakdown`
(figures of parts of the trials); for users docs/evaluation.md. A countermeasure (CM) score is higher for bona fide
speech, a speaker verification (ASV) score is higher for the target speaker. Rates and EERs are fractions in [0, 1]; per
cent appear in texts, in `calculate_tDCF_EER`'s first value and under the key `eer_percent`.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2pecnet.cli.command import make_parser
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.metrics.bootstrap import Figures, bootstrap_intervals, intervals_as_dict
from s2pecnet.metrics.breakdown import ATTACK, Breakdown, break_down, join_values
from s2pecnet.metrics.comparison import compare
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.det import Floats
from s2pecnet.metrics.logistic import LinearMap, fit_logistic
from s2pecnet.metrics.sasv import TandemPoint, a_dcf_interval, compute_t_eer, evaluate_sasv, tandem_figures
from s2pecnet.reporting.text import (
    describe_breakdown,
    describe_breakdowns,
    describe_comparison,
    describe_intervals,
    describe_system,
    describe_systems,
)
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores
from s2pecnet.score_files.sasv import read_sasv_scores
from s2pecnet.score_files.tables import NamedColumns, read_named_columns

_REPLICATES = 1000
_EXAMPLES = """examples:
  %(prog)s --cm exp_result/AASIST/eval_scores.txt \\
      --asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
  %(prog)s --cm eval_scores.txt --calibrate-on dev_scores.txt --bootstrap 1000
  %(prog)s --cm eval_scores.txt --by codec --table trial_metadata.tsv
  %(prog)s --cm A.txt --cm B.txt --names A,B
  %(prog)s --sasv track2_scores.tsv --keys track2_keys.tsv
"""


# ---- command line ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _System:
    """One system's scores and what follows from them alone."""

    path: str
    cm: CMScores
    calibration: LinearMap | None
    llrs: Floats | None
    metrics: Metrics
    tandem: TandemPoint | None
    breakdowns: list[Breakdown]

    def as_dict(self) -> dict[str, Any]:
        breakdowns = [one.as_dict() for one in self.breakdowns]
        content = {**self.metrics.as_dict(), **tandem_figures(self.tandem), "breakdowns": breakdowns}
        if self.calibration is not None:
            content["calibration"] = {"slope": self.calibration.weights[0], "offset": self.calibration.offset}
        return content


def main(argv: Sequence[str] | None = None, prog: str = "python evaluation.py") -> int:
    """Print the figures of score files; see `python evaluation.py --help`."""
    options = build_parser(prog).parse_args(argv)
    _check_options(options)
    if options.sasv:
        content, lines = _report_sasv(options)
    else:
        asv = read_asv_scores(options.asv) if options.asv else None
        table = None
        if options.table is not None:
            table = read_named_columns(options.table, has_names=not options.by[0].isdecimal())
        systems = [_evaluate_file(place, asv, table, options) for place in range(len(options.cm))]
        content, lines = (_report_one if len(systems) == 1 else _report_several)(systems, asv, options)
    text = json.dumps(content, indent=2) if options.json else "\n".join(lines)
    if options.output:
        with atomic_write(options.output) as stream:
            stream.write(text + "\n")
    print(text)
    return 0


def _evaluate_file(
    place: int, asv: ASVScores | None, table: NamedColumns | None, options: argparse.Namespace
) -> _System:
    path = options.cm[place]
    cm = read_cm_scores(path)
    if cm.n_unscored:
        trials = f"{cm.n_unscored} trial{'s' if cm.n_unscored > 1 else ''}"
        print(f"warning: {path}: {trials} without a score, in none of the figures", file=sys.stderr)
    calibration, llrs = None, cm.scores if options.llr else None
    if options.calibrate_on:
        calibration = fit_logistic([read_cm_scores(options.calibrate_on[place])])
        llrs = calibration.of(cm.scores)
    tandem = None
    if asv is not None:
        tandem = compute_t_eer(cm.bonafide, cm.spoof, asv.target, asv.nontarget, asv.spoof)
    breakdowns = [_break_down(cm, column, table) for column in options.by]
    return _System(path, cm, calibration, llrs, evaluate(cm, asv, llrs), tandem, breakdowns)


def _break_down(cm: CMScores, column: str, table: NamedColumns | None) -> Breakdown:
    if table is None:
        return break_down(cm, cm.attacks, column)
    return break_down(cm, join_values(table, column, cm), f"column {column}" if column.isdecimal() else column)


def _report_one(
    systems: Sequence[_System], asv: ASVScores | None, options: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    (system,) = systems
    content, lines = system.as_dict(), describe_system(system.metrics, system.tandem)
    if system.calibration is not None:
        lines.append(f"LLR          {_shown(system.calibration)}, fitted on {Path(options.calibrate_on[0]).name}")
    for breakdown in system.breakdowns:
        lines += ["", *describe_breakdown(breakdown)]
    if options.bootstrap is not None:
        llrs = None if system.llrs is None else [system.llrs]
        intervals = bootstrap_intervals(
            [system.cm], asv, replicates=options.bootstrap, figures=Figures._fields, llrs=llrs
        )
        content["bootstrap"] = {"replicates": options.bootstrap, **intervals_as_dict(intervals)}
        lines += ["", *describe_intervals(intervals, options.bootstrap)]
    return content, lines


def _report_several(
    systems: Sequence[_System], asv: ASVScores | None, options: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    names = _names(options)
    llrs = [system.llrs for system in systems if system.llrs is not None]
    comparison = compare(
        [system.cm for system in systems],
        [system.metrics for system in systems],
        names,
        asv,
        llrs=llrs or None,
        replicates=_REPLICATES if options.bootstrap is None else options.bootstrap,
    )
    named = dict(zip(names, systems, strict=True))
    content = {
        "systems": {name: {"file": system.path, **system.as_dict()} for name, system in named.items()},
        "comparison": comparison.as_dict(),
    }
    tandem = {name: system.tandem for name, system in named.items() if system.tandem is not None}
    lines = describe_systems({name: system.metrics for name, system in named.items()}, tandem)
    for name, system in named.items():
        if system.calibration is not None:
            lines.append(f"LLR of {name}: {_shown(system.calibration)}")
    lines += ["", *describe_comparison(comparison)]
    for place in range(len(options.by)):
        lines += ["", *describe_breakdowns({name: system.breakdowns[place] for name, system in named.items()})]
    return content, lines


def _shown(calibration: LinearMap) -> str:
    return f"{calibration.weights[0]:.6g} * score {calibration.offset:+.6g}"


def _report_sasv(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    scores = read_sasv_scores(options.sasv, options.keys)
    metrics = evaluate_sasv(scores)
    content, lines = dataclasses.asdict(metrics), metrics.lines()
    if options.bootstrap is not None:
        if scores.sasv is None:
            raise InputError(f"{options.sasv}: no sasv-score, and --bootstrap here is of the a-DCF, which needs it")
        sasv = scores.by_class(scores.sasv)
        interval = a_dcf_interval(sasv.target, sasv.nontarget, sasv.spoof, replicates=options.bootstrap)
        content["bootstrap"] = {"replicates": options.bootstrap, "min_a_dcf": dataclasses.asdict(interval)}
        ends = f"{interval.low:8.4f} to {interval.high:8.4f}"
        lines += ["", f"bootstrap interval ({options.bootstrap} draws of the trials)"]
        lines += [f"  min a-DCF  {ends:<23} ({100 * interval.level:g} %)"]
    return content, lines


def _names(options: argparse.Namespace) -> list[str]:
    """What the systems are called: --names, or what tells their files apart."""
    if options.names:
        return [name.strip() for name in options.names.split(",")]
    paths = [Path(path) for path in options.cm]
    for candidates in ([path.name.split(".")[0] for path in paths], [path.absolute().parent.name for path in paths]):
        if all(candidates) and len(set(candidates)) == len(paths):
            return candidates
    return [str(path) for path in options.cm]


def _check_options(options: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    if options.sasv:
        given = [
            name for name in ("cm", "asv", "llr", "calibrate_on", "table", "by", "names") if getattr(options, name)
        ]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} does not go with --sasv, whose file has all scores")
        return
    if options.keys:
        raise InputError("--keys goes with --sasv: a CM score file has its keys in it")
    if options.table is not None and not options.by:
        raise InputError("--table needs --by COLUMN, a column of it by name, or by number where it has no names")
    options.by = options.by or [ATTACK]
    if options.table is None and options.by != [ATTACK]:
        raise InputError(
            f"--by {options.by[0]} needs --table FILE, a table that has this column; without it: --by attack"
        )
    if len({column.isdecimal() for column in options.by}) > 1:
        raise InputError(f"--by {', '.join(options.by)}: expected names of columns or numbers, not both")
    if options.llr and options.calibrate_on:
        raise InputError("--llr and --calibrate-on: expected one of them; ratios need no calibration")
    if options.calibrate_on and len(options.calibrate_on) != len(options.cm):
        raise InputError(f"{len(options.calibrate_on)} --calibrate-on, expected one for each of {len(options.cm)} --cm")
    names = _names(options)
    if len(names) != len(options.cm) or len(set(names)) != len(names) or not all(names):
        raise InputError(f"names {', '.join(names)}: expected a different name for each of {len(options.cm)} --cm")


def build_parser(prog: str = "python evaluation.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog,
        "EER, minDCF, actDCF, Cllr, min t-DCF, t-EER and a-DCF of score files, with intervals, tables and "
        "tests.\nWhat each figure means: docs/evaluation.md",
        _EXAMPLES,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    add_source = source.add_argument
    add_source("--cm", action="append", metavar="SCORES",
        help="scores, 'utterance attack key score' a line, higher = bona fide; compares several")  # fmt: skip
    add_source("--sasv", metavar="TABLE",
        help="scores of ASVspoof 5 track 2: columns filename, cm-score, asv-score, sasv-score, key")  # fmt: skip
    add("--asv", metavar="ASV", help="the organisers' ASV scores, 'source key score' a line; without them no t-DCF")
    add("--keys", metavar="TABLE", help="the keys for --sasv: a table with columns filename, asv-label")
    add("--llr", action="store_true", help="the scores are log-likelihood ratios (natural logarithm): actDCF, Cllr")
    add("--calibrate-on", action="append", metavar="DEV_SCORES",
        help="make ratios of the scores by a line fitted on these dev scores; one for each --cm")  # fmt: skip
    add("--by", action="append", metavar="COLUMN",
        help="figures by this column (default: attack); with --table any column of it, by name or number")  # fmt: skip
    add("--table", metavar="FILE", help="facts about the trials: CSV, TSV or spaces, one column names the utterances")
    add("--names", metavar="A,B", help="what to call the systems (default: what tells their files apart)")
    add("--bootstrap", type=int, metavar="N",
        help=f"95 %% intervals from N bootstrap replicates (always, for several --cm: {_REPLICATES})")  # fmt: skip
    add("--json", action="store_true", help="print JSON (rates as fractions) instead of text")
    add("--output", metavar="FILE", help="write what is printed to this file too")
    return parser
