"""Systems over corpora: values as counted by hand, None where not defined, pooled and mean of the right sets."""

import numpy as np
import pytest
from scipy import stats

from s2pecnet.errors import InputError
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.metrics.crosseval import COLUMNS, SharedThreshold, evaluate_over, evaluate_row, pool
from s2pecnet.metrics.dcf import compute_act_dcf, compute_cllr
from s2pecnet.score_files.cm_asv import CMScores


def scores_of(bonafide: list[float], spoof: list[float], n_unscored: int = 0) -> CMScores:
    values = np.array([*bonafide, *spoof])
    is_bonafide = np.arange(len(values)) < len(bonafide)
    names = np.array([f"u{number}" for number in range(len(values))])
    return CMScores(names, np.where(is_bonafide, "-", "A1"), is_bonafide, values, n_unscored)


# Threshold 0: one of four bona fide trials is rejected, two of eight spoofs are accepted. By its own: one of four.
FIRST = scores_of([3, 2, 1, -1.5], [0.5, 0.2, -1, -2, -3, -4, -5, -6], n_unscored=2)
# Half of the bona fide trials are rejected, no spoof is accepted; the classes are apart, but not at 0.
SECOND = scores_of([1, -0.5], [-1, -2, -3, -4])
SPOOFS = scores_of([], [1, -1, -2, -3, -4])
REAL = scores_of([1, 2, -1], [])
ZERO = {"A": SharedThreshold(0.0, "given")}


def test_the_values_are_those_counted_by_hand() -> None:
    found = evaluate_over({"A": {"first": FIRST, "second": SECOND, "spoofs": SPOOFS, "real": REAL}}, ZERO)
    first, second, spoofs, real = (found.rows["A"][name].values for name in ("first", "second", "spoofs", "real"))
    assert (first["frr"], first["far"], first["balanced_error"], first["error"]) == (0.25, 0.25, 0.25, 3 / 12)
    assert first["dcf"] == pytest.approx((0.95 * 0.25 + 0.5 * 0.25) / 0.5)
    assert (second["eer"], second["frr"], second["far"], second["balanced_error"]) == (0, 0.5, 0, 0.25)
    assert (spoofs["far"], spoofs["error"]) == (0.2, 0.2)
    assert (real["frr"], real["error"]) == (1 / 3, 1 / 3)
    assert found.rows["A"]["first"].n_unscored == 2


def test_what_is_not_defined_is_none_and_never_0() -> None:
    rows = evaluate_over({"A": {"spoofs": SPOOFS, "real": REAL}}, ZERO).rows["A"]
    for name, defined in (("spoofs", {"far", "error"}), ("real", {"frr", "error"})):
        assert {metric for metric, value in rows[name].values.items() if value is not None} == defined
        assert {metric for metric, value in rows[name].intervals.items() if value is not None} == defined
        assert rows[name].eer_threshold is None
    without = evaluate_row(SPOOFS, None)
    assert set(without.values.values()) == {None} == set(without.intervals.values())


def test_errors_that_did_not_happen_are_not_known_to_be_impossible() -> None:
    """None of 10 bona fide trials is rejected, which leaves an FRR of up to 31 % (Clopper-Pearson)."""
    few = scores_of([1.0] * 10, [1.0] * 50 + [-1.0] * 950)
    many = scores_of([1.0] * 950 + [-1.0] * 50, [1.0] * 50 + [-1.0] * 950)
    found = evaluate_over({"A": {"few": few, "many": many}}, ZERO)
    row, mean = found.rows["A"]["few"], found.mean["A"]
    for interval, high in (
        (row.intervals["balanced_error"], (0.05 + 0.22) / 2),
        (mean.intervals["frr"], (0.05 + 0.22) / 2),
        (mean.intervals["balanced_error"], (0.05 + 0.13) / 2),
    ):
        assert interval is not None
        assert interval.high == pytest.approx(high, abs=0.03)
    # An interval holds the value, which is at its end where there are no errors at all.
    none = evaluate_row(scores_of([1.0] * 10, [-1.0] * 30), ZERO["A"])
    balanced = none.intervals["balanced_error"]
    assert balanced is not None
    assert balanced.low == none.values["balanced_error"] == 0
    assert 0.05 < balanced.high < 0.25


def test_the_mean_of_eers_knows_what_few_trials_leave_open() -> None:
    apart = scores_of([1.0, 2.0, 3.0] * 3, [-1.0, -2.0, -3.0] * 3)
    rng = np.random.default_rng(0)
    many = scores_of(list(rng.normal(2, 1, 1000)), list(rng.normal(0, 1, 1000)))
    found = evaluate_over({"A": {"apart": apart, "many": many}})
    own, mean = found.rows["A"]["apart"].intervals["eer"], found.mean["A"].intervals["eer"]
    assert own is not None
    assert mean is not None
    assert own.low == 0
    assert own.high > 0.25
    assert mean.high - mean.low > 0.09


def test_pooled_is_one_set_of_all_trials() -> None:
    found = evaluate_over({"A": {"first": FIRST, "second": SECOND, "spoofs": SPOOFS}}, ZERO)
    pooled = found.pooled["A"]
    assert (pooled.n_bonafide, pooled.n_spoof, pooled.n_unscored) == (6, 17, 2)
    assert (pooled.values["frr"], pooled.values["far"], pooled.values["error"]) == (2 / 6, 3 / 17, 5 / 23)
    together = scores_of([*FIRST.bonafide, *SECOND.bonafide], [*FIRST.spoof, *SECOND.spoof, *SPOOFS.spoof])
    assert pooled.values["eer"] == evaluate(together).eer
    names = pool({"first": FIRST, "second": SECOND}).utterances.tolist()
    assert len(set(names)) == 18
    assert names[0] == "first/u0"


