"""How sure the figures are: bootstrap confidence intervals of EER, min t-DCF, minDCF, actDCF and Cllr.

    bootstrap_intervals([read_cm_scores(path)], asv)                  one system
    bootstrap_intervals([read_cm_scores(path) for path in seeds])     the mean of several, e.g. of training seeds

Method: the percentile bootstrap. A replicate draws as many bona fide trials as there are, with replacement, and as many
spoofed ones (stratified: the two numbers are the protocol's, not chance), and computes the figure anew, its threshold
included. Several systems get the same draw, as they scored the same trials, and the replicate's figure is the mean of
theirs. The interval holds the middle `level` of the replicates' figures.

What is not in the interval: the ASV scores and a calibration are held fixed, and trials are drawn as if independent,
though many are of one speaker or one attack; for new speakers and new attacks it is too narrow. The min t-DCF and the
minDCF are minima over thresholds taken anew in each draw, which pulls them down: with a few hundred trials their
intervals lie visibly low.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2pecnet.errors import InputError
from s2pecnet.metrics.dcf import ASVSPOOF5_COSTS, bayes_errors, bits_lost, normalised_dcf
from s2pecnet.metrics.det import Bools, Floats, checked_scores, equal_error, sort_trials, sweep
from s2pecnet.metrics.tdcf import TandemWeights, fix_asv, normalised_tdcf
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, align_trials

Counts = NDArray[np.intp]


class Figures(NamedTuple):
    """What a replicate computes; NaN where the scores do not allow it."""

    eer: float
    min_tdcf: float
    min_dcf: float
    act_dcf: float
    cllr: float


@dataclass(frozen=True)
class Interval:
    """A confidence interval: a share `level` of the replicates lies from `low` to `high`."""

    low: float
    high: float
    level: float


def bootstrap_intervals(
    systems: Sequence[CMScores],
    asv: ASVScores | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    resample_systems: bool = False,
    figures: Sequence[str] = ("eer", "min_tdcf"),
    llrs: Sequence[Floats] | None = None,
) -> dict[str, Interval | None]:
    """Confidence intervals of the mean figures of one or several systems.

    Args:
        systems: the scores of one system or of several on the same trials, in any order.
        asv: ASV scores, held fixed; None leaves out the t-DCF.
        replicates: number of draws; 1000 settle the ends of a 95 % interval to about a fiftieth of its width.
        level: confidence level, in (0, 1).
        seed: of the draws. The order of the trials in a file does not matter.
        resample_systems: draw among the systems too, with replacement, in each replicate. The interval is then one for
            further seeds of training, not for these ones; of fewer than about five systems it is too narrow.
        figures: which ones, of the fields of `Figures`.
        llrs: for each system the log-likelihood ratios of its trials, in the order of its scores; without them there
            is no actDCF and no Cllr.

    Returns:
        an `Interval` by figure, fractions as in `metrics` (Cllr: bits); None where the scores do not allow the figure.

    Raises:
        InputError: no system, systems of different trials, a class without trials, a score that is not finite, no
            replicates, a level outside (0, 1), or ASV scores the t-DCF cannot use.
    """
    _check_level(level)
    drawn = draw_figures(systems, asv, replicates=replicates, seed=seed, llrs=llrs, resample_systems=resample_systems)
    means = drawn.mean(axis=1)
    return {name: interval_of(means[:, Figures._fields.index(name)], level) for name in figures}


def draw_figures(
    systems: Sequence[CMScores],
    asv: ASVScores | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    llrs: Sequence[Floats] | None = None,
    resample_systems: bool = False,
    names: Sequence[str] = (),
) -> Floats:
    """Every replicate's figures of every system, (replicates, systems, figures); the draws are common to all systems.

    Args and Raises: as `bootstrap_intervals`; `names` are what messages call the systems.
    """
    if replicates < 1:
        raise InputError(f"{replicates} bootstrap replicates, expected at least 1")
    if not systems:
        raise InputError("no system to bootstrap, expected the scores of at least one")
    weights = None if asv is None else fix_asv(asv)[0]
    rankings = [_rank(*pair) for pair in _with_ratios(align_trials(systems, names), systems, llrs)]
    generator = np.random.default_rng(seed)
    figures = np.array([_replicate(rankings, weights, generator) for _ in range(replicates)])
    if resample_systems:
        chosen = generator.integers(len(rankings), size=(replicates, len(rankings)))
        figures = np.take_along_axis(figures, chosen[:, :, np.newaxis], axis=1)
    return figures


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


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}, expected a fraction between 0 and 1")


def intervals_as_dict(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, float] | None]:
    """Intervals by name, ready for JSON."""
    return {name: None if interval is None else asdict(interval) for name, interval in intervals.items()}


# ---- one replicate -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ranking:
    """The trials of one system in rising order of score: their places among (bona fide, spoofed) ones by name.

    `ratio_costs`: what each of the trials by name adds to actDCF and to Cllr, (2, n); None without ratios.
    """

    order: NDArray[np.intp]
    is_bonafide: Bools
    n_bonafide: int
    ratio_costs: Floats | None = None

    def figures(self, counts: Counts, weights: TandemWeights | None) -> Figures:
        """The figures of the trials by name, each taken as often as it counts; min t-DCF needs weights."""
        # Repeated in order, the trials are sorted: what a sort of the drawn scores would give.
        frr, far = sweep(np.repeat(self.is_bonafide, counts[self.order]))
        act_dcf, cllr = (np.nan, np.nan) if self.ratio_costs is None else (self.ratio_costs @ counts).tolist()
        return Figures(
            eer=equal_error(frr, far)[0],
            min_tdcf=np.nan if weights is None else float(normalised_tdcf(frr, far, weights).min()),
            min_dcf=float(normalised_dcf(frr, far).min()),
            act_dcf=act_dcf,
            cllr=cllr,
        )


def _rank(system: CMScores, ratios: Floats | None = None) -> _Ranking:
    bonafide = checked_scores(system.bonafide, "bona fide CM scores")
    _, order = sort_trials(bonafide, checked_scores(system.spoof, "spoofed CM scores"))
    costs = None if ratios is None else _ratio_costs(ratios[system.is_bonafide], ratios[~system.is_bonafide])
    return _Ranking(order, order < bonafide.size, bonafide.size, costs)


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


def _with_ratios(
    aligned: Sequence[CMScores], systems: Sequence[CMScores], llrs: Sequence[Floats] | None
) -> Iterable[tuple[CMScores, Floats | None]]:
    """The aligned systems with their ratios, which come in the order of the systems as they were given."""
    if llrs is None:
        return [(system, None) for system in aligned]
    in_order = [ratios[np.argsort(system.utterances)] for system, ratios in zip(systems, llrs, strict=True)]
    return list(zip(aligned, in_order, strict=True))


def _replicate(
    rankings: Sequence[_Ranking], weights: TandemWeights | None, generator: np.random.Generator
) -> list[Figures]:
    n_bonafide = rankings[0].n_bonafide
    counts = draw_counts((n_bonafide, rankings[0].order.size - n_bonafide), generator)
    return [ranking.figures(counts, weights) for ranking in rankings]


def draw_counts(sizes: Sequence[int], generator: np.random.Generator) -> Counts:
    """How often each trial is drawn with replacement, as many of each class as there are, one class after the other."""
    return np.concatenate([np.bincount(generator.integers(size, size=size), minlength=size) for size in sizes])
