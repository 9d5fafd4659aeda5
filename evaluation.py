"""Equal error rate (EER) and tandem detection cost (t-DCF) of a spoofing countermeasure.

    score files --read_cm_scores, read_asv_scores--> arrays --evaluate--> Metrics --> summary, JSON

Conventions
    A countermeasure (CM) score is higher for bona fide speech, a speaker verification (ASV) score
    is higher for the target speaker. Every trial's score is a threshold; a trial is accepted when it
    lies above it, so the threshold's own trial is rejected. Where scores are equal, bona fide (target)
    trials sort before spoofed (nontarget) ones: ties count against the system.
    Rates and EERs are fractions in [0, 1]; per cent appear in texts, in `calculate_tDCF_EER`'s
    first value and under the key `eer_percent`.

Score files (fields separated by spaces or tabs; also gzipped; empty lines carry no trial)
    CM   `utterance attack key score`, key bonafide | spoof, e.g. `LA_E_2834763 A11 spoof -4.556`
    ASV  `source key score`, key target | nontarget | spoof, e.g. `- target 7.981530`

Sources
    t-DCF: T. Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing
    countermeasures and automatic speaker verification", Odyssey 2018; in the form and with the
    costs of the ASVspoof 2019 evaluation plan ("legacy": the ASV threshold is fixed at the ASV's own
    EER, and the cost is normalised by the better of accepting all and rejecting all).
"""

import argparse
import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errors import InputError, run_command
from files import whole_file

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PathLike = str | os.PathLike[str]

ASVSPOOF2019_COST_MODEL: Mapping[str, float] = MappingProxyType({
    "Pspoof": 0.05,         # prior of a spoofing attack
    "Ptar": 0.95 * 0.99,    # prior of the target speaker
    "Pnon": 0.95 * 0.01,    # prior of another, honest speaker
    "Cmiss_asv": 1.0,       # cost of the ASV rejecting the target
    "Cfa_asv": 10.0,        # cost of the ASV accepting another speaker
    "Cmiss_cm": 1.0,        # cost of the CM rejecting bona fide speech
    "Cfa_cm": 10.0,         # cost of the CM accepting a spoof
})
_PRIORS = ("Pspoof", "Ptar", "Pnon")
_COSTS = ("Cmiss_asv", "Cfa_asv", "Cmiss_cm", "Cfa_cm")


# ---- error rates -------------------------------------------------------------------------------


