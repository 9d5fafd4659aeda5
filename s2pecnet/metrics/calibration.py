"""Scores to log-likelihood ratios and verdicts: an affine calibration and two thresholds, fitted on dev.

    llr = slope * score + offset = ln p(score | bona fide) / p(score | spoof), natural logarithm

    score file of dev --read_cm_scores--> arrays --fit--> Calibration --as_dict--> checkpoint or calibration.json

Conventions
    Higher = bona fide, for scores and ratios alike; a trial is accepted as bona fide when its score lies *above* a
    threshold. The ratio holds for any mix of classes: a prior is added to it afterwards, as ln(P_bonafide / P_spoof).

Sources
    Logistic regression in which both classes weigh the same, whatever their number of trials (prior-weighted, so that
    its log-odds are a ratio of likelihoods): N. Brümmer and J. du Preez, "Application-independent evaluation of speaker
    detection", Computer Speech and Language, 2006. The regression is scikit-learn's.
    Where no spoof scores above a bona fide trial there is no best slope, the steeper the better. Then the labels are
    softened as J. Platt does in "Probabilistic outputs for support vector machines", 1999: of N trials of a class,
    (N + 1) / (N + 2) are taken to be what they are. Ratios then reach about ln(N + 1), as much as N trials can say.
    Detection cost: prior and costs of the ASVspoof 5 evaluation plan (X. Wang et al., ASVspoof workshop 2024).
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2pecnet.config.options import option, read_options
from s2pecnet.errors import InputError
from s2pecnet.metrics.det import compute_det_curve, compute_eer
from s2pecnet.score_files.cm_asv import CMScores
from s2pecnet.text import load_json_object

Floats = NDArray[np.float64]

P_SPOOF, C_MISS, C_FA = 0.05, 1.0, 10.0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns a system's scores into log-likelihood ratios and verdicts.

    Attributes:
        slope, offset: llr = slope * score + offset. Both are 0 where the scores rank no better than chance: they then
            say nothing.
        eer_threshold: the score of the equal error rate, that of `evaluation.compute_eer`.
        min_dcf_threshold: the score of the least c_miss * (1 - p_spoof) * P_miss + c_fa * p_spoof * P_fa.
        p_spoof, c_miss, c_fa: prior of spoofs, cost of a bona fide trial rejected, cost of a spoof accepted.
        n_bonafide, n_spoof: trials that it was fitted on.
        separable: none of those spoofs scores above a bona fide trial; the slope is then by Platt's targets.
        fitted_on: where the trials came from.
    """

    slope: float = option(at_least=0)
    offset: float = option()
    eer_threshold: float = option()
    min_dcf_threshold: float = option()
    p_spoof: float = option(above=0, at_most=1)
    c_miss: float = option(above=0)
    c_fa: float = option(above=0)
    n_bonafide: int = option(at_least=1)
    n_spoof: int = option(at_least=1)
    separable: bool = option()
    fitted_on: str = option()

    def llr(self, score: float) -> float:
        """The log-likelihood ratio of a score, natural logarithm; above 0 it speaks for bona fide."""
        return self.slope * score + self.offset

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON or a checkpoint's description."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], origin: str = "calibration") -> "Calibration":
        """From what `as_dict` gave.

        Args:
            origin: where it came from, for messages.

        Raises:
            InputError: a key is missing, unknown, or its value impossible; all of them are named.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"{origin}: expected a calibration as calibration.py writes it, got {content!r}")
        calibration, unknown = read_options(cls, content, lambda key: f"{origin}: ")
        if unknown:
            raise InputError(
                f"{origin}: no calibration has the keys {', '.join(unknown)}; did calibration.py write it?"
            )
        return calibration

    def summary(self) -> str:
        """A text for people, a fact a line."""
        dcf = f"Pspoof {self.p_spoof:g}, Cmiss {self.c_miss:g}, Cfa {self.c_fa:g}"
        how = ", separable: slope by Platt's targets" if self.separable else ""
        return "\n".join(
            [
                f"fitted on          {self.fitted_on}: {self.n_bonafide} bona fide, {self.n_spoof} spoofed{how}",
                f"llr                {self.slope:.6g} * score {self.offset:+.6g} (natural logarithm)",
                f"EER threshold      {self.eer_threshold:.6f}",
                f"min-DCF threshold  {self.min_dcf_threshold:.6f} ({dcf})",
            ]
        )


def fit(cm_scores: CMScores, fitted_on: str = "dev") -> Calibration:
    """Fit slope, offset and thresholds on the scores of development trials.

    Any finite scores have a calibration: separable ones get a slope by Platt's targets, those that rank no better than
    chance, or are all equal, get slope and offset 0.

    Args:
        fitted_on: what is said of where the scores came from.

    Raises:
        InputError: a class has no trials, or a score is not finite.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "-", "A07", "A08"]),
    ...     is_bonafide=np.array([True, True, False, False]), scores=np.array([3.0, 1.0, 2.0, 0.0]))
    >>> calibration = fit(cm)
    >>> round(calibration.slope, 4), round(calibration.llr(1.5), 4), calibration.eer_threshold
    (0.9082, 0.0, 1.0)
    """
    bonafide, spoof = cm_scores.bonafide, cm_scores.spoof
    _, eer_threshold = compute_eer(bonafide, spoof)
    separable = bool(bonafide.min() >= spoof.max())
    slope, offset = _regression(bonafide, spoof, separable)
    return Calibration(
        slope=slope,
        offset=offset,
        eer_threshold=eer_threshold,
        min_dcf_threshold=_min_dcf_threshold(bonafide, spoof),
        p_spoof=P_SPOOF,
        c_miss=C_MISS,
        c_fa=C_FA,
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        separable=separable,
        fitted_on=fitted_on,
    )


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """A calibration from the JSON file that this program writes.

    Raises:
        InputError: the file is missing, not JSON, or no calibration.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such calibration; write one by python calibration.py") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a calibration as calibration.py writes it") from None
    return Calibration.from_dict(load_json_object(text, str(path)), str(path))


