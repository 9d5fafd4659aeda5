"""Speaker verification that withstands spoofs: a-DCF of its scores, and the t-EER of a countermeasure with an ASV.

    SASV scores of targets, nontargets, spoofs        --compute_a_dcf--> minimum a-DCF
    CM scores by two classes, ASV scores by three     --compute_t_eer--> concurrent t-EER
    a track-2 score file                              --evaluate_sasv--> SASVMetrics: all that its scores allow

A trial is a claim to be some speaker. Targets are to be accepted; nontargets (somebody else's own voice) and spoofs are
not. Higher scores speak for a target (CM: for bona fide speech).

a-DCF ("architecture agnostic": it takes one score of a trial, however that was made) is, at a threshold,

    c_miss * p_target * P_miss + c_fa_nontarget * p_nontarget * P_fa,nontarget + c_fa_spoof * p_spoof * P_fa,spoof

divided by the cost of the better of accepting and rejecting everything.

t-EER is of a CM and an ASV in tandem: a trial is accepted when both accept. If the two err independently of each other
within a class, the tandem's rates are
    P_miss          M + (1 - M) * m     of targets       M, F: the CM's miss and false-alarm rate
    P_fa,nontarget  (1 - M) * n         of nontargets    m, n, s: the ASV's miss rate and its false-alarm rates of
    P_fa,spoof      F * s               of spoofs        nontargets and of spoofs
Each ASV threshold has a CM threshold where misses equal false alarms, but the mean of the two false-alarm rates depends
on how often spoofs come. At one pair of thresholds all three rates are equal, and the mix does not matter: their value
there is the concurrent t-EER. Rates of finitely many trials hardly ever are equal; as the organisers' package of
ASVspoof 5 does we take, for each ASV threshold, the CM threshold where P_miss is closest to the mean of the two
false-alarm rates, then of these pairs the one where n / s is closest to F / (1 - M), and of that P_fa,spoof.

Sources: H. Shim et al., "a-DCF: an architecture agnostic metric with application to spoofing-robust speaker
verification", Odyssey 2024; T. Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and
biometric comparators", IEEE TPAMI, 2023; priors and costs of the ASVspoof 5 evaluation plan, track 2.
Thresholds and ties: the conventions of `det`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import Interval, check_replicates, draw_counts, interval_of
from s2pecnet.metrics.det import (
    Floats,
    Indices,
    checked_scores,
    compute_det_curve,
    compute_eer,
    least,
    threshold_between,
    thresholds_of,
)
from s2pecnet.score_files.sasv import SASVScores
from s2pecnet.text import threshold_text

_TARGET, _NONTARGET, _SPOOF = range(3)


@dataclass(frozen=True)
class SASVCosts:
    """What errors cost, and how often trials of each class come.

    Attributes:
        p_target, p_nontarget, p_spoof: priors, > 0, sum 1.
        c_miss, c_fa_nontarget, c_fa_spoof: costs of a target rejected, a nontarget accepted, a spoof accepted, > 0.

    Raises:
        InputError: a value out of range.
    """

    p_target: float = 0.95 * 0.99
    p_nontarget: float = 0.95 * 0.01
    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa_nontarget: float = 10.0
    c_fa_spoof: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"a-DCF: {name} is {value}, expected a finite value > 0")
        total = self.p_target + self.p_nontarget + self.p_spoof
        if abs(total - 1) > 1e-9:
            raise InputError(f"a-DCF: p_target + p_nontarget + p_spoof is {total:.10g}, expected 1")


ASVSPOOF5_SASV_COSTS = SASVCosts()


class ClassRates(NamedTuple):
    """Miss rate of targets and false-alarm rates of nontargets and spoofs at every threshold, (n + 1,) each."""

    miss: Floats
    fa_nontarget: Floats
    fa_spoof: Floats


class TandemPoint(NamedTuple):
    """The concurrent t-EER, a fraction, and the thresholds where it lies."""

    t_eer: float
    t_eer_cm_threshold: float
    t_eer_asv_threshold: float

    def line(self) -> str:
        """A line for people, the t-EER in per cent."""
        thresholds = f"CM {threshold_text(self.t_eer_cm_threshold)}, ASV {threshold_text(self.t_eer_asv_threshold)}"
        return f"t-EER        {100 * self.t_eer:8.4f} %   (thresholds: {thresholds})"


@dataclass(frozen=True)
class SASVMetrics:
    """Metrics of SASV trials; rates are fractions, and None where the scores do not allow them.

    Attributes:
        n_target, n_nontarget, n_spoof: number of trials.
        min_a_dcf, min_a_dcf_threshold: of the SASV scores; the threshold lies halfway between two of them.
        tandem: the t-EER of the CM and ASV scores.
        cm_eer: of the CM, targets and nontargets against spoofs.
        asv_eer: of the ASV, targets against nontargets.
    """

    n_target: int
    n_nontarget: int
    n_spoof: int
    min_a_dcf: float | None = None
    min_a_dcf_threshold: float | None = None
    tandem: TandemPoint | None = None
    cm_eer: float | None = None
    asv_eer: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; those of `tandem` beside the others."""
        own = {name: value for name, value in vars(self).items() if name != "tandem"}
        return own | tandem_as_dict(self.tandem) | {"remarks": self.remarks()}

    def remarks(self) -> list[str]:
        """What makes the metrics doubtful, a line each: scores the wrong way round."""
        each = ("CM", self.cm_eer, "spoofs", "bona fide"), ("ASV", self.asv_eer, "nontargets", "the claimed speaker")
        return [
            f"{title} EER above 50 %: are these scores higher for {other}? Here higher = {right}"
            for title, eer, other, right in each
            if eer is not None and eer > 0.5
        ]

    def lines(self) -> list[str]:
        """A text for people: a metric a line, EERs in per cent."""
        lines = [f"trials       {self.n_target} target, {self.n_nontarget} nontarget, {self.n_spoof} spoofed"]
        if self.min_a_dcf is None:
            lines.append("min a-DCF    not computed: no SASV scores")
        else:
            assert self.min_a_dcf_threshold is not None
            threshold = threshold_text(self.min_a_dcf_threshold)
            lines.append(f"min a-DCF    {self.min_a_dcf:8.4f}     (threshold {threshold})")
        no_tandem = "t-EER        not computed: needs CM and ASV scores"
        lines.append(no_tandem if self.tandem is None else self.tandem.line())
        for name, eer in (("CM EER", self.cm_eer), ("ASV EER", self.asv_eer)):
            lines += [] if eer is None else [f"{name:<12} {100 * eer:8.4f} %"]
        return lines + [f"note         {remark}" for remark in self.remarks()]