def compute_det_curve(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Miss and false-alarm rate at every threshold (detection error trade-off).

    Args:
        target_scores: (T,) scores of the trials to accept, T >= 1.
        nontarget_scores: (N,) scores of the trials to reject, N >= 1.

    Returns:
        frr, far, thresholds: each (T + N + 1,). Point 0 accepts everything (frr 0, far 1, threshold
        0.001 below the smallest score); point k rejects the k lowest trials, and its threshold is the
        k-th lowest score. frr never falls, far never rises.

    Raises:
        InputError: one class is empty, not one-dimensional, or holds a value that is not finite.

    >>> frr, far, thresholds = compute_det_curve([2.0, 3.0], [1.0])
    >>> frr.tolist(), far.tolist(), thresholds.tolist()
    ([0.0, 0.0, 0.5, 1.0], [1.0, 0.0, 0.0, 0.0], [0.999, 1.0, 2.0, 3.0])
    """
    target = _checked_scores(target_scores, "target_scores")
    nontarget = _checked_scores(nontarget_scores, "nontarget_scores")
    scores, order = _sort_trials(target, nontarget)
    frr, far = _error_rates(order < target.size)
    return frr, far, _thresholds(scores)


def compute_eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> tuple[float, float]:
    """Equal error rate and its threshold.

    The EER is the mean of miss and false-alarm rate at the first threshold where they are closest.
    It is a fraction in [0, 1]; lower is better, 0.5 is chance. A strictly rising map of the scores
    leaves it as it is; swapping the classes and negating all scores does too, up to half a
    trial where two neighbouring thresholds are equally close.

    Args:
        target_scores: (T,) scores of the trials to accept, T >= 1.
        nontarget_scores: (N,) scores of the trials to reject, N >= 1.

    Raises:
        InputError: as `compute_det_curve`.

    >>> compute_eer([2.0, 3.0, 4.0], [-1.0, 0.0, 1.0])
    (0.0, 1.0)
    >>> compute_eer([0.0, 0.0], [0.0])  # ties count against the system
    (1.0, 0.0)
    """
    frr, far, thresholds = compute_det_curve(target_scores, nontarget_scores)
    point = _eer_point(frr, far)
    return _eer_at(frr, far, point), float(thresholds[point])


def obtain_asv_error_rates(tar_asv: ArrayLike, non_asv: ArrayLike, spoof_asv: ArrayLike,
                           asv_threshold: float) -> tuple[float, float, float | None]:
    """Error rates of the speaker verification at a fixed threshold; it accepts scores >= threshold.

    Args:
        tar_asv: (T,) ASV scores of target trials, T >= 1.
        non_asv: (N,) ASV scores of nontarget trials, N >= 1.
        spoof_asv: (S,) ASV scores of spoofed trials; may be empty.
        asv_threshold: the threshold, finite.

    Returns:
        Pfa_asv, the share of nontargets accepted; Pmiss_asv, the share of targets rejected; and
        Pmiss_spoof_asv, the share of spoofs rejected, None where there are no spoof scores.

    Raises:
        InputError: no target or nontarget score, or a value that is not finite.

    >>> obtain_asv_error_rates([1.0, 3.0], [0.0, 1.0, 2.0, 2.5], [0.0, 5.0], 2.0)
    (0.5, 0.5, 0.5)
    """
    if not math.isfinite(asv_threshold):
        raise InputError(f"asv_threshold is {asv_threshold}, expected a finite number")
    target = _checked_scores(tar_asv, "tar_asv")
    nontarget = _checked_scores(non_asv, "non_asv")
    spoof = _checked_scores(spoof_asv, "spoof_asv", may_be_empty=True)
    miss_spoof = float(np.mean(spoof < asv_threshold)) if spoof.size else None
    return float(np.mean(nontarget >= asv_threshold)), float(np.mean(target < asv_threshold)), miss_spoof


def _checked_scores(scores: ArrayLike, name: str, may_be_empty: bool = False) -> Floats:
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers ({error})") from error
    if array.ndim != 1:
        raise InputError(f"{name}: shape {array.shape}, expected one dimension")
    if not array.size and not may_be_empty:
        raise InputError(f"{name}: no scores, expected at least one")
    finite = np.isfinite(array)
    if not finite.all():
        place = int(np.argmin(finite))
        raise InputError(f"{name}[{place}] is {array[place]}, expected finite scores")
    return array


def _sort_trials(target: Floats, nontarget: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """All scores in rising order, and each one's place in (target, nontarget)."""
    scores = np.concatenate((target, nontarget))
    # Stable, so that of equal scores the targets keep their place before the nontargets.
    order = np.argsort(scores, kind="stable")
    return scores[order], order


def _error_rates(is_target: Bools) -> tuple[Floats, Floats]:
    """Miss and false-alarm rates, (n + 1,) each, of n trials in rising order of score."""
    targets_rejected = np.zeros(is_target.size + 1, dtype=np.int64)
    np.cumsum(is_target, out=targets_rejected[1:])
    n_targets = int(targets_rejected[-1])
    n_nontargets = is_target.size - n_targets
    nontargets_rejected = np.arange(is_target.size + 1) - targets_rejected
    return targets_rejected / n_targets, (n_nontargets - nontargets_rejected) / n_nontargets


def _thresholds(scores: Floats) -> Floats:
    return np.concatenate(([scores[0] - 0.001], scores))


def _eer_point(frr: Floats, far: Floats) -> int:
    return int(np.argmin(np.abs(frr - far)))


def _eer_at(frr: Floats, far: Floats, point: int) -> float:
    return float((frr[point] + far[point]) / 2)


# ---- tandem detection cost ---------------------------------------------------------------------


def compute_tDCF(bonafide_score_cm: ArrayLike, spoof_score_cm: ArrayLike, Pfa_asv: float, Pmiss_asv: float,
                 Pmiss_spoof_asv: float | None, cost_model: Mapping[str, float] = ASVSPOOF2019_COST_MODEL,
                 print_cost: bool = False) -> tuple[Floats, Floats]:
    """Normalised t-DCF of countermeasure and fixed ASV at every CM threshold (ASVspoof 2019, legacy).

    t-DCF = C1 * Pmiss_cm + C2 * Pfa_cm, divided by min(C1, C2), where
    C1 = Ptar * (Cmiss_cm - Cmiss_asv * Pmiss_asv) - Pnon * Cfa_asv * Pfa_asv and
    C2 = Cfa_cm * Pspoof * (1 - Pmiss_spoof_asv). Its minimum lies in [0, 1]; lower is better, and 1 is a
    countermeasure that accepts or rejects everything.

    Args:
        bonafide_score_cm: (B,) CM scores of bona fide trials, B >= 1.
        spoof_score_cm: (S,) CM scores of spoofed trials, S >= 1.
        Pfa_asv, Pmiss_asv, Pmiss_spoof_asv: from `obtain_asv_error_rates`, in [0, 1].
        cost_model: `Pspoof`, `Ptar`, `Pnon` (priors, sum 1) and `Cmiss_asv`, `Cfa_asv`, `Cmiss_cm`,
            `Cfa_cm` (costs, at least 0).
        print_cost: print the parameters to stdout.

    Returns:
        tDCF_norm, CM_thresholds: (B + S + 1,) each, the points of `compute_det_curve`.

    Raises:
        InputError: scores as `compute_det_curve`; rates, priors or costs out of range; C1 or C2
            not positive, which leaves nothing to normalise by.

    >>> cost, thresholds = compute_tDCF([2.0, 3.0], [0.0, 1.0], 0.05, 0.05, 0.4)
    >>> float(cost.min()), float(thresholds[cost.argmin()])
    (0.0, 1.0)
    """
    bonafide = _checked_scores(bonafide_score_cm, "bonafide_score_cm")
    spoof = _checked_scores(spoof_score_cm, "spoof_score_cm")
    weights = _tdcf_weights(Pfa_asv, Pmiss_asv, Pmiss_spoof_asv, cost_model)
    frr, far, thresholds = compute_det_curve(bonafide, spoof)
    if print_cost:
        print(_describe_costs(cost_model, weights))
    return _normalised_tdcf(frr, far, weights), thresholds


class _Weights(NamedTuple):
    miss: float         # C1, the cost of rejecting all bona fide speech
    false_alarm: float  # C2, the cost of accepting all spoofs


def _normalised_tdcf(frr: Floats, far: Floats, weights: _Weights) -> Floats:
    cost: Floats = (weights.miss * frr + weights.false_alarm * far) / min(weights)
    return cost


def _tdcf_weights(fa_asv: float, miss_asv: float, miss_spoof_asv: float | None,
                  cost_model: Mapping[str, float]) -> _Weights:
    if miss_spoof_asv is None:
        raise InputError("Pmiss_spoof_asv is None: the t-DCF needs ASV scores of spoofed trials")
    for name, rate in (("Pfa_asv", fa_asv), ("Pmiss_asv", miss_asv), ("Pmiss_spoof_asv", miss_spoof_asv)):
        if not 0 <= rate <= 1:
            raise InputError(f"{name} is {rate}, expected a fraction in [0, 1]")
    _check_cost_model(cost_model)
    c = cost_model
    weights = _Weights(
        miss=c["Ptar"] * (c["Cmiss_cm"] - c["Cmiss_asv"] * miss_asv) - c["Pnon"] * c["Cfa_asv"] * fa_asv,
        false_alarm=c["Cfa_cm"] * c["Pspoof"] * (1 - miss_spoof_asv),
    )
    _check_weights(weights)
    return weights


def _check_cost_model(cost_model: Mapping[str, float]) -> None:
    names = (*_PRIORS, *_COSTS)
    missing = [name for name in names if name not in cost_model]
    if missing:
        raise InputError(f"cost model: {', '.join(missing)} missing, expected {', '.join(names)}")
    for name in _PRIORS:
        if not 0 <= cost_model[name] <= 1:
            raise InputError(f"cost model: prior {name} is {cost_model[name]}, expected a value in [0, 1]")
    for name in _COSTS:
        if not 0 <= cost_model[name] < math.inf:
            raise InputError(f"cost model: cost {name} is {cost_model[name]}, expected a finite value >= 0")
    total = sum(cost_model[name] for name in _PRIORS)
    if abs(total - 1) > 1e-9:
        raise InputError(f"cost model: {' + '.join(_PRIORS)} is {total:.10g}, expected 1")


def _check_weights(weights: _Weights) -> None:
    if weights.miss <= 0:
        raise InputError(f"the t-DCF's C1 is {weights.miss:.6g}, expected > 0: the ASV makes so many errors "
                         "that rejecting everyone costs no more; check the ASV scores and the costs")
    if weights.false_alarm <= 0:
        raise InputError(f"the t-DCF's C2 is {weights.false_alarm:.6g}, expected > 0: the ASV rejects all "
                         "spoofs, or spoofs have no prior or no cost; check the ASV scores and the costs")


def _describe_costs(cost_model: Mapping[str, float], weights: _Weights) -> str:
    values = {**{name: cost_model[name] for name in (*_PRIORS, *_COSTS)},
              "C1": weights.miss, "C2": weights.false_alarm}
    lines = [f"  {name:<9} {value:10.6f}" for name, value in values.items()]
    return "\n".join(["t-DCF parameters (C1 weighs CM misses, C2 CM false alarms)", *lines])


# ---- what a system is worth --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CMScores:
    """Countermeasure scores of n trials, in the order of the file.

    Attributes:
        utterances: (n,) utterance names.
        attacks: (n,) attack names (A07 ...), "-" for bona fide trials.
        is_bonafide: (n,) True for bona fide, False for spoofed.
        scores: (n,) float64, higher = bona fide.

    Raises:
        InputError: the four differ in length.
    """

    utterances: NDArray[np.str_]
    attacks: NDArray[np.str_]
    is_bonafide: Bools
    scores: Floats

    def __post_init__(self) -> None:
        lengths = {len(self.utterances), len(self.attacks), len(self.is_bonafide), len(self.scores)}
        if len(lengths) > 1:
            raise InputError(f"CM scores: columns of different lengths {sorted(lengths)}")

    @property
    def bonafide(self) -> Floats:
        """Scores of the bona fide trials."""
        return self.scores[self.is_bonafide]

    @property
    def spoof(self) -> Floats:
        """Scores of the spoofed trials."""
        return self.scores[~self.is_bonafide]


@dataclass(frozen=True, eq=False)
class ASVScores:
    """Speaker verification scores by class: one float64 array each, higher = target speaker."""

    target: Floats
    nontarget: Floats
    spoof: Floats


@dataclass(frozen=True)
class Metrics:
    """Figures of one countermeasure on one set of trials; rates are fractions in [0, 1].

    Attributes:
        eer, eer_threshold: equal error rate and the CM score where it lies.
        min_tdcf, min_tdcf_threshold: minimum of the normalised t-DCF and its CM score; None without
            ASV scores.
        asv_eer: EER of the speaker verification, targets against nontargets; None without ASV scores.
        per_attack_eer: EER of all bona fide trials against one attack's spoofs, by attack name, sorted.
        n_bonafide, n_spoof: number of trials.
    """

    eer: float
    eer_threshold: float
    min_tdcf: float | None
    min_tdcf_threshold: float | None
    asv_eer: float | None
    per_attack_eer: dict[str, float]
    n_bonafide: int
    n_spoof: int

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON, and `eer_percent`; all other rates stay fractions."""
        return {
            "eer": self.eer,
            "eer_percent": 100 * self.eer,
            "eer_threshold": self.eer_threshold,
            "min_tdcf": self.min_tdcf,
            "min_tdcf_threshold": self.min_tdcf_threshold,
            "asv_eer": self.asv_eer,
            "per_attack_eer": dict(self.per_attack_eer),
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
        }

    def summary(self) -> str:
        """A text for people: one figure a line, EERs in per cent."""
        lines = [
            f"trials       {self.n_bonafide} bona fide, {self.n_spoof} spoofed",
            f"CM EER       {100 * self.eer:8.4f} %   (threshold {self.eer_threshold:.6g})",
            *self._tandem_lines(),
            "EER per attack",
            *(f"  {name:<10} {100 * eer:8.4f} %" for name, eer in self.per_attack_eer.items()),
        ]
        return "\n".join(lines)

    def _tandem_lines(self) -> list[str]:
        if self.min_tdcf is None or self.asv_eer is None:
            return ["ASV EER      not computed: no ASV scores", "min t-DCF    not computed: no ASV scores"]
        return [f"ASV EER      {100 * self.asv_eer:8.4f} %",
                f"min t-DCF    {self.min_tdcf:8.4f}     (threshold {self.min_tdcf_threshold:.6g})"]


def evaluate(cm: CMScores, asv: ASVScores | None = None) -> Metrics:
    """EER, EER of each attack, and with ASV scores the minimum t-DCF under the ASVspoof 2019 costs.

    The ASV's threshold is that of its own EER, targets against nontargets.

    Raises:
        InputError: one class has no trials, a score is not finite, or the ASV leaves the t-DCF nothing to
            normalise by (`compute_tDCF`).

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "A07", "A08", "-"]),
    ...     is_bonafide=np.array([True, False, False, True]), scores=np.array([2.0, -1.0, 4.0, 3.0]))
    >>> metrics = evaluate(cm)
    >>> metrics.eer, metrics.per_attack_eer, metrics.min_tdcf
    (0.5, {'A07': 0.0, 'A08': 1.0}, None)
    """
    bonafide = _checked_scores(cm.bonafide, "bona fide CM scores")
    spoof = _checked_scores(cm.spoof, "spoofed CM scores")
    scores, order = _sort_trials(bonafide, spoof)
    is_bonafide = order < bonafide.size
    frr, far = _error_rates(is_bonafide)
    thresholds = _thresholds(scores)
    point = _eer_point(frr, far)
    min_tdcf, min_tdcf_threshold, asv_eer = _tandem_figures(frr, far, thresholds, asv)
    attacks = np.concatenate((cm.attacks[cm.is_bonafide], cm.attacks[~cm.is_bonafide]))[order]
    return Metrics(
        eer=_eer_at(frr, far, point),
        eer_threshold=float(thresholds[point]),
        min_tdcf=min_tdcf,
        min_tdcf_threshold=min_tdcf_threshold,
        asv_eer=asv_eer,
        per_attack_eer=_per_attack_eer(is_bonafide, attacks),
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
    )


def _tandem_figures(frr: Floats, far: Floats, thresholds: Floats,
                    asv: ASVScores | None) -> tuple[float | None, float | None, float | None]:
    """Minimum t-DCF, its threshold, and the ASV's EER; None each without ASV scores."""
    if asv is None:
        return None, None, None
    asv_eer, asv_threshold = compute_eer(asv.target, asv.nontarget)
    rates = obtain_asv_error_rates(asv.target, asv.nontarget, asv.spoof, asv_threshold)
    tdcf = _normalised_tdcf(frr, far, _tdcf_weights(*rates, ASVSPOOF2019_COST_MODEL))
    best = int(np.argmin(tdcf))
    return float(tdcf[best]), float(thresholds[best]), asv_eer


