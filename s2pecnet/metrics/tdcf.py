"""Tandem detection cost (t-DCF) of a countermeasure (CM) in front of a fixed speaker verification (ASV).

    compute_tDCF       the cost at every CM threshold, from scores and the ASV's error rates
    fix_asv            ASV scores to the weights of the CM's two error rates
    normalised_tdcf    these weights and a DET curve to the cost

Source: T. Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing countermeasures and
automatic speaker verification", Odyssey 2018; in the form and with the costs of the ASVspoof 2019 evaluation plan
("legacy": the ASV threshold is fixed at the ASV's own EER, and the cost is normalised by the better of accepting all
and rejecting all). Scores and thresholds: the conventions of `det`.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from numpy.typing import ArrayLike

from s2pecnet.errors import InputError
from s2pecnet.metrics.det import Floats, checked_scores, compute_det_curve, compute_eer, obtain_asv_error_rates
from s2pecnet.score_files.cm_asv import ASVScores

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
        InputError: scores as `compute_det_curve`; rates, priors or costs out of range; C1 or C2 not positive, so that
            the cost cannot be normalised.

    >>> cost, thresholds = compute_tDCF([2.0, 3.0], [0.0, 1.0], 0.05, 0.05, 0.4)
    >>> float(cost.min()), float(thresholds[cost.argmin()])
    (0.0, 1.0)
    """
    bonafide = checked_scores(bonafide_score_cm, "bonafide_score_cm")
    spoof = checked_scores(spoof_score_cm, "spoof_score_cm")
    weights = _tandem_weights(Pfa_asv, Pmiss_asv, Pmiss_spoof_asv, cost_model)
    frr, far, thresholds = compute_det_curve(bonafide, spoof)
    if print_cost:
        shown = {name: cost_model[name] for name in (*_PRIORS, *_COSTS)}
        shown |= {"CM miss weight": weights.miss, "CM false-alarm weight": weights.false_alarm}
        print("\n".join(["t-DCF parameters", *(f"  {name:<21} {value:10.6f}" for name, value in shown.items())]))
    return normalised_tdcf(frr, far, weights), thresholds


class TandemWeights(NamedTuple):
    """Weights of the countermeasure's two error rates, once the ASV and the costs are fixed."""

    miss: float  # C1, the cost of rejecting all bona fide speech
    false_alarm: float  # C2, the cost of accepting all spoofs


def normalised_tdcf(frr: Floats, far: Floats, weights: TandemWeights) -> Floats:
    """The cost at every point of a sweep over the countermeasure's thresholds."""
    cost: Floats = (weights.miss * frr + weights.false_alarm * far) / min(weights)
    return cost


def fix_asv(asv: ASVScores) -> tuple[TandemWeights, float]:
    """The weights for an ASV at the threshold of its own EER, targets against nontargets; and that EER.

    The costs are those of ASVspoof 2019.

    Raises:
        InputError: a class has no scores, or the cost cannot be normalised (`compute_tDCF`).
    """
    asv_eer, threshold = compute_eer(asv.target, asv.nontarget)
    rates = obtain_asv_error_rates(asv.target, asv.nontarget, asv.spoof, threshold)
    return _tandem_weights(*rates, ASVSPOOF2019_COST_MODEL), asv_eer


def _tandem_weights(
    fa_asv: float, miss_asv: float, miss_spoof_asv: float | None, cost_model: Mapping[str, float]
) -> TandemWeights:
    if miss_spoof_asv is None:
        raise InputError("Pmiss_spoof_asv is None: the t-DCF needs ASV scores of spoofed trials")
    for name, rate in (("Pfa_asv", fa_asv), ("Pmiss_asv", miss_asv), ("Pmiss_spoof_asv", miss_spoof_asv)):
        if not 0 <= rate <= 1:
            raise InputError(f"{name} is {rate}, expected a fraction in [0, 1]")
    names, c = (*_PRIORS, *_COSTS), cost_model
    missing = [name for name in names if name not in c]
    if missing:
        raise InputError(f"cost model: {', '.join(missing)} missing, expected {', '.join(names)}")
    for name in _PRIORS:
        if not 0 <= c[name] <= 1:
            raise InputError(f"cost model: prior {name} is {c[name]}, expected a value in [0, 1]")
    for name in _COSTS:
        if not 0 <= c[name] < math.inf:
            raise InputError(f"cost model: cost {name} is {c[name]}, expected a finite value >= 0")
    total = sum(c[name] for name in _PRIORS)
    if abs(total - 1) > 1e-9:
        raise InputError(f"cost model: {' + '.join(_PRIORS)} is {total:.10g}, expected 1")
    weights = TandemWeights(
        miss=c["Ptar"] * (c["Cmiss_cm"] - c["Cmiss_asv"] * miss_asv) - c["Pnon"] * c["Cfa_asv"] * fa_asv,
        false_alarm=c["Cfa_cm"] * c["Pspoof"] * (1 - miss_spoof_asv),
    )
    advice = "check the ASV scores and the costs"
    if weights.miss <= 0:
        raise InputError(
            f"t-DCF: rejecting bona fide speech has the weight {weights.miss:.6g}, expected > 0: the ASV makes so many "
            f"errors that rejecting everyone costs no more; {advice}"
        )
    if weights.false_alarm <= 0:
        raise InputError(
            f"t-DCF: accepting spoofs has the weight {weights.false_alarm:.6g}, expected > 0: the ASV rejects all "
            f"spoofs, or spoofs have no prior or no cost; {advice}"
        )
    return weights
