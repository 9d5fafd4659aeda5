"""The figures equal the organisers' scorer and their definitions; no malformed score file gets through."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluation
from errors import InputError
from evaluation import ASVSPOOF2019_COST_MODEL, ASVScores, CMScores

REPOSITORY = Path(evaluation.__file__).resolve().parent

# ---- equal to the organisers' scorer -----------------------------------------------------------


@pytest.mark.parametrize("system", ["cm_softmax", "cm_amsoftmax", "cm_S2pecNet"])
def test_public_systems_get_the_organisers_figures(shared: Path, expected: dict[str, Any], system: str) -> None:
    folder = shared / "reference" / "evaluation"
    metrics = evaluation.evaluate(
        evaluation.read_cm_scores(folder / f"{system}.txt.gz"), evaluation.read_asv_scores(folder / "asv_eval.txt.gz")
    )
    assert 100 * metrics.eer == pytest.approx(expected[system]["eer_percent"], abs=1e-9)
    assert metrics.min_tdcf == pytest.approx(expected[system]["min_tdcf"], abs=1e-9)
    percent = {name: 100 * eer for name, eer in metrics.per_attack_eer.items()}
    assert percent == pytest.approx(expected[system]["per_attack_eer_percent"], abs=1e-9)
    assert list(percent) == sorted(percent)
    assert (metrics.n_bonafide, metrics.n_spoof) == (7355, 63882)


def test_released_aasist_on_the_small_corpus(shared: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    asv_scores = shared / "minila/LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"
    if not asv_scores.exists():
        pytest.skip(f"small corpus not found at {asv_scores}; set S2PEC_SHARED to the folder that holds it")
    scores = shared / "reference" / "minila_AASIST_scores.txt"
    eer_percent, min_tdcf = evaluation.calculate_tDCF_EER(scores, asv_scores, tmp_path / "result.txt", False)
    assert eer_percent == pytest.approx(expected["minila_AASIST"]["eer_percent"], abs=1e-12)
    assert min_tdcf == pytest.approx(expected["minila_AASIST"]["min_tdcf"], abs=1e-12)
    per_attack = evaluation.evaluate(evaluation.read_cm_scores(scores)).per_attack_eer
    assert {name: 100 * eer for name, eer in per_attack.items()} == pytest.approx(
        expected["minila_AASIST"]["per_attack_eer_percent"], abs=1e-9
    )


def test_small_cases_exactly(expected: dict[str, Any]) -> None:
    for case in expected["compute_eer_cases"]:
        result = evaluation.compute_eer(case["bonafide"], case["spoof"])
        assert result == (case["eer"], case["threshold"]), case["name"]


# ---- EER by its definition ---------------------------------------------------------------------

# Few distinct values, so that ties within and across classes are the rule.
tied_scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def brute_force_points(target: list[float], nontarget: list[float]) -> list[tuple[int, int, float]]:
    """(targets rejected, nontargets accepted, threshold) by counting anew for every cut."""
    trials = sorted([(score, 0) for score in target] + [(score, 1) for score in nontarget])
    points = [(0, len(nontarget), trials[0][0] - 0.001)]
    for cut in range(1, len(trials) + 1):
        rejected = sum(kind == 0 for _, kind in trials[:cut])
        accepted = sum(kind == 1 for _, kind in trials[cut:])
        points.append((rejected, accepted, trials[cut - 1][0]))
    return points


@given(tied_scores, tied_scores)
def test_det_curve_and_eer_are_the_definition(target: list[float], nontarget: list[float]) -> None:
    points = [
        (rejected / len(target), accepted / len(nontarget), threshold)
        for rejected, accepted, threshold in brute_force_points(target, nontarget)
    ]
    frr, far, thresholds = evaluation.compute_det_curve(target, nontarget)
    assert list(zip(frr.tolist(), far.tolist(), thresholds.tolist(), strict=True)) == points
    best = min(points, key=lambda point: abs(point[0] - point[1]))
    assert evaluation.compute_eer(target, nontarget) == ((best[0] + best[1]) / 2, best[2])


@given(tied_scores, tied_scores, st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=9, unique=True))
def test_eer_does_not_change_under_strictly_rising_maps(
    target: list[float], nontarget: list[float], images: list[float]
) -> None:
    rising = dict(zip(map(float, range(-4, 5)), sorted(images), strict=True))
    eer, threshold = evaluation.compute_eer(target, nontarget)
    mapped_eer, mapped_threshold = evaluation.compute_eer(
        [rising[score] for score in target], [rising[score] for score in nontarget]
    )
    assert mapped_eer == eer
    if threshold in rising:  # the point below all scores has a threshold of its own
        assert mapped_threshold == rising[threshold]


@given(tied_scores, tied_scores)
def test_eer_is_symmetric_under_swapping_and_negating(target: list[float], nontarget: list[float]) -> None:
    # Ties are no exception: sorted pessimistically in both directions, the list of trials is just reversed.
    # Two neighbouring points may be equally close, though, and then "the first" is the other one.
    eer, _ = evaluation.compute_eer(target, nontarget)
    mirrored, _ = evaluation.compute_eer([-score for score in nontarget], [-score for score in target])
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
    evaluation.compute_eer(*arrays)
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
        evaluation.compute_eer(target, nontarget)


# ---- t-DCF by its definition -------------------------------------------------------------------


@given(tied_scores, tied_scores, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.9))
def test_tdcf_is_the_sweep_of_its_formula(
    bonafide: list[float], spoof: list[float], fa: float, miss: float, miss_spoof: float
) -> None:
    cost, thresholds = evaluation.compute_tDCF(bonafide, spoof, fa, miss, miss_spoof, ASVSPOOF2019_COST_MODEL, False)
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
        ({"Cmiss_cm": 0}, "C1 is -.* expected > 0"),
        ({"Cfa_cm": 0}, "C2 is 0, expected > 0"),
    ],
)
def test_cost_models_that_cannot_be_used(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluation.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, {**ASVSPOOF2019_COST_MODEL, **changes}, False)


def test_cost_model_without_a_key() -> None:
    model = {name: value for name, value in ASVSPOOF2019_COST_MODEL.items() if name != "Ptar"}
    with pytest.raises(InputError, match="Ptar missing"):
        evaluation.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, model, False)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.1, 0.1, None), "Pmiss_spoof_asv is None"),
        ((1.1, 0.1, 0.1), "Pfa_asv is 1.1"),
        ((0.1, math.nan, 0.1), "Pmiss_asv is nan"),
        ((0.5, 1.0, 0.1), "C1 is -0.0475"),
        ((0.1, 0.1, 1.0), "C2 is 0"),
    ],
)
def test_asv_rates_that_cannot_be_used(rates: tuple[float, float, float | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluation.compute_tDCF([1.0], [0.0], *rates, ASVSPOOF2019_COST_MODEL, False)


def test_tdcf_prints_its_parameters_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation.compute_tDCF([1.0], [0.0], 0.1, 0.1, 0.1, ASVSPOOF2019_COST_MODEL, True)
    printed = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", printed) for name in [*ASVSPOOF2019_COST_MODEL, "C1", "C2"])


def test_asv_error_rates_count_the_threshold_as_accepted() -> None:
    target, nontarget, spoof = [1.0, 2.0], [2.0, 0.0, 0.0, 3.0], [2.0, 1.0, 1.0, 1.0]
    assert evaluation.obtain_asv_error_rates(target, nontarget, spoof, 2.0) == (0.5, 0.5, 0.75)
    assert evaluation.obtain_asv_error_rates([1.0], [2.0], [], 2.0) == (1.0, 1.0, None)


# ---- evaluate ----------------------------------------------------------------------------------


trial = st.tuples(st.booleans(), st.sampled_from(["A07", "A08", "A19"]), st.integers(-4, 4).map(float))


@given(st.lists(trial, max_size=25), tied_scores, tied_scores, tied_scores)
def test_evaluate_is_made_of_the_single_figures(
    trials: list[tuple[bool, str, float]], target: list[float], nontarget: list[float], asv_spoof: list[float]
) -> None:
    trials = [(True, "-", 0.5), (False, "A10", 0.5), *trials]
    kinds, attacks, scores = (np.array(column) for column in zip(*trials, strict=True))
    cm = CMScores(np.arange(len(trials)).astype(np.str_), attacks, kinds, scores)
    asv = ASVScores(np.array([9.0, *target]), np.array([-9.0, *nontarget]), np.array([9.0, *asv_spoof]))
    metrics = evaluation.evaluate(cm)
    assert (metrics.eer, metrics.eer_threshold) == evaluation.compute_eer(cm.bonafide, cm.spoof)
    assert metrics.per_attack_eer == {
        name: evaluation.compute_eer(scores[kinds], scores[~kinds & (attacks == name)])[0]
        for name in sorted(set(attacks[~kinds].tolist()))
    }
    asv_eer, threshold = evaluation.compute_eer(asv.target, asv.nontarget)
    rates = evaluation.obtain_asv_error_rates(asv.target, asv.nontarget, asv.spoof, threshold)
    try:
        cost, thresholds = evaluation.compute_tDCF(cm.bonafide, cm.spoof, *rates, ASVSPOOF2019_COST_MODEL, False)
    except InputError:
        with pytest.raises(InputError):
            evaluation.evaluate(cm, asv)
        return
    tandem = evaluation.evaluate(cm, asv)
    assert (tandem.min_tdcf, tandem.asv_eer) == (cost.min(), asv_eer)
    assert tandem.min_tdcf_threshold == thresholds[cost.argmin()]
    assert dataclasses.replace(tandem, min_tdcf=None, min_tdcf_threshold=None, asv_eer=None) == metrics


def test_metrics_as_json_and_text(cm_file: Path, asv_file: Path) -> None:
    metrics = evaluation.evaluate(evaluation.read_cm_scores(cm_file), evaluation.read_asv_scores(asv_file))
    content = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert content == {
        "eer": 0.5,
        "eer_percent": 50.0,
        "eer_threshold": 2.5,
        "min_tdcf": 0.5,
        "min_tdcf_threshold": -1.25,
        "asv_eer": 0.0,
        "per_attack_eer": {"A07": 0.0, "A08": 1.0},
        "n_bonafide": 2,
        "n_spoof": 2,
        "n_unscored": 0,
    }
    lines = metrics.summary().splitlines()
    assert lines[0] == "trials       2 bona fide, 2 spoofed"
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["CM", "EER", "50.0000"],
        ["ASV", "EER", "0.0000"],
        ["min", "t-DCF", "0.5000"],
    ]
    assert [line.split() for line in lines[5:]] == [["A07", "0.0000", "%"], ["A08", "100.0000", "%"]]


def test_evaluate_names_the_missing_class() -> None:
    cm = CMScores(np.array(["u1"]), np.array(["-"]), np.array([True]), np.array([1.0]))
    with pytest.raises(InputError, match="spoofed CM scores: no scores"):
        evaluation.evaluate(cm)


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(InputError, match="different lengths"):
        CMScores(np.array(["u1", "u2"]), np.array(["-"]), np.array([True]), np.array([1.0]))


@pytest.mark.parametrize("with_asv", [True, False])
@pytest.mark.parametrize("printout", [True, False])
def test_calculate_tdcf_eer(
    cm_file: Path, asv_file: Path, tmp_path: Path, with_asv: bool, printout: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "result.txt"
    result = evaluation.calculate_tDCF_EER(cm_file, asv_file if with_asv else None, output, printout)
    assert result == (50.0, 0.5 if with_asv else None)
    assert ("not computed: no ASV scores" in output.read_text()) is not with_asv
    assert capsys.readouterr().out == (output.read_text() if printout else "")


def test_a_failed_evaluation_leaves_the_old_result(cm_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.txt"
    output.write_text("old")
    with pytest.raises(FileNotFoundError):
        evaluation.calculate_tDCF_EER(cm_file, tmp_path / "absent.txt", output)
    assert output.read_text() == "old"


# ---- command line ------------------------------------------------------------------------------


def run_evaluation(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "evaluation.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_prints_the_summary_and_writes_it(cm_file: Path, asv_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.txt"
    done = run_evaluation("--cm", cm_file, "--asv", asv_file, "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert "CM EER        50.0000 %" in done.stdout
    assert output.read_text() == done.stdout


def test_trials_without_a_score_are_named_everywhere(cm_file: Path, tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.txt"
    gaps.write_text(cm_file.read_text() + "LA_5 A07 spoof unscored\nLA_6 - bonafide unscored\n")
    metrics, whole = (evaluation.evaluate(evaluation.read_cm_scores(path)) for path in (gaps, cm_file))
    assert dataclasses.replace(metrics, n_unscored=0) == whole
    assert metrics.as_dict()["n_unscored"] == 2
    assert metrics.summary().splitlines()[1] == "unscored     2 more, in none of the figures"
    assert "unscored" not in whole.summary()
    done = run_evaluation("--cm", gaps)
    assert done.returncode == 0
    assert done.stderr == f"warning: {gaps}: 2 trials without a score, in none of the figures\n"


def test_command_prints_json(cm_file: Path) -> None:
    done = run_evaluation("--cm", cm_file, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["eer"] == 0.5
    assert json.loads(done.stdout)["min_tdcf"] is None


def test_command_refuses_bad_input_in_one_line(cm_file: Path, asv_file: Path, tmp_path: Path) -> None:
    for wrong in (asv_file, tmp_path / "absent.txt", tmp_path):
        done = run_evaluation("--cm", wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(rf"error: {re.escape(str(wrong))}.*\n", done.stderr)


def test_command_explains_itself() -> None:
    done = run_evaluation("--help")
    assert done.returncode == 0
    assert "example: python evaluation.py --cm" in done.stdout
    assert run_evaluation().returncode == 2


def test_metrics_need_neither_torch_nor_matplotlib() -> None:
    code = "import sys, evaluation, plots; print({'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "set()\n"


def test_main_in_process(cm_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluation.main(["--cm", str(cm_file)]) == 0
    assert capsys.readouterr().out.startswith("trials ")