def _per_attack_eer(is_bonafide: Bools, attacks: NDArray[np.str_]) -> dict[str, float]:
    """EER by attack, from trials in rising order of score: a part of a sorted list is sorted."""
    eers = {}
    for name in sorted(set(attacks[~is_bonafide].tolist())):
        frr, far = _error_rates(is_bonafide[is_bonafide | (attacks == name)])
        eers[name] = _eer_at(frr, far, _eer_point(frr, far))
    return eers


def calculate_tDCF_EER(cm_scores_file: PathLike, asv_score_file: PathLike | None, output_file: PathLike,
                       printout: bool = True) -> tuple[float, float | None]:
    """From score files to figures and a readable summary, under the name and units users of AASIST know.

    Args:
        cm_scores_file: CM scores, see the top of this module.
        asv_score_file: ASV scores of the organisers; None leaves out the t-DCF.
        output_file: the summary, written whole or not at all.
        printout: print the summary too.

    Returns:
        The CM's EER **in per cent**, and the minimum normalised t-DCF (None without ASV scores).

    Raises:
        InputError: a score file cannot be used, see `read_cm_scores`.
        OSError: a file cannot be read or written.
    """
    asv = None if asv_score_file is None else read_asv_scores(asv_score_file)
    metrics = evaluate(read_cm_scores(cm_scores_file), asv)
    with whole_file(output_file) as stream:
        stream.write(metrics.summary() + "\n")
    if printout:
        print(metrics.summary())
    return 100 * metrics.eer, metrics.min_tdcf


