"""Miss and false-alarm rates at every threshold, and the equal error rate (EER).

    compute_det_curve        rates and thresholds        compute_eer         EER at the nearest threshold
    obtain_asv_error_rates   rates at one threshold      interpolated_eer    EER between thresholds (Arena)
    sort_trials, sweep, equal_error ...   the same steps, for metrics that share one sorting

Conventions
    Targets are the trials to accept (bona fide speech for a countermeasure), nontargets those to reject (spoofs), and
    a higher score speaks for a target. Every trial's score is a threshold; a trial is accepted when it lies above it,
    so the threshold's own trial is rejected. Where scores are equal, targets sort before nontargets: ties count
    against the system. All rates are fractions in [0, 1].

Source: A. Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2pecnet.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]


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
    target = checked_scores(target_scores, "target_scores")
    nontarget = checked_scores(nontarget_scores, "nontarget_scores")
    scores, order = sort_trials(target, nontarget)
    frr, far = sweep(order < target.size)
    return frr, far, thresholds_of(scores)


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
    eer, point = equal_error(frr, far)
    return eer, float(thresholds[point])


def interpolated_eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Equal error rate where the lines of both rates cross, as the Speech Anti-Spoofing Arena computes it.

    Every different score is a threshold, and a trial is accepted at or above it. `compute_eer` takes the nearest
    threshold instead: the two differ a little. A fraction in [0, 1].

    Args:
        target_scores: (T,) scores of the trials to accept, T >= 1.
        nontarget_scores: (N,) scores of the trials to reject, N >= 1.

    Raises:
        InputError: as `compute_det_curve`.

    >>> interpolated_eer([2.0, 3.0, 4.0], [-1.0, 0.0, 1.0])
    0.0
    >>> interpolated_eer([0.0, 2.0], [1.0])
    0.5
    """
    return interpolated_eer_point(target_scores, nontarget_scores)[0]


def interpolated_eer_point(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> tuple[float, float]:
    """`interpolated_eer`, and the threshold at the crossing, interpolated between the two scores beside it.

    >>> interpolated_eer_point([0.0, 2.0], [1.0])
    (0.5, 1.5)
    """
    targets = np.sort(checked_scores(target_scores, "target_scores"))
    others = np.sort(checked_scores(nontarget_scores, "nontarget_scores"))
    thresholds = np.unique(np.concatenate((targets, others)))
    frr = np.searchsorted(targets, thresholds) / targets.size
    far = 1 - np.searchsorted(others, thresholds) / others.size
    gap = far - frr  # 1 at the first threshold, never rising
    if gap[-1] > 0:
        return float(far[-1] + frr[-1]) / 2, float(thresholds[-1])
    after = int(np.argmax(gap <= 0))
    weight = gap[after - 1] / (gap[after - 1] - gap[after])
    eer, threshold = (line[after - 1] + weight * (line[after] - line[after - 1]) for line in (far, thresholds))
    return float(eer), float(threshold)


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
    target = checked_scores(tar_asv, "tar_asv")
    nontarget = checked_scores(non_asv, "non_asv")
    spoof = checked_scores(spoof_asv, "spoof_asv", may_be_empty=True)
    miss_spoof = float(np.mean(spoof < asv_threshold)) if spoof.size else None
    return float(np.mean(nontarget >= asv_threshold)), float(np.mean(target < asv_threshold)), miss_spoof


def checked_scores(scores: ArrayLike, name: str, may_be_empty: bool = False) -> Floats:
    """The scores as an array, (n,).

    Raises:
        InputError: none (unless there may be none), not one-dimensional, not numbers, or not finite.
    """
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
        index = int(np.argmin(finite))
        raise InputError(f"{name}[{index}] is {array[index]}, expected finite scores")
    return array


def sort_trials(target: Floats, nontarget: Floats) -> tuple[Floats, Indices]:
    """All scores in rising order, of equal ones the targets first, and each one's index into (target, nontarget)."""
    scores = np.concatenate((target, nontarget))
    # The default sort is fast and not stable: it may order each class by itself. Merging the two must be stable.
    order = np.concatenate((np.argsort(target), target.size + np.argsort(nontarget)))
    order = order[np.argsort(scores[order], kind="stable")]
    return scores[order], order


def sweep(is_target: Bools) -> tuple[Floats, Floats]:
    """Rates at every threshold: frr and far, (n + 1,) each, of n trials in rising order of score, (n,).

    Both classes must be there; n + 1 points as in `compute_det_curve`.
    """
    targets_rejected = np.zeros(is_target.size + 1, dtype=np.int64)
    np.cumsum(is_target, out=targets_rejected[1:])
    n_targets = int(targets_rejected[-1])
    n_nontargets = is_target.size - n_targets
    nontargets_rejected = np.arange(is_target.size + 1) - targets_rejected
    return targets_rejected / n_targets, (n_nontargets - nontargets_rejected) / n_nontargets


def equal_error(frr: Floats, far: Floats) -> tuple[float, int]:
    """The EER and the point of the sweep where it lies: the first where the rates are closest."""
    point = int(np.argmin(np.abs(frr - far)))
    return float((frr[point] + far[point]) / 2), point


def thresholds_of(scores: Floats) -> Floats:
    """(n + 1,) thresholds of the points of a sweep over scores in rising order, (n,)."""
    return np.concatenate(([scores[0] - 0.001], scores))


def least(cost: Floats, thresholds: Floats) -> tuple[float, float]:
    """The minimum of a cost over the points of a sweep, and the first threshold where it lies."""
    point = int(np.argmin(cost))
    return float(cost[point]), float(thresholds[point])


def threshold_between(scores: Floats, point: int) -> float:
    """A threshold with the rates of a point of the sweep, halfway between the scores around it; scores: (n,), rising.

    The released metrics name the score below it, which on other trials favours acceptance, much so in a wide gap.
    """
    if 0 < point < scores.size and scores[point - 1] < scores[point]:
        middle = float(scores[point - 1] / 2 + scores[point] / 2)
        # Neighbouring floats have nothing between them.
        return middle if scores[point - 1] <= middle < scores[point] else float(scores[point - 1])
    return float(thresholds_of(scores)[point])


def rank_names(names: NDArray[np.str_]) -> tuple[list[str], Indices]:
    """The distinct names of (n,), sorted, and the index of each of the n among them, (n,).

    As np.unique(names, return_inverse=True), but no two strings are compared: the ranks by the first k characters and
    the character behind them make the ranks by k + 1.

    >>> names, ranks = rank_names(np.array(["A08", "A07", "A08"]))
    >>> names, ranks.tolist()
    (['A07', 'A08'], [1, 0, 1])
    """
    names = np.ascontiguousarray(names, dtype=np.str_)
    ranks = np.zeros(names.size, dtype=np.intp)
    for characters in names.view(np.uint32).reshape(names.size, -1).T:
        integers = ranks * (int(characters.max()) + 1) + characters
        if integers.max() < 1 << 20:
            present = np.zeros(integers.max() + 1, dtype=np.intp)
            present[integers] = 1
            ranks = (np.cumsum(present) - 1)[integers]
        else:
            ranks = np.unique(integers, return_inverse=True)[1]
    by_rank = np.empty(ranks.max() + 1, dtype=names.dtype)
    by_rank[ranks] = names
    return by_rank.tolist(), ranks
