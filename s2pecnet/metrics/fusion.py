"""Fusion: one score from the scores of several systems; and log-likelihood ratios from those of one.

    dev scores of k systems  --fit_logistic or fit_mean--> LinearMap --apply--> fused scores of eval

Both ways are weighted sums, score = offset + weights . scores; higher = bona fide.
    logistic  the weights of a logistic regression on dev in which both classes weigh the same, whatever their number of
              trials: the fused scores are natural logarithms of p(scores | bona fide) / p(scores | spoof). With one
              system it is a calibration.
    mean      the mean of the systems' scores, each less its mean and divided by its standard deviation over all
              trials: no labels and no parameters are learnt.

Source: N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the NIST
speaker recognition evaluation 2006", IEEE TASLP, 2007. Where dev is separated without error there are no best weights,
the larger the better; then the labels are softened as J. Platt does in "Probabilistic outputs for support vector
machines", 1999: of N trials of a class, (N + 1) / (N + 2) are taken to be what they are. The regression is
scikit-learn's.
"""

from collections.abc import Sequence

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.logistic import LinearMap, _as_columns
from s2pecnet.score_files.cm_asv import CMScores, align_trials


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
    scores = _as_columns(align_trials(systems, names))
    centres, spreads = scores.mean(axis=0), scores.std(axis=0)
    if not spreads.all():
        place = int(np.argmin(spreads))
        raise InputError(
            f"{names[place] if names else f'system {place + 1}'}: all scores are {centres[place]:g}, expected "
            "different ones to standardise"
        )
    weights = 1 / (len(systems) * spreads)
    return LinearMap(tuple(weights.tolist()), float(-(weights @ centres)))
