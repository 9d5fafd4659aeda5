"""Calibrations turn scores into likelihood ratios, whatever the scores; and they survive being stored."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2pecnet.cli import calibrate
from s2pecnet.errors import InputError
from s2pecnet.metrics.calibration import Calibration, fit, read_calibration
from s2pecnet.metrics.det import compute_eer
from s2pecnet.score_files.cm_asv import CMScores
from tests.helpers import ROOT


def scores_of(bonafide: object, spoof: object) -> CMScores:
    positive, negative = (np.asarray(side, dtype=np.float64) for side in (bonafide, spoof))
    n = positive.size + negative.size
    return CMScores(
        utterances=np.array([f"u{number}" for number in range(n)]),
        attacks=np.array(["-"] * positive.size + ["A07"] * negative.size),
        is_bonafide=np.arange(n) < positive.size,
        scores=np.concatenate((positive, negative)),
    )


def gaussian(seed: int = 0, n_bonafide: int = 400, n_spoof: int = 900) -> CMScores:
    generator = np.random.default_rng(seed)
    return scores_of(generator.normal(1, 1, n_bonafide), generator.normal(-1, 1, n_spoof))


def cross_entropy(cm: CMScores, slope: float, offset: float) -> float:
    """Cllr of ratios, in nats: what the regression is to minimise."""
    llr = slope * cm.scores + offset
    cost = np.logaddexp(0, np.where(cm.is_bonafide, -llr, llr))
    return float((cost[cm.is_bonafide].mean() + cost[~cm.is_bonafide].mean()) / 2)


def test_ratios_of_gaussian_scores_are_the_true_ones() -> None:
    # ln N(x; 1, 1) / N(x; -1, 1) = 2 x, however many trials of each class there are.
    fitted = fit(gaussian(n_bonafide=4000, n_spoof=40000))
    assert fitted.slope == pytest.approx(2, abs=0.1)
    assert fitted.offset == pytest.approx(0, abs=0.1)
    assert (fitted.n_bonafide, fitted.n_spoof, fitted.separable) == (4000, 40000, False)
    assert fitted.llr(1.5) == fitted.slope * 1.5 + fitted.offset


def test_no_other_line_has_a_lower_cross_entropy() -> None:
    cm = gaussian()
    fitted = fit(cm)
    best = cross_entropy(cm, fitted.slope, fitted.offset)
    for slope, offset in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (1e-3, 1e-3), (1e-3, -1e-3)]:
        assert cross_entropy(cm, fitted.slope + slope, fitted.offset + offset) > best


def test_the_mix_of_classes_does_not_matter() -> None:
    cm = gaussian()
    once, often = fit(cm), fit(scores_of(cm.bonafide, np.repeat(cm.spoof, 7)))
    assert (often.slope, often.offset) == pytest.approx((once.slope, once.offset), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 40.0, 1e12])
def test_ratios_do_not_depend_on_the_scale_of_scores(scale: float) -> None:
    cm = gaussian()
    plain, moved = fit(cm), fit(dataclasses.replace(cm, scores=scale * (cm.scores + 3)))
    for score in (-2.0, 0.0, 1.5):
        assert moved.llr(scale * (score + 3)) == pytest.approx(plain.llr(score), abs=1e-6)
    assert moved.eer_threshold == pytest.approx(scale * (plain.eer_threshold + 3))


def test_separable_scores_get_as_much_as_their_number_says() -> None:
    fitted = fit(scores_of([5, 5, 5], [1, 1]))
    assert fitted.separable
    assert fitted.llr(5) == pytest.approx(math.log(4), abs=1e-6)
    assert fitted.llr(1) == pytest.approx(-math.log(3), abs=1e-6)
    spread = fit(scores_of([5, 6, 9], [1, 2, -3, 0.5]))
    assert spread.separable
    assert -math.log(20) < spread.llr(-3) < spread.llr(2) < 0 < spread.llr(5) < spread.llr(9) < math.log(20)
    assert 2 < spread.eer_threshold == spread.min_dcf_threshold < 5
    assert spread.llr(spread.eer_threshold) == pytest.approx(0)


def test_scores_that_only_touch_are_separable_too() -> None:
    fitted = fit(scores_of([1, 2], [1, 0]))
    assert fitted.separable
    assert 0 < fitted.slope < 10


@pytest.mark.parametrize(
    ("bonafide", "spoof"),
    [([0.0], [1.0]), ([1, 1], [1]), ([1, 2, 3], [1, 2, 3]), (np.arange(9) - 4, np.arange(9))],
    ids=["inverted", "all equal", "the same", "worse than chance"],
)
def test_scores_that_say_nothing_get_ratios_of_zero(bonafide: object, spoof: object) -> None:
    fitted = fit(scores_of(bonafide, spoof))
    assert (fitted.slope, fitted.offset) == pytest.approx((0, 0), abs=1e-9)
    assert fitted.llr(17) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-275, 1e-160, 1e160, 1e290])
def test_scores_whose_squares_do_not_fit_into_a_double_are_calibrated_as_others(scale: float) -> None:
    cm = gaussian(seed=3)
    as_usual, fitted = fit(cm), fit(dataclasses.replace(cm, scores=cm.scores * scale))
    assert fitted.slope * scale == pytest.approx(as_usual.slope, rel=1e-6)
    assert fitted.offset == pytest.approx(as_usual.offset, rel=1e-6)


def test_a_dev_set_without_errors_has_thresholds_without_errors() -> None:
    """Where one bona fide trial lies far below the others, the score whose ratio is 0 lies above it."""
    generator = np.random.default_rng(0)
    cm = scores_of([2.0, *generator.normal(12, 1.5, 59)], generator.normal(-1, 0.7, 180))
    fitted = fit(cm)
    assert fitted.separable
    assert fitted.llr_threshold > 2
    for threshold in (fitted.eer_threshold, fitted.min_dcf_threshold):
        assert cm.spoof.max() <= threshold < cm.bonafide.min()


def test_thresholds_are_those_of_the_rates() -> None:
    cm = gaussian(seed=3, n_bonafide=60, n_spoof=80)
    fitted = fit(cm)
    # Between the score that the metric names and the next one.
    below = compute_eer(cm.bonafide, cm.spoof)[1]
    above = cm.scores[cm.scores > below].min()
    assert fitted.eer_threshold == pytest.approx((below + above) / 2)
    assert below < fitted.eer_threshold < above

    def cost(threshold: float) -> float:
        """The detection cost of ASVspoof 5, trial by trial."""
        return 0.95 * float(np.mean(cm.bonafide <= threshold)) + 0.05 * 10 * float(np.mean(cm.spoof > threshold))

    assert cost(fitted.min_dcf_threshold) == pytest.approx(min(map(cost, [*cm.scores, cm.scores.min() - 1])))
    assert fitted.min_dcf_threshold != fitted.eer_threshold
    assert (fitted.p_spoof, fitted.c_miss, fitted.c_fa) == (0.05, 1, 10)


finite = st.floats(-1e300, 1e300)
grid = st.integers(-3, 3).map(float)


@settings(max_examples=60)
@given(*2 * [st.lists(finite, min_size=1, max_size=8) | st.lists(grid, min_size=1, max_size=12)])
def test_any_scores_have_a_calibration_that_rises(bonafide: list[float], spoof: list[float]) -> None:
    fitted = fit(scores_of(bonafide, spoof))
    assert fitted.slope >= 0
    numbers = [value for value in fitted.as_dict().values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))
    assert all(math.isfinite(fitted.llr(score)) for score in bonafide + spoof)
    assert Calibration.from_dict(fitted.as_dict()) == fitted


def test_a_class_without_trials_and_broken_scores_are_reported() -> None:
    with pytest.raises(InputError, match="no scores"):
        fit(scores_of([1.0], []))
    with pytest.raises(InputError, match="nan"):
        fit(scores_of([1.0, np.nan], [0.0]))


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    fitted = fit(gaussian(), "somewhere")
    (tmp_path / "c.json").write_text(json.dumps(fitted.as_dict()))
    assert read_calibration(tmp_path / "c.json") == fitted
    assert fitted.fitted_on == "somewhere"


def test_what_is_no_calibration_is_reported(tmp_path: Path) -> None:
    good = fit(gaussian()).as_dict()
    cases = [
        ({"slope": 1}, "key 'offset' is missing"),
        (good | {"slope": "steep"}, 'slope: got "steep", expected a number'),
        (good | {"slope": -1}, "slope: got -1"),
        (good | {"p_spoof": 0}, "p_spoof: got 0"),
        (good | {"eer_treshold": 1}, "did you mean 'eer_threshold'"),
        (good | {"xyz": 1}, "unknown keys xyz"),
        ([1], "expected a JSON object"),
    ]
    path = tmp_path / "c.json"
    for content, message in cases:
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message) as caught:
            read_calibration(path)
        assert str(path) in str(caught.value)
    for number in (f"{10**400}", "1e999"):
        path.write_text(json.dumps(good | {"slope": 0}).replace('"slope": 0', f'"slope": {number}'))
        with pytest.raises(InputError, match="is too large"):
            read_calibration(path)
    with pytest.raises(InputError, match=r"w\.pth: expected a calibration"):
        Calibration.from_dict([1], "w.pth")  # type: ignore[arg-type]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a UTF-8 text file"):
        read_calibration(path)
    with pytest.raises(InputError, match="no such calibration"):
        read_calibration(tmp_path / "absent.json")


def test_a_file_whose_name_is_no_text(cm_file: Path, tmp_path: Path) -> None:
    for name, shown in ((b"dev\xfc.txt", "dev\\xfc.txt"), (b"dev\x01.txt", "dev\\x01.txt")):
        path = os.fsdecode(os.path.join(os.fsencode(cm_file.parent), name))
        shutil.copy(cm_file, path)
        assert calibrate.main(["--cm", path, "--output", str(tmp_path / "odd.json")]) == 0
        assert json.loads((tmp_path / "odd.json").read_text())["fitted_on"].endswith(shown)


def test_command_line(cm_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "calibration.json"
    assert calibrate.main(["--cm", str(cm_file), "--output", str(output)]) == 0
    fitted = read_calibration(output)
    assert fitted.fitted_on == str(cm_file)
    printed = capsys.readouterr().out
    assert f"{cm_file}: 2 bona fide, 2 spoofed" in printed
    assert f"EER threshold      {fitted.eer_threshold:.6f}" in printed


def test_bad_score_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cm.txt").write_text("u1 - bonafide x\n")
    done = subprocess.run(
        [sys.executable, "-m", "s2pecnet", "calibrate", "--cm", tmp_path / "cm.txt", "--output", tmp_path / "c.json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'cm.txt'}:1: score 'x'")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("module", ["calibrate", "predict"])
def test_help_needs_nothing_heavy(module: str) -> None:
    code = f"""import sys
from s2pecnet.cli import {module}
try:
    {module}.main(["--help"])
except SystemExit as leaving:
    heavy = {{"torch", "sklearn", "matplotlib", "soundfile", "tqdm"}} & set(sys.modules)
    sys.exit(leaving.code or str(heavy or ""))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == ""
    assert "examples:" in done.stdout
