"""A replicate is the metric of the repeated trials, and an interval holds the truth as often as it says."""

import dataclasses
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics import bootstrap, countermeasure
from s2pecnet.metrics.bootstrap import METRICS, Interval, Ranking, bootstrap_intervals, exact_interval
from s2pecnet.metrics.tdcf import fix_asv
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

ASV = ASVScores(target=np.array([2.0, 3.0, 0.5]), nontarget=np.array([-1.0, 0.0, 1.0]), spoof=np.array([2.5, -2.0]))


def system_of(bonafide: np.ndarray, spoof: np.ndarray) -> CMScores:
    """Trials u0, u1, ... in order of name, the bona fide ones first."""
    size = len(bonafide) + len(spoof)
    is_bonafide = np.arange(size) < len(bonafide)
    names = np.array([f"u{place:06d}" for place in range(size)])
    return CMScores(names, np.where(is_bonafide, "-", "A07"), is_bonafide, np.concatenate((bonafide, spoof)))


def gaussian_system(seed: int, distance: float, n_bonafide: int = 40, n_spoof: int = 90) -> CMScores:
    generator = np.random.default_rng(seed)
    return system_of(generator.normal(distance, size=n_bonafide), generator.normal(size=n_spoof))


# Few distinct scores, so that ties within and across classes are the rule; counts of 0 among them.
counted = st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(0, 3)), min_size=1, max_size=10).filter(
    lambda trials: any(count for _, count in trials)
)


@given(counted, counted)
def test_a_replicate_is_the_metric_of_the_repeated_trials(
    bonafide: list[tuple[float, int]], spoof: list[tuple[float, int]]
) -> None:
    (bonafide_scores, bonafide_counts), (spoof_scores, spoof_counts) = (
        [np.array(column) for column in zip(*trials, strict=True)] for trials in (bonafide, spoof)
    )
    ranking = Ranking.of(system_of(bonafide_scores, spoof_scores))
    replicate = ranking.metrics(np.concatenate((bonafide_counts, spoof_counts)), fix_asv(ASV)[0])
    repeated = system_of(np.repeat(bonafide_scores, bonafide_counts), np.repeat(spoof_scores, spoof_counts))
    metrics = countermeasure.evaluate(repeated, ASV)
    assert replicate[:3] == (metrics.eer, metrics.min_tdcf, metrics.min_dcf)
    assert np.isnan(replicate[3:]).all()


def test_every_trial_once_is_the_plain_metric() -> None:
    system = gaussian_system(1, 1.5)
    metrics = countermeasure.evaluate(system, ASV, system.scores)
    ranking = Ranking.of(system, system.scores)
    replicate = ranking.metrics(np.ones(system.scores.size, dtype=np.intp), fix_asv(ASV)[0])
    assert replicate[:3] == (metrics.eer, metrics.min_tdcf, metrics.min_dcf)
    assert replicate[3:] == pytest.approx((metrics.act_dcf, metrics.cllr), rel=1e-12)


def test_a_replicate_of_ratios_is_the_metric_of_the_drawn_trials() -> None:
    system = gaussian_system(3, 1.0)
    counts = bootstrap.draw_counts((40, 90), np.random.default_rng(5))
    replicate = Ranking.of(system, 2 * system.scores).metrics(counts, None)
    drawn = np.repeat(np.arange(130), counts)
    repeated = CMScores(drawn.astype(np.str_), system.attacks[drawn], system.is_bonafide[drawn], system.scores[drawn])
    metrics = countermeasure.evaluate(repeated, None, 2 * repeated.scores)
    assert replicate.eer == metrics.eer
    assert (replicate.act_dcf, replicate.cllr) == pytest.approx((metrics.act_dcf, metrics.cllr), rel=1e-12)
    assert np.isnan(replicate.min_tdcf)


def test_ratios_keep_to_their_trials() -> None:
    system, other = gaussian_system(2, 1.5), gaussian_system(3, 1.0)
    order = np.random.default_rng(0).permutation(system.scores.size)
    usual, shuffled = (
        bootstrap_intervals([one, other], replicates=20, metrics=METRICS, llrs=[one.scores / 2, other.scores])
        for one in (system, system.take(order))
    )
    assert usual == shuffled
    assert {name for name, interval in usual.items() if interval is None} == {"min_tdcf"}
    alone = bootstrap_intervals([system], replicates=20, metrics=("cllr",), llrs=[system.scores / 2])
    assert set(alone) == {"cllr"}
    assert alone != bootstrap_intervals([system], replicates=20, metrics=("cllr",), llrs=[system.scores])


def test_draws_keep_the_size_of_each_class() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([bootstrap.draw_counts((40, 90), generator) for _ in range(400)])
    assert set(drawn[:, :40].sum(axis=1)) == {40}
    assert set(drawn[:, 40:].sum(axis=1)) == {90}
    # Multinomial: each trial once on average, and not at all in a share of (1 - 1/n)**n.
    assert drawn.mean(axis=0) == pytest.approx(np.ones(130), abs=0.25)
    assert (drawn[:, 40:] == 0).mean() == pytest.approx((1 - 1 / 90) ** 90, abs=0.01)


def test_all_systems_get_the_same_draws() -> None:
    drawn = bootstrap.draw_metrics([gaussian_system(1, 1.0)] * 2, replicates=50)
    assert drawn.shape == (50, 2, 5)
    assert np.array_equal(drawn[:, 0], drawn[:, 1], equal_nan=True)
    assert len(set(drawn[:, 0, 0])) > 1