def evaluate_sasv(scores: SASVScores) -> SASVMetrics:
    """All metrics that the scores allow.

    Raises:
        InputError: as `compute_a_dcf`.
    """
    found: dict[str, Any] = {}
    is_spoof = scores.keys == _SPOOF
    if scores.sasv is not None:
        sasv = scores.by_class(scores.sasv)
        classes, thresholds = _sort_classes(sasv.target, sasv.nontarget, sasv.spoof)
        cost = _normalised_a_dcf(class_rates(classes), ASVSPOOF5_SASV_COSTS)
        found["min_a_dcf"] = float(cost.min())
        found["min_a_dcf_threshold"] = threshold_between(thresholds[1:], int(cost.argmin()))
    if scores.cm is not None:
        found["cm_eer"], _ = compute_eer(scores.cm[~is_spoof], scores.cm[is_spoof])
    if scores.asv is not None:
        asv = scores.by_class(scores.asv)
        found["asv_eer"], _ = compute_eer(asv.target, asv.nontarget)
        if scores.cm is not None:
            cm = scores.cm[~is_spoof], scores.cm[is_spoof]
            found["tandem"] = compute_t_eer(*cm, asv.target, asv.nontarget, asv.spoof)
    return SASVMetrics(*np.bincount(scores.keys, minlength=3).tolist(), **found)


def tandem_as_dict(point: TandemPoint | None) -> dict[str, float | None]:
    """The t-EER and its thresholds by name; None each without a point."""
    return dict.fromkeys(TandemPoint._fields) if point is None else point._asdict()


def compute_a_dcf(
    target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, costs: SASVCosts = ASVSPOOF5_SASV_COSTS
) -> tuple[float, float]:
    """Minimum of the normalised a-DCF, in [0, 1], and the first threshold where it lies.

    Args:
        target, nontarget, spoof: SASV scores by class, at least one each.

    Raises:
        InputError: a class is empty, not one-dimensional, or holds a value that is not finite.

    >>> cost, threshold = compute_a_dcf([1.0, 3.0], [0.0, 2.0], [-1.0, 0.5])
    >>> round(cost, 4), threshold  # the nontarget at 2 costs 10 * 0.0095 / 2, rejecting the target at 1 ten times that
    (0.0798, 0.5)
    """
    classes, thresholds = _sort_classes(target, nontarget, spoof)
    return least(_normalised_a_dcf(class_rates(classes), costs), thresholds)


def a_dcf_interval(
    target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, replicates: int = 1000
) -> Interval | None:
    """95 % bootstrap interval of the minimum a-DCF: trials drawn within each class, as `bootstrap` describes.

    None where all draws give the same cost, as of a system without errors: they know nothing of other trials.

    Raises:
        InputError: as `compute_a_dcf`; no replicates.
    """
    check_replicates(replicates)
    classes, _ = _sort_classes(target, nontarget, spoof)
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes, minlength=3).tolist()
    counts = np.empty(classes.size, dtype=np.intp)
    generator = np.random.default_rng(0)
    values = np.empty(replicates)
    for replicate in range(replicates):
        counts[by_class] = draw_counts(sizes, generator)
        rates = class_rates(np.repeat(classes, counts))
        values[replicate] = _normalised_a_dcf(rates, ASVSPOOF5_SASV_COSTS).min()
    return None if values.size > 1 and (values == values[0]).all() else interval_of(values)