# ---- score files -------------------------------------------------------------------------------
# A file of the usual form is read by whole columns (`_read_fast`); anything out of the ordinary is left to a
# parser that goes line by line (`_read_by_line`), which accepts it or names the line at fault.

_POWERS_OF_TEN = np.array([float(10**power) for power in range(16)])
_MAX_FIELD = 200  # characters; a longer field is no name and would make the columns huge


@dataclass(frozen=True)
class _Layout:
    kind: str
    columns: tuple[str, ...]  # the last two are always key and score
    keys: tuple[bytes, ...]
    unique_names: bool        # may the first column hold the same name twice?

    def __str__(self) -> str:
        return f"'{' '.join(self.columns)}' in each line of a {self.kind} score file"


_CM_LAYOUT = _Layout("CM", ("utterance", "attack", "key", "score"), (b"bonafide", b"spoof"), True)
_ASV_LAYOUT = _Layout("ASV", ("source", "key", "score"), (b"target", b"nontarget", b"spoof"), False)


class _Table(NamedTuple):
    fields: list[NDArray[np.bytes_]]  # one array of bytes a column, the score's left out
    scores: Floats

    @property
    def keys(self) -> NDArray[np.bytes_]:
        return self.fields[-1]


def read_cm_scores(path: PathLike) -> CMScores:
    """Read a countermeasure's score file, `utterance attack key score` a line, plain or gzipped.

    Raises:
        InputError: no text, no trials, a class without trials, or (with file and line) a wrong number of
            fields, an unknown key, a score that is no finite number, an utterance that came before.
        OSError: the file cannot be read.
    """
    table = _read_table(path, _CM_LAYOUT)
    return CMScores(utterances=_as_text(table.fields[0]), attacks=_as_text(table.fields[1]),
                    is_bonafide=table.keys == b"bonafide", scores=table.scores)


