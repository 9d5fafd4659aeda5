"""Error rates of a countermeasure at a threshold that is given: also of trials of one class, which have no EER.

A trial is accepted as bona fide when its score lies above the threshold, as everywhere here. Intervals are the exact
ones of a binomial rate (`bootstrap.exact_interval`).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import exact_interval
from s2pecnet.metrics.det import checked_scores
from s2pecnet.score_files.cm_asv import CMScores
from s2pecnet.text import threshold_text

RATES = (("frr", "FRR"), ("far", "FAR"), ("accuracy", "accuracy"), ("balanced_error", "balanced error"))


@dataclass(frozen=True)
class FixedThreshold:
    """What one threshold does with n trials; rates are fractions in [0, 1].

    Attributes:
        threshold: a score; what lies above it is accepted.
        n_bonafide, n_spoof: number of trials.
        n_rejected: bona fide trials rejected.
        n_accepted: spoofs accepted.
    """

    threshold: float
    n_bonafide: int
    n_spoof: int
    n_rejected: int
    n_accepted: int

    @classmethod
    def of(cls, cm: CMScores, threshold: float) -> "FixedThreshold":
        """Count the errors of some trials, at least one.

        Raises:
            InputError: the threshold or a score is not finite, or there are no trials.

        >>> import numpy as np
        >>> cm = CMScores(np.array(["a", "b"]), np.array(["A1", "A1"]), np.array([False, False]), np.array([0.0, 1.0]))
        >>> at = FixedThreshold.of(cm, 0.0)
        >>> at.far, at.frr, at.accuracy, at.balanced_error
        (0.5, None, 0.5, None)
        """
        if not math.isfinite(threshold):
            raise InputError(f"threshold {threshold}, expected a finite number")
        accepted = checked_scores(cm.scores, "CM scores") > threshold
        n_bonafide, n_accepted = int(cm.is_bonafide.sum()), int((accepted & ~cm.is_bonafide).sum())
        n_rejected = int((~accepted & cm.is_bonafide).sum())
        return cls(threshold, n_bonafide, cm.scores.size - n_bonafide, n_rejected, n_accepted)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """How many of how many trials each rate is of: frr, far, accuracy."""
        trials = self.n_bonafide + self.n_spoof
        right = trials - self.n_rejected - self.n_accepted
        return {
            "frr": (self.n_rejected, self.n_bonafide),
            "far": (self.n_accepted, self.n_spoof),
            "accuracy": (right, trials),
        }

    @property
    def frr(self) -> float | None:
        """Share of bona fide trials rejected; None without any."""
        return self.n_rejected / self.n_bonafide if self.n_bonafide else None

    @property
    def far(self) -> float | None:
        """Share of spoofs accepted; None without any."""
        return self.n_accepted / self.n_spoof if self.n_spoof else None

    @property
    def accuracy(self) -> float:
        """Share of all trials that are accepted or rejected rightly."""
        right, trials = self.counts["accuracy"]
        return right / trials

    @property
    def balanced_error(self) -> float | None:
        """Mean of FRR and FAR, whatever the classes' sizes; None without one of them."""
        return None if self.frr is None or self.far is None else (self.frr + self.far) / 2

    def as_dict(self) -> dict[str, Any]:
        """The fields and the rates by name, and the rates' 95 % intervals, ready for JSON."""
        intervals = {name: exact_interval(*pair).as_dict() for name, pair in self.counts.items() if pair[1]}
        return dataclasses.asdict(self) | {name: getattr(self, name) for name, _ in RATES} | {"intervals": intervals}

    def lines(self) -> list[str]:
        """A text for people: a rate a line, in per cent, with its 95 % interval."""
        lines = [f"at threshold {threshold_text(self.threshold)}: a score above it is accepted as bona fide"]
        of_what = {"frr": "bona fide rejected", "far": "spoofs accepted", "accuracy": "trials decided rightly"}
        for name, title in RATES:
            rate, (count, trials) = getattr(self, name), self.counts.get(name, (0, 0))
            if rate is None:
                absent = "bona fide" if not self.n_bonafide else "spoofed"
                lines.append(f"  {title:<15} not defined: no {absent} trials")
            elif not trials:
                lines.append(f"  {title:<15} {100 * rate:8.4f} %")
            else:
                ends = exact_interval(count, trials)
                shown = f"{100 * ends.low:.4f} to {100 * ends.high:.4f} % (95 %)"
                lines.append(f"  {title:<15} {100 * rate:8.4f} %   {shown}, {of_what[name]}: {count} of {trials}")
        return lines
