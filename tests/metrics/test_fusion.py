"""Fused scores are the sums they should be, and better than their parts; the command says what is amiss."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2pecnet.cli import fuse
from s2pecnet.errors import InputError
from s2pecnet.metrics.dcf import compute_cllr
from s2pecnet.metrics.det import compute_eer
from s2pecnet.metrics.fusion import fit_mean
from s2pecnet.metrics.logistic import LinearMap, fit_logistic
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores, write_cm_scores
from tests.helpers import ROOT


def systems_of(seed: int, n_bonafide: int = 400, n_spoof: int = 600, systems: int = 2) -> list[CMScores]:
    """Systems that err independently: system k has scores of 10 ** k times N(+-1, 1)."""
    generator = np.random.default_rng(seed)
    is_bonafide = np.arange(n_bonafide + n_spoof) < n_bonafide
    names = np.array([f"u{seed}_{place:06d}" for place in range(is_bonafide.size)])
    attacks = np.where(is_bonafide, "-", "A07")
    means = np.where(is_bonafide, 1.0, -1.0)
    return [CMScores(names, attacks, is_bonafide, 10.0**k * generator.normal(means, 1)) for k in range(systems)]


def test_logistic_regression_finds_the_ratio_of_gaussian_scores() -> None:
    """For N(1, 1) against N(-1, 1) it is 2 * score, whatever the number of trials of each class."""
    for sizes in ((60_000, 60_000), (60_000, 6_000)):
        fused = fit_logistic(systems_of(0, *sizes))
        assert fused.weights == pytest.approx((2, 0.2), rel=0.05)
        assert fused.offset == pytest.approx(0, abs=0.05)


def test_fusion_is_better_than_its_parts() -> None:
    dev, evaluated = systems_of(1), systems_of(2)
    for fit in (fit_logistic, fit_mean):
        fused = fit(dev).apply(evaluated)
        eers = [compute_eer(one.bonafide, one.spoof)[0] for one in (fused, *evaluated)]
        assert eers[0] < 0.8 * min(eers[1:])
    fused = fit_logistic(dev).apply(evaluated)
    calibrated = [fit_logistic([one]).apply([other]) for one, other in zip(dev, evaluated, strict=True)]
    costs = [compute_cllr(one.bonafide, one.spoof) for one in (fused, *calibrated)]
    assert costs[0] < min(costs[1:]) < 1


def test_a_fit_costs_least_on_its_own_trials() -> None:
    """Cllr is what the regression makes least."""
    systems = systems_of(3, 40, 90)
    best = fit_logistic(systems)

    def cost(weights: tuple[float, ...], offset: float) -> float:
        fused = LinearMap(weights, offset).apply(systems)
        return compute_cllr(fused.bonafide, fused.spoof)

    least = cost(best.weights, best.offset)
    for change in (0.98, 1.02):
        assert cost((change * best.weights[0], best.weights[1]), best.offset) > least
        assert cost((best.weights[0], change * best.weights[1]), best.offset) > least
    for shift in (-0.02, 0.02):
        assert cost(best.weights, best.offset + shift) > least


def test_scale_and_shift_of_a_system_do_not_matter() -> None:
    dev, evaluated = systems_of(4, 60, 60), systems_of(5, 60, 60)

    def moved(systems: list[CMScores]) -> list[CMScores]:
        first = systems[0]
        return [
            CMScores(first.utterances, first.attacks, first.is_bonafide, 1e-4 * first.scores - 1000), *systems[1:]
        ]  # fmt: skip

    for fit in (fit_logistic, fit_mean):
        usual, other = fit(dev).apply(evaluated), fit(moved(dev)).apply(moved(evaluated))
        assert other.scores == pytest.approx(usual.scores, abs=1e-4)


def test_mean_of_standardised_scores() -> None:
    systems = systems_of(6, 30, 50)
    fused = fit_mean(systems).apply(systems)
    standard = [(one.scores - one.scores.mean()) / one.scores.std() for one in systems]
    assert fused.scores == pytest.approx((standard[0] + standard[1]) / 2, abs=1e-12)


def test_fused_trials_keep_the_order_of_the_first_system() -> None:
    first, second = systems_of(7, 5, 5)
    turned = first.take(np.arange(9, -1, -1))
    fused = LinearMap((2.0, 1.0), 0.5).apply([turned, second])
    assert fused.utterances.tolist() == turned.utterances.tolist()
    assert fused.scores.tolist() == (0.5 + 2.0 * turned.scores + second.scores[::-1]).tolist()


@pytest.mark.parametrize("n_systems", [1, 2])
def test_separable_trials_have_finite_weights(n_systems: int) -> None:
    systems = systems_of(8, 30, 40, n_systems)
    apart = [
        CMScores(one.utterances, one.attacks, one.is_bonafide, one.scores + 1e3 * one.is_bonafide) for one in systems
    ]
    fused = fit_logistic(apart).apply(apart)
    assert fused.bonafide.min() > fused.spoof.max()
    # What 30 and 40 trials can say: about ln(N + 1).
    assert 2 < fused.bonafide.min() < fused.bonafide.max() < 6
    assert -6 < fused.spoof.min() < fused.spoof.max() < -2


def test_scores_that_rank_no_better_than_chance_say_nothing() -> None:
    (system,) = systems_of(9, 50, 50, 1)
    wrong = CMScores(system.utterances, system.attacks, system.is_bonafide, -system.scores)
    flat = CMScores(system.utterances, system.attacks, system.is_bonafide, np.full(100, 7.0))
    for scores in (wrong, flat):
        assert fit_logistic([scores]) == LinearMap((0.0,), 0.0)
    # Beside a good system a flat one weighs nothing.
    weights = fit_logistic([flat, system]).weights
    assert (weights[0], weights[1]) == (0.0, pytest.approx(fit_logistic([system]).weights[0], rel=1e-5))


def test_what_cannot_be_fused() -> None:
    first, second = systems_of(10, 5, 5)
    with pytest.raises(InputError, match="scores of 1 systems, expected 2"):
        LinearMap((1.0, 1.0), 0.0).apply([first])
    with pytest.raises(InputError, match="A and B cover different trials: 1 missing from B"):
        fit_mean([first, second.take(np.arange(9))], ["A", "B"])
    with pytest.raises(InputError, match="no spoofed trials to fit on"):
        fit_logistic([first.take(np.arange(5))])
    flat = CMScores(first.utterances, first.attacks, first.is_bonafide, np.full(10, 7.0))
    with pytest.raises(InputError, match="B: all scores are 7, expected different ones"):
        fit_mean([first, flat], ["A", "B"])


# ---- command line ------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Score files of two systems on dev and eval."""
    paths = {}
    for split, seed in (("dev", 11), ("eval", 12)):
        for name, system in zip("AB", systems_of(seed, 60, 80), strict=True):
            paths[f"{split}_{name}"] = str(tmp_path / f"{split}_{name}.txt")
            write_cm_scores(paths[f"{split}_{name}"], system)
    return paths


