"""From scores to verdicts: thresholds, calibrations and log-likelihood ratios.

Conventions: higher = bona fide, for scores and log-likelihood ratios; the verdict is bonafide where the score is above
the threshold. There is no verdict without a calibration or a threshold: with 0 for its threshold, the published AASIST
calls 91 % of MiniLA's real speech spoofed.
"""

import logging
import math
from dataclasses import dataclass

from s2pecnet.conventions import KEYS
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.metrics.calibration import Calibration, read_calibration
from s2pecnet.systems.weights import description

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """How a score becomes a verdict and a log-likelihood ratio.

    Attributes:
        threshold, reason: the score above which a file is bonafide, and why that one; None: there is no verdict.
        calibration: gives the ratio; None: there is none.
    """

    threshold: float | None
    reason: str
    calibration: Calibration | None

    def verdict(self, score: float) -> str | None:
        """`bonafide` or `spoof`, the keys of protocols and score files; None without a threshold."""
        return None if self.threshold is None else KEYS[score <= self.threshold]

    def llr(self, score: float) -> float | None:
        """The log-likelihood ratio, natural logarithm; None without a calibration."""
        return None if self.calibration is None else round(self.calibration.llr(score), 6)


def make_rule(given: str | None, calibration: Calibration | None) -> Rule:
    """The rule for `--threshold` as it was given and for what is known of the system.

    By default a file is bonafide where its log-likelihood ratio is above 0. Without a calibration, or with one that
    says nothing, a threshold has to be given: no score by itself separates the classes.

    Raises:
        InputError: it is neither a finite number nor a threshold that the calibration has.
    """
    named = given or "llr"
    if named in ("llr", "eer", "min-dcf"):
        if calibration is None:
            if given:
                raise InputError(f"--threshold {given}: these weights have no calibration; give one by --calibration")
            return Rule(None, "no calibration, and no --threshold", None)
        trials = f"{calibration.fitted_on}: {calibration.n_bonafide} bona fide, {calibration.n_spoof} spoofed"
        if calibration.slope == 0:
            reason = f"the calibration says nothing, as {trials} rank no better than chance"
            if given:
                raise InputError(f"--threshold {given}: {reason}")
            return Rule(None, reason, calibration)
        if named == "llr":
            return Rule(calibration.llr_threshold, f"where the llr is 0, by {trials}", calibration)
        if named == "eer":
            return Rule(calibration.eer_threshold, f"the EER threshold of {trials}", calibration)
        costs = f"Pspoof {calibration.p_spoof:g}, Cmiss {calibration.c_miss:g}, Cfa {calibration.c_fa:g}"
        return Rule(calibration.min_dcf_threshold, f"the min-DCF threshold of {trials} ({costs})", calibration)
    try:
        threshold = float(named)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise InputError(f"--threshold {given}: expected a number, llr, eer or min-dcf")
    return Rule(threshold, "given by --threshold", calibration)


def load_calibration(given: str | None, weights: str, eval_crop: str | None = None) -> Calibration | None:
    """The calibration of the file given, else of the weights; None where there is none.

    One that says it was fitted on scores of other weights, or of other parts of recordings, is used with a warning.

    Args:
        eval_crop: what it is used for is scored on this, as the config's key of that name has it; None: whatever.

    Raises:
        InputError: it cannot be read, or is none.
    """
    if given:
        calibration = read_calibration(given)
        if calibration.weights_sha256 not in (None, sha256_of(weights)):
            log.warning("%s: fitted on scores of other weights than %s; its ratios may mislead", given, weights)
    else:
        stored = description(weights).get("calibration")
        if stored is None:
            return None
        # Weights from before there was this key were scored as it is by default.
        calibration = Calibration.from_dict({"eval_crop": "first"} | stored, f"{weights}: calibration")
    if None not in (eval_crop, calibration.eval_crop) and eval_crop != calibration.eval_crop:
        log.warning(
            "%s: fitted on scores with eval_crop %s, which is %s here; its ratios and thresholds may mislead",
            *(given or weights, calibration.eval_crop, eval_crop),
        )
    return calibration
