"""Logistic regression from scores to log-likelihood ratios: the calibration of one system, or the fusion of several.

    scores of development trials --fit_logistic--> LinearMap --apply, of--> log-likelihood ratios (natural logarithm)

Conventions
    Higher = bona fide. Both classes weigh the same in the fit, whatever their number of trials, so that the log-odds
    are the logarithm of p(scores | bona fide) / p(scores | spoof), without a prior.
    Where dev is separated without error there is no best slope, the steeper the better. Then the labels are softened
    (Platt): of N trials of a class, (N + 1) / (N + 2) count as what they are. Ratios then reach about ln(N + 1), as
    much as N trials can say.

Sources: N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language, 2006; N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the
NIST speaker recognition evaluation 2006", IEEE TASLP, 2007; J. Platt, "Probabilistic outputs for support vector
machines", 1999. The regression is scikit-learn's.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.det import Bools, Floats, checked_scores
from s2pecnet.score_files.cm_asv import CMScores, align_trials

# Weights have the size of 1 / standard deviation, and have to be finite.
_LEAST_SPREAD = 1e-300


@dataclass(frozen=True)
class LinearMap:
    """score = offset + weights . scores of k systems.

    Attributes:
        weights: k of them, in the order of the systems.
        offset: added to the weighted sum.
    """

    weights: tuple[float, ...]
    offset: float

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    def apply(self, systems: Sequence[CMScores], names: Sequence[str] = ()) -> CMScores:
        """The fused scores, in the order of the first system's trials.

        Raises:
            InputError: another number of systems, or they cover different trials.
        """
        if len(systems) != len(self.weights):
            raise InputError(f"scores of {len(systems)} systems, expected {len(self.weights)} as in training")
        first = systems[0]
        scores = np.empty_like(first.scores)
        with np.errstate(all="ignore"):
            fused = self.offset + stack_scores(systems, names)[0] @ np.array(self.weights)
        if not np.isfinite(fused).all():
            raise InputError("the fused scores are beyond any number: these scores are not of the size of those of dev")
        scores[np.argsort(first.utterances)] = fused
        return CMScores(first.utterances, first.attacks, first.is_bonafide, scores, first.n_unscored)

    def of(self, scores: Floats) -> Floats:
        """The map of one system's scores, (n,), where there is only one weight."""
        (weight,) = self.weights
        return weight * scores + self.offset


def fit_logistic(systems: Sequence[CMScores], names: Sequence[str] = ()) -> LinearMap:
    """Weights and offset that make log-likelihood ratios, fitted on development trials.

    One system's weight is at least 0; scores that rank no better than chance get weight and offset 0. Of several, a
    system may get a negative weight.

    Args:
        systems: the k systems' scores of the same trials.
        names: what messages call them.

    Raises:
        InputError: systems of different trials, a class without trials, a score that is not finite.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "-", "A07", "A08"]),
    ...     is_bonafide=np.array([True, True, False, False]), scores=np.array([3.0, 1.0, 2.0, 0.0]))
    >>> calibration = fit_logistic([cm])
    >>> round(calibration.weights[0], 4), round(float(calibration.of(np.array([1.5]))[0]), 4)
    (0.9082, 0.0)
    """
    scores, is_bonafide = stack_scores(systems, names)
    if is_bonafide.all() or not is_bonafide.any():
        raise InputError(
            f"no {'spoofed' if is_bonafide.all() else 'bona fide'} trials to fit on, expected both classes"
        )
    standard, centres, spreads = standardise(scores)
    varied = spreads > 0
    n_class = np.where(is_bonafide, is_bonafide.sum(), (~is_bonafide).sum())
    coefficients, intercept = _regression(standard, is_bonafide, np.ones(n_class.size))
    fitted = standard @ coefficients
    if fitted[is_bonafide].min() >= fitted[~is_bonafide].max() and np.ptp(fitted) > 0:
        coefficients, intercept = _regression(standard, is_bonafide, (n_class + 1) / (n_class + 2))
    if len(systems) == 1 and not (varied[0] and coefficients[0] > 0):
        # The best line that does not fall is flat, and with classes that weigh the same it lies at 0.
        return LinearMap((0.0,), 0.0)
    weights = np.where(varied, coefficients / np.where(varied, spreads, 1.0), 0.0)
    return LinearMap(tuple(weights.tolist()), float(intercept - weights @ centres))


def standardise(scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Scores less their mean and divided by their standard deviation, system by system.

    Args:
        scores: (n, k) finite ones, of any size.

    Returns:
        (n, k) standardised scores, (k,) means, (k,) standard deviations. The deviation of scores that are all equal up
        to rounding is 0, as is one that nothing can be divided by; their standardised scores are 0.
    """
    # The squares of 1e-200 and 1e200 are no doubles: all is computed near 1. A power of 2 rounds nothing.
    exponents = np.frexp(np.abs(scores).max(axis=0))[1]
    near_one = np.ldexp(scores, -exponents)
    centres, spreads = near_one.mean(axis=0), near_one.std(axis=0)
    # Not by the deviation: the mean of equal numbers need not be that number.
    is_varied = np.ptp(near_one, axis=0) > 1e-12 * np.abs(near_one).max(axis=0)
    deviations = np.ldexp(spreads, exponents)
    is_varied &= deviations > _LEAST_SPREAD
    standard = np.where(is_varied, near_one - centres, 0.0) / np.where(is_varied, spreads, 1.0)
    return standard, np.ldexp(centres, exponents), np.where(is_varied, deviations, 0.0)


def stack_scores(systems: Sequence[CMScores], names: Sequence[str] = ()) -> tuple[Floats, Bools]:
    """(n, k) scores of the k systems' common trials, in order of utterance, and (n,) whether each is bona fide.

    Raises:
        InputError: systems of different trials, no trials, a score that is not finite.
    """
    aligned = align_trials(systems, names)
    return np.stack([checked_scores(one.scores, "CM scores") for one in aligned], axis=1), aligned[0].is_bonafide


def _regression(inputs: Floats, is_bonafide: Bools, trust: Floats) -> tuple[Floats, float]:
    """Coefficients (k,) and intercept of the log-likelihood ratio in standardised scores, (n, k).

    Args:
        trust: (n,) the share of its label that a trial counts for, in (0.5, 1].
    """
    # Imported here: it takes a second, and most callers of this module's commands do without.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Every trial twice: as what it is, and, with what is left of its weight, as the other class.
    labels = np.concatenate((is_bonafide, ~is_bonafide))
    per_class = 0.5 / np.where(is_bonafide, is_bonafide.sum(), (~is_bonafide).sum())
    weights = np.concatenate((trust, 1 - trust)) * np.tile(per_class, 2)
    # C = inf: no penalty. Standardised scores keep the solver's steps sound whatever the scale of the scores.
    regression = LogisticRegression(C=np.inf, solver="lbfgs", tol=1e-9, max_iter=1000)
    with warnings.catch_warnings():
        # Separable trials have no optimum to reach; the caller sees that, and softens the labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(np.tile(inputs, (2, 1)), labels, weights)
    return regression.coef_[0], float(regression.intercept_[0])
