"""From scores to verdicts: thresholds, calibrations and log-likelihood ratios.

Conventions: higher = bona fide, for scores and log-likelihood ratios; the verdict is bonafide where the score is above
the threshold.
"""

import logging
import math
from dataclasses import dataclass

from s2pecnet.errors import InputError
from s2pecnet.metrics.calibration import Calibration, read_calibration
from s2pecnet.systems.weights import description

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """How a score becomes a verdict and a log-likelihood ratio.

    Attributes:
        threshold, reason: the score above which a file is bonafide, and why that one.
        calibration: gives the ratio; None: there is none.
    """

    threshold: float
    reason: str
    calibration: Calibration | None

    def verdict(self, score: float) -> str:
        """`bonafide` or `spoof`, the keys of protocols and score files."""
        return "bonafide" if score > self.threshold else "spoof"

    def llr(self, score: float) -> float | None:
        """The log-likelihood ratio, natural logarithm; None without a calibration."""
        return None if self.calibration is None else round(self.calibration.llr(score), 6)


def make_rule(given: str | None, calibration: Calibration | None) -> Rule:
    """The rule for `--threshold` as it was given and for what is known of the system.

    Raises:
        InputError: it is neither a finite number nor a threshold that the calibration has.
    """
    named = given or "eer"
    if named in ("eer", "min-dcf"):
        if calibration is None:
            if given:
                raise InputError(f"--threshold {given}: these weights have no calibration; give one by --calibration")
            return Rule(0.0, "the default threshold, no calibration", None)
        trials = f"{calibration.fitted_on}: {calibration.n_bonafide} bona fide, {calibration.n_spoof} spoofed"
        if named == "eer":
            return Rule(calibration.eer_threshold, f"the EER threshold of {trials}", calibration)
        costs = f"Pspoof {calibration.p_spoof:g}, Cmiss {calibration.c_miss:g}, Cfa {calibration.c_fa:g}"
        return Rule(calibration.min_dcf_threshold, f"the min-DCF threshold of {trials} ({costs})", calibration)
    try:
        threshold = float(named)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise InputError(f"--threshold {given}: expected a number, eer or min-dcf")
    return Rule(threshold, "given by --threshold", calibration)


def load_calibration(given: str | None, weights: str) -> Calibration | None:
    """The calibration of the file given, else of the weights; None, with a note, where there is none.

    Raises:
        InputError: it cannot be read, or is none.
    """
    stored = None if given else description(weights).get("calibration")
    if given is None and stored is None:
        log.info(
            "no calibration is stored with %s: no log-likelihood ratios; fit one on dev, python main.py --eval "
            "--split dev --eval_model_weights %s --config ..., and give it by --calibration",
            weights,
            weights,
        )
        return None
    calibration = read_calibration(given) if given else Calibration.from_dict(stored or {}, f"{weights}: calibration")
    if calibration.slope == 0:
        log.info("the calibration is flat, all ratios are 0: on dev the scores ranked no better than chance")
    return calibration