def compute_t_eer(
    bonafide_cm: ArrayLike, spoof_cm: ArrayLike, target_asv: ArrayLike, nontarget_asv: ArrayLike, spoof_asv: ArrayLike
) -> TandemPoint:
    """Concurrent t-EER of a countermeasure and a speaker verification, and its thresholds.

    Only each system's own rates count, so that the two may come from different files; both should be of one data set.

    Args:
        bonafide_cm, spoof_cm: CM scores of targets and nontargets together, and of spoofs; at least one each.
        target_asv, nontarget_asv, spoof_asv: ASV scores by class, at least one each.

    Raises:
        InputError: as `compute_a_dcf`.

    >>> compute_t_eer([2.0, 3.0, 4.0], [0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [1.5, 2.5])
    TandemPoint(t_eer=0.0, t_eer_cm_threshold=1.0, t_eer_asv_threshold=1.0)
    """
    frr, far, cm_thresholds = compute_det_curve(bonafide_cm, spoof_cm)
    classes, asv_thresholds = _sort_classes(target_asv, nontarget_asv, spoof_asv)
    asv = class_rates(classes)
    chosen = _closest_cm_points(frr, far, asv)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(asv.fa_nontarget / asv.fa_spoof - far[chosen] / (1 - frr[chosen]))
    # Where the ASV alone rejects more than it wrongly accepts, no CM threshold makes the two equal.
    possible = asv.miss < 0.5 * asv.fa_nontarget + 0.5 * asv.fa_spoof
    point = int(np.argmin(np.where(possible & np.isfinite(distance), distance, np.inf)))
    cm_point = int(chosen[point])
    return TandemPoint(
        float(asv.fa_spoof[point] * far[cm_point]), float(cm_thresholds[cm_point]), float(asv_thresholds[point])
    )


def _closest_cm_points(frr: Floats, far: Floats, asv: ClassRates) -> Indices:
    """For each ASV threshold the first CM threshold where misses and mean false alarms of the tandem are closest.

    Their difference rises with the CM threshold, to 1 at the highest: bisection finds where it first reaches 0, for all
    ASV thresholds at once.
    """

    def excess(points: Indices) -> Floats:
        frr_there, far_there = frr[points], far[points]
        miss = frr_there + (1 - frr_there) * asv.miss
        false_alarm = 0.5 * (1 - frr_there) * asv.fa_nontarget + 0.5 * far_there * asv.fa_spoof
        difference: Floats = miss - false_alarm
        return difference

    low = np.zeros(asv.miss.size, dtype=np.intp)
    high = np.full(asv.miss.size, frr.size - 1)
    while (low < high).any():
        middle = (low + high) // 2
        reached = excess(middle) >= 0
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    before = np.maximum(high - 1, 0)
    return np.where(np.abs(excess(before)) <= np.abs(excess(high)), before, high)


def class_rates(classes: NDArray[np.uint8]) -> ClassRates:
    """Rates at every threshold of n trials in rising order of score, (n,): 0 a target, 1 a nontarget, 2 a spoof.

    All three classes must be there; n + 1 points as in `det.compute_det_curve`.
    """
    rejected = np.zeros((3, classes.size + 1), dtype=np.int64)
    for index in (_TARGET, _NONTARGET, _SPOOF):
        np.cumsum(classes == index, out=rejected[index, 1:])
    sizes = rejected[:, -1:]
    accepted = (sizes - rejected) / sizes
    return ClassRates(rejected[_TARGET] / sizes[_TARGET], accepted[_NONTARGET], accepted[_SPOOF])


def _sort_classes(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> tuple[NDArray[np.uint8], Floats]:
    """The classes of all trials in rising order of score, of equal ones in order of class, and all thresholds."""
    by_class = [
        checked_scores(scores, f"{name} scores")
        for scores, name in ((target, "target"), (nontarget, "nontarget"), (spoof, "spoof"))
    ]
    scores = np.concatenate(by_class)
    classes = np.repeat(np.arange(3, dtype=np.uint8), [len(one) for one in by_class])
    order = np.argsort(scores, kind="stable")
    return classes[order], thresholds_of(scores[order])


def _normalised_a_dcf(rates: ClassRates, costs: SASVCosts) -> Floats:
    miss = costs.c_miss * costs.p_target
    nontarget, spoof = costs.c_fa_nontarget * costs.p_nontarget, costs.c_fa_spoof * costs.p_spoof
    cost: Floats = (miss * rates.miss + nontarget * rates.fa_nontarget + spoof * rates.fa_spoof) / min(
        miss, nontarget + spoof
    )
    return cost
