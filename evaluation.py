"""Equal error rate (EER) and tandem detection cost (t-DCF) of a spoofing countermeasure.

    score files --read_cm_scores, read_asv_scores--> arrays --evaluate--> Metrics --> summary, JSON

Conventions
    A countermeasure (CM) score is higher for bona fide speech, a speaker verification (ASV) score
    is higher for the target speaker. Every trial's score is a threshold; a trial is accepted when it
    lies above it, so the threshold's own trial is rejected. Where scores are equal, bona fide (target)
    trials sort before spoofed (nontarget) ones: ties count against the system.
    Rates and EERs are fractions in [0, 1]; per cent appear in texts, in `calculate_tDCF_EER`'s
    first value and under the key `eer_percent`.

Sources
    t-DCF: T. Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing
    countermeasures and automatic speaker verification", Odyssey 2018; in the form and with the
    costs of the ASVspoof 2019 evaluation plan ("legacy": the ASV threshold is fixed at the ASV's own
    EER, and the cost is normalised by the better of accepting all and rejecting all).
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errors import InputError, run_command
from files import whole_file
from score_files import ASVScores, CMScores, read_asv_scores, read_cm_scores
from text_columns import rank_names

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PathLike = str | os.PathLike[str]

ASVSPOOF2019_COST_MODEL: Mapping[str, float] = MappingProxyType(
    {
        "Pspoof": 0.05,  # prior of a spoofing attack
        "Ptar": 0.95 * 0.99,  # prior of the target speaker
        "Pnon": 0.95 * 0.01,  # prior of another, honest speaker
        "Cmiss_asv": 1.0,  # cost of the ASV rejecting the target
        "Cfa_asv": 10.0,  # cost of the ASV accepting another speaker
        "Cmiss_cm": 1.0,  # cost of the CM rejecting bona fide speech
        "Cfa_cm": 10.0,  # cost of the CM accepting a spoof
    }
)
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


def obtain_asv_error_rates(
    tar_asv: ArrayLike, non_asv: ArrayLike, spoof_asv: ArrayLike, asv_threshold: float
) -> tuple[float, float, float | None]:
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
    """All scores in rising order, of equal ones the targets first, and each one's place in (target, nontarget)."""
    scores = np.concatenate((target, nontarget))
    # The default sort is fast and not stable: it may order each class by itself. Merging the two must be stable.
    order = np.concatenate((np.argsort(target), target.size + np.argsort(nontarget)))
    order = order[np.argsort(scores[order], kind="stable")]
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


def compute_tDCF(
    bonafide_score_cm: ArrayLike,
    spoof_score_cm: ArrayLike,
    Pfa_asv: float,
    Pmiss_asv: float,
    Pmiss_spoof_asv: float | None,
    cost_model: Mapping[str, float] = ASVSPOOF2019_COST_MODEL,
    print_cost: bool = False,
) -> tuple[Floats, Floats]:
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
    miss: float  # C1, the cost of rejecting all bona fide speech
    false_alarm: float  # C2, the cost of accepting all spoofs


def _normalised_tdcf(frr: Floats, far: Floats, weights: _Weights) -> Floats:
    cost: Floats = (weights.miss * frr + weights.false_alarm * far) / min(weights)
    return cost


def _tdcf_weights(
    fa_asv: float, miss_asv: float, miss_spoof_asv: float | None, cost_model: Mapping[str, float]
) -> _Weights:
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
        raise InputError(
            f"the t-DCF's C1 is {weights.miss:.6g}, expected > 0: the ASV makes so many errors "
            "that rejecting everyone costs no more; check the ASV scores and the costs"
        )
    if weights.false_alarm <= 0:
        raise InputError(
            f"the t-DCF's C2 is {weights.false_alarm:.6g}, expected > 0: the ASV rejects all "
            "spoofs, or spoofs have no prior or no cost; check the ASV scores and the costs"
        )


def _describe_costs(cost_model: Mapping[str, float], weights: _Weights) -> str:
    values = {**{name: cost_model[name] for name in (*_PRIORS, *_COSTS)}, "C1": weights.miss, "C2": weights.false_alarm}
    lines = [f"  {name:<9} {value:10.6f}" for name, value in values.items()]
    return "\n".join(["t-DCF parameters (C1 weighs CM misses, C2 CM false alarms)", *lines])