def test_the_mean_is_over_the_corpora_that_have_the_metric() -> None:
    found = evaluate_over({"A": {"first": FIRST, "second": SECOND, "spoofs": SPOOFS}}, ZERO)
    mean = found.mean["A"]
    assert mean.values["eer"] == (0.25 + 0) / 2
    assert mean.values["frr"] == (0.25 + 0.5) / 2
    assert mean.values["far"] == pytest.approx((0.25 + 0 + 0.2) / 3)
    assert (mean.n_corpora["eer"], mean.n_corpora["far"], mean.n_corpora["act_dcf"]) == (2, 3, 0)
    assert mean.values["act_dcf"] is None


def test_the_corpus_that_gives_the_threshold_is_in_neither() -> None:
    found = evaluate_over({"A": {"dev": SECOND, "first": FIRST, "spoofs": SPOOFS}}, threshold_of="dev")
    # Between -0.5, the lowest bona fide score, and -1, the highest spoof's.
    assert found.shared["A"].value == -0.75
    assert found.together == ["first", "spoofs"]
    assert found.rows["A"]["dev"].values["balanced_error"] == 0
    assert found.pooled["A"].n_spoof == 13
    assert found.rows["A"]["first"].values["frr"] == 0.25
    assert found.rows["A"]["spoofs"].values["far"] == 0.2


def test_pooled_and_mean_are_of_what_all_systems_scored() -> None:
    found = evaluate_over({"A": {"first": FIRST, "second": SECOND}, "B": {"second": SECOND, "real": REAL}}, ZERO)
    assert found.together == ["second"]
    assert not found.pooled
    assert not found.mean
    assert found.corpora == ["first", "second", "real"]
    assert found.rows["B"]["second"].values["frr"] is None
    both = {"first": FIRST, "second": SECOND}
    assert set(evaluate_over({"A": both, "B": {**both, "real": REAL}}).pooled) == {"A", "B"}


def test_intervals_of_rates_are_clopper_and_pearsons() -> None:
    row = evaluate_row(FIRST, ZERO["A"])
    for metric, count, trials in (("frr", 1, 4), ("far", 2, 8), ("error", 3, 12)):
        exact = stats.binomtest(count, trials).proportion_ci(method="exact")
        interval = row.intervals[metric]
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_intervals_of_a_mean_are_as_wide_as_theory_says() -> None:
    generator = np.random.default_rng(1)
    corpora = {
        name: scores_of(generator.normal(1, 1, 400).tolist(), generator.normal(-1, 1, 400).tolist())
        for name in ("one", "two", "three", "four")
    }
    found = evaluate_over({"A": corpora}, ZERO, replicates=4000)
    rates = [row.values["far"] for row in found.rows["A"].values()]
    deviation = np.sqrt(sum(rate * (1 - rate) / 400 for rate in rates if rate is not None)) / 4
    interval = found.mean["A"].intervals["far"]
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    single = found.rows["A"]["one"].intervals["eer"]
    mean = found.mean["A"].intervals["eer"]
    assert single is not None
    assert mean is not None
    # Of four corpora that are drawn independently.
    assert mean.high - mean.low == pytest.approx((single.high - single.low) / 2, rel=0.25)


def test_without_errors_the_exact_interval_stays() -> None:
    apart = scores_of([2.0] * 20, [-2.0] * 30)
    row = evaluate_row(apart, ZERO["A"])
    assert row.values["eer"] == row.values["far"] == row.values["balanced_error"] == 0
    far, eer = row.intervals["far"], row.intervals["eer"]
    assert far is not None
    assert far.high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert eer is not None
    assert eer.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_calibration_gives_costs_of_ratios() -> None:
    calibration = Calibration(2.0, 1.0, 0.0, 0.0, 0.05, 1.0, 10.0, 5, 5, False, "dev")
    row = evaluate_row(FIRST, SharedThreshold(-0.5, "llr", calibration))
    llrs = 2 * FIRST.bonafide + 1, 2 * FIRST.spoof + 1
    assert row.values["act_dcf"] == compute_act_dcf(*llrs)
    assert row.values["cllr"] == compute_cllr(*llrs)


def test_a_threshold_needs_a_corpus_with_both_classes() -> None:
    with pytest.raises(InputError, match="spoofs: its trials are of one class"):
        evaluate_over({"A": {"spoofs": SPOOFS, "first": FIRST}}, threshold_of="spoofs")
    with pytest.raises(InputError, match="B has no scores of first"):
        evaluate_over({"A": {"first": FIRST}, "B": {"second": SECOND}}, threshold_of="first")


def test_json_has_every_metric() -> None:
    content = evaluate_over({"A": {"first": FIRST, "spoofs": SPOOFS}}, ZERO).as_dict()
    corpora = content["systems"]["A"]["corpora"]
    assert all(name in corpora["spoofs"] for name, *_ in COLUMNS)
    assert corpora["spoofs"]["eer"] is None
    assert corpora["first"]["intervals"]["eer"]["level"] == 0.95
