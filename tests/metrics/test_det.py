"""DET curve, EER and ASV rates are their definitions."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics import det
from tests.helpers.trials import brute_force_points, tied_scores


def test_small_cases_exactly(expected: dict[str, Any]) -> None:
    for case in expected["compute_eer_cases"]:
        result = det.compute_eer(case["bonafide"], case["spoof"])
        assert result == (case["eer"], case["threshold"]), case["name"]


@given(tied_scores, tied_scores)
def test_det_curve_and_eer_are_the_definition(target: list[float], nontarget: list[float]) -> None:
    points = [
        (rejected / len(target), accepted / len(nontarget), threshold)
        for rejected, accepted, threshold in brute_force_points(target, nontarget)
    ]
    frr, far, thresholds = det.compute_det_curve(target, nontarget)
    assert list(zip(frr.tolist(), far.tolist(), thresholds.tolist(), strict=True)) == points
    best = min(points, key=lambda point: abs(point[0] - point[1]))
    assert det.compute_eer(target, nontarget) == ((best[0] + best[1]) / 2, best[2])


@given(tied_scores, tied_scores, st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=9, unique=True))
def test_eer_does_not_change_under_strictly_rising_maps(
    target: list[float], nontarget: list[float], images: list[float]
) -> None:
    rising = dict(zip(map(float, range(-4, 5)), sorted(images), strict=True))
    eer, threshold = det.compute_eer(target, nontarget)
    mapped_eer, mapped_threshold = det.compute_eer(
        [rising[score] for score in target], [rising[score] for score in nontarget]
    )
    assert mapped_eer == eer
    if threshold in rising:  # the point below all scores has a threshold of its own
        assert mapped_threshold == rising[threshold]


@given(tied_scores, tied_scores)
def test_eer_is_symmetric_under_swapping_and_negating(target: list[float], nontarget: list[float]) -> None:
    # Ties are no exception: sorted pessimistically in both directions, the list of trials is just reversed.
    # Two neighbouring points may be equally close, though, and then "the first" is the other one.
    eer, _ = det.compute_eer(target, nontarget)
    mirrored, _ = det.compute_eer([-score for score in nontarget], [-score for score in target])
    gaps = [
        abs(Fraction(rejected, len(target)) - Fraction(accepted, len(nontarget)))
        for rejected, accepted, _ in brute_force_points(target, nontarget)
    ]
    if gaps.count(min(gaps)) == 1:
        assert mirrored == pytest.approx(eer, abs=1e-12)
    else:
        assert abs(mirrored - eer) <= 0.5 / min(len(target), len(nontarget)) + 1e-12


@given(tied_scores, tied_scores)
def test_scores_are_left_as_they_were(target: list[float], nontarget: list[float]) -> None:
    arrays = np.array(target), np.array(nontarget)
    det.compute_eer(*arrays)
    assert arrays[0].tolist() == target
    assert arrays[1].tolist() == nontarget


@pytest.mark.parametrize(
    ("target", "nontarget", "message"),
    [
        ([], [1.0], r"target_scores: no scores"),
        ([1.0], [], r"nontarget_scores: no scores"),
        ([1.0, math.nan], [1.0], r"target_scores\[1\] is nan"),
        ([1.0], [math.inf], r"nontarget_scores\[0\] is inf"),
        ([[1.0]], [1.0], r"target_scores: shape \(1, 1\)"),
        (["x"], [1.0], r"target_scores: expected numbers"),
    ],
)
def test_scores_that_cannot_be_used(target: Any, nontarget: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        det.compute_eer(target, nontarget)


def test_asv_error_rates_count_the_threshold_as_accepted() -> None:
    target, nontarget, spoof = [1.0, 2.0], [2.0, 0.0, 0.0, 3.0], [2.0, 1.0, 1.0, 1.0]
    assert det.obtain_asv_error_rates(target, nontarget, spoof, 2.0) == (0.5, 0.5, 0.75)
    assert det.obtain_asv_error_rates([1.0], [2.0], [], 2.0) == (1.0, 1.0, None)


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=4), min_size=1))
@example(["A07", "A19", "A08", "A07"])
@example(["\U0010ffff" * 4, "\U0010fffe" * 4])
def test_ranks_are_those_of_numpy(names: list[str]) -> None:
    distinct, ranks = det.rank_names(np.array(names))
    assert distinct == sorted(set(names))
    assert [distinct[rank] for rank in ranks] == names


# ---- the EER between thresholds ----------------------------------------------------------------


def eer_by_definition(bonafide: list[float], spoof: list[float]) -> float:
    """Walk over the thresholds; read the rate where the two straight lines meet."""
    points = []
    for threshold in sorted({*bonafide, *spoof}):
        false_alarms = sum(score >= threshold for score in spoof) / len(spoof)
        points.append((false_alarms, sum(score < threshold for score in bonafide) / len(bonafide)))
    for (far, miss), (next_far, next_miss) in itertools.pairwise(points):
        if far > miss and next_far <= next_miss:
            share = (far - miss) / ((far - miss) + (next_miss - next_far))
            return miss + share * (next_miss - miss)
    return sum(points[-1]) / 2


@given(tied_scores, tied_scores)
def test_interpolated_eer_is_its_definition(bonafide: list[float], spoof: list[float]) -> None:
    assert det.interpolated_eer(bonafide, spoof) == pytest.approx(eer_by_definition(bonafide, spoof), abs=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 200))
def test_without_ties_both_eers_are_within_a_trial(seed: int, n_bonafide: int, n_spoof: int) -> None:
    rng = np.random.default_rng(seed)
    bonafide, spoof = rng.normal(1, 1, n_bonafide), rng.normal(0, 1, n_spoof)
    difference = det.interpolated_eer(bonafide, spoof) - det.compute_eer(bonafide, spoof)[0]
    assert abs(difference) <= 1 / min(n_bonafide, n_spoof) + 1e-12


def test_ties_of_all_scores_are_chance() -> None:
    assert det.interpolated_eer([1.0, 1.0], [1.0]) == 0.5
    assert det.interpolated_eer([0.0], [1.0]) == 1.0