def read_asv_scores(path: PathLike) -> ASVScores:
    """Read the organisers' speaker verification scores, `source key score` a line, plain or gzipped.

    Raises:
        InputError, OSError: as `read_cm_scores`.
    """
    table = _read_table(path, _ASV_LAYOUT)
    target, nontarget, spoof = (table.scores[table.keys == key] for key in _ASV_LAYOUT.keys)
    return ASVScores(target=target, nontarget=nontarget, spoof=spoof)


def _read_table(path: PathLike, layout: _Layout) -> _Table:
    data = _read_text(path, layout)
    table = _read_fast(data, layout) or _read_by_line(data, layout, path)
    absent = [key.decode() for key in layout.keys if not (table.keys == key).any()]
    if absent:
        raise InputError(f"{os.fspath(path)}: no trial with key {' or '.join(absent)} among its "
                         f"{table.scores.size}, expected some of each of {_listed(layout.keys)}")
    return table


def _read_text(path: PathLike, layout: _Layout) -> bytes:
    """The file's text as UTF-8 bytes, lines ending in \\n, without a byte order mark."""
    data = Path(path).read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.isascii():
            data.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{os.fspath(path)}: damaged gzip file ({error}), expected {layout}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected {layout}") from error
    if b"\0" in data:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected {layout}")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise InputError(f"{os.fspath(path)}: empty, expected {layout}")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    return data if data.endswith(b"\n") else data + b"\n"


