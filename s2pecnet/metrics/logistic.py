"""Logistic regression from scores to log-likelihood ratios, for one system or several.

Brümmer and de Villiers, "The BOSARIS toolkit", 2013: a linear map of the scores, trained with the prior-weighted
cross-entropy, gives calibrated ratios.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.det import Bools, Floats
from s2pecnet.score_files.cm_asv import CMScores, align_trials


@dataclass(frozen=True)
class LinearMap:
    """score = offset + weights . scores of k systems.

    Attributes:
        weights: k of them, in the order of the systems.
        offset: added to the weighted sum.
    """

    weights: tuple[float, ...]
    offset: float

    def apply(self, systems: Sequence[CMScores], names: Sequence[str] = ()) -> CMScores:
        """The fused scores, in the order of the first system's trials.

        Raises:
            InputError: another number of systems, or they did not score the same trials.
        """
        if len(systems) != len(self.weights):
            raise InputError(f"scores of {len(systems)} systems, expected {len(self.weights)} as in training")
        aligned = align_trials(systems, names)
        fused = self.offset + _as_columns(aligned) @ np.array(self.weights)
        by_name = np.argsort(systems[0].utterances)
        scores = np.empty_like(fused)
        scores[by_name] = fused
        first = systems[0]
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
        InputError: systems of different trials, a class without trials.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "-", "A07", "A08"]),
    ...     is_bonafide=np.array([True, True, False, False]), scores=np.array([3.0, 1.0, 2.0, 0.0]))
    >>> calibration = fit_logistic([cm])
    >>> round(calibration.weights[0], 4), round(float(calibration.of(np.array([1.5]))[0]), 4)
    (0.9082, 0.0)
    """
    aligned = align_trials(systems, names)
    scores, is_bonafide = _as_columns(aligned), aligned[0].is_bonafide
    if is_bonafide.all() or not is_bonafide.any():
        raise InputError(
            f"no {'spoofed' if is_bonafide.all() else 'bona fide'} trials to fit on, expected both classes"
        )
    centres, spreads = scores.mean(axis=0), scores.std(axis=0)
    standard = (scores - centres) / np.where(spreads > 0, spreads, 1.0)
    coefficients, intercept = _regression(standard, is_bonafide, softened=False)
    if _separates(standard @ coefficients, is_bonafide):
        coefficients, intercept = _regression(standard, is_bonafide, softened=True)
    if len(systems) == 1 and coefficients[0] <= 0:
        # The best line that does not fall is flat, and with classes that weigh the same it lies at 0.
        return LinearMap((0.0,), 0.0)
    weights = np.where(spreads > 0, coefficients / np.where(spreads > 0, spreads, 1.0), 0.0)
    return LinearMap(tuple(weights.tolist()), float(intercept - weights @ centres))


def _as_columns(systems: Sequence[CMScores]) -> Floats:
    """(n, k) scores of n common trials."""
    return np.stack([system.scores for system in systems], axis=1)


def _regression(inputs: Floats, is_bonafide: Bools, softened: bool) -> tuple[Floats, float]:
    """Coefficients (k,) and intercept of the log-likelihood ratio in standardised scores, (n, k)."""
    # Imported here: it takes a second, and most callers of this module's commands do without.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    n_class = np.where(is_bonafide, is_bonafide.sum(), (~is_bonafide).sum())
    right = (n_class + 1) / (n_class + 2) if softened else np.ones(n_class.size)
    # Every trial twice: as what it is, and, with what is left of its weight, as the other class.
    labels = np.concatenate((is_bonafide, ~is_bonafide))
    weights = np.concatenate((right, 1 - right)) * np.tile(0.5 / n_class, 2)
    # C = inf: no penalty. Standardised scores keep the solver's steps sound whatever the scale of the scores.
    regression = LogisticRegression(C=np.inf, solver="lbfgs", tol=1e-9, max_iter=1000)
    with warnings.catch_warnings():
        # Separable trials have no optimum to reach; the caller sees that, and softens the labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(np.tile(inputs, (2, 1)), labels, weights)
    return regression.coef_[0], float(regression.intercept_[0])


def _separates(scores: Floats, is_bonafide: Bools) -> bool:
    return bool(scores[is_bonafide].min() >= scores[~is_bonafide].max() and np.ptp(scores) > 0)
