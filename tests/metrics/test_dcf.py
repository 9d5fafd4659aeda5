"""Detection costs are their formulas, and equal the organisers' package of ASVspoof 5."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics import dcf
from s2pecnet.metrics.dcf import DetectionCosts
from tests.helpers.trials import brute_force_points, spread, tied_scores

finite = st.lists(st.floats(-30, 30), min_size=1, max_size=12)


def test_the_organisers_package_gives_the_same() -> None:
    # asvspoof-challenge/asvspoof5, evaluation-package, run on these scores (compute_mindcf, compute_actDCF,
    # calculate_CLLR).
    bonafide, spoof = spread(60, 37, 200, -1.0), spread(90, 71, 250, -3.0)
    assert dcf.compute_min_dcf(bonafide, spoof) == pytest.approx((0.46666666666666673, -0.968), abs=1e-12)
    assert dcf.compute_act_dcf(bonafide, spoof) == pytest.approx(0.5583333333333333, abs=1e-12)
    assert dcf.compute_cllr(bonafide, spoof) == pytest.approx(0.6058521424504025, abs=1e-12)


@given(tied_scores, tied_scores, st.floats(0.01, 0.99), st.floats(0.1, 20), st.floats(0.1, 20))
def test_min_dcf_is_the_least_of_its_sweep(
    bonafide: list[float], spoof: list[float], p_spoof: float, c_miss: float, c_fa: float
) -> None:
    cost, threshold = dcf.compute_min_dcf(bonafide, spoof, DetectionCosts(p_spoof, c_miss, c_fa))
    miss, false_alarm = c_miss * (1 - p_spoof), c_fa * p_spoof
    sweep: dict[float, list[float]] = {}
    for rejected, accepted, level in brute_force_points(bonafide, spoof):
        sweep.setdefault(level, []).append(
            (miss * rejected / len(bonafide) + false_alarm * accepted / len(spoof)) / min(miss, false_alarm)
        )
    assert cost == pytest.approx(min(map(min, sweep.values())), abs=1e-12)
    assert min(sweep[threshold]) == pytest.approx(cost, abs=1e-12)
    assert 0 <= cost <= 1 + 1e-12


@given(finite, finite, st.floats(0.01, 0.99), st.floats(0.1, 20), st.floats(0.1, 20))
def test_no_threshold_costs_less_than_the_best(
    bonafide: list[float], spoof: list[float], p_spoof: float, c_miss: float, c_fa: float
) -> None:
    costs = DetectionCosts(p_spoof, c_miss, c_fa)
    assert dcf.compute_act_dcf(bonafide, spoof, costs) >= dcf.compute_min_dcf(bonafide, spoof, costs)[0] - 1e-12


def test_act_dcf_counts_at_bayes_threshold() -> None:
    # Accepting pays where the ratio of likelihoods is above 10 * 0.05 / (1 * 0.95).
    threshold = math.log(0.5 / 0.95)
    assert dcf.ASVSPOOF5_COSTS.bayes_threshold == pytest.approx(threshold, abs=1e-15)
    above, below = threshold + 1e-9, threshold - 1e-9
    assert dcf.compute_act_dcf([above, 9.0], [below, -9.0]) == 0
    assert dcf.compute_act_dcf([below, 9.0], [below, -9.0]) == pytest.approx(0.5 * 0.95 / 0.5)
    assert dcf.compute_act_dcf([above, 9.0], [above, -9.0]) == pytest.approx(0.5)
    assert dcf.compute_act_dcf([-9.0], [9.0]) == pytest.approx(0.95 / 0.5 + 1)


def test_bayes_threshold_is_where_gaussian_ratios_cost_least() -> None:
    """Scores of N(1/2, 1) and N(-1/2, 1) are their own ratios, so that no other threshold is better on average."""
    generator = np.random.default_rng(0)
    bonafide, spoof = generator.normal(0.5, 1, 200_000), generator.normal(-0.5, 1, 200_000)
    least, threshold = dcf.compute_min_dcf(bonafide, spoof)
    assert dcf.compute_act_dcf(bonafide, spoof) == pytest.approx(least, rel=0.005)
    assert threshold == pytest.approx(dcf.ASVSPOOF5_COSTS.bayes_threshold, abs=0.1)
    # And a scale or a shift that is wrong costs, in both figures.
    for wrong in (lambda llrs: 3 * llrs, lambda llrs: llrs + 1):
        assert dcf.compute_act_dcf(wrong(bonafide), wrong(spoof)) > 1.01 * least
        assert dcf.compute_cllr(wrong(bonafide), wrong(spoof)) > 1.01 * dcf.compute_cllr(bonafide, spoof)


@given(finite, finite)
def test_cllr_is_its_formula(bonafide: list[float], spoof: list[float]) -> None:
    of_bonafide = sum(math.log1p(math.exp(-llr)) for llr in bonafide) / len(bonafide)
    of_spoof = sum(math.log1p(math.exp(llr)) for llr in spoof) / len(spoof)
    assert dcf.compute_cllr(bonafide, spoof) == pytest.approx((of_bonafide + of_spoof) / (2 * math.log(2)), rel=1e-12)


def test_cllr_of_huge_ratios_does_not_overflow() -> None:
    assert dcf.compute_cllr([1e5], [-1e5]) == 0
    assert dcf.compute_cllr([-1e5], [-1e5]) == pytest.approx(1e5 / (2 * math.log(2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_spoof": 0.0}, "p_spoof is 0.0, expected a prior between 0 and 1"),
        ({"p_spoof": math.nan}, "p_spoof is nan"),
        ({"c_miss": 0.0}, "c_miss is 0.0, expected a finite cost > 0"),
        ({"c_fa": math.inf}, "c_fa is inf"),
    ],
)
def test_costs_that_cannot_be_used(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectionCosts(**changes)


@pytest.mark.parametrize("figure", [dcf.compute_min_dcf, dcf.compute_act_dcf, dcf.compute_cllr])
def test_scores_that_cannot_be_used(figure: Any) -> None:
    for bonafide, spoof in (([], [1.0]), ([1.0], []), ([math.nan], [1.0])):
        with pytest.raises(InputError):
            figure(bonafide, spoof)