# ---- what a system is worth --------------------------------------------------------------------


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
        n_unscored: number of further trials, which have no score and are in none of the figures.
    """

    eer: float
    eer_threshold: float
    min_tdcf: float | None
    min_tdcf_threshold: float | None
    asv_eer: float | None
    per_attack_eer: dict[str, float]
    n_bonafide: int
    n_spoof: int
    n_unscored: int = 0

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
            "n_unscored": self.n_unscored,
        }

    def summary(self) -> str:
        """A text for people: one figure a line, EERs in per cent."""
        lines = [
            f"trials       {self.n_bonafide} bona fide, {self.n_spoof} spoofed",
            *([f"unscored     {self.n_unscored} more, in none of the figures"] if self.n_unscored else []),
            f"CM EER       {100 * self.eer:8.4f} %   (threshold {self.eer_threshold:.6g})",
            *self._tandem_lines(),
            "EER per attack",
            *(f"  {name:<10} {100 * eer:8.4f} %" for name, eer in self.per_attack_eer.items()),
        ]
        return "\n".join(lines)

    def _tandem_lines(self) -> list[str]:
        if self.min_tdcf is None or self.asv_eer is None:
            return ["ASV EER      not computed: no ASV scores", "min t-DCF    not computed: no ASV scores"]
        return [
            f"ASV EER      {100 * self.asv_eer:8.4f} %",
            f"min t-DCF    {self.min_tdcf:8.4f}     (threshold {self.min_tdcf_threshold:.6g})",
        ]


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
    return Metrics(
        eer=_eer_at(frr, far, point),
        eer_threshold=float(thresholds[point]),
        min_tdcf=min_tdcf,
        min_tdcf_threshold=min_tdcf_threshold,
        asv_eer=asv_eer,
        per_attack_eer=_per_attack_eer(cm.attacks[~cm.is_bonafide], order),
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        n_unscored=cm.n_unscored,
    )


def _tandem_figures(
    frr: Floats, far: Floats, thresholds: Floats, asv: ASVScores | None
) -> tuple[float | None, float | None, float | None]:
    """Minimum t-DCF, its threshold, and the ASV's EER; None each without ASV scores."""
    if asv is None:
        return None, None, None
    asv_eer, asv_threshold = compute_eer(asv.target, asv.nontarget)
    rates = obtain_asv_error_rates(asv.target, asv.nontarget, asv.spoof, asv_threshold)
    tdcf = _normalised_tdcf(frr, far, _tdcf_weights(*rates, ASVSPOOF2019_COST_MODEL))
    best = int(np.argmin(tdcf))
    return float(tdcf[best]), float(thresholds[best]), asv_eer


def _per_attack_eer(attacks: NDArray[np.str_], order: NDArray[np.intp]) -> dict[str, float]:
    """EER by attack, from the spoofs' attacks and the order of (bona fide, spoofed) trials by score."""
    names, ranks = rank_names(attacks)
    bonafide = len(names)
    kinds = np.full(order.size, bonafide, dtype=np.min_scalar_type(bonafide))
    kinds[-attacks.size :] = ranks
    kinds = kinds[order]
    eers = {}
    for rank, name in enumerate(names):
        # A part of a sorted list is sorted.
        frr, far = _error_rates(kinds[(kinds == bonafide) | (kinds == rank)] == bonafide)
        eers[name] = _eer_at(frr, far, _eer_point(frr, far))
    return eers


def calculate_tDCF_EER(
    cm_scores_file: PathLike, asv_score_file: PathLike | None, output_file: PathLike, printout: bool = True
) -> tuple[float, float | None]:
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


# ---- command line ------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures of a score file; see `python evaluation.py --help`."""
    options = _parse_arguments(argv)
    asv = read_asv_scores(options.asv) if options.asv else None
    metrics = evaluate(read_cm_scores(options.cm), asv)
    if metrics.n_unscored:
        trials = f"{metrics.n_unscored} trial{'s' if metrics.n_unscored > 1 else ''}"
        print(f"warning: {options.cm}: {trials} without a score, in none of the figures", file=sys.stderr)
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
    parser.add_argument(
        "--cm",
        required=True,
        metavar="SCORES",
        help="countermeasure scores, 'utterance attack key score' a line, higher = bona fide",
    )
    parser.add_argument(
        "--asv", metavar="ASV", help="the organisers' ASV scores, 'source key score' a line; without them no t-DCF"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (rates as fractions) instead of text")
    parser.add_argument("--output", metavar="FILE", help="write what is printed to this file too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
