"""Detection cost of a countermeasure: at the best threshold, at Bayes' threshold, and over all of them (Cllr).

    compute_min_dcf   minDCF of any scores
    compute_act_dcf   actDCF of log-likelihood ratios
    compute_cllr      Cllr of log-likelihood ratios, in bits
    normalised_dcf    the cost at every threshold; ASVSPOOF5_COSTS are the costs and the prior used everywhere

The cost of a threshold is the mean cost of a trial, when spoofs come with prior `p_spoof`:

    DCF = c_miss * (1 - p_spoof) * P_miss + c_fa * p_spoof * P_fa

divided by the smaller of its two weights, so that 1 is the cost of accepting everything or rejecting everything.
minDCF measures how well scores rank; actDCF and Cllr measure also whether they are what they claim to be, natural
logarithms of p(score | bona fide) / p(score | spoof). actDCF - minDCF is the loss by poor calibration at this prior.

Scores and thresholds: the conventions of `det`; the fixed threshold of actDCF accepts what equals it, as
`det.obtain_asv_error_rates` does and the organisers' package.

Sources: ASVspoof 5 evaluation plan and X. Wang et al., "ASVspoof 5: crowdsourced speech data, deepfakes, and
adversarial attacks at scale", ASVspoof workshop 2024 (costs, minDCF, actDCF); N. Brümmer, J. du Preez,
"Application-independent evaluation of speaker detection", Computer Speech and Language, 2006 (Cllr).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from s2pecnet.errors import InputError
from s2pecnet.metrics.det import Floats, checked_scores, compute_det_curve, least


@dataclass(frozen=True)
class DetectionCosts:
    """What errors cost, and how often spoofs come.

    Attributes:
        p_spoof: prior of a spoof, in (0, 1).
        c_miss: cost of bona fide speech rejected, > 0.
        c_fa: cost of a spoof accepted, > 0.

    Raises:
        InputError: a value out of range.
    """

    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.p_spoof < 1:
            raise InputError(f"detection cost: p_spoof is {self.p_spoof}, expected a prior between 0 and 1")
        for name in ("c_miss", "c_fa"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"detection cost: {name} is {getattr(self, name)}, expected a finite cost > 0")

    @property
    def miss(self) -> float:
        """The cost of rejecting everything."""
        return self.c_miss * (1 - self.p_spoof)

    @property
    def false_alarm(self) -> float:
        """The cost of accepting everything."""
        return self.c_fa * self.p_spoof

    @property
    def bayes_threshold(self) -> float:
        """The log-likelihood ratio from which on accepting costs less than rejecting.

        Accepting risks `false_alarm` times the likelihood of the trial as a spoof, rejecting `miss` times that as bona
        fide; they are equal where the ratio of likelihoods is false_alarm / miss.
        """
        return math.log(self.false_alarm / self.miss)


ASVSPOOF5_COSTS = DetectionCosts()


def normalised_dcf(frr: Floats, far: Floats, costs: DetectionCosts = ASVSPOOF5_COSTS) -> Floats:
    """The cost at every point of a sweep over thresholds, (n,); 1 is a system that accepts or rejects everything."""
    cost: Floats = (costs.miss * frr + costs.false_alarm * far) / min(costs.miss, costs.false_alarm)
    return cost


def compute_min_dcf(
    bonafide_scores: ArrayLike, spoof_scores: ArrayLike, costs: DetectionCosts = ASVSPOOF5_COSTS
) -> tuple[float, float]:
    """minDCF, in [0, 1], and the first threshold where the cost is least.

    Args:
        bonafide_scores, spoof_scores: (B,) and (S,) scores, at least one each.

    Raises:
        InputError: as `compute_det_curve`.

    >>> cost, threshold = compute_min_dcf([1.0, 3.0, 4.0], [0.0, 2.0])
    >>> round(cost, 12), threshold  # the spoof at 2 costs less than the bona fide trial at 1: 0.5 against 1.9 / 3
    (0.5, 0.0)
    """
    frr, far, thresholds = compute_det_curve(bonafide_scores, spoof_scores)
    return least(normalised_dcf(frr, far, costs), thresholds)


def compute_act_dcf(bonafide_llrs: ArrayLike, spoof_llrs: ArrayLike, costs: DetectionCosts = ASVSPOOF5_COSTS) -> float:
    """actDCF: the cost at Bayes' threshold, where trials with an LLR at or above it are accepted.

    At least minDCF, and without a bound of 1: badly calibrated ratios can cost more than accepting everything.

    Args:
        bonafide_llrs, spoof_llrs: (B,) and (S,) log-likelihood ratios (natural logarithm), at least one each.

    Raises:
        InputError: as `compute_det_curve`.

    >>> compute_act_dcf([-0.5, 2.0], [-2.0, -0.7])  # Bayes' threshold is -log(1.9) = -0.64
    0.0
    """
    llrs = _checked_llrs(bonafide_llrs, spoof_llrs)
    frr, far = (float(errors.mean()) for errors in bayes_errors(*llrs, costs))
    return float(normalised_dcf(np.array([frr]), np.array([far]), costs)[0])


def bayes_errors(bonafide_llrs: Floats, spoof_llrs: Floats, costs: DetectionCosts) -> tuple[Floats, Floats]:
    """1 for each bona fide trial rejected, (B,), and for each spoof accepted, (S,), at Bayes' threshold; else 0."""
    threshold = costs.bayes_threshold
    return (bonafide_llrs < threshold).astype(np.float64), (spoof_llrs >= threshold).astype(np.float64)


def compute_cllr(bonafide_llrs: ArrayLike, spoof_llrs: ArrayLike) -> float:
    """Cllr: the cost of the log-likelihood ratios over all priors and costs, in bits.

    0 is perfect, 1 is what ratios cost that are all 0 and thus say nothing; misleading ones cost more.

    Args:
        bonafide_llrs, spoof_llrs: (B,) and (S,) log-likelihood ratios (natural logarithm), at least one each.

    Raises:
        InputError: as `compute_det_curve`.

    >>> compute_cllr([0.0, 0.0], [0.0])
    1.0
    """
    bonafide, spoof = bits_lost(*_checked_llrs(bonafide_llrs, spoof_llrs))
    return float(bonafide.mean() + spoof.mean()) / 2


def bits_lost(bonafide_llrs: Floats, spoof_llrs: Floats) -> tuple[Floats, Floats]:
    """Each trial's -log2 of the posterior of its own class when both classes are as likely, (B,) and (S,)."""
    return np.logaddexp(0, -bonafide_llrs) / math.log(2), np.logaddexp(0, spoof_llrs) / math.log(2)


def _checked_llrs(bonafide_llrs: ArrayLike, spoof_llrs: ArrayLike) -> tuple[Floats, Floats]:
    return checked_scores(bonafide_llrs, "bonafide_llrs"), checked_scores(spoof_llrs, "spoof_llrs")
