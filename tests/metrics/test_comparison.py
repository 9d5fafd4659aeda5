"""Differences have the sign and the interval they should, and tests err as seldom as they say."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import bootstrap_intervals
from s2pecnet.metrics.comparison import compare, holm, two_sided_p
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

ASV = ASVScores(target=np.array([2.0, 3.0, 0.5]), nontarget=np.array([-1.0, 0.0, 1.0]), spoof=np.array([2.5, -2.0]))


def gaussian_systems(seed: int, distances: list[float], size: int = 150, shared: float = 0.7) -> list[CMScores]:
    """Systems whose noise is in part that of the trials, as with systems trained on one corpus."""
    generator = np.random.default_rng(seed)
    is_bonafide = np.arange(2 * size) < size
    common = generator.normal(size=2 * size)
    names = np.array([f"u{place:06d}" for place in range(2 * size)])
    systems = []
    for distance in distances:
        noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * generator.normal(size=2 * size)
        systems.append(CMScores(names, np.where(is_bonafide, "-", "A07"), is_bonafide, noise + distance * is_bonafide))
    return systems


def metrics_of(systems: list[CMScores], asv: ASVScores | None = None) -> list[Metrics]:
    return [evaluate(system, asv) for system in systems]


def test_a_clear_difference() -> None:
    systems = gaussian_systems(0, [3.0, 1.0])
    metrics = metrics_of(systems)
    found = compare(systems, metrics, ["good", "bad"], replicates=200)
    assert [(one.first, one.second, one.metric) for one in found.differences] == [
        ("good", "bad", "eer"),
        ("good", "bad", "min_dcf"),
    ]
    for one in found.differences:
        assert one.difference == getattr(metrics[0], one.metric) - getattr(metrics[1], one.metric)
        assert one.interval is not None
        assert one.interval.low < one.difference < one.interval.high < 0
        assert one.p == one.p_holm == pytest.approx(2 / 201)
    # Intervals of a system are what it gets alone.
    for place, name in enumerate(["good", "bad"]):
        alone = bootstrap_intervals([systems[place]], replicates=200, metrics=("eer", "min_dcf"))
        assert {metric: found.intervals[name][metric] for metric in alone} == alone
        assert found.intervals[name]["min_tdcf"] is None


def test_the_same_system_twice_does_not_differ() -> None:
    (system,) = gaussian_systems(1, [1.0])
    found = compare([system, system], metrics_of([system, system]), ["a", "b"], replicates=50)
    for one in found.differences:
        assert (one.difference, one.interval, one.p) == (0, None, 1)


def test_systems_without_errors_are_no_certainty() -> None:
    first, second = gaussian_systems(1, [30.0, 40.0], size=20)
    found = compare([first, second], metrics_of([first, second]), ["a", "b"], replicates=50)
    assert {(one.difference, one.interval, one.p) for one in found.differences} == {(0, None, 1)}


def test_order_of_systems_and_trials() -> None:
    first, second = gaussian_systems(2, [1.5, 1.2])
    metrics = metrics_of([first, second], ASV)
    usual = compare([first, second], metrics, ["a", "b"], ASV, replicates=60)
    shuffled = second.take(np.random.default_rng(0).permutation(second.scores.size))
    assert compare([first, shuffled], metrics, ["a", "b"], ASV, replicates=60) == usual
    turned = compare([second, first], metrics[::-1], ["b", "a"], ASV, replicates=60)
    assert [one.metric for one in usual.differences] == ["eer", "min_dcf", "min_tdcf"]
    for one, other in zip(usual.differences, turned.differences, strict=True):
        assert one.interval is not None
        assert other.interval is not None
        assert (other.difference, other.interval.low, other.interval.high, other.p) == pytest.approx(
            (-one.difference, -one.interval.high, -one.interval.low, one.p), abs=1e-12
        )


def test_pairing_makes_intervals_narrower() -> None:
    systems = gaussian_systems(3, [1.5, 1.5], shared=0.995)
    found = compare(systems, metrics_of(systems), ["a", "b"], replicates=200)
    difference = found.differences[0].interval
    each = [found.intervals[name]["eer"] for name in ("a", "b")]
    widths = [interval.high - interval.low for interval in each if interval is not None]
    assert len(widths) == 2
    assert difference is not None
    assert difference.high - difference.low < 0.7 * min(widths)


def test_equal_systems_are_seldom_called_different() -> None:
    rejected = 0
    for seed in range(100):
        systems = gaussian_systems(seed, [1.5, 1.5])
        found = compare(systems, metrics_of(systems), ["a", "b"], replicates=99)
        rejected += found.differences[0].p <= 0.2
    assert 8 <= rejected <= 32  # 20 expected, give or take 4


def test_several_systems_are_corrected_by_holm() -> None:
    systems = gaussian_systems(4, [1.0, 1.2, 2.5])
    found = compare(systems, metrics_of(systems), ["a", "b", "c"], replicates=99)
    eers = [one for one in found.differences if one.metric == "eer"]
    assert [(one.first, one.second) for one in eers] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [one.p_holm for one in eers] == holm([one.p for one in eers])
    assert eers[1].p_holm == pytest.approx(3 * 2 / 100)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["differences"][1] == dataclasses.asdict(eers[1])
    assert set(content["intervals"]) == {"a", "b", "c"}
    assert content["intervals"]["a"]["cllr"] is None


def test_ratios_give_intervals_of_act_dcf_and_cllr() -> None:
    systems = gaussian_systems(5, [1.0, 1.2])
    llrs = [system.scores for system in systems]
    found = compare(systems, metrics_of(systems), ["a", "b"], llrs=llrs, replicates=20)
    alone = bootstrap_intervals(systems[1:], replicates=20, metrics=("act_dcf", "cllr"), llrs=llrs[1:])
    assert {metric: found.intervals["b"][metric] for metric in alone} == alone
    assert None not in alone.values()


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40))
def test_p_is_two_sided_and_never_0(differences: list[float]) -> None:
    values = np.array(differences)
    p = two_sided_p(values)
    assert p == two_sided_p(-values)
    assert 2 / (values.size + 1) <= p <= 1
    if (values > 0).all():
        assert p == 2 / (values.size + 1) or values.size == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_stepwise_procedure_does(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(1 >= after >= before for before, after in zip(p_values, corrected, strict=True))
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if (len(p_values) - rank) * p_values[place] > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(corrected) if p <= level} == rejected


def test_what_cannot_be_compared() -> None:
    first, second = gaussian_systems(6, [1.0, 1.0], size=5)
    with pytest.raises(InputError, match="1 system, expected at least two"):
        compare([first], metrics_of([first]), ["a"])
    other = second.take(np.arange(9))
    with pytest.raises(InputError, match=r"a and b cover different trials: 1 missing from b, 0 only in b, .*'u000009'"):
        compare([first, other], metrics_of([first, other]), ["a", "b"])
