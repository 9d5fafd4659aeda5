"""`s2pecnet crosseval`: tables in every format, score files or systems, and scores that are taken again."""

import csv
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2pecnet.cli import crosseval
from s2pecnet.errors import InputError
from s2pecnet.files import write_json
from s2pecnet.metrics.calibration import Calibration, fit
from s2pecnet.reporting.text import WIDTH
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.systems.registry import find_model
from tests.helpers.made_corpora import clips, link, make_csv
from tests.helpers.samples import TINIEST

LA = "a - bonafide 3\nb - bonafide 1\nc A1 spoof 2\nd A1 spoof -1\n"
WILD = "a - bonafide 0.5\nb - bonafide -2\nc X spoof -3\nd X spoof -4\n"
SPOOFS = "a X spoof 2.5\nb X spoof 1\nc X spoof 0\nd X spoof -1\n"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    words = []
    for corpus, text in (("LA", LA), ("wild", WILD), ("spoofs", SPOOFS)):
        path = tmp_path / f"{corpus}.txt"
        path.write_text(text)
        words += ["--scores", f"A:{corpus}={path}"]
    return words


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert crosseval.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_the_text_has_own_and_shared_threshold(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, *files, "--threshold", "0.7").splitlines()
    assert max(map(len, lines)) <= WIDTH
    by_name = {line.split()[0]: line.split() for line in reversed(lines) if line}
    # The first table is met last: trials, threshold, EER, interval, minDCF, interval.
    assert by_name["LA"][1:6] == ["2", "2", "0", "1.5", "50.00"]
    assert by_name["spoofs"][1:] == ["0", "4", "0", *["-"] * 5]
    shared = lines[lines.index("at one threshold for all corpora") :]
    rates = {line.split()[0]: line.split() for line in reversed(shared) if line}
    assert rates["LA"][1] == "0.00"
    assert rates["wild"][1] == "100.00"
    # 1 - SRR of the Arena: two of four spoofs are accepted.
    assert rates["spoofs"][:3] == ["spoofs", "-", "-"]
    assert rates["spoofs"][3] == "50.00"
    assert any("of 2" in line and "FRR" in line for line in lines)


def test_csv_and_json_hold_fractions_and_nothing_for_what_is_missing(
    files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "table.csv"
    text = run(capsys, *files, "--threshold", "0.7", "--format", "csv", "--output", output)
    assert output.read_text() == text
    rows = {row["corpus"]: row for row in csv.DictReader(io.StringIO(text))}
    assert list(rows) == ["LA", "wild", "spoofs", "pooled", "mean"]
    assert (rows["LA"]["eer"], rows["spoofs"]["eer"], rows["spoofs"]["far"]) == ("0.5", "", "0.5")
    assert float(rows["pooled"]["far"]) == 3 / 8
    content = json.loads(run(capsys, *files, "--threshold", "0.7", "--format", "json"))
    assert content["systems"]["A"]["corpora"]["spoofs"]["eer"] is None
    assert content["systems"]["A"]["pooled"]["far"] == 3 / 8


def test_markdown_and_latex_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scores.txt"
    path.write_text(LA)
    words = ["--scores", f"a|b:LA_50%={path}", "--threshold", "1.5"]
    markdown = run(capsys, *words, "--format", "markdown").splitlines()
    assert len({line.replace(r"\|", "").count("|") for line in markdown if line.startswith("|")}) == 1
    latex = run(capsys, *words, "--format", "latex")
    assert r"LA\_50\%" in latex
    lines = [line for line in latex.splitlines() if not line.startswith("%")]
    assert all(line.count("%") == line.count(r"\%") for line in lines)
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in body}) == 1


