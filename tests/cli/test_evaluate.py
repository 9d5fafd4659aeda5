"""Commands print the metrics of score files, compare systems, and refuse what they cannot use in one line."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluation
from s2pecnet.cli import calibrate, evaluate
from s2pecnet.errors import InputError
from s2pecnet.metrics import countermeasure
from s2pecnet.metrics.bootstrap import exact_interval
from s2pecnet.metrics.sasv import compute_a_dcf, compute_t_eer
from s2pecnet.score_files import cm_asv
from s2pecnet.score_files.cm_asv import CMScores, write_cm_scores
from tests.helpers import ROOT


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
    command = [sys.executable, ROOT / "evaluation.py", *arguments]
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
    metrics, complete = (countermeasure.evaluate(cm_asv.read_cm_scores(path)) for path in (gaps, cm_file))
    assert dataclasses.replace(metrics, n_unscored=0) == complete
    assert metrics.as_dict()["n_unscored"] == 2
    assert metrics.summary().splitlines()[1] == "unscored     2 more, not in the metrics"
    assert "unscored" not in complete.summary()
    done = run_evaluation("--cm", gaps)
    assert done.returncode == 0
    assert done.stderr == f"warning: {gaps}: 2 trials without a score, not in the metrics\n"


def test_command_prints_json(cm_file: Path) -> None:
    done = run_evaluation("--cm", cm_file, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["eer"] == 0.5
    assert json.loads(done.stdout)["min_tdcf"] is None
    assert json.loads(done.stdout)["t_eer"] is None


def test_command_prints_bootstrap_intervals(cm_file: Path, asv_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cm", str(cm_file), "--asv", str(asv_file), "--bootstrap", "20"]
    assert evaluate.main([*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["bootstrap"]
    assert content["replicates"] == 20
    # One error of two.
    assert content["eer"] == {
        "low": pytest.approx(0.012579, abs=1e-6),
        "high": pytest.approx(0.987421, abs=1e-6),
        "level": 0.95,
    }
    assert set(content["min_tdcf"]) == {"low", "high", "level"}
    assert evaluate.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].startswith("bootstrap intervals (20 draws")
    assert lines[-3].split() == ["CM", "EER", "1.2579", "to", "98.7421", "%", "(95", "%)"]
    assert [line[:11] for line in lines[-2:]] == ["  minDCF   ", "  min t-DCF"]
    assert evaluate.main([*arguments[:2], *arguments[-2:]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("  minDCF")
    assert evaluate.main([*arguments[:2], *arguments[-2:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bootstrap"]["min_tdcf"] is None


def test_command_refuses_bad_input_in_one_line(cm_file: Path, asv_file: Path, tmp_path: Path) -> None:
    for wrong in (asv_file, tmp_path / "absent.txt", tmp_path):
        done = run_evaluation("--cm", wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(rf"error: {re.escape(str(wrong))}.*\n", done.stderr)


def test_command_explains_itself() -> None:
    done = run_evaluation("--help")
    assert done.returncode == 0
    assert "python evaluation.py --cm exp_result" in done.stdout
    assert run_evaluation().returncode == 2


def test_metrics_need_neither_torch_nor_matplotlib() -> None:
    code = "import sys, s2pecnet.reporting.evaluation, s2pecnet.reporting.plots\n"
    code += "print({'torch', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_main_in_process(cm_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--cm", str(cm_file)]) == 0
    assert capsys.readouterr().out.startswith("trials ")


# ---- all metrics -------------------------------------------------------------------------------


def system_of(seed: int, distance: float = 2.0) -> CMScores:
    """40 bona fide trials and 60 spoofs of two attacks, u000 ... u099."""
    is_bonafide = np.arange(100) < 40
    attacks = np.where(is_bonafide, "-", np.where(np.arange(100) % 2, "A07", "A08"))
    scores = np.random.default_rng(seed).normal(distance * is_bonafide)
    return CMScores(np.array([f"u{place:03d}" for place in range(100)]), attacks, is_bonafide, scores)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three systems' scores of the same trials; the third is by far the worst."""
    paths = [str(tmp_path / f"{name}.txt") for name in "ABC"]
    for seed, (path, distance) in enumerate(zip(paths, (2.0, 1.8, 0.1), strict=True)):
        write_cm_scores(path, system_of(seed, distance))
    return paths


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    codecs = ("mp3" if place < 50 else "opus" for place in range(100))
    path.write_text("file,codec,method\n" + "".join(
        f"u{place:03d},{codec},{'-' if place < 40 else f'm{place % 3}'}\n" for place, codec in enumerate(codecs)
    ))  # fmt: skip
    return path


Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert evaluate.main([*arguments, "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def run_text(capsys: Capture, *arguments: str) -> list[str]:
    assert evaluate.main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


def test_metrics_by_attack_are_the_default(files: list[str], capsys: Capture) -> None:
    lines = run_text(capsys, "--cm", files[0])
    place = lines.index("by attack, spoofed trials against all bona fide trials")
    assert lines[place + 1].split() == ["attack", "bona", "fide", "spoofed", "EER", "%", "minDCF"]
    per_attack = countermeasure.evaluate(cm_asv.read_cm_scores(files[0])).per_attack_eer
    rows = [line.split() for line in lines[place + 2 :]]
    assert [row[:4] for row in rows] == [[name, "40", "30", f"{100 * eer:.4f}"] for name, eer in per_attack.items()]
    (breakdown,) = run_json(capsys, "--cm", files[0], "--by", "attack")["breakdowns"]
    assert {group["name"]: group["eer"] for group in breakdown["groups"]} == per_attack


def test_metrics_by_columns_of_a_table(files: list[str], table: Path, capsys: Capture) -> None:
    arguments = ["--cm", files[0], "--table", str(table), "--by", "codec", "--by", "method"]
    codec, method = run_json(capsys, *arguments)["breakdowns"]
    assert (codec["all_bonafide"], method["all_bonafide"]) == (False, True)
    sizes = [(group["name"], group["n_bonafide"], group["n_spoof"]) for group in codec["groups"]]
    assert sizes == [("mp3", 40, 10), ("opus", 0, 50)]
    assert codec["groups"][1]["eer"] is None
    assert [group["name"] for group in method["groups"]] == ["m0", "m1", "m2"]
    lines = run_text(capsys, *arguments)
    assert "by codec, spoofed trials against the bona fide trials of the same group" in lines
    assert [line.split() for line in lines if line.startswith("opus")] == [["opus", "0", "50", "n/a", "n/a"]]
    assert "n/a, no bona fide trials: opus" in lines
    by_number = run_json(capsys, "--cm", files[0], "--table", str(table), "--by", "2")["breakdowns"][0]
    assert by_number["groups"] == codec["groups"]


def test_metrics_by_corpus_of_a_run_with_several(tmp_path: Path, capsys: Capture) -> None:
    cm = system_of(1, 2.0)
    names = np.array([f"{'LA' if place % 2 else 'B'}/{name}" for place, name in enumerate(cm.utterances)])
    write_cm_scores(tmp_path / "both.txt", dataclasses.replace(cm, utterances=names))
    given = ["--cm", str(tmp_path / "both.txt"), "--by", "corpus"]
    (breakdown,) = run_json(capsys, *given)["breakdowns"]
    per_corpus = countermeasure.evaluate(dataclasses.replace(cm, utterances=names), corpora=["B", "LA"]).per_corpus_eer
    assert {group["name"]: group["eer"] for group in breakdown["groups"]} == per_corpus
    assert "by corpus, spoofed trials against the bona fide trials of the same group" in run_text(capsys, *given)
    write_cm_scores(tmp_path / "one.txt", cm)
    with pytest.raises(InputError, match="--by corpus: 'u000' names no corpus; expected utterances such as LA/"):
        evaluate.main(["--cm", str(tmp_path / "one.txt"), "--by", "corpus"])


def test_ratios_and_calibration(files: list[str], capsys: Capture) -> None:
    scores = cm_asv.read_cm_scores(files[0])
    content = run_json(capsys, "--cm", files[0], "--llr", "--bootstrap", "10")
    assert content["cllr"] == countermeasure.evaluate(scores, llrs=scores.scores).cllr
    assert set(content["bootstrap"]["act_dcf"]) == {"low", "high", "level"}
    content = run_json(capsys, "--cm", files[0], "--calibrate-on", files[1])
    map_of = content["calibration"]
    llrs = map_of["slope"] * scores.scores + map_of["offset"]
    assert content["cllr"] == pytest.approx(countermeasure.evaluate(scores, llrs=llrs).cllr, rel=1e-12)
    lines = run_text(capsys, "--cm", files[0], "--calibrate-on", files[1])
    shown = f"LLR          {map_of['slope']:.6g} * score {map_of['offset']:+.6g}, fitted on B.txt"
    assert any(line.startswith("actDCF       ") for line in lines)
    assert shown in lines
    assert "actDCF, Cllr not computed: the scores are not known to be log-likelihood ratios" in run_text(
        capsys, "--cm", files[0]
    )


def test_ratios_are_read_where_ratios_are_said_to_be(
    plain: tuple[str, str], tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    """The table of predict has both columns."""
    cm, path = system_of(0), tmp_path / "table.csv"
    rows = (f"{utt},{score!r},{3 * score - 2!r}" for utt, score in zip(cm.utterances, cm.scores.tolist(), strict=True))
    path.write_text("\n".join(["path,score,llr", *rows]) + "\n")
    caplog.set_level("INFO", "s2pecnet")
    words = ["--cm", str(path), "--keys", plain[1], "--subset", "all"]
    content = run_json(capsys, *words, "--llr")
    assert content["cllr"] == pytest.approx(countermeasure.evaluate(cm, llrs=3 * cm.scores - 2).cllr)
    assert f"{path}: of its columns of scores, llr is read" in caplog.messages
    caplog.clear()
    assert run_json(capsys, *words)["eer_threshold"] == countermeasure.evaluate(cm).eer_threshold
    assert f"{path}: of its columns of scores, score is read" in caplog.messages


def test_very_many_attacks_have_no_table_unless_it_is_asked_for(
    tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.txt"
    lines = [f"b{number} - bonafide {number % 7}" for number in range(50)]
    lines += [f"s{number} A{number} spoof {number % 5 - 3}" for number in range(1200)]
    path.write_text("\n".join(lines) + "\n")
    caplog.set_level("INFO", "s2pecnet")
    content = run_json(capsys, "--cm", str(path))
    assert content["eer"] > 0
    assert content["breakdowns"] == []
    assert "1201 attacks: no table of each of them" in caplog.messages
    assert content["eer"] == run_json(capsys, "--cm", str(path), "--threshold", "0")["eer"]
    with pytest.raises(InputError, match="column 'attack' has 1200 different values"):
        evaluate.main(["--cm", str(path), "--by", "attack"])


def test_t_eer_of_cm_and_asv_files(cm_file: Path, asv_file: Path, capsys: Capture) -> None:
    cm, asv = cm_asv.read_cm_scores(cm_file), cm_asv.read_asv_scores(asv_file)
    point = compute_t_eer(cm.bonafide, cm.spoof, asv.target, asv.nontarget, asv.spoof)
    content = run_json(capsys, "--cm", str(cm_file), "--asv", str(asv_file))
    assert {name: content[name] for name in point._asdict()} == point._asdict()
    lines = run_text(capsys, "--cm", str(cm_file), "--asv", str(asv_file))
    assert [line.split()[1] for line in lines if line.startswith("t-EER")] == [f"{100 * point.t_eer:.4f}"]


def test_several_systems_side_by_side(files: list[str], table: Path, asv_file: Path, capsys: Capture) -> None:
    cm = [argument for path in files for argument in ("--cm", path)]
    arguments = [*cm, "--bootstrap", "40", "--asv", str(asv_file), "--llr", "--table", str(table), "--by", "codec"]
    content = run_json(capsys, *arguments)
    assert list(content["systems"]) == ["A", "B", "C"]
    asv = cm_asv.read_asv_scores(asv_file)
    for name, path in zip("ABC", files, strict=True):
        scores = cm_asv.read_cm_scores(path)
        system = content["systems"][name]
        alone = countermeasure.evaluate(scores, asv, scores.scores).as_dict()
        assert {metric: system[metric] for metric in alone} == alone
        assert system["file"] == path
        intervals = run_json(capsys, "--cm", path, "--bootstrap", "40", "--asv", str(asv_file), "--llr")["bootstrap"]
        assert {"replicates": 40, **content["comparison"]["intervals"][name]} == intervals
    differences = {(one["first"], one["second"], one["metric"]): one for one in content["comparison"]["differences"]}
    assert len(differences) == 9
    assert differences["A", "C", "eer"]["p"] == pytest.approx(2 / 41)
    assert differences["A", "C", "eer"]["p_holm"] == pytest.approx(6 / 41)
    assert differences["A", "C", "eer"]["interval"]["high"] < 0
    lines = run_text(capsys, *arguments)
    for name in "ABC":
        rows = [line.split() for line in lines if line.startswith(name)]
        assert rows[0][1] == f"{100 * content['systems'][name]['eer']:.4f}"
    assert sum(line.startswith("A - C") for line in lines) == 3
    assert "95 % intervals (40 draws of the trials; ASV scores and calibration held fixed)" in lines
    assert sum(line.startswith("opus") for line in lines) == 2


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/A/scores.txt", "runs/B/scores.txt"], ["A", "B"]),
        (["a.eval.txt.gz", "b.txt"], ["a", "b"]),
        (["x/runs/scores.txt", "y/runs/scores.txt"], ["x/runs/scores.txt", "y/runs/scores.txt"]),
    ],
)
def test_systems_are_called_what_distinguishes_them(paths: list[str], names: list[str]) -> None:
    options = evaluate.build_parser().parse_args([argument for path in paths for argument in ("--cm", path)])
    assert evaluate.system_names(options) == names


def test_long_names_and_many_systems_stay_readable(files: list[str], capsys: Capture) -> None:
    cm = [argument for path in files for argument in ("--cm", path)]
    names = [f"a_system_with_a_rather_long_name_{place}" for place in range(3)]
    lines = run_text(capsys, *cm, "--names", ", ".join(names), "--bootstrap", "5")
    for name in names:
        assert any(line.endswith(f"EER % {name}") or f"EER % {name} " in line for line in lines)


def test_long_and_many_groups_stay_readable(files: list[str], tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "table.tsv"
    groups = (f"{'long ' * 30}{place % 3}" if place < 60 else f"spoofs only {place}" for place in range(100))
    table.write_text("file\tgroup\n" + "".join(f"u{place:03d}\t{group}\n" for place, group in enumerate(groups)))
    lines = run_text(capsys, "--cm", files[0], "--table", str(table), "--by", "group")
    assert sum(line.startswith("long long long long long long long lo...") for line in lines) == 3
    assert " ".join(line.strip() for line in lines).count("spoofs only 77") == 2
    (breakdown,) = run_json(capsys, "--cm", files[0], "--table", str(table), "--by", "group")["breakdowns"]
    assert len(breakdown["groups"]) == 43


def test_sasv_scores(tmp_path: Path, capsys: Capture) -> None:
    generator = np.random.default_rng(0)
    keys = ["target"] * 30 + ["nontarget"] * 40 + ["spoof"] * 50
    scores = generator.normal(np.repeat([2.0, 0.0, 0.5], [30, 40, 50]), size=(3, 120))
    path = tmp_path / "scores.tsv"
    rows = [f"s\tu{place}\t{cm!r}\t{asv!r}\t{sasv!r}" for place, (cm, asv, sasv) in enumerate(scores.T.tolist())]
    path.write_text("spk\tfilename\tcm-score\tasv-score\tsasv-score\n" + "\n".join(rows) + "\n")
    key_file = tmp_path / "keys.tsv"
    key_rows = "".join(f"s\tu{place}\t{key}\n" for place, key in enumerate(keys))
    key_file.write_text(f"spk\tfilename\tasv-label\n{key_rows}")
    arguments = ["--sasv", str(path), "--keys", str(key_file)]
    content = run_json(capsys, *arguments, "--bootstrap", "30")
    assert content["min_a_dcf"] == compute_a_dcf(scores[2, :30], scores[2, 30:70], scores[2, 70:])[0]
    asv = scores[1, :30], scores[1, 30:70], scores[1, 70:]
    assert content["t_eer"] == compute_t_eer(scores[0, :70], scores[0, 70:], *asv).t_eer
    assert content["bootstrap"]["min_a_dcf"]["low"] < content["min_a_dcf"]
    lines = run_text(capsys, *arguments, "--bootstrap", "30")
    assert lines[0] == "trials       30 target, 40 nontarget, 50 spoofed"
    assert lines[-1].startswith("  min a-DCF ")
    assert len(run_text(capsys, *arguments)) == len(lines) - 3
    path.write_text(path.read_text().replace("sasv-score", "other"))
    assert run_json(capsys, *arguments)["min_a_dcf"] is None
    with pytest.raises(InputError, match="no sasv-score, and --bootstrap here is of the a-DCF"):
        evaluate.main([*arguments, "--bootstrap", "5"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cm", "A", "--by", "codec"], "--by codec needs --table FILE"),
        (["--cm", "A", "--table", "T"], "--table needs --by COLUMN"),
        (["--cm", "A", "--table", "T", "--by", "codec", "--by", "2"], "expected names of columns or numbers, not both"),
        (["--cm", "A", "--llr", "--calibrate-on", "D"], "--llr and --calibrate-on: expected one of them"),
        (["--cm", "A", "--cm", "B", "--calibrate-on", "D"], "1 --calibrate-on, expected one for each of 2 --cm"),
        (["--cm", "A", "--cm", "B", "--names", "x"], "names x: expected a different name for each of 2 --cm"),
        (["--cm", "A", "--cm", "B", "--names", "x,x"], "names x, x: expected a different name"),
        (["--cm", "A", "--cm", "A"], "names A, A: expected a different name"),
        (["--cm", "A", "--calibrate-keys", "K"], "--calibrate-keys are the keys of --calibrate-on, which is missing"),
        (["--cm", "A", "--threshold", "inf"], "--threshold inf: expected a finite number"),
        (["--sasv", "S", "--threshold", "0"], "--threshold does not go with --sasv"),
        (["--sasv", "S", "--calibrate-on", "D"], "--calibrate-on does not go with --sasv"),
        (["--sasv", "S", "--by", "codec"], "--by does not go with --sasv"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate.main(arguments)


def test_trials_that_a_system_lacks_are_left_out_of_all(files: list[str], capsys: Capture) -> None:
    cm = ["--cm", files[0], "--cm", files[1]]
    system = system_of(5)
    write_cm_scores(files[1], system.take(np.arange(1, 100)))
    done = run_evaluation(*cm, "--bootstrap", "5", "--json")
    assert done.returncode == 0
    assert done.stderr == (
        "warning: 1 of 100 trials are left out of all systems, as not every one has a score for them (A lacks 0, B "
        "lacks 1), e.g. 'u000'\n"
    )
    content = json.loads(done.stdout)["systems"]
    alone = countermeasure.evaluate(system_of(0).take(np.arange(1, 100)))
    assert content["A"]["eer"] == alone.eer
    assert (content["A"]["n_unscored"], content["B"]["n_unscored"]) == (1, 0)
    # Nothing in common, or a class only in one: an error.
    for kept in (np.arange(50, 100), np.arange(0)):
        others = system.take(kept)
        names = np.array([f"x{name}" for name in system.utterances])
        mixed = CMScores(
            np.concatenate((names, others.utterances)),
            np.concatenate((system.attacks, others.attacks)),
            np.concatenate((system.is_bonafide, others.is_bonafide)),
            np.concatenate((system.scores, others.scores)),
        )
        write_cm_scores(files[1], mixed)
        with pytest.raises(InputError, match=f"A and B cover different trials: {100 - kept.size} missing from B"):
            evaluate.main(cm)


# ---- keys in a file of their own ---------------------------------------------------------------


@pytest.fixture
def plain(files: list[str], tmp_path: Path) -> tuple[str, str]:
    """A's scores without keys, and a list of keys as of ASVspoof2021 LA with two subsets."""
    cm = system_of(0)
    scores, keys = tmp_path / "plain.txt", tmp_path / "trial_metadata.txt"
    scores.write_text(
        "".join(f"{utt} {score!r}\n" for utt, score in zip(cm.utterances, cm.scores.tolist(), strict=True))
    )
    keys.write_text("".join(
        f"LA_{place % 7} {utt} {'gsm' if place % 2 else 'none'} loc_tx {'bonafide' if real else attack} "
        f"{'bonafide' if real else 'spoof'} notrim {'progress' if place % 5 == 0 else 'eval'}\n"
        for place, (utt, real, attack) in enumerate(zip(cm.utterances, cm.is_bonafide, cm.attacks, strict=True))
    ))  # fmt: skip
    return str(scores), str(keys)


def test_scores_with_keys_apart(
    plain: tuple[str, str], files: list[str], capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "s2pecnet")
    with pytest.raises(InputError, match=r"1: 2 fields, expected 4: .*; keys in a file of their own go by --keys FILE"):
        evaluate.main(["--cm", plain[0]])
    content = run_json(capsys, "--cm", plain[0], "--keys", plain[1], "--subset", "all")
    usual = run_json(capsys, "--cm", files[0])
    assert content == usual
    assert caplog.messages == []
    content = run_json(capsys, "--cm", plain[0], "--keys", plain[1], "--by", "3")
    inside = np.flatnonzero(np.arange(100) % 5)
    assert content["eer"] == countermeasure.evaluate(system_of(0).take(inside)).eer
    assert [group["name"] for group in content["breakdowns"][0]["groups"]] == ["gsm", "none"]
    assert caplog.messages == [f"{plain[1]}: the subset eval, 80 of 100 trials (--subset all: all)"]
    for lines in (run_text(capsys, "--cm", files[0], "--calibrate-on", files[1]),
                  run_text(capsys, "--cm", plain[0], "--keys", plain[1], "--subset", "all",
                           "--calibrate-on", files[1], "--calibrate-keys", plain[1])):  # fmt: skip
        assert any(line.startswith("LLR          ") for line in lines)
    # Two systems, one of them with the keys in it.
    several = run_json(capsys, "--cm", plain[0], "--cm", files[1], "--keys", plain[1], "--bootstrap", "5")
    assert several["systems"]["plain"]["n_bonafide"] == several["systems"]["B"]["n_bonafide"] == 32


def test_columns_of_a_table_without_names_go_by_number(plain: tuple[str, str], files: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"no column 'codec': its first line is a trial, .* as in --by 3; .* 3 none, 4"
    ):
        evaluate.main(["--cm", files[0], "--table", plain[1], "--by", "codec"])


def test_calibration_takes_keys_apart(plain: tuple[str, str], files: list[str], tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.json", tmp_path / "other.json"
    assert calibrate.main(["--cm", files[0], "--output", str(ours)]) == 0
    assert calibrate.main(["--cm", plain[0], "--keys", plain[1], "--subset", "all", "--output", str(other)]) == 0
    one, two = (json.loads(path.read_text()) for path in (ours, other))
    assert {**one, "fitted_on": ""} == {**two, "fitted_on": ""}


# ---- a given threshold -------------------------------------------------------------------------


def test_rates_at_a_threshold(files: list[str], capsys: Capture) -> None:
    cm = cm_asv.read_cm_scores(files[0])
    at = run_json(capsys, "--cm", files[0], "--threshold", "-6.4e-01")["at_threshold"]
    far, frr = float(np.mean(cm.spoof > -0.64)), float(np.mean(cm.bonafide <= -0.64))
    right = float(np.mean(np.concatenate((cm.bonafide > -0.64, cm.spoof <= -0.64))))
    assert (at["far"], at["frr"], at["accuracy"], at["threshold"]) == (far, frr, right, -0.64)
    assert at["balanced_error"] == (far + frr) / 2
    assert at["intervals"]["far"] == exact_interval(round(60 * far), 60).as_dict()
    lines = run_text(capsys, "--cm", files[0], "--threshold", "-6.4e-01")
    assert "at threshold -0.64: a score above it is accepted as bona fide" in lines
    assert any(line.startswith(f"  FAR             {100 * far:8.4f} %   ") for line in lines)
    lines = run_text(capsys, "--cm", files[0], "--cm", files[1], "--threshold", ".5", "--bootstrap", "5")
    header = lines.index("at threshold 0.5: a score above it is accepted as bona fide") + 1
    assert lines[header].split() == ["FRR", "%", "FAR", "%", "accuracy", "%", "balanced", "error", "%"]
    # A score on the threshold is not accepted.
    threshold = repr(float(cm.spoof.max()))
    assert run_json(capsys, "--cm", files[0], f"--threshold={threshold}")["at_threshold"]["far"] == 0


def test_trials_of_one_class_have_rates_alone(files: list[str], tmp_path: Path, capsys: Capture) -> None:
    spoofs = cm_asv.read_cm_scores(files[0]).take(np.arange(40, 100))
    path = str(tmp_path / "spoofs.txt")
    write_cm_scores(path, spoofs)
    with pytest.raises(InputError, match=r"no trial with key bonafide among its 60, .* --threshold NUMBER"):
        evaluate.main(["--cm", path])
    content = run_json(capsys, "--cm", path, "--threshold", "0")
    assert (content["eer"], content["n_bonafide"], content["n_spoof"]) == (None, 0, 60)
    assert content["at_threshold"]["far"] == float(np.mean(spoofs.scores > 0))
    assert (content["at_threshold"]["frr"], content["at_threshold"]["balanced_error"]) == (None, None)
    groups = content["breakdowns"][0]["groups"]
    assert [(group["name"], group["n_spoof"]) for group in groups] == [("A07", 30), ("A08", 30)]
    assert groups[0]["far"] == float(np.mean(spoofs.scores[spoofs.attacks == "A07"] > 0))
    lines = run_text(capsys, "--cm", path, "--threshold", "0")
    assert lines[1] == "EER, minDCF  not defined: no bona fide trials"
    assert "  FRR             not defined: no bona fide trials" in lines
    done = run_evaluation("--cm", path, "--threshold", "0", "--llr", "--bootstrap", "5")
    assert done.stderr == "warning: --llr, --bootstrap: not used, as the trials are of one class\n"
    write_cm_scores(files[1], system_of(1).take(np.arange(40)))
    with pytest.raises(InputError, match="spoofs and B cover different trials"):
        evaluate.main(["--cm", path, "--cm", files[1], "--threshold", "0"])
    write_cm_scores(files[1], spoofs)
    content = run_json(capsys, "--cm", path, "--cm", files[1], "--threshold", "0")["systems"]
    assert content["spoofs"]["at_threshold"] == content["B"]["at_threshold"]
    write_cm_scores(files[1], cm_asv.read_cm_scores(files[0]))
    content = run_json(capsys, "--cm", path, "--cm", files[1], "--threshold", "0")["systems"]
    assert content["spoofs"]["at_threshold"] == content["B"]["at_threshold"]
    assert content["B"]["n_unscored"] == 40
    assert "by attack, B, at the same threshold" in run_text(capsys, "--cm", path, "--cm", files[1], "--threshold", "0")


def test_remarks_are_in_json_and_beside_several_systems(files: list[str], capsys: Capture) -> None:
    system = system_of(0)
    write_cm_scores(files[1], CMScores(system.utterances, system.attacks, system.is_bonafide, -system.scores))
    remark = "EER above 50 %: are these scores higher for spoofs? Here higher = bona fide"
    assert run_json(capsys, "--cm", files[1])["remarks"] == [remark]
    assert run_json(capsys, "--cm", files[0])["remarks"] == []
    lines = run_text(capsys, "--cm", files[0], "--cm", files[1], "--bootstrap", "5")
    assert [line for line in lines if line.startswith("note on")] == [f"note on B: {remark}"]
