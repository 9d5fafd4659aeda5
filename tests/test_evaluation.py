"""The figures equal the organisers' scorer and are made of the single ones; texts, JSON and the command say them."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluation
from errors import InputError
from evaluation import ASVSPOOF2019_COST_MODEL, ASVScores, CMScores
from trials import tied_scores

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


def test_command_prints_bootstrap_intervals(cm_file: Path, asv_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cm", str(cm_file), "--asv", str(asv_file), "--bootstrap", "20"]
    assert evaluation.main([*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["bootstrap"]
    assert content["replicates"] == 20
    assert content["eer"] == {"low": 0.0, "high": 1.0, "level": 0.95}
    assert set(content["min_tdcf"]) == {"low", "high", "level"}
    assert evaluation.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("bootstrap intervals (20 draws")
    assert lines[-2].split() == ["CM", "EER", "0.0000", "to", "100.0000", "%", "(95", "%)"]
    assert lines[-1].startswith("  min t-DCF")
    assert evaluation.main([*arguments[:2], *arguments[-2:]]) == 0
    assert "min t-DCF " not in capsys.readouterr().out.splitlines()[-1]
    assert evaluation.main([*arguments[:2], *arguments[-2:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bootstrap"]["min_tdcf"] is None


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
