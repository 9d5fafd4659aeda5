"""What `s2pecnet evaluate` says of score files: a dictionary for JSON, and lines for people.

report_scores    metrics of one system, or of several side by side, with breakdowns, intervals and tests
report_sasv      metrics of a track-2 score file of ASVspoof 5
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import METRICS, bootstrap_intervals, intervals_as_dict
from s2pecnet.metrics.breakdown import Breakdown, break_down, join_values
from s2pecnet.metrics.comparison import compare
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.det import Floats
from s2pecnet.metrics.logistic import LinearMap, fit_logistic
from s2pecnet.metrics.sasv import TandemPoint, a_dcf_interval, compute_t_eer, evaluate_sasv, tandem_as_dict
from s2pecnet.reporting.text import describe_breakdowns, describe_comparison, describe_intervals, describe_systems
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores
from s2pecnet.score_files.sasv import read_sasv_scores
from s2pecnet.score_files.tables import Table, read_named_columns, read_numbered_columns
from s2pecnet.text import counted

REPLICATES = 1000
log = logging.getLogger(__name__)

Report = tuple[dict[str, Any], list[str]]


@dataclass(frozen=True)
class Request:
    """What to report.

    Attributes:
        cm: score files, one for each system.
        names: what the systems are called, all different.
        asv: ASV score file; None: no t-DCF and no t-EER.
        llr: the scores are log-likelihood ratios.
        calibrate_on: dev score files, one for each system, or none.
        by: columns to break the metrics down by; all names, or all numbers of a table without names.
        table: the file that has these columns; None: the attack in the score file.
        replicates: of the bootstrap; None: no intervals of a single system.
    """

    cm: Sequence[str]
    names: Sequence[str]
    asv: str | None = None
    llr: bool = False
    calibrate_on: Sequence[str] = ()
    by: Sequence[str] = ("attack",)
    table: str | None = None
    replicates: int | None = None


@dataclass(frozen=True)
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
        content = {**self.metrics.as_dict(), **tandem_as_dict(self.tandem), "breakdowns": breakdowns}
        if self.calibration is not None:
            content["calibration"] = {"slope": self.calibration.weights[0], "offset": self.calibration.offset}
        return content


def report_scores(request: Request) -> Report:
    """Metrics of the systems of a request.

    Raises:
        InputError: a file cannot be used, or the systems cover different trials.
        OSError: a file cannot be read.
    """
    asv = read_asv_scores(request.asv) if request.asv else None
    table = None
    if request.table is not None:
        table = (read_numbered_columns if request.by[0].isdecimal() else read_named_columns)(request.table)
    systems = [_evaluate_file(index, asv, table, request) for index in range(len(request.cm))]
    return _report_one(systems[0], asv, request) if len(systems) == 1 else _report_several(systems, asv, request)


def _evaluate_file(index: int, asv: ASVScores | None, table: Table | None, request: Request) -> _System:
    path = request.cm[index]
    cm = read_cm_scores(path)
    if cm.n_unscored:
        log.warning("%s: %s without a score, not in the metrics", path, counted(cm.n_unscored, "trial"))
    calibration, llrs = None, cm.scores if request.llr else None
    if request.calibrate_on:
        calibration = fit_logistic([read_cm_scores(request.calibrate_on[index])])
        llrs = calibration.of(cm.scores)
    tandem = None
    if asv is not None:
        tandem = compute_t_eer(cm.bonafide, cm.spoof, asv.target, asv.nontarget, asv.spoof)
    breakdowns = [
        break_down(cm, cm.attacks, column)
        if table is None
        else break_down(cm, join_values(table, column, cm), f"column {column}" if column.isdecimal() else column)
        for column in request.by
    ]
    return _System(path, cm, calibration, llrs, evaluate(cm, asv, llrs), tandem, breakdowns)


def _report_one(system: _System, asv: ASVScores | None, request: Request) -> Report:
    content, lines = system.as_dict(), system.metrics.lines()
    lines += [] if system.tandem is None else [system.tandem.line()]
    if system.calibration is not None:
        lines.append(f"LLR          {_formula(system.calibration)}, fitted on {Path(request.calibrate_on[0]).name}")
    for breakdown in system.breakdowns:
        lines += ["", *describe_breakdowns({"": breakdown})]
    if request.replicates is not None:
        llrs = None if system.llrs is None else [system.llrs]
        intervals = bootstrap_intervals([system.cm], asv, replicates=request.replicates, metrics=METRICS, llrs=llrs)
        content["bootstrap"] = {"replicates": request.replicates, **intervals_as_dict(intervals)}
        lines += ["", *describe_intervals(intervals, request.replicates)]
    return content, lines


def _report_several(systems: Sequence[_System], asv: ASVScores | None, request: Request) -> Report:
    llrs = [system.llrs for system in systems if system.llrs is not None]
    comparison = compare(
        [system.cm for system in systems],
        [system.metrics for system in systems],
        request.names,
        asv,
        llrs=llrs or None,
        replicates=REPLICATES if request.replicates is None else request.replicates,
    )
    named = dict(zip(request.names, systems, strict=True))
    content = {
        "systems": {name: {"file": system.path, **system.as_dict()} for name, system in named.items()},
        "comparison": comparison.as_dict(),
    }
    tandem = {name: system.tandem for name, system in named.items() if system.tandem is not None}
    lines = describe_systems({name: system.metrics for name, system in named.items()}, tandem)
    for name, system in named.items():
        if system.calibration is not None:
            lines.append(f"LLR of {name}: {_formula(system.calibration)}")
    lines += ["", *describe_comparison(comparison)]
    for index in range(len(request.by)):
        lines += ["", *describe_breakdowns({name: system.breakdowns[index] for name, system in named.items()})]
    return content, lines


def _formula(calibration: LinearMap) -> str:
    return f"{calibration.weights[0]:.6g} * score {calibration.offset:+.6g}"


def report_sasv(path: str, keys: str | None = None, replicates: int | None = None) -> Report:
    """Metrics of a track-2 score file.

    Args:
        keys: a table with the keys of the trials; None: the score file has them.
        replicates: of the bootstrap of the a-DCF; None: no interval.

    Raises:
        InputError: a file cannot be used.
        OSError: a file cannot be read.
    """
    scores = read_sasv_scores(path, keys)
    metrics = evaluate_sasv(scores)
    content, lines = metrics.as_dict(), metrics.lines()
    if replicates is not None:
        if scores.sasv is None:
            raise InputError(f"{path}: no sasv-score, and --bootstrap here is of the a-DCF, which needs it")
        sasv = scores.by_class(scores.sasv)
        interval = a_dcf_interval(sasv.target, sasv.nontarget, sasv.spoof, replicates)
        content["bootstrap"] = {"replicates": replicates, "min_a_dcf": interval.as_dict()}
        ends = f"{interval.low:8.4f} to {interval.high:8.4f}"
        lines += ["", f"bootstrap interval ({replicates} draws of the trials)"]
        lines += [f"  min a-DCF  {ends:<23} ({100 * interval.level:g} %)"]
    return content, lines