def test_several_systems_each_have_their_threshold(
    files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, other = tmp_path / "B.txt", tmp_path / "B_wild.txt"
    path.write_text("a - bonafide 30\nb - bonafide 10\nc A1 spoof -20\nd A1 spoof -10\n")
    other.write_text("a - bonafide 5\nb - bonafide -20\nc X spoof -30\nd X spoof -40\n")
    both = [*files, "--scores", f"B:LA={path}", "--scores", f"B:wild={other}"]
    content = json.loads(run(capsys, *both, "--threshold-of", "LA", "--format", "json"))
    assert {name: one["threshold"] for name, one in content["systems"].items()} == {"A": 1.5, "B": 0}
    assert content["together"] == ["wild"]
    content = json.loads(run(capsys, *both, "--threshold", "A=1", "--threshold", "B=-15", "--format", "json"))
    assert content["systems"]["B"]["corpora"]["LA"]["far"] == 0.5
    assert content["together"] == ["LA", "wild"]


def test_keys_asv_and_calibration(tmp_path: Path, asv_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, keys, scores = tmp_path / "plain.txt", tmp_path / "keys.txt", tmp_path / "LA.txt"
    scores.write_text(LA)
    plain.write_text("".join(f"{line.split()[0]} {line.split()[3]}\n" for line in WILD.splitlines()))
    keys.write_text("".join(" ".join(line.split()[:3]) + "\n" for line in WILD.splitlines()))
    calibration = tmp_path / "calibration.json"
    write_json(calibration, fit(read_cm_scores(tmp_path / "LA.txt")).as_dict() | {"slope": 1.0, "offset": -0.25})
    content = json.loads(
        run(capsys, "--scores", f"A:LA={scores}", "--scores", f"A:wild={plain}", "--keys", f"wild={keys}",
            "--asv", f"LA={asv_file}", "--calibration", calibration, "--format", "json")
    )  # fmt: skip
    found = content["systems"]["A"]
    assert found["threshold"] == 0.25
    assert found["corpora"]["LA"]["min_tdcf"] is not None
    assert found["corpora"]["wild"]["min_tdcf"] is None
    assert found["corpora"]["wild"]["frr"] == 0.5
    assert found["corpora"]["LA"]["cllr"] == pytest.approx(
        np.mean([np.log2(1 + np.exp(-np.array([2.75, 0.75]))).mean(), np.log2(1 + np.exp([1.75, -1.25])).mean()])
    )


def test_a_trial_that_one_system_lacks_is_left_out_of_both(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "B.txt"
    path.write_text("".join(LA.splitlines(keepends=True)[:3]))
    content = json.loads(run(capsys, *files, "--scores", f"B:LA={path}", "--format", "json"))
    assert [one["corpora"]["LA"]["n_spoof"] for one in content["systems"].values()] == [1, 1]


def test_systems_of_other_trials_or_other_keys_are_not_compared(files: list[str], tmp_path: Path) -> None:
    path = tmp_path / "B.txt"
    path.write_text(LA.replace("\n", "\nother_", 3).replace("a -", "other_a -", 1))
    with pytest.raises(InputError, match="A:LA and B:LA cover different trials: 4 missing from B:LA"):
        crosseval.main([*files, "--scores", f"B:LA={path}"])
    path.write_text(LA.replace("- bonafide", "A1 SPOOF").replace("A1 spoof", "- bonafide").replace("SPOOF", "spoof"))
    with pytest.raises(InputError, match="A:LA and B:LA give 4 trials different keys"):
        crosseval.main([*files, "--scores", f"B:LA={path}"])


def test_a_calibration_is_of_one_system(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "calibration.json", tmp_path / "B.txt"
    write_json(path, fit(read_cm_scores(tmp_path / "LA.txt")).as_dict() | {"slope": 1.0, "offset": -0.25})
    other.write_text(LA)
    both = [*files, "--scores", f"B:LA={other}"]
    with pytest.raises(
        InputError, match="a calibration is of one system; expected SYSTEM=FILE, where SYSTEM is of A, B"
    ):
        crosseval.main([*both, "--calibration", str(path)])
    content = json.loads(run(capsys, *both, "--calibration", f"B={path}", "--format", "json"))
    assert [content["systems"][name]["threshold"] for name in "AB"] == [None, 0.25]


@pytest.mark.parametrize("name", ["pooled", "mean"])
def test_no_corpus_has_the_name_of_a_row_of_all(files: list[str], name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"a corpus cannot be called {name}, as rows of all corpora are"):
        crosseval.main([*files, "--scores", f"A:{name}={tmp_path / 'LA.txt'}"])
    with pytest.raises(InputError, match=f"a corpus cannot be called {name}"):
        crosseval.main(["--config", "AASIST", f"{name}={tmp_path}"])


def test_the_picture(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run(capsys, *files, "--threshold", "0", "--plot", tmp_path / "corpora.png")
    assert (tmp_path / "corpora.png").read_bytes()[:4] == b"\x89PNG"
    alone = tmp_path / "alone.png"
    run(capsys, *files[-2:], "--plot", alone)
    assert alone.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to evaluate"),
        (["corpus"], "corpora without --config"),
        (["FILES", "--config", "AASIST"], "--config without corpora"),
        (["--scores", "A=LA.txt"], "expected SYSTEM:CORPUS=FILE"),
        (["FILES", "--threshold-of", "mars"], "--threshold-of mars: no such corpus, have LA, spoofs, wild"),
        (["FILES", "--threshold-of", "spoofs"], "its trials are of one class"),
        (["FILES", "--threshold-of", "LA", "--threshold", "1"], "give one of the two"),
        (["FILES", "--threshold", "1", "--threshold", "2"], "given twice"),
        (["FILES", "--threshold", "B=2"], "no such system, have A"),
        (["FILES", "--threshold", "nan"], "expected a number"),
        (["FILES", "--keys", "mars=x.txt"], "x.txt"),
        (["FILES", "--plot", "x.pdf"], "ends in .png"),
        (["FILES", "--bootstrap", "0"], "expected at least 1"),
        (["c", "--config", "AASIST", "--weights", "a", "--weights", "b"], "expected one for each of 1 --config"),
    ],
)
def test_what_cannot_be_is_one_line(files: list[str], words: list[str], message: str) -> None:
    given = [part for word in words for part in (files if word == "FILES" else [word])]
    with pytest.raises((InputError, OSError), match=message):
        crosseval.main(given)


def test_an_output_never_replaces_an_input(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="that is an input"):
        crosseval.main([*files, "--output", str(tmp_path / "LA.txt")])


# ---- systems that score ------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path, corpus: Path) -> list[str]:
    """The options of a system with random weights."""
    import torch

    torch.manual_seed(3)
    weights, config = tmp_path / "weights.pth", tmp_path / "tiny.conf"
    torch.save(find_model("AASIST")(TINIEST["model_config"]).state_dict(), weights)
    config.write_text(json.dumps(TINIEST | {"database_path": str(corpus)}))
    return [
        "--config",
        str(config),
        "--weights",
        str(weights),
        "--output_dir",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]


def make_one_class(corpus: Path, root: Path) -> Path:
    """A CSV file of the spoofs of eval, without a column of splits."""
    lines = ["path,label"]
    for _, trial, file in clips(corpus, "eval"):
        if not trial.label:
            link(file, root / file.name)
            lines.append(f"{file.name},fake")
    (root / "spoofs.csv").write_text("\n".join(lines) + "\n")
    return root / "spoofs.csv"


def test_a_system_scores_corpora_of_several_kinds(
    system: list[str], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, spoofs = make_csv(corpus, tmp_path / "mine"), make_one_class(corpus, tmp_path / "spoofs")
    content = json.loads(
        run(capsys, *system, f"LA={corpus}@LA", mine, spoofs, "--set", "split_policy=eval", "--threshold-of", "dev",
            "--format", "json")
    )  # fmt: skip
    found = content["systems"]["tiny"]["corpora"]
    assert list(found) == ["LA", "mine", "spoofs", "dev"]
    assert content["together"] == ["LA", "mine", "spoofs"]
    # The same clips: the same scores, whatever the corpus is called.
    assert found["LA"]["eer"] == found["mine"]["eer"]
    assert found["LA"]["far"] == found["spoofs"]["far"]
    assert found["spoofs"]["eer"] is None
    assert found["LA"]["min_tdcf"] is not None
    assert found["mine"]["min_tdcf"] is None
    kept = read_cm_scores(tmp_path / "out" / "crosseval" / "tiny" / "LA.txt")
    assert kept.scores.size == found["LA"]["n_bonafide"] + found["LA"]["n_spoof"]


def test_scores_are_taken_again_only_where_they_are_of_the_same(
    system: list[str],
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "s2pecnet")
    score_file = tmp_path / "out" / "crosseval" / "tiny" / "LA.txt"

    def scored(*more: str) -> str:
        """What the note says of a run."""
        caplog.clear()
        run(capsys, *system, f"LA={corpus}", *more)
        return next(record.message for record in caplog.records if record.message.startswith("LA: "))

    assert "trials of" in scored()
    first = score_file.read_text()
    before = os.stat(score_file).st_mtime_ns
    assert "scored before with the same weights and trials" in scored()
    assert os.stat(score_file).st_mtime_ns == before
    score_file.write_text(first.replace("spoof", "bonafide", 1))
    assert "again, as the score file differ" in scored()
    assert score_file.read_text() == first
    assert "again, as config differ" in scored("--set", "batch_size=7")
    assert "again, as config differ" in scored()
    score_file.with_suffix(".json").write_text("[")
    assert "which is damaged" in scored()
    import torch

    weights: dict[str, Any] = torch.load(tmp_path / "weights.pth", weights_only=True)
    weights["out_layer.bias"] += torch.tensor([0.0, 1.0])
    torch.save(weights, tmp_path / "weights.pth")
    assert "again, as weights_sha256 differ" in scored()
    assert score_file.read_text() != first


def test_what_the_config_says_of_its_own_corpus_does_not_hold_of_others(
    system: list[str], corpus: Path, tmp_path: Path, asv_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make_csv(corpus, tmp_path / "mine")
    own = ["--set", f"asv_score_path={asv_file}", "--set", 'leave_out.eval=["A07"]', "--format", "json"]
    content = json.loads(run(capsys, *system, f"LA={corpus}", f"mine={mine}", *own))
    found = content["systems"]["tiny"]["corpora"]
    assert found["LA"]["n_spoof"] == found["mine"]["n_spoof"] - 2
    assert found["mine"]["min_tdcf"] is None
    # A file that does not lie with the others does not end the command.
    content = json.loads(run(capsys, *system, f"mine={mine}", "--set", "asv_score_path=own.txt", "--format", "json"))
    assert content["systems"]["tiny"]["corpora"]["mine"]["min_tdcf"] is None


def test_audio_that_was_repaired_is_not_listed_any_more(
    system: list[str], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2pecnet.data.datasets.LARGEST_SHARE", 1.0)
    monkeypatch.setattr("s2pecnet.data.loaders.LARGEST_SHARE", 1.0)
    mine = make_csv(corpus, tmp_path / "mine")
    first, second = sorted(mine.rglob("LA_E*.flac"))[:2]

    def listed(broken: Path) -> list[str]:
        whole = broken.read_bytes()
        broken.unlink()
        broken.write_bytes(b"no audio" * 100)
        run(capsys, *system, f"mine={mine}", "--set", "on_bad_audio=skip")
        broken.write_bytes(whole)
        (path,) = (tmp_path / "out" / "crosseval").rglob("skipped_audio_eval.txt")
        return [line.split("\t")[0] for line in path.read_text().splitlines()]

    for broken in (first, second):
        assert [name.rpartition("/")[2] for name in listed(broken)] == [broken.name]


def test_a_corpus_of_one_class_is_scored_by_the_command_of_runs(
    system: list[str], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`main.py --eval`: scores, and what is defined; with a calibration in the weights the rate at its threshold."""
    from s2pecnet.cli import train
    from s2pecnet.systems.weights import load_weights, save_weights

    spoofs = make_one_class(corpus, tmp_path / "spoofs")
    words = ["--eval", *system[:2], *system[4:], "--set", f"database_path={spoofs}", "--set", "split_policy=eval"]
    assert train.main([*words, "--eval_model_weights", system[3]]) == 0
    out = capsys.readouterr().out
    assert "EER, minDCF  not defined: no bona fide trials" in out
    assert "no rates: no calibration is stored with the weights; s2pecnet evaluate --cm" in out
    path = next((tmp_path / "out").glob("LA_tiny*/eval_scores*.txt"))
    scores = read_cm_scores(path, both_classes=False)
    assert scores.scores.size == 12
    results = json.loads((path.parent / "results.json").read_text())
    assert results["metrics"] == {}
    assert results["weights_sha256"]
    model, calibrated = find_model("AASIST")(TINIEST["model_config"]), tmp_path / "calibrated.pth"
    load_weights(model, system[3])
    middle = float(np.median(scores.scores))
    fitted = Calibration(1.0, -middle, 0.0, 0.0, 0.05, 1.0, 10.0, 5, 5, False, "dev")
    save_weights(model, calibrated, {"calibration": fitted.as_dict()})
    assert train.main([*words, "--eval_model_weights", str(calibrated)]) == 0
    out = capsys.readouterr().out
    assert "FRR             not defined: no bona fide trials" in out
    assert "FAR              50.0000 %" in out
    # Training needs both classes.
    with pytest.raises(InputError):
        train.main([*system[:2], *system[4:], "--set", f"database_path={spoofs}"])