def test_same_seed_same_intervals() -> None:
    system = gaussian_system(2, 1.5)
    first = bootstrap_intervals([system], ASV, replicates=50)
    assert bootstrap_intervals([system], ASV, replicates=50) == first
    assert bootstrap_intervals([system], ASV, replicates=50, seed=1) != first


def test_order_of_the_trials_does_not_matter() -> None:
    system, other = gaussian_system(2, 1.5), gaussian_system(3, 1.0)
    shuffled = system.take(np.random.default_rng(0).permutation(system.scores.size))
    usual = bootstrap_intervals([system, other], ASV, replicates=20)
    assert bootstrap_intervals([shuffled, other], ASV, replicates=20) == usual
    assert bootstrap_intervals([other, shuffled], ASV, replicates=20) == usual


def test_several_systems_give_the_interval_of_their_mean() -> None:
    system, other = gaussian_system(4, 2.0), gaussian_system(5, 0.5)
    assert bootstrap_intervals([system, system], ASV, replicates=50) == bootstrap_intervals(
        [system], ASV, replicates=50
    )
    # One replicate is one draw: both ends are its value.
    single, another, both = (
        bootstrap_intervals(systems, ASV, replicates=1, metrics=("min_dcf", "min_tdcf"))
        for systems in ([system], [other], [system, other])
    )
    for metric in ("min_dcf", "min_tdcf"):
        ends = [
            (interval.low, interval.high) for interval in (single[metric], another[metric], both[metric]) if interval
        ]
        assert [low for low, _ in ends] == [high for _, high in ends]
        assert ends[2][0] == pytest.approx((ends[0][0] + ends[1][0]) / 2, abs=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("eer", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("sizes", [(20, 60), (60, 180), (300, 900)])
def test_intervals_of_few_errors_hold_the_truth_too(eer: float, sizes: tuple[int, int]) -> None:
    """Of 95 %, at least 93 hold it; with few errors rather more."""
    distance = -2 * NormalDist().inv_cdf(eer)
    intervals = [
        bootstrap_intervals([gaussian_system(seed, distance, *sizes)], replicates=200, metrics=["eer"])["eer"]
        for seed in range(300)
    ]
    held = sum(interval.low <= eer <= interval.high for interval in intervals if interval)
    assert held >= 0.93 * 300


def test_no_errors_are_no_certainty() -> None:
    intervals = bootstrap_intervals([gaussian_system(1, 50.0, 20, 60)], ASV, metrics=METRICS)
    assert intervals["eer"] == exact_interval(0, 20)
    assert intervals["eer"].high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert intervals["min_dcf"] is None
    assert intervals["min_tdcf"] is None


def test_exact_intervals_are_those_of_the_binomial() -> None:
    """The ends are where so many errors, or so few, have a probability of a fortieth."""
    interval = exact_interval(3, 50)
    more = 1 - sum(math.comb(50, k) * interval.low**k * (1 - interval.low) ** (50 - k) for k in range(3))
    fewer = sum(math.comb(50, k) * interval.high**k * (1 - interval.high) ** (50 - k) for k in range(4))
    assert (more, fewer) == (pytest.approx(0.025), pytest.approx(0.025))
    assert exact_interval(50, 50).high == 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Normal scores of unit variance and means 0 and d have an EER of Phi(-d / 2)."""
    distance = 1.5
    truth = 0.5 * math.erfc(distance / 2 / math.sqrt(2))
    intervals = [
        bootstrap_intervals([gaussian_system(seed, distance, 150, 300)], replicates=150, level=0.8)["eer"]
        for seed in range(100)
    ]
    held = sum(interval.low <= truth <= interval.high for interval in intervals if interval)
    assert 70 <= held <= 90  # 80 expected, give or take 4


def test_a_higher_level_is_wider() -> None:
    system = gaussian_system(8, 1.0)
    narrow, wide = (bootstrap_intervals([system], replicates=200, level=level)["eer"] for level in (0.5, 0.95))
    assert isinstance(narrow, Interval)
    assert isinstance(wide, Interval)
    assert wide.low < narrow.low < countermeasure.evaluate(system).eer < narrow.high < wide.high
    assert (narrow.level, wide.level) == (0.5, 0.95)


SYSTEM = gaussian_system(9, 1.0, 3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"utterances": np.array([f"u{place:06d}" for place in (0, 1, 2, 3, 4, 5, 9)])},
            "1 missing from system 2, 1 only in system 2, .*'u000006'",
        ),
        ({"utterances": np.array(["u000000", *SYSTEM.utterances[:-1]])}, "'u000000' comes more than once"),
        ({"is_bonafide": ~SYSTEM.is_bonafide}, "system 1 and system 2 give 7 trials different keys, e.g. 'u000000'"),
    ],
)
def test_systems_of_other_trials(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_intervals([SYSTEM, dataclasses.replace(SYSTEM, **changes)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 0}, "0 bootstrap replicates, expected a number from 1 to 1,000,000"),
        ({"level": 1.0}, "confidence level 1.0, expected"),
        ({"level": math.nan}, "confidence level nan"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_intervals([SYSTEM], **options)


def test_no_system_or_no_trials() -> None:
    with pytest.raises(InputError, match="no system"):
        bootstrap_intervals([])
    with pytest.raises(InputError, match="spoofed CM scores: no scores"):
        bootstrap_intervals([system_of(np.array([1.0]), np.array([]))])
