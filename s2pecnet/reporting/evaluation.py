"""What `s2pecnet evaluate` says of score files: a dictionary for JSON, and lines for people.

report_scores    metrics of one system, or of several side by side, with breakdowns, intervals and tests
report_sasv      metrics of a track-2 score file of ASVspoof 5
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import METRICS, bootstrap_intervals, intervals_as_dict
from s2pecnet.metrics.breakdown import MOST_GROUPS, Breakdown, break_down, join_values, of_score_file, rates_by_value
from s2pecnet.metrics.comparison import compare
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.det import Floats
from s2pecnet.metrics.fixed_threshold import FixedThreshold
from s2pecnet.metrics.logistic import LinearMap, fit_logistic
from s2pecnet.metrics.sasv import TandemPoint, a_dcf_interval, compute_t_eer, evaluate_sasv, tandem_as_dict
from s2pecnet.reporting.text import (
    describe_breakdowns,
    describe_comparison,
    describe_intervals,
    describe_rates,
    describe_rates_by,
    describe_systems,
)
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, align_trials, common_trials, read_asv_scores
from s2pecnet.score_files.joined import KeyList, read_keys, read_scores
from s2pecnet.score_files.sasv import read_sasv_scores
from s2pecnet.score_files.tables import read_named_columns, read_numbered_columns

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
        by: columns to break the metrics down by; all names, or all numbers of a table without names; empty: attack,
            if there are not too many.
        table: the file that has these columns; None: attack and corpus, which score files have.
        replicates: of the bootstrap; None: no intervals of a single system.
        keys: the file that has the trials' keys; None: the score files have them.
        calibrate_keys: the same of `calibrate_on`.
        subset: which trials of keys with subsets count, one of `conventions.SUBSETS`, or "all"; None: as "eval".
        threshold: rates at this score too; trials of one class then have these alone.
    """

    cm: Sequence[str]
    names: Sequence[str]
    asv: str | None = None
    llr: bool = False
    calibrate_on: Sequence[str] = ()
    by: Sequence[str] = ()
    table: str | None = None
    replicates: int | None = None
    keys: str | None = None
    calibrate_keys: str | None = None
    subset: str | None = None
    threshold: float | None = None


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

    at: FixedThreshold | None

    def as_dict(self) -> dict[str, Any]:
        breakdowns = [one.as_dict() for one in self.breakdowns]
        content = {**self.metrics.as_dict(), **tandem_as_dict(self.tandem), "breakdowns": breakdowns}
        content["remarks"] = self.metrics.remarks()
        if self.at is not None:
            content["at_threshold"] = self.at.as_dict()
        if self.calibration is not None:
            content["calibration"] = {"slope": self.calibration.weights[0], "offset": self.calibration.offset}
        return content


def report_scores(request: Request) -> Report:
    """Metrics of the systems of a request.

    Raises:
        InputError: a file cannot be used, or the systems share no trials.
        OSError: a file cannot be read.
    """
    keys, calibrate_keys = (
        None if path is None else read_keys(path, request.subset) for path in (request.keys, request.calibrate_keys)
    )
    both = request.threshold is None
    read = [read_scores(path, keys, both_classes=both, llr=request.llr) for path in request.cm]
    scores = common_trials(read, request.names, both_classes=both)
    by, table = request.by, None
    if not by:
        attacks = max(np.unique(cm.attacks).size for cm in scores)
        by = ("attack",) if attacks <= MOST_GROUPS else ()
        if not by:
            log.info("%d attacks: no table of each of them", attacks)
        request = replace(request, by=by)
    if request.table is not None and by:
        table = (read_numbered_columns if by[0].isdecimal() else read_named_columns)(request.table)
    values = [
        [of_score_file(cm, column) if table is None else join_values(table, column, cm) for column in by]
        for cm in scores
    ]
    if request.threshold is not None and any(one.is_bonafide.all() or not one.is_bonafide.any() for one in scores):
        return _report_one_class(scores, values, request)
    asv = read_asv_scores(request.asv) if request.asv else None
    systems = [_evaluate(index, cm, values[index], asv, calibrate_keys, request) for index, cm in enumerate(scores)]
    return _report_one(systems[0], asv, request) if len(systems) == 1 else _report_several(systems, asv, request)


