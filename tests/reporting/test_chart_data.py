"""What charts show is what the scores say: points on the curve, shares that add up, ticks within the axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.metrics.fixed_threshold import FixedThreshold
from s2pecnet.metrics.tdcf import TandemWeights
from s2pecnet.reporting import chart_data
from s2pecnet.score_files.cm_asv import CMScores
from tests.helpers.trials import tied_scores


def scores_of(bonafide: list[float], spoof: list[float]) -> CMScores:
    n = len(bonafide) + len(spoof)
    names = np.array([f"u{number}" for number in range(n)])
    return CMScores(names, np.where(np.arange(n) < len(bonafide), "-", "A07"), np.arange(n) < len(bonafide),
                    np.array(bonafide + spoof))  # fmt: skip


@given(tied_scores, tied_scores)
def test_the_points_of_a_sweep_are_the_metrics(bonafide: list[float], spoof: list[float]) -> None:
    cm = scores_of(bonafide, spoof)
    metrics, sweep = evaluate(cm), chart_data.sweep_of(cm, TandemWeights(0.5, 0.2))
    assert sweep.threshold_at(sweep.eer_point) == metrics.eer_threshold
    assert sweep.threshold_at(sweep.dcf_point) == metrics.min_dcf_threshold
    assert sweep.tdcf is not None
    assert sweep.tdcf_point == sweep.tdcf.argmin()
    assert chart_data.sweep_of(cm).tdcf_point is None


def test_operating_points_keep_their_rate() -> None:
    generator = np.random.default_rng(0)
    cm = scores_of(generator.normal(2, 1, 500).tolist(), generator.normal(0, 1, 3000).tolist())
    sweep = chart_data.sweep_of(cm)
    points = dict(chart_data.operating_points(sweep, 500, 3000))
    # One per mille of 500 is less than a trial.
    assert list(points) == [
        "EER", "minDCF", "at most 1 % of spoofs accepted", "at most 1 % of bona fide rejected",
        "at most 0.1 % of spoofs accepted",
    ]  # fmt: skip
    for name, rate in (("at most 1 %", 0.01), ("at most 0.1 %", 0.001)):
        point = points[f"{name} of spoofs accepted"]
        assert sweep.far[point] <= rate < sweep.far[point - 1]
    point = points["at most 1 % of bona fide rejected"]
    assert sweep.frr[point] <= 0.01 < sweep.frr[point + 1]


def test_operating_points_have_a_threshold() -> None:
    """Among equal scores no threshold rejects a part of them: here 5 % of bona fide trials are saturated."""
    generator = np.random.default_rng(0)
    real = np.maximum(generator.normal(2, 1, 1000), np.quantile(generator.normal(2, 1, 1000), 0.05))
    fake = np.minimum(generator.normal(-2, 1, 1000), -1.0)
    cm = scores_of(real.tolist(), fake.tolist())
    sweep = chart_data.sweep_of(cm)
    points = dict(chart_data.operating_points(sweep, 1000, 1000))
    for name, point in points.items():
        if name.startswith("at most"):
            rate, threshold = float(name.split()[2]) / 100, sweep.threshold_at(point)
            at = FixedThreshold.of(cm, threshold)
            assert sweep.point_of(threshold) == point
            assert (at.frr, at.far) == (sweep.frr[point], sweep.far[point])
            assert sweep.far[point] <= rate if "spoofs" in name else sweep.frr[point] <= rate


@given(tied_scores, tied_scores)
def test_the_rates_of_a_threshold_are_those_that_it_has(bonafide: list[float], spoof: list[float]) -> None:
    cm = scores_of(bonafide, spoof)
    sweep = chart_data.sweep_of(cm)
    for point in (sweep.eer_point, sweep.dcf_point, 0, len(bonafide) + len(spoof)):
        threshold = sweep.threshold_at(point)
        at, real = FixedThreshold.of(cm, threshold), sweep.point_of(threshold)
        assert (sweep.frr[real], sweep.far[real]) == pytest.approx((at.frr, at.far))
        assert sweep.has_threshold[real]


@given(tied_scores, tied_scores)
def test_every_trial_is_in_a_bin(bonafide: list[float], spoof: list[float]) -> None:
    cm = scores_of(bonafide, spoof)
    shares = chart_data.score_histogram(cm)
    assert shares.bonafide.size == shares.spoof.size == shares.edges.size - 1
    assert shares.bonafide.sum() == pytest.approx(100)
    assert shares.spoof.sum() == pytest.approx(100)
    assert shares.tallest == max(*shares.bonafide, *shares.spoof)


def test_outliers_do_not_squeeze_the_others() -> None:
    generator = np.random.default_rng(1)
    bonafide = [*generator.normal(2, 1, 5000).tolist(), 1e9]
    shares = chart_data.score_histogram(scores_of(bonafide, generator.normal(0, 1, 5000).tolist()))
    assert -5 < shares.edges[0] < shares.edges[-1] < 8
    assert shares.bonafide.sum() == pytest.approx(100)


@given(tied_scores, tied_scores)
def test_the_det_curve_lies_between_the_ends_of_its_axes(bonafide: list[float], spoof: list[float]) -> None:
    sweep = chart_data.sweep_of(scores_of(bonafide, spoof))
    low, high = chart_data.det_limits([sweep], max(len(bonafide), len(spoof)))
    assert 0 < low < high < 1
    across, up = chart_data.det_line(sweep, low)
    assert (np.diff(across) <= 0).all()
    assert (np.diff(up) >= 0).all()
    ends = chart_data.probit(np.array([low, high]))
    positions = [position for position, _ in chart_data.probit_ticks(low, high)]
    assert positions == sorted(positions)
    assert all(ends[0] <= position <= ends[1] for position in positions)


def test_probit_inverts_the_normal_distribution() -> None:
    assert chart_data.probit(np.array([0.5, 0.841344746, 0.158655254])) == pytest.approx([0, 1, -1], abs=1e-6)


def test_corners_keep_the_staircase() -> None:
    rejected = np.array([0.0, 0.0, 0.0, 0.5, 1.0, 1.0])
    accepted = np.array([1.0, 0.8, 0.5, 0.5, 0.5, 0.0])
    corner = chart_data.corners(rejected, accepted)
    assert list(zip(rejected[corner].tolist(), accepted[corner].tolist(), strict=True)) == [
        (0.0, 1.0),
        (0.0, 0.5),
        (1.0, 0.5),
        (1.0, 0.0),
    ]


def test_staircases_of_points_and_of_bins() -> None:
    x, y = chart_data.staircase(np.array([0.0, 1.0, 2.0]), np.array([5.0, 6.0, 7.0]))
    assert (x.tolist(), y.tolist()) == ([0, 1, 1, 2, 2], [5, 5, 6, 6, 7])
    x, y = chart_data.staircase(np.array([0.0, 1.0, 2.0]), np.array([5.0, 6.0]))
    assert (x.tolist(), y.tolist()) == ([0, 1, 1, 2], [5, 5, 6, 6])


@given(st.lists(st.dictionaries(st.sampled_from("ABCDE"), st.floats(0, 1)), max_size=3), st.integers(1, 6))
def test_attacks_are_sorted_and_the_worst_are_kept(eers: list[dict[str, float]], most: int) -> None:
    everything = {name for one in eers for name in one}
    assert chart_data.attacks_shown(eers) == sorted(everything)
    shown = chart_data.attacks_shown(eers, most)
    assert len(shown) == min(most, len(everything))
    worst = {name: max(one[name] for one in eers if name in one) for name in everything}
    assert all(worst[name] >= worst[other] for name in shown for other in everything - set(shown))