def _read_fast(data: bytes, layout: _Layout) -> _Table | None:
    """Read a file whose every line is fields, single spaces and a newline; None where anything is amiss."""
    spans = _field_spans(data, len(layout.columns))
    if spans is None:
        return None
    padded = data + bytes(_MAX_FIELD)
    columns = [_column(padded, starts, lengths) for starts, lengths in spans]
    *fields, score_texts = columns
    try:
        scores = _parse_numbers(score_texts)
    except ValueError:
        return None
    valid_key = np.logical_or.reduce([fields[-1] == key for key in layout.keys])
    # float() reads "1_5" as 15; in a score file an underscore is a slip.
    sound = valid_key.all() and np.isfinite(scores).all() and b"_" not in score_texts.tobytes()
    if sound and layout.unique_names:
        sound = _all_different(fields[0])
    return _Table(fields, scores) if sound else None


def _field_spans(data: bytes, n_columns: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]] | None:
    """Starts and lengths of each column's fields; None unless the separators of every line are right."""
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text <= ord(" "))
    separators = np.frombuffer(b" " * (n_columns - 1) + b"\n", dtype=np.uint8)
    if ends.size % n_columns or (text[ends].reshape(-1, n_columns) != separators).any():
        return None
    starts = np.concatenate((np.zeros(1, dtype=ends.dtype), ends[:-1] + 1))
    lengths = ends - starts
    if lengths.min() < 1 or lengths.max() > _MAX_FIELD:
        return None
    return [(starts[column::n_columns], lengths[column::n_columns]) for column in range(n_columns)]


