"""a-DCF and t-EER are their definitions, and equal the organisers' packages."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics import det, sasv
from s2pecnet.metrics.sasv import SASVCosts, TandemPoint
from s2pecnet.score_files.sasv import SASVScores
from tests.helpers.trials import spread, tied_scores

TARGET, NONTARGET, SPOOF = spread(60, 37, 200, -1.0), spread(80, 53, 250, -2.5), spread(90, 71, 300, -1.5)
BONAFIDE_CM, SPOOF_CM = spread(140, 29, 200, -1.0), spread(90, 83, 250, -3.0)

# ---- equal to the organisers' packages ---------------------------------------------------------


def test_a_dcf_of_the_authors_package() -> None:
    # PyPI a-dcf 0.0.4 run on these scores: with its own costs, and with those of ASVspoof 5 track 2.
    own = SASVCosts(0.9, 0.05, 0.05, 1, 10, 20)
    assert sasv.compute_a_dcf(TARGET, NONTARGET, SPOOF, own) == pytest.approx((0.6, 1.85), abs=1e-12)
    assert sasv.compute_a_dcf(TARGET, NONTARGET, SPOOF) == pytest.approx((0.7867413632119514, -0.94), abs=1e-12)


def test_t_eer_of_the_organisers_package() -> None:
    # asvspoof-challenge/asvspoof5, evaluation-package, compute_teer run on these scores.
    point = sasv.compute_t_eer(BONAFIDE_CM, SPOOF_CM, TARGET, NONTARGET, SPOOF)
    assert list(point) == pytest.approx([0.3188888888888889, -1.88, 0.248], abs=1e-12)


# ---- a-DCF -------------------------------------------------------------------------------------


@given(tied_scores, tied_scores, tied_scores, st.floats(0.1, 30), st.floats(0.1, 30))
def test_a_dcf_is_the_least_cost_of_all_thresholds(
    target: list[float], nontarget: list[float], spoof: list[float], c_nontarget: float, c_spoof: float
) -> None:
    costs = SASVCosts(c_fa_nontarget=c_nontarget, c_fa_spoof=c_spoof)
    found, threshold = sasv.compute_a_dcf(target, nontarget, spoof, costs)

    def cost(level: float) -> float:
        miss = sum(score <= level for score in target) / len(target)
        nontarget_accepted, spoof_accepted = (
            sum(score > level for score in scores) / len(scores) for scores in (nontarget, spoof)
        )
        worst = min(0.9405, 0.0095 * c_nontarget + 0.05 * c_spoof)
        return (0.9405 * miss + 0.0095 * c_nontarget * nontarget_accepted + 0.05 * c_spoof * spoof_accepted) / worst

    levels = [-math.inf, *target, *nontarget, *spoof]
    assert found == pytest.approx(min(map(cost, levels)), abs=1e-12)
    assert cost(threshold) == pytest.approx(found, abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


def test_a_dcf_interval_is_the_spread_of_drawn_trials() -> None:
    found, _ = sasv.compute_a_dcf(TARGET, NONTARGET, SPOOF)
    interval = sasv.a_dcf_interval(TARGET, NONTARGET, SPOOF, replicates=300)
    assert interval is not None
    assert interval.low < found < interval.high
    assert sasv.a_dcf_interval(TARGET, NONTARGET, SPOOF, replicates=300) == interval
    # The same draws done the slow way.
    generator = np.random.default_rng(0)
    values = []
    for _ in range(20):
        target, nontarget, spoof = (
            np.sort(scores)[generator.integers(len(scores), size=len(scores))] for scores in (TARGET, NONTARGET, SPOOF)
        )
        values.append(sasv.compute_a_dcf(target, nontarget, spoof)[0])
    few = sasv.a_dcf_interval(TARGET, NONTARGET, SPOOF, replicates=20)
    assert few is not None
    assert (few.low, few.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)
    with pytest.raises(InputError, match="0 bootstrap replicates"):
        sasv.a_dcf_interval(TARGET, NONTARGET, SPOOF, replicates=0)
    # Without errors all draws agree, which is no certainty.
    assert sasv.a_dcf_interval([3.0, 4.0], [1.0, 0.0], [-1.0, 0.5], replicates=20) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_spoof": 0.1}, r"p_target \+ p_nontarget \+ p_spoof is 1.05, expected 1"),
        ({"p_nontarget": 0.0}, "p_nontarget is 0.0, expected a finite value > 0"),
        ({"c_miss": math.nan}, "c_miss is nan"),
    ],
)
def test_costs_that_cannot_be_used(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SASVCosts(**changes)


# ---- t-EER -------------------------------------------------------------------------------------


Point = tuple[list[float], list[float], float]


def points_of(classes: list[list[float]]) -> list[Point]:
    """Shares of each class rejected and accepted at every cut of the trials in order, and the threshold."""
    trials = sorted((score, kind) for kind, scores in enumerate(classes) for score in scores)
    points = []
    for cut in range(len(trials) + 1):
        rejected = [sum(kind == other for _, other in trials[:cut]) for kind in range(len(classes))]
        shares = [count / len(scores) for count, scores in zip(rejected, classes, strict=True)]
        others = [(len(scores) - count) / len(scores) for count, scores in zip(rejected, classes, strict=True)]
        points.append((shares, others, trials[cut - 1][0] if cut else trials[0][0] - 0.001))
    return points


def slow_t_eer(cm: list[list[float]], asv: list[list[float]]) -> TandemPoint | None:
    """The definition at the top of `sasv`, pair of thresholds by pair; None where trials are too few for any."""
    cm_points = points_of(cm)
    best, found = math.inf, None
    for (asv_miss, *_), (_, nontarget, spoof), asv_threshold in points_of(asv):
        gaps = []
        for (miss, _), (_, false_alarm), _ in cm_points:
            tandem_miss = miss + (1 - miss) * asv_miss
            gaps.append(abs(tandem_miss - (0.5 * (1 - miss) * nontarget + 0.5 * false_alarm * spoof)))
        (miss, _), (_, false_alarm), cm_threshold = cm_points[gaps.index(min(gaps))]
        if asv_miss < 0.5 * nontarget + 0.5 * spoof and spoof > 0 and miss < 1:
            distance = abs(nontarget / spoof - false_alarm / (1 - miss))
            if distance < best:
                best, found = distance, TandemPoint(spoof * false_alarm, cm_threshold, asv_threshold)
    return found


@given(tied_scores, tied_scores, tied_scores, tied_scores, tied_scores)
def test_t_eer_is_its_definition(
    bonafide: list[float], spoof_cm: list[float], target: list[float], nontarget: list[float], spoof: list[float]
) -> None:
    fast = sasv.compute_t_eer(bonafide, spoof_cm, target, nontarget, spoof)
    slow = slow_t_eer([bonafide, spoof_cm], [target, nontarget, spoof])
    assert fast == slow or (slow is None and len(bonafide) == 1)


@given(st.integers(0, 10_000), st.floats(-1, 3), st.floats(-1, 3))
def test_t_eer_is_its_definition_without_ties(seed: int, cm_distance: float, asv_distance: float) -> None:
    generator = np.random.default_rng(seed)
    cm = [generator.normal(mean, 1, size).tolist() for mean, size in ((cm_distance, 13), (0, 17))]
    asv = [generator.normal(mean, 1, size).tolist() for mean, size in ((asv_distance, 7), (0, 5), (0.5, 11))]
    assert sasv.compute_t_eer(*cm, *asv) == slow_t_eer(cm, asv)


def test_t_eer_of_gaussian_scores_is_where_the_three_rates_are_equal() -> None:
    generator = np.random.default_rng(3)
    bonafide, spoof_cm = generator.normal(2, 1, 40_000), generator.normal(0, 1, 20_000)
    target, nontarget, spoof = (generator.normal(mean, 1, 20_000) for mean in (3, 0, 2))
    point = sasv.compute_t_eer(bonafide, spoof_cm, target, nontarget, spoof)
    miss_cm, miss_asv = (bonafide <= point.t_eer_cm_threshold).mean(), (target <= point.t_eer_asv_threshold).mean()
    rates_there = (
        miss_cm + (1 - miss_cm) * miss_asv,
        (1 - miss_cm) * (nontarget > point.t_eer_asv_threshold).mean(),
        (spoof_cm > point.t_eer_cm_threshold).mean() * (spoof > point.t_eer_asv_threshold).mean(),
    )
    assert rates_there == pytest.approx((point.t_eer,) * 3, abs=0.002)


def test_t_eer_of_one_useless_system_is_the_eer_of_the_other() -> None:
    # An ASV that accepts any spoof but no nontarget leaves it to the CM.
    point = sasv.compute_t_eer(BONAFIDE_CM, SPOOF_CM, [10.0] * 200, [-10.0] * 200, [11.0] * 200)
    eer, _ = det.compute_eer(BONAFIDE_CM, SPOOF_CM)
    assert point.t_eer == pytest.approx(eer, abs=0.02)
    # A perfect CM leaves the nontargets to the ASV.
    point = sasv.compute_t_eer([1.0] * 200, [0.0] * 200, TARGET, NONTARGET, SPOOF)
    eer, _ = det.compute_eer(TARGET, NONTARGET)
    assert point.t_eer <= eer + 0.02


@pytest.mark.parametrize("cm", [([0.0], [1.0]), ([1.0], [0.0]), ([0.0], [0.0])])
@pytest.mark.parametrize("asv", [([0.0], [1.0], [2.0]), ([2.0], [1.0], [0.0]), ([0.0], [0.0], [0.0])])
def test_the_fewest_trials_have_a_t_eer(cm: Any, asv: Any) -> None:
    assert 0 <= sasv.compute_t_eer(*cm, *asv).t_eer <= 1


# ---- all metrics of a file ---------------------------------------------------------------------


def test_metrics_of_the_scores_in_a_file() -> None:
    keys = np.repeat(np.arange(3, dtype=np.uint8), [60, 80, 90])
    cm = np.array(BONAFIDE_CM + SPOOF_CM)
    verification = np.array(TARGET + NONTARGET + SPOOF)
    every = sasv.evaluate_sasv(SASVScores(keys, cm, verification, verification))
    assert (every.n_target, every.n_nontarget, every.n_spoof) == (60, 80, 90)
    cost, score = sasv.compute_a_dcf(TARGET, NONTARGET, SPOOF)
    assert every.min_a_dcf == cost
    # Halfway from that score to the next.
    assert every.min_a_dcf_threshold == pytest.approx((score + min(verification[verification > score])) / 2)
    assert every.tandem == sasv.compute_t_eer(BONAFIDE_CM, SPOOF_CM, TARGET, NONTARGET, SPOOF)
    assert every.as_dict()["t_eer_cm_threshold"] == every.tandem.t_eer_cm_threshold
    assert every.cm_eer == det.compute_eer(BONAFIDE_CM, SPOOF_CM)[0]
    assert every.asv_eer == det.compute_eer(TARGET, NONTARGET)[0]
    assert [line.split()[0] for line in every.lines()] == ["trials", "min", "t-EER", "CM", "ASV"]
    assert every.remarks() == []
    turned = sasv.evaluate_sasv(SASVScores(keys, -cm, -verification, None))
    assert [line.partition(":")[0] for line in turned.as_dict()["remarks"]] == [
        "CM EER above 50 %",
        "ASV EER above 50 %",
    ]
    assert len([line for line in turned.lines() if line.startswith("note ")]) == 2
    only_sasv = sasv.evaluate_sasv(SASVScores(keys, None, None, verification))
    assert (only_sasv.min_a_dcf, only_sasv.tandem, only_sasv.cm_eer) == (every.min_a_dcf, None, None)
    assert only_sasv.lines()[2] == "t-EER        not computed: needs CM and ASV scores"
    only_cm = sasv.evaluate_sasv(SASVScores(keys, cm, None, None))
    assert (only_cm.min_a_dcf, only_cm.tandem, only_cm.cm_eer) == (None, None, every.cm_eer)
    assert only_cm.lines()[1] == "min a-DCF    not computed: no SASV scores"


@pytest.mark.parametrize("scores", [([], [1.0], [1.0]), ([1.0], [], [1.0]), ([1.0], [1.0], [math.inf])])
def test_scores_that_cannot_be_used(scores: Any) -> None:
    with pytest.raises(InputError, match=r"(target|nontarget|spoof) scores"):
        sasv.compute_a_dcf(*scores)
    with pytest.raises(InputError, match=r"(target|nontarget|spoof) scores"):
        sasv.compute_t_eer([1.0], [0.0], *scores)