def _min_dcf_threshold(bonafide: Floats, spoof: Floats) -> float:
    miss, false_alarm, thresholds = compute_det_curve(bonafide, spoof)
    cost = C_MISS * (1 - P_SPOOF) * miss + C_FA * P_SPOOF * false_alarm
    return float(thresholds[np.argmin(cost)])


def _regression(bonafide: Floats, spoof: Floats, separable: bool) -> tuple[float, float]:
    """Slope and offset of the log-likelihood ratio."""
    # Imported here: it takes a second, and nothing else in this module needs it.
    from sklearn.linear_model import LogisticRegression

    scores = np.concatenate((bonafide, spoof))
    centre, spread = float(scores.mean()), float(scores.std())
    if spread == 0:
        return 0.0, 0.0
    right = np.repeat([_trust(bonafide.size, separable), _trust(spoof.size, separable)], [bonafide.size, spoof.size])
    per_class = np.repeat([0.5 / bonafide.size, 0.5 / spoof.size], [bonafide.size, spoof.size])
    is_bonafide = np.arange(scores.size) < bonafide.size
    # Every trial twice: as what it is, and, with what is left of its weight, as the other class.
    labels, weights = np.concatenate((is_bonafide, ~is_bonafide)), np.concatenate((right, 1 - right))
    inputs = np.tile((scores - centre) / spread, 2)[:, None]
    # C = inf: no penalty. Standardised scores keep the solver's steps sound whatever the scale of the logits.
    regression = LogisticRegression(C=np.inf, solver="lbfgs", tol=1e-9, max_iter=1000)
    regression.fit(inputs, labels, np.tile(per_class, 2) * weights)
    slope = float(regression.coef_[0, 0]) / spread
    # The best line that does not fall is flat, and with classes that weigh the same it lies at 0.
    return (slope, float(regression.intercept_[0]) - slope * centre) if slope > 0 else (0.0, 0.0)


def _trust(trials: int, separable: bool) -> float:
    """Share of its label that a trial counts for."""
    return (trials + 1) / (trials + 2) if separable else 1.0
