"""How sure the figures are: bootstrap confidence intervals of EER and min t-DCF.

    bootstrap_intervals([read_cm_scores(path)], asv)                  one system
    bootstrap_intervals([read_cm_scores(path) for path in seeds])     the mean of several, e.g. of training seeds

Method: the percentile bootstrap. A replicate draws as many bona fide trials as there are, with replacement, and as many
spoofed ones (stratified: the two numbers are the protocol's, not chance), and computes the figure anew, its threshold
included. Several systems get the same draw, as they scored the same trials, and the replicate's figure is the mean of
theirs. The interval holds the middle `level` of the replicates' figures.

What is not in the interval: the ASV scores are held fixed, and trials are drawn as if independent, though many are of
one speaker or one attack; for new speakers and new attacks it is too narrow. The min t-DCF is a minimum over thresholds
taken anew in each draw, which pulls it down: with a few hundred trials its interval lies visibly low.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from error_rates import Bools, Floats, checked_scores, equal_error, sort_trials, sweep
from errors import InputError
from score_files import ASVScores, CMScores
from tdcf import TandemWeights, fix_asv, normalised_tdcf

Counts = NDArray[np.intp]


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
) -> dict[str, Interval | None]:
    """Confidence intervals of the mean EER and the mean minimum t-DCF of one or several systems.

    Args:
        systems: the scores of one system or of several on the same trials, in any order.
        asv: ASV scores, held fixed; None leaves out the t-DCF.
        replicates: number of draws; 1000 settle the ends of a 95 % interval to about a fiftieth of its width.
        level: confidence level, in (0, 1).
        seed: of the draws. The order of the trials in a file does not matter.
        resample_systems: draw among the systems too, with replacement, in each replicate. The interval is then one for
            further seeds of training, not for these ones; of fewer than about five systems it is too narrow.

    Returns:
        "eer" and "min_tdcf": an `Interval` each, fractions as in `evaluation`; "min_tdcf" is None without ASV scores.

    Raises:
        InputError: no system, systems of different trials, a class without trials, a score that is not finite, no
            replicates, a level outside (0, 1), or ASV scores the t-DCF cannot use.
    """
    if replicates < 1:
        raise InputError(f"{replicates} bootstrap replicates, expected at least 1")
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}, expected a fraction between 0 and 1")
    weights = None if asv is None else fix_asv(asv)[0]
    rankings = [_rank(system) for system in _align(systems)]
    generator = np.random.default_rng(seed)
    figures = np.array([_replicate(rankings, weights, generator) for _ in range(replicates)])
    if resample_systems:
        chosen = generator.integers(len(rankings), size=(replicates, len(rankings)))
        figures = np.take_along_axis(figures, chosen[:, :, np.newaxis], axis=1)
    eers, min_tdcfs = np.moveaxis(figures.mean(axis=1), 1, 0)
    return {"eer": _interval(eers, level), "min_tdcf": None if asv is None else _interval(min_tdcfs, level)}


def _interval(values: Floats, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


# ---- one replicate -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ranking:
    """The trials of one system in rising order of score: their places among (bona fide, spoofed) ones by name."""

    order: NDArray[np.intp]
    is_bonafide: Bools
    n_bonafide: int

    def figures(self, counts: Counts, weights: TandemWeights | None) -> tuple[float, float]:
        """EER and min t-DCF (NaN without weights) of the trials by name, each taken as often as it counts."""
        # Repeated in order, the trials are sorted: what a sort of the drawn scores would give.
        frr, far = sweep(np.repeat(self.is_bonafide, counts[self.order]))
        eer, _ = equal_error(frr, far)
        return eer, np.nan if weights is None else float(normalised_tdcf(frr, far, weights).min())


def _rank(system: CMScores) -> _Ranking:
    bonafide = checked_scores(system.bonafide, "bona fide CM scores")
    _, order = sort_trials(bonafide, checked_scores(system.spoof, "spoofed CM scores"))
    return _Ranking(order, order < bonafide.size, bonafide.size)


def _replicate(
    rankings: Sequence[_Ranking], weights: TandemWeights | None, generator: np.random.Generator
) -> list[tuple[float, float]]:
    n_bonafide = rankings[0].n_bonafide
    sizes = (n_bonafide, rankings[0].order.size - n_bonafide)
    counts = np.concatenate([np.bincount(generator.integers(size, size=size), minlength=size) for size in sizes])
    return [ranking.figures(counts, weights) for ranking in rankings]


# ---- the same trials ---------------------------------------------------------------------------


def _align(systems: Sequence[CMScores]) -> list[CMScores]:
    """The systems with their trials in order of name.

    Raises:
        InputError: they did not score the same trials.
    """
    if not systems:
        raise InputError("no system to bootstrap, expected the scores of at least one")
    aligned = [_by_name(system) for system in systems]
    for number, system in enumerate(aligned[1:], start=2):
        _check_same_trials(aligned[0], system, number)
    return aligned


def _by_name(system: CMScores) -> CMScores:
    ordered = system.take(np.argsort(system.utterances))
    again = np.flatnonzero(ordered.utterances[1:] == ordered.utterances[:-1])
    if again.size:
        raise InputError(f"utterance {str(ordered.utterances[again[0]])!r} comes more than once, expected each once")
    return ordered


def _check_same_trials(first: CMScores, other: CMScores, number: int) -> None:
    if not np.array_equal(first.utterances, other.utterances):
        names, others = set(first.utterances.tolist()), set(other.utterances.tolist())
        lacking, further = sorted(names - others), sorted(others - names)
        raise InputError(
            f"system {number} scored other trials than system 1: {len(lacking)} are lacking and {len(further)} are "
            f"further ones, e.g. {(lacking + further)[0]!r}; a common bootstrap needs the same trials"
        )
    differing = np.flatnonzero(first.is_bonafide != other.is_bonafide)
    if differing.size:
        raise InputError(
            f"system {number}: {differing.size} trials have another key than in system 1, e.g. "
            f"{str(first.utterances[differing[0]])!r}; do the scores belong to one protocol?"
        )
