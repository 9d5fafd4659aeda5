"""Scores to log-likelihood ratios and verdicts: an affine calibration and two thresholds, fitted on dev.

    llr = slope * score + offset = ln p(score | bona fide) / p(score | spoof), natural logarithm

    score file of dev --read_cm_scores--> arrays --fit--> Calibration --as_dict--> checkpoint or calibration.json

Conventions
    Higher = bona fide, for scores and ratios alike; a trial is accepted as bona fide when its score lies *above* a
    threshold. The ratio holds for any mix of classes: a prior is added to it afterwards, as ln(P_bonafide / P_spoof).

Sources: the line is `logistic.fit_logistic`'s; prior and costs are those of the ASVspoof 5 evaluation plan (`dcf`).
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import Bool, Float, Int, Text, read_options
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.metrics.dcf import ASVSPOOF5_COSTS
from s2pecnet.metrics.logistic import fit_logistic
from s2pecnet.score_files.cm_asv import CMScores
from s2pecnet.text import load_json_object, quoted, read_text, threshold_text

_EXPECTED = "a calibration as `s2pecnet calibrate` writes it"


@dataclass(frozen=True)
class Calibration:
    """The line from a system's scores to log-likelihood ratios, and thresholds for verdicts.

    Attributes:
        slope, offset: llr = slope * score + offset. Both are 0 where the scores rank no better than chance: they then
            say nothing.
        eer_threshold: the threshold of the equal error rate.
        min_dcf_threshold: where c_miss * (1 - p_spoof) * P_miss + c_fa * p_spoof * P_fa is lowest. Both lie halfway
            between the two scores that they separate; where dev has no errors, where the ratio is 0 if that
            lies between its classes.
        p_spoof, c_miss, c_fa: prior of spoofs, cost of a bona fide trial rejected, cost of a spoof accepted.
        n_bonafide, n_spoof: trials that it was fitted on.
        separable: none of those spoofs scores above a bona fide trial; the slope is then by Platt's targets.
        fitted_on: where the trials came from.
        weights_sha256: the checkpoint that scored them; None: not known, or the one that the calibration is stored in.
        eval_crop: what of each trial was scored, as the config's key of this name has it; None: not known.
    """

    slope: Float = Field(ge=0)
    offset: Float = Field()
    eer_threshold: Float = Field()
    min_dcf_threshold: Float = Field()
    p_spoof: Float = Field(gt=0, le=1)
    c_miss: Float = Field(gt=0)
    c_fa: Float = Field(gt=0)
    n_bonafide: Int = Field(ge=1)
    n_spoof: Int = Field(ge=1)
    separable: Bool = Field()
    fitted_on: Text = Field()
    weights_sha256: Text | None = None
    eval_crop: Text | None = None

    def llr(self, score: float) -> float:
        """The log-likelihood ratio of a score, natural logarithm; above 0 it speaks for bona fide."""
        return self.slope * score + self.offset

    @property
    def llr_threshold(self) -> float:
        """The score whose ratio is 0; only where the slope is above 0."""
        return -self.offset / self.slope

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
            raise InputError(f"{origin}: expected {_EXPECTED}, got {quoted(content)}")
        calibration, unknown = read_options(cls, content, lambda key: f"{origin}: ")
        if unknown:
            raise InputError(f"{origin}: unknown keys {', '.join(unknown)}, expected {_EXPECTED}")
        return calibration

    def summary(self) -> str:
        """A text for people, a fact a line."""
        dcf = f"Pspoof {self.p_spoof:g}, Cmiss {self.c_miss:g}, Cfa {self.c_fa:g}"
        how = ", separable: slope by Platt's targets" if self.separable else ""
        how += ", no better than chance: the ratios say nothing" if self.slope == 0 else ""
        return "\n".join(
            [
                f"fitted on          {self.fitted_on}: {self.n_bonafide} bona fide, {self.n_spoof} spoofed{how}",
                f"llr                {self.slope:.6g} * score {self.offset:+.6g} (natural logarithm)",
                f"EER threshold      {threshold_text(self.eer_threshold, 'f')}",
                f"min-DCF threshold  {threshold_text(self.min_dcf_threshold, 'f')} ({dcf})",
            ]
        )


def fit(cm_scores: CMScores, fitted_on: str = "dev") -> Calibration:
    """Fit slope, offset and thresholds on the scores of development trials.

    Any finite scores have a calibration: separable ones get a slope by Platt's targets, those that rank no better than
    chance, or are all equal, get slope and offset 0.

    Args:
        fitted_on: where the scores came from, for people.

    Raises:
        InputError: a class has no trials, or a score is not finite.

    >>> import numpy as np
    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "-", "A07", "A08"]),
    ...     is_bonafide=np.array([True, True, False, False]), scores=np.array([3.0, 1.0, 2.0, 0.0]))
    >>> calibration = fit(cm)
    >>> round(calibration.slope, 4), round(calibration.llr(1.5), 4), calibration.eer_threshold
    (0.9082, 0.0, 1.5)
    """
    metrics = evaluate(cm_scores)
    assert metrics.min_dcf_threshold is not None
    line = fit_logistic([cm_scores])
    slope, bonafide, spoof = line.weights[0], cm_scores.bonafide, cm_scores.spoof
    eer_threshold, min_dcf_threshold = metrics.eer_threshold, metrics.min_dcf_threshold
    if slope > 0 and spoof.max() <= -line.offset / slope < bonafide.min():
        # Any threshold in the gap has no error. The one where the ratio is 0 agrees with the ratios.
        eer_threshold = min_dcf_threshold = -line.offset / slope
    return Calibration(
        slope=slope,
        offset=line.offset,
        eer_threshold=eer_threshold,
        min_dcf_threshold=min_dcf_threshold,
        **dataclasses.asdict(ASVSPOOF5_COSTS),
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        separable=bool(bonafide.min() >= spoof.max()),
        fitted_on=fitted_on,
    )


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """A calibration from the JSON file that `s2pecnet calibrate` writes.

    Raises:
        InputError: the file is missing, not JSON, or not a calibration.
        OSError: the file cannot be read.
    """
    try:
        text = read_text(path, _EXPECTED)
    except FileNotFoundError:
        raise InputError(f"{path}: no such calibration; write one with `s2pecnet calibrate`") from None
    return Calibration.from_dict(load_json_object(text, str(path)), str(path))