def _column(padded: bytes, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.bytes_]:
    """The fields of one column as an array of bytes as wide as the longest."""
    width = int(lengths.max())
    # Overlapping windows, one from each byte on; the zeros behind the text give the last ones room.
    windows: NDArray[np.bytes_] = np.ndarray(len(padded) - width, f"S{width}", padded, strides=(1,))
    fields = windows[starts]
    # A window runs on behind a shorter field: blank what is not the field's.
    fields.view(np.uint8).reshape(-1, width)[np.arange(width) >= lengths[:, None]] = 0
    return fields


def _all_different(names: NDArray[np.bytes_]) -> bool:
    """Whether no name comes twice; False may be a mere collision of hashes: the line parser settles it."""
    n_words = -(-names.itemsize // 8)
    words = names.astype(f"S{8 * n_words}").view(np.uint64).reshape(names.size, n_words)
    hashes = np.zeros(names.size, dtype=np.uint64)
    for column in range(n_words):
        hashes = (hashes ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)  # odd: no bit is lost
    hashes.sort()
    return bool((hashes[1:] != hashes[:-1]).all())


def _parse_numbers(texts: NDArray[np.bytes_]) -> Floats:
    """What float() gives for each text; ValueError where one is no number.

    Up to 15 digits and a point are an integer below 2**53 over a power of ten, both exact, and IEEE division
    rounds their quotient to the nearest double: what float() does, for whole columns at once.
    """
    if texts.itemsize > len("-") + 15 + len("."):
        return texts.astype(np.float64)
    characters = np.ascontiguousarray(texts.view(np.uint8).reshape(texts.size, -1).T)
    digits = characters - np.uint8(ord("0"))  # wraps around below "0"
    is_digit, is_point = digits < 10, characters == ord(".")
    is_minus = characters[0] == ord("-")
    n_digits, n_points = is_digit.sum(axis=0, dtype=np.uint8), is_point.sum(axis=0, dtype=np.uint8)
    length = (characters != 0).sum(axis=0, dtype=np.uint8)
    plain = (n_digits >= 1) & (n_digits <= 15) & (n_points <= 1) & (n_digits + n_points + is_minus == length)
    if not plain.all():
        return texts.astype(np.float64)
    integers = np.zeros(texts.size)
    for digit, counts in zip(digits, is_digit, strict=True):
        integers *= np.where(counts, 10.0, 1.0)
        integers += np.where(counts, digit, 0)
    decimals = np.where(n_points, length - 1 - is_point.argmax(axis=0), 0)
    numbers: Floats = np.where(is_minus, -integers, integers) / _POWERS_OF_TEN[decimals]
    return numbers


def _read_by_line(data: bytes, layout: _Layout, path: PathLike) -> _Table:
    rows: list[list[bytes]] = []
    scores: list[float] = []
    first_line: dict[bytes, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        row = line.split()
        if not row:
            continue
        try:
            scores.append(_checked_row(row, layout))
            if layout.unique_names and first_line.setdefault(row[0], number) != number:
                raise InputError(f"utterance {_shown(row[0])} again, first in line {first_line[row[0]]}; "
                                 "expected each once")
        except InputError as error:
            raise InputError(f"{os.fspath(path)}:{number}: {error}") from None
        rows.append(row[:-1])
    return _Table([np.array(column) for column in zip(*rows, strict=True)], np.array(scores))


def _checked_row(row: list[bytes], layout: _Layout) -> float:
    """The score of a line's fields, after all of them have been checked."""
    if len(row) != len(layout.columns):
        raise InputError(f"{len(row)} fields, expected {len(layout.columns)}: {layout}")
    for field, name in zip(row, layout.columns, strict=True):
        if len(field) > _MAX_FIELD:
            raise InputError(f"{name} of {len(field)} bytes, expected at most {_MAX_FIELD}")
    key, text = row[-2:]
    if key not in layout.keys:
        raise InputError(f"key {_shown(key)}, expected {_listed(layout.keys)}")
    try:
        score = float(text.replace(b"_", b"?"))
    except ValueError:
        raise InputError(f"score {_shown(text)}, expected a number") from None
    if not math.isfinite(score):
        raise InputError(f"score {_shown(text)}, expected a finite number (did the training diverge?)")
    return score


def _shown(field: bytes) -> str:
    text = field.decode("utf-8")
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _listed(keys: tuple[bytes, ...]) -> str:
    return " | ".join(key.decode() for key in keys)


def _as_text(fields: NDArray[np.bytes_]) -> NDArray[np.str_]:
    codes = np.ascontiguousarray(fields).view(np.uint8)
    if codes.max() > 127:
        return np.char.decode(fields, "utf-8")
    # ASCII codes are code points: widened from 1 to 4 bytes they are numpy's text, and no decoder is as fast.
    return codes.astype(np.uint32).view(f"U{fields.itemsize}")


# ---- command line ------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures of a score file; see `python evaluation.py --help`."""
    options = _parse_arguments(argv)
    asv = read_asv_scores(options.asv) if options.asv else None
    metrics = evaluate(read_cm_scores(options.cm), asv)
    text = json.dumps(metrics.as_dict(), indent=2) if options.json else metrics.summary()
    if options.output:
        with whole_file(options.output) as stream:
            stream.write(text + "\n")
    print(text)
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="EER and min t-DCF (ASVspoof 2019) of a countermeasure's score file.",
        epilog="example: python evaluation.py --cm exp_result/AASIST/eval_scores.txt "
               "--asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt",
    )
    parser.add_argument("--cm", required=True, metavar="SCORES",
                        help="countermeasure scores, 'utterance attack key score' a line, higher = bona fide")
    parser.add_argument("--asv", metavar="ASV",
                        help="the organisers' ASV scores, 'source key score' a line; without them no t-DCF")
    parser.add_argument("--json", action="store_true", help="print JSON (rates as fractions) instead of text")
    parser.add_argument("--output", metavar="FILE", help="write what is printed to this file too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
