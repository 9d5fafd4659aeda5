"""DET curve, EER and ASV rates are their definitions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
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
