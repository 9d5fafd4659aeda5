"""Whether one system is better than another: differences of their metrics, with intervals and tests.

    compare([scores of A, scores of B], metrics, ["A", "B"]) --> Comparison: intervals, a Difference for each pair
    two_sided_p, holm     a p-value of replicates; p-values corrected for the number of pairs

Method: the paired bootstrap. All systems scored the same trials and get the same draws of them (`bootstrap`), so a
trial that is hard for both moves both metrics and hardly their difference. The interval holds the middle 95 % of the
replicates' differences. The two-sided p-value is 1 minus the level of an interval that would just reach 0: twice the
share of replicates on the rarer side of 0, those at 0 on both sides, and one replicate more in numerator and
denominator (no p is 0; the least is 2 / (replicates + 1)). With more than two systems there are several pairs; `p_holm`
are their p-values as S. Holm corrects them ("A simple sequentially rejective multiple test procedure", Scandinavian
Journal of Statistics, 1979): rejecting what lies below 0.05 errs in any pair with probability 0.05 at most.

A test says what more trials of these conditions would show, not what another corpus or training seed would.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import METRICS, Interval, draw_metrics, interval_of, intervals_as_dict, metric_interval
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.metrics.det import Floats
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

TESTED = ("eer", "min_dcf", "min_tdcf")


@dataclass(frozen=True)
class Difference:
    """A metric of the first system minus that of the second: below 0 the first is better.

    Attributes:
        first, second: names of the systems.
        metric: "eer", "min_dcf" or "min_tdcf".
        difference: on the trials as they are, a fraction.
        interval: of the difference; None where all draws give the same one, as of systems without errors.
        p: two-sided p-value of there being no difference.
        p_holm: the same, corrected for the number of pairs.
    """

    first: str
    second: str
    metric: str
    difference: float
    interval: Interval | None
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Intervals and differences of several systems, from common draws of their trials.

    Attributes:
        replicates: number of draws.
        intervals: for each system, by name, its `Interval` by metric; None where the scores do not allow the metric.
        differences: one for each metric and pair of systems.
    """

    replicates: int
    intervals: dict[str, dict[str, Interval | None]]
    differences: list[Difference]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "replicates": self.replicates,
            "intervals": {name: intervals_as_dict(of_system) for name, of_system in self.intervals.items()},
            "differences": [dataclasses.asdict(difference) for difference in self.differences],
        }


def compare(
    systems: Sequence[CMScores],
    metrics: Sequence[Metrics],
    names: Sequence[str],
    asv: ASVScores | None = None,
    *,
    llrs: Sequence[Floats] | None = None,
    replicates: int = 1000,
) -> Comparison:
    """Intervals of two or more systems' metrics, and tests of the differences between all pairs.

    Args:
        systems: their scores of the same trials, in any order.
        metrics: what `countermeasure.evaluate` gives for each.
        names: their names, all different.
        asv, llrs, replicates: as in `bootstrap.bootstrap_intervals`.

    Raises:
        InputError: fewer than two systems, or as `bootstrap.bootstrap_intervals`.
    """
    if len(systems) < 2:
        raise InputError(f"{len(systems)} system, expected at least two to compare")
    drawn = draw_metrics(systems, asv, replicates=replicates, llrs=llrs, names=names)
    by_metric = {metric: drawn[:, :, index] for index, metric in enumerate(METRICS)}
    intervals = {
        name: {
            metric: metric_interval(metric, values[:, index], systems[index : index + 1])
            for metric, values in by_metric.items()
        }
        for index, name in enumerate(names)
    }
    tested = [metric for metric in TESTED if not np.isnan(by_metric[metric]).any()]
    pairs, differences = list(combinations(range(len(names)), 2)), []
    for metric in tested:
        of_pairs = [by_metric[metric][:, first] - by_metric[metric][:, second] for first, second in pairs]
        p_values = [two_sided_p(values) for values in of_pairs]
        for (first, second), values, p, p_holm in zip(pairs, of_pairs, p_values, holm(p_values), strict=True):
            # Draws that all agree, as of systems without errors, have no interval: they know nothing of other trials.
            interval = None if (values == values[0]).all() and values.size > 1 else interval_of(values)
            difference = getattr(metrics[first], metric) - getattr(metrics[second], metric)
            differences.append(Difference(names[first], names[second], metric, difference, interval, p, p_holm))
    return Comparison(replicates, intervals, differences)


def two_sided_p(differences: Floats) -> float:
    """p-value of replicates' differences, (replicates,), against a difference of 0; in (0, 1].

    >>> two_sided_p(np.array([1.0] * 98 + [-1.0]))
    0.04
    >>> two_sided_p(np.zeros(99))
    1.0
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (differences.size + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