def _evaluate(
    index: int,
    cm: CMScores,
    values: Sequence[NDArray[np.str_]],
    asv: ASVScores | None,
    calibrate_keys: KeyList | None,
    request: Request,
) -> _System:
    calibration, llrs = None, cm.scores if request.llr else None
    if request.calibrate_on:
        calibration = fit_logistic([read_scores(request.calibrate_on[index], calibrate_keys)])
        llrs = calibration.of(cm.scores)
    tandem = None
    if asv is not None:
        tandem = compute_t_eer(cm.bonafide, cm.spoof, asv.target, asv.nontarget, asv.spoof)
    breakdowns = [break_down(cm, each, _title(column)) for each, column in zip(values, request.by, strict=True)]
    at = None if request.threshold is None else FixedThreshold.of(cm, request.threshold)
    return _System(request.cm[index], cm, calibration, llrs, evaluate(cm, asv, llrs), tandem, breakdowns, at)


def _title(column: str) -> str:
    return f"column {column}" if column.isdecimal() else column


def _report_one_class(
    scores: Sequence[CMScores], values: Sequence[Sequence[NDArray[np.str_]]], request: Request
) -> Report:
    """Rates at the threshold of trials that are all bona fide, or all spoofed."""
    assert request.threshold is not None
    align_trials(scores, request.names)
    needs_both = {"--asv": request.asv, "--llr": request.llr, "--calibrate-on": request.calibrate_on}
    unused = [option for option, value in (needs_both | {"--bootstrap": request.replicates}).items() if value]
    if unused:
        log.warning("%s: not used, as the trials are of one class", ", ".join(unused))
    systems: dict[str, dict[str, Any]] = {}
    rates: dict[str, FixedThreshold] = {}
    lines = []
    for name, path, cm, of_columns in zip(request.names, request.cm, scores, values, strict=True):
        at = rates[name] = FixedThreshold.of(cm, request.threshold)
        groups = [
            rates_by_value(cm, each, request.threshold, _title(column))
            for column, each in zip(request.by, of_columns, strict=True)
        ]
        breakdowns = [
            {"column": _title(column), "groups": [{"name": group, **one.as_dict()} for group, one in by.items()]}
            for column, by in zip(request.by, groups, strict=True)
        ]
        systems[name] = {
            **{"file": path, "eer": None, "n_bonafide": at.n_bonafide, "n_spoof": at.n_spoof},
            **{"n_unscored": cm.n_unscored, "at_threshold": at.as_dict(), "breakdowns": breakdowns, "remarks": []},
        }
        for column, by in zip(request.by, groups, strict=True):
            lines += ["", *describe_rates_by(_title(column), by, name if len(scores) > 1 else "")]
    first = next(iter(rates.values()))
    absent = "spoofed" if first.n_bonafide else "bona fide"
    head = [
        f"trials       {first.n_bonafide} bona fide, {first.n_spoof} spoofed",
        f"EER, minDCF  not defined: no {absent} trials",
        *(first.lines() if len(rates) == 1 else ["", *describe_rates(rates)]),
    ]
    return ({"systems": systems} if len(rates) > 1 else next(iter(systems.values()))), head + lines


def _report_one(system: _System, asv: ASVScores | None, request: Request) -> Report:
    content, lines = system.as_dict(), system.metrics.lines()
    lines += [] if system.tandem is None else [system.tandem.line()]
    if system.calibration is not None:
        lines.append(f"LLR          {_formula(system.calibration)}, fitted on {Path(request.calibrate_on[0]).name}")
    lines += [] if system.at is None else system.at.lines()
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
        lines += [f"note on {name}: {remark}" for remark in system.metrics.remarks()]
    rates = {name: system.at for name, system in named.items() if system.at is not None}
    lines += ["", *describe_rates(rates)] if rates else []
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
        content["bootstrap"] = {"replicates": replicates, **intervals_as_dict({"min_a_dcf": interval})}
        lines += ["", f"bootstrap interval ({replicates} draws of the trials)"]
        if interval is None:
            lines.append("  min a-DCF  n/a: all draws give the same, as of a system without errors")
        else:
            ends = f"{interval.low:8.4f} to {interval.high:8.4f}"
            lines.append(f"  min a-DCF  {ends:<23} ({100 * interval.level:g} %)")
    return content, lines
