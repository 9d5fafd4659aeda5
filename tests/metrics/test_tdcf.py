"""The t-DCF is the sweep of its formula, and costs that make no sense are refused."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics import tdcf
from s2pecnet.metrics.tdcf import ASVSPOOF2019_COST_MODEL
from tests.helpers.trials import brute_force_points, tied_scores


@given(tied_scores, tied_scores, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.9))
def test_tdcf_is_the_sweep_of_its_formula(
    bonafide: list[float], spoof: list[float], fa: float, miss: float, miss_spoof: float
) -> None:
    cost, thresholds = tdcf.compute_tDCF(bonafide, spoof, fa, miss, miss_spoof, ASVSPOOF2019_COST_MODEL, False)
    c1 = 0.9405 * (1 - miss) - 0.0095 * 10 * fa
    c2 = 10 * 0.05 * (1 - miss_spoof)
    points = brute_force_points(bonafide, spoof)
    sweep = [
        (c1 * rejected / len(bonafide) + c2 * accepted / len(spoof)) / min(c1, c2) for rejected, accepted, _ in points
    ]
    assert cost.tolist() == pytest.approx(sweep, abs=1e-12)
    assert thresholds.tolist() == [threshold for _, _, threshold in points]
    assert 0 <= cost.min() <= 1 + 1e-12


def test_cost_model_of_asvspoof2019() -> None:
    assert dict(ASVSPOOF2019_COST_MODEL) == pytest.approx(
        {"Pspoof": 0.05, "Ptar": 0.9405, "Pnon": 0.0095, "Cmiss_asv": 1, "Cfa_asv": 10, "Cmiss_cm": 1, "Cfa_cm": 10}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Cfa_cm": -1}, "cost Cfa_cm is -1, expected a finite value >= 0"),
        ({"Cmiss_asv": math.nan}, "cost Cmiss_asv is nan"),
        ({"Pspoof": 1.5}, r"prior Pspoof is 1.5, expected a value in \[0, 1\]"),
        ({"Pspoof": 0.06}, r"Pspoof \+ Ptar \+ Pnon is 1.01, expected 1"),
        ({"Cmiss_cm": 0}, "rejecting bona fide speech has the weight -.* expected > 0"),
        ({"Cfa_cm": 0}, "accepting spoofs has the weight 0, expected > 0"),
    ],
)
def test_cost_models_that_cannot_be_used(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tdcf.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, {**ASVSPOOF2019_COST_MODEL, **changes}, False)


def test_cost_model_without_a_key() -> None:
    model = {name: value for name, value in ASVSPOOF2019_COST_MODEL.items() if name != "Ptar"}
    with pytest.raises(InputError, match="Ptar missing"):
        tdcf.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, model, False)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.1, 0.1, None), "Pmiss_spoof_asv is None"),
        ((1.1, 0.1, 0.1), "Pfa_asv is 1.1"),
        ((0.1, math.nan, 0.1), "Pmiss_asv is nan"),
        ((0.5, 1.0, 0.1), "weight -0.0475"),
        ((0.1, 0.1, 1.0), "accepting spoofs has the weight 0"),
    ],
)
def test_asv_rates_that_cannot_be_used(rates: tuple[float, float, float | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tdcf.compute_tDCF([1.0], [0.0], *rates, ASVSPOOF2019_COST_MODEL, False)


def test_tdcf_prints_its_parameters_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    tdcf.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, ASVSPOOF2019_COST_MODEL, True)
    printed = capsys.readouterr().out
    assert all(
        re.search(rf"\b{name}\b", printed) for name in [*ASVSPOOF2019_COST_MODEL, "miss weight", "false-alarm weight"]
    )
