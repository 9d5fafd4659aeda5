"""Bootstrap confidence intervals of EER, min t-DCF, minDCF, actDCF and Cllr.

    bootstrap_intervals([read_cm_scores(path)], asv)                  one system
    bootstrap_intervals([read_cm_scores(path) for path in seeds])     the mean of several, e.g. of training seeds
    draw_metrics, interval_of                                         every replicate's metrics, and what holds them

Method: the percentile bootstrap. A replicate draws as many bona fide trials as there are, with replacement, and as many
spoofed ones (stratified: the two numbers are the protocol's, not chance), and computes the metric again, its threshold
included. Several systems get the same draw, as they scored the same trials, and the replicate's metric is the mean of
theirs. The interval holds the middle `level` of the replicates.

What is not in the interval: the ASV scores and a calibration are held fixed, and trials are drawn as if independent,
though many are of one speaker or one attack; for new speakers and new attacks it is too narrow. The min t-DCF and the
minDCF are minima over the thresholds of each draw, which biases them downwards: with a few hundred trials their
intervals lie visibly low.

A draw of trials without errors has no errors: where an EER means fewer than 10 errors in the smaller class, its
interval is the exact one of so many errors in as many trials (Clopper-Pearson), and a metric that is the same in every
draw has none.

Sources: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; C. Clopper, E. Pearson, "The use
of confidence or fiducial limits illustrated in the case of the binomial", Biometrika, 1934.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.dcf import ASVSPOOF5_COSTS, bayes_errors, bits_lost, normalised_dcf
from s2pecnet.metrics.det import Bools, Floats, Indices, checked_scores, compute_eer, equal_error, sort_trials, sweep
from s2pecnet.metrics.tdcf import TandemWeights, fix_asv, normalised_tdcf
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, align_trials


class Replicate(NamedTuple):
    """The metrics of one draw; NaN where the scores do not allow them."""

    eer: float
    min_tdcf: float
    min_dcf: float
    act_dcf: float
    cllr: float


METRICS = Replicate._fields
# More would say no more, and takes memory by the gigabyte.
MOST_REPLICATES = 1_000_000
# Of fewer errors in the smaller class the bootstrap knows too little.
FEW_ERRORS = 10


@dataclass(frozen=True)
class Interval:
    """A confidence interval: a share `level` of the replicates lies from `low` to `high`."""

    low: float
    high: float
    level: float

    def as_dict(self) -> dict[str, float]:
        """The fields by name, ready for JSON."""
        return asdict(self)


def bootstrap_intervals(
    systems: Sequence[CMScores],
    asv: ASVScores | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    metrics: Sequence[str] = ("eer", "min_tdcf"),
    llrs: Sequence[Floats] | None = None,
    figures: Sequence[str] = (),
) -> dict[str, Interval | None]:
    """Confidence intervals of the mean metrics of one or several systems.

    Args:
        systems: the scores of one system or of several on the same trials, in any order.
        asv: ASV scores, held fixed; None leaves out the t-DCF.
        replicates: number of draws; 1000 settle the ends of a 95 % interval to about a fiftieth of its width.
        level: confidence level, in (0, 1).
        seed: of the draws. The order of the trials in a file does not matter.
        metrics: which ones of `METRICS`.
        llrs: for each system the log-likelihood ratios of its trials, in the order of its scores; without them there
            is no actDCF and no Cllr.
        figures: the name that `metrics` had in version 0.1.0.

    Returns:
        an `Interval` by metric, fractions as in `countermeasure.Metrics` (Cllr: bits); None where the scores do not
        allow the metric.

    Raises:
        InputError: no system, systems of different trials, a class without trials, a score that is not finite, no
            replicates, a level outside (0, 1), or ASV scores the t-DCF cannot use.
    """
    _check_level(level)
    means = draw_metrics(systems, asv, replicates=replicates, seed=seed, llrs=llrs).mean(axis=1)
    return {name: metric_interval(name, means[:, METRICS.index(name)], systems, level) for name in figures or metrics}


def draw_metrics(
    systems: Sequence[CMScores],
    asv: ASVScores | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    llrs: Sequence[Floats] | None = None,
    names: Sequence[str] = (),
) -> Floats:
    """Every replicate's metrics of every system, (replicates, systems, metrics); the draws are common to all systems.

    Args and Raises: as `bootstrap_intervals`; `names` are what messages call the systems.
    """
    check_replicates(replicates)
    if not systems:
        raise InputError("no system to bootstrap, expected the scores of at least one")
    weights = None if asv is None else fix_asv(asv)[0]
    aligned, ratios = align_trials(systems, names), [None] * len(systems) if llrs is None else llrs
    rankings = [
        Ranking.of(ordered, None if of_system is None else of_system[np.argsort(system.utterances)])
        for ordered, system, of_system in zip(aligned, systems, ratios, strict=True)
    ]
    sizes, generator = (aligned[0].bonafide.size, aligned[0].spoof.size), np.random.default_rng(seed)
    drawn = np.empty((replicates, len(rankings), len(METRICS)))
    for replicate in drawn:
        counts = draw_counts(sizes, generator)
        replicate[:] = [ranking.metrics(counts, weights) for ranking in rankings]
    return drawn


def interval_of(values: Floats, level: float = 0.95) -> Interval | None:
    """The middle `level` of the replicates' values, (replicates,); None where they are NaN.

    Raises:
        InputError: a level outside (0, 1).
    """
    _check_level(level)
    if np.isnan(values).any():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def metric_interval(metric: str, values: Floats, systems: Sequence[CMScores], level: float = 0.95) -> Interval | None:
    """The interval of one of `METRICS`, the mean of several systems' on the same trials.

    Args:
        values: (replicates,) of its bootstrap.

    Returns:
        of an EER with few errors the exact interval; None where all draws have the same value, or none.
    """
    if metric == "eer":
        eer = float(np.mean([compute_eer(system.bonafide, system.spoof)[0] for system in systems]))
        trials = min(systems[0].bonafide.size, systems[0].spoof.size)
        if eer * trials < FEW_ERRORS:
            return exact_interval(eer * trials, trials, level)
    return None if values.size > 1 and (values == values[0]).all() else interval_of(values, level)


def exact_interval(errors: float, trials: int, level: float = 0.95) -> Interval:
    """Clopper-Pearson interval of an error rate, of 0 to `trials` errors; they need not be an integer.

    >>> interval = exact_interval(0, 20)
    >>> interval.low, round(interval.high, 4)
    (0.0, 0.1684)
    """
    # Imported here: scipy takes a tenth of a second, which scoring need not wait for.
    from scipy.special import betaincinv

    low = 0.0 if errors == 0 else float(betaincinv(errors, trials - errors + 1, (1 - level) / 2))
    high = 1.0 if errors == trials else float(betaincinv(errors + 1, trials - errors, (1 + level) / 2))
    return Interval(low, high, level)


def check_replicates(replicates: int) -> None:
    """Raises InputError for less than one, or more than memory holds."""
    if not 1 <= replicates <= MOST_REPLICATES:
        raise InputError(f"{replicates} bootstrap replicates, expected a number from 1 to {MOST_REPLICATES:,}")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}, expected a fraction between 0 and 1")


def intervals_as_dict(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, float] | None]:
    """Intervals by name, ready for JSON."""
    return {name: None if interval is None else interval.as_dict() for name, interval in intervals.items()}


# ---- one replicate -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """The trials of one system in rising order of score, so that no draw of them need be sorted again.

    Attributes:
        order: (n,) indices into (bona fide, spoofed) trials, each in order of utterance.
        is_bonafide: (n,) of the trials in this order.
        ratio_costs: (2, n) what each (bona fide, spoofed) trial adds to actDCF and to Cllr; None without ratios.
    """

    order: Indices
    is_bonafide: Bools
    ratio_costs: Floats | None = None

    @classmethod
    def of(cls, system: CMScores, llrs: Floats | None = None) -> "Ranking":
        """Of a system whose trials are in order of utterance, and of their ratios in the same order, if it has any.

        Raises:
            InputError: a class without trials, a score that is not finite.
        """
        bonafide = checked_scores(system.bonafide, "bona fide CM scores")
        _, order = sort_trials(bonafide, checked_scores(system.spoof, "spoofed CM scores"))
        costs = None if llrs is None else _ratio_costs(llrs[system.is_bonafide], llrs[~system.is_bonafide])
        return cls(order, order < bonafide.size, costs)

    def metrics(self, counts: Indices, weights: TandemWeights | None) -> Replicate:
        """The metrics of the (bona fide, spoofed) trials, each taken `counts` (n,) times; t-DCF needs weights."""
        # Repeated in order, the trials are sorted: what a sort of the drawn scores would give.
        frr, far = sweep(np.repeat(self.is_bonafide, counts[self.order]))
        act_dcf, cllr = (np.nan, np.nan) if self.ratio_costs is None else (self.ratio_costs @ counts).tolist()
        return Replicate(
            eer=equal_error(frr, far)[0],
            min_tdcf=np.nan if weights is None else float(normalised_tdcf(frr, far, weights).min()),
            min_dcf=float(normalised_dcf(frr, far).min()),
            act_dcf=act_dcf,
            cllr=cllr,
        )


def _ratio_costs(bonafide: Floats, spoof: Floats) -> Floats:
    """What each trial adds to actDCF and Cllr, (2, B + S), where a replicate has as many of each class."""
    unit = np.ones(1)
    errors, bits = bayes_errors(bonafide, spoof, ASVSPOOF5_COSTS), bits_lost(bonafide, spoof)
    of_a_miss = float(normalised_dcf(unit, 0 * unit)[0]) / bonafide.size
    of_a_false_alarm = float(normalised_dcf(0 * unit, unit)[0]) / spoof.size
    return np.array(
        [
            np.concatenate((errors[0] * of_a_miss, errors[1] * of_a_false_alarm)),
            np.concatenate((bits[0] / (2 * bonafide.size), bits[1] / (2 * spoof.size))),
        ]
    )


def draw_counts(sizes: Sequence[int], generator: np.random.Generator) -> Indices:
    """How often each trial is drawn with replacement, as many of each class as there are, one class after the other."""
    return np.concatenate([np.bincount(generator.integers(size, size=size), minlength=size) for size in sizes])