def test_command_writes_a_score_file(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "fused.txt"
    cm = ["--cm", files["dev_A"], "--cm", files["dev_B"]]
    to = ["--apply", files["eval_A"], files["eval_B"], "--output", str(output)]
    dev, evaluated = ([read_cm_scores(files[f"{split}_{name}"]) for name in "AB"] for split in ("dev", "eval"))
    for options, wanted, kind in (
        ([*cm, *to], fit_logistic(dev), "log-likelihood ratios by logistic regression"),
        ([*cm, *to, "--method", "mean"], fit_mean(dev), "mean of scores standardised on the --cm files"),
        ([*to, "--method", "mean"], fit_mean(evaluated), "mean of scores standardised on the files themselves"),
    ):
        assert fuse.main(options) == 0
        written = read_cm_scores(output)
        assert written.scores.tolist() == wanted.apply(evaluated).scores.tolist()
        assert written.utterances.tolist() == evaluated[0].utterances.tolist()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"{output}: 140 trials, {kind}"
        assert [float(line.split()[0]) for line in lines[1:]] == pytest.approx(
            [*wanted.weights, wanted.offset], rel=1e-5
        )


def test_command_names_trials_that_are_left_out(
    files: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "AB":
        with open(files[f"eval_{name}"], "a") as stream:
            stream.write("gap A07 spoof unscored\n")
    output = tmp_path / "fused.txt"
    arguments = ["--method", "mean", "--apply", files["eval_A"], files["eval_B"], "--output", str(output)]
    assert fuse.main(arguments) == 0
    assert caplog.messages[0] == f"{files['eval_A']}: 1 trial without a score, not in the metrics"
    # They are counted by whoever evaluates the fused scores.
    assert output.read_text().splitlines()[-1] == "gap A07 spoof unscored"
    assert read_cm_scores(output).n_unscored == 1


def test_command_fuses_the_trials_that_all_systems_scored(
    files: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("dev", "eval"):
        path = Path(files[f"{split}_B"])
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([lines[0].rsplit(" ", 1)[0] + " unscored\n", *lines[1:]]))
    output = tmp_path / "fused.txt"
    cm = ["--cm", files["dev_A"], "--cm", files["dev_B"]]
    assert fuse.main([*cm, "--apply", files["eval_A"], files["eval_B"], "--output", str(output)]) == 0
    fused = read_cm_scores(output)
    kept = np.arange(1, 140)
    dev, evaluated = ([read_cm_scores(files[f"{split}_{name}"]) for name in "AB"] for split in ("dev", "eval"))
    wanted = fit_logistic([dev[0].take(kept), dev[1]]).apply([evaluated[0].take(kept), evaluated[1]])
    assert fused.scores.tolist() == wanted.scores.tolist()
    assert fused.n_unscored == 1
    left_out = [line for line in caplog.messages if line.startswith("1 of 140 trials are left out of all systems")]
    assert len(left_out) == 2
    assert f"{files['eval_B']} lacks 1" in left_out[0]


def test_command_takes_keys_apart_and_tells_of_reversed_systems(
    files: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B is the wrong way round: the regression gives it a negative weight, and the command says why."""
    plain = {}
    for name, path in files.items():
        cm = read_cm_scores(path)
        scores = -cm.scores if name.endswith("B") else cm.scores
        rows = zip(cm.utterances.tolist(), scores.tolist(), strict=True)
        plain[name] = str(tmp_path / f"plain_{name}.tsv")
        Path(plain[name]).write_text("filename\tcm-score\n" + "".join(f"{utt}\t{score}\n" for utt, score in rows))
        labels = zip(cm.utterances.tolist(), np.where(cm.is_bonafide, "real", "fake").tolist(), strict=True)
        (tmp_path / f"{name[:-2]}_keys.csv").write_text(
            "file,label\n" + "".join(f"{utt},{one}\n" for utt, one in labels)
        )
    output = tmp_path / "fused.txt"
    keys = ["--keys", str(tmp_path / "dev_keys.csv"), "--apply-keys", str(tmp_path / "eval_keys.csv")]
    dev = ["--cm", plain["dev_A"], "--cm", plain["dev_B"], *keys]
    assert fuse.main([*dev, "--apply", plain["eval_A"], plain["eval_B"], "--output", str(output)]) == 0
    assert caplog.messages == [
        f"{plain['dev_B']}: EER above 50 %: are these scores higher for spoofs? Here higher = bona fide"
    ]
    fused = read_cm_scores(output)
    assert compute_eer(fused.bonafide, fused.spoof)[0] < 0.2


def test_names_with_blanks_stay_one_field_without_a_score_too(files: dict[str, str], tmp_path: Path) -> None:
    """Tables between tabs or commas may have them."""
    for split in ("A", "B"):
        cm = read_cm_scores(files[f"eval_{split}"])
        rows = [f"my clips/{utt}\t{score}\t{'real' if real else 'fake'}" for utt, score, real in zip(
            cm.utterances, cm.scores, cm.is_bonafide, strict=True)]  # fmt: skip
        kept = rows if split == "A" else rows[1:]
        Path(files[f"eval_{split}"]).write_text("\n".join(["file\tscore\tlabel", *kept]) + "\n")
    output = tmp_path / "fused.txt"
    assert fuse.main(["--method", "mean", "--apply", files["eval_A"], files["eval_B"], "--output", str(output)]) == 0
    fused = read_cm_scores(output)
    assert (fused.scores.size, fused.n_unscored) == (139, 1)
    assert output.read_text().splitlines()[-1].startswith("my%20clips/u12_000000 - bonafide unscored")


def test_trials_of_the_list_that_no_system_scored_are_in_the_fused_file(files: dict[str, str], tmp_path: Path) -> None:
    """Scores and keys in files of their own: what lacks or is `unscored` in both."""
    cm = read_cm_scores(files["eval_A"])
    names, (lacking, unscored) = cm.utterances.tolist(), cm.utterances.tolist()[:2]
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"{name} A07 {'bonafide' if real else 'spoof'}\n" for name, real in zip(
        names, cm.is_bonafide.tolist(), strict=True)))  # fmt: skip
    for split in "AB":
        scores = read_cm_scores(files[f"eval_{split}"]).scores.tolist()
        rows = dict(zip(names, map(str, scores), strict=True)) | {unscored: "unscored"}
        text = "".join(f"{name} {score}\n" for name, score in rows.items() if name != lacking)
        Path(files[f"eval_{split}"]).write_text(text)
    output = tmp_path / "fused.txt"
    given = ["--method", "mean", "--apply", files["eval_A"], files["eval_B"], "--apply-keys", str(keys)]
    assert fuse.main([*given, "--output", str(output)]) == 0
    fused = read_cm_scores(output)
    assert (fused.scores.size, fused.n_unscored) == (138, 2)
    assert {line.split()[0] for line in output.read_text().splitlines()[-2:]} == {lacking, unscored}


def test_fused_scores_are_numbers() -> None:
    small, large = (
        CMScores(np.array(["a", "b"]), np.array(["-", "A07"]), np.array([True, False]), np.array(scores))
        for scores in ([1e-299, 0.0], [1e12, 0.0])
    )
    with pytest.raises(InputError, match="the fused scores are beyond any number"):
        fit_logistic([small]).apply([large])


@pytest.mark.parametrize("value", [0.1, -0.343434, 1e-9, 3e7])
def test_a_system_whose_scores_are_all_equal_adds_nothing(value: float) -> None:
    """The mean of equal numbers need not be that number, so their deviation need not be 0."""
    for trials in (60, 140, 200, 333):
        good = systems_of(5, trials // 2, trials - trials // 2, 1)[0]
        flat = replace(good, scores=np.full(good.scores.size, value))
        with pytest.raises(InputError, match=re.escape(f"system 2: all scores are {value:g}")):
            fit_mean([good, flat])
        alone, both = fit_logistic([good]), fit_logistic([good, flat])
        assert both.weights[1] == 0
        assert both.weights[0] == pytest.approx(alone.weights[0], rel=1e-3)
        assert both.offset == pytest.approx(alone.offset, rel=1e-2, abs=1e-3)
        assert fit_logistic([flat]) == LinearMap((0.0,), 0.0)


def test_the_scores_of_a_system_are_given_once(files: dict[str, str], tmp_path: Path) -> None:
    cm, output = ["--cm", files["dev_A"], "--cm", files["dev_B"]], ["--output", str(tmp_path / "fused.txt")]
    with pytest.raises(InputError, match=r"--apply: .*eval_A.txt is given twice"):
        fuse.main([*cm, "--apply", files["eval_A"], files["eval_A"], *output])
    with pytest.raises(InputError, match=r"--cm: .*dev_A.txt is given twice"):
        fuse.main([*cm[:2], *cm[:2], "--apply", files["eval_A"], files["eval_B"], *output])


def test_command_refuses_bad_input_in_one_line(files: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "fused.txt"
    for arguments, message in (
        (["--apply", files["eval_A"]], "--cm is missing: logistic regression needs"),
        (["--cm", files["dev_A"], "--apply", files["eval_A"], files["eval_B"]], "1 --cm but 2 files behind --apply"),
        (["--cm", files["dev_A"], "--cm", files["eval_B"], "--apply", files["eval_A"], files["eval_B"]],
         f"{re.escape(files['dev_A'])} and {re.escape(files['eval_B'])} cover different trials: 140 missing"),
    ):  # fmt: skip
        command = [sys.executable, "-m", "s2pecnet", "fuse", *arguments, "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(rf"error: {message}.*\n", done.stderr)
    assert not output.exists()


def test_fusion_needs_no_scikit_learn_before_it_fits() -> None:
    code = "import sys, s2pecnet.cli.fuse; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
