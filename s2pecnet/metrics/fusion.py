"""Fusion: one score from the scores of several systems, score = offset + weights . scores; higher = bona fide.

logistic.fit_logistic   weights of a logistic regression on dev: the fused scores are log-likelihood ratios
fit_mean                the mean of the systems' scores, each less its mean and divided by its standard deviation
                        over all trials: no labels and no parameters are learnt
"""

from collections.abc import Sequence

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.logistic import LinearMap, stack_scores, standardise
from s2pecnet.score_files.cm_asv import CMScores


def fit_mean(systems: Sequence[CMScores], names: Sequence[str] = ()) -> LinearMap:
    """The mean of standardised scores; mean and standard deviation of each system are those of these trials.

    Raises:
        InputError: systems of different trials, or a system whose scores are all equal.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2"]), attacks=np.array(["-", "A07"]),
    ...     is_bonafide=np.array([True, False]), scores=np.array([5.0, 1.0]))
    >>> fit_mean([cm, cm])
    LinearMap(weights=(0.25, 0.25), offset=-1.5)
    """
    scores, _ = stack_scores(systems, names)
    _, centres, spreads = standardise(scores)
    if not spreads.all():
        index = int(np.argmin(spreads))
        raise InputError(
            f"{names[index] if names else f'system {index + 1}'}: all scores are {centres[index]:g}, expected "
            "different ones to standardise"
        )
    weights = 1 / (len(systems) * spreads)
    return LinearMap(tuple(weights.tolist()), float(-(weights @ centres)))
