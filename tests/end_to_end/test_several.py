"""Several corpora in the real commands: trained on with weights, cut and resumed, shared, scored, reported on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2pecnet.cli import calibrate, card, crosseval, predict, report, train
from s2pecnet.conventions import EVAL_OUTPUT
from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.corpora.detect import find_split
from s2pecnet.errors import InputError
from s2pecnet.hub import from_pretrained, save_pretrained
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.metrics.det import compute_eer
from s2pecnet.score_files.cm_asv import CMScores, read_asv_scores, read_cm_scores
from s2pecnet.training import trainer
from tests.data.test_skipped import spoil
from tests.helpers import ROOT
from tests.helpers.made_corpora import clips, make_csv
from tests.helpers.samples import TINIEST
from tests.training.test_parallel import torchrun
from tests.training.test_trainer import Killed, arguments, different, outcome, train_with_cuts

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another corpus than LA, with other clips, as CSV."""
    folder = tmp_path_factory.mktemp("other")
    made = make_demo_corpus(folder / "LA", seed=8, clips_per_split={"train": 24, "dev": 18, "eval": 18})
    return make_csv(made, folder / "mine")


def write_config(path: Path, *entries: Any, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(TINIEST | {"database_path": list(entries)} | changes))
    return path


@pytest.fixture
def config(corpus: Path, other: Path, tmp_path: Path) -> Path:
    """Half of LA and one and a half of B: eight steps an epoch."""
    la, mine = {"path": str(corpus), "weight": 0.5}, {"path": str(other), "name": "B", "weight": 1.5}
    return write_config(tmp_path / "two.conf", la, mine)


@pytest.fixture(scope="module")
def trained(corpus: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the real command."""
    folder = tmp_path_factory.mktemp("trained")
    la, mine = {"path": str(corpus), "weight": 0.5}, {"path": str(other), "name": "B", "weight": 1.5}
    path = write_config(folder / "two.conf", la, mine)
    words = [sys.executable, ROOT / "main.py", "--config", path, "--output_dir", folder / "out", "--device", "cpu"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "note: train: 12 an epoch of 24 of LA, 36 an epoch of 24 of B" in done.stderr
    assert "eval is of several corpora, and ASV scores are of one: EER only, no min t-DCF" in done.stderr
    assert "% (LA " in done.stdout
    return folder / "out" / "LA_two_ep2_bs6"


def of_corpus(cm: CMScores, name: str) -> CMScores:
    return cm.take(np.flatnonzero([utterance.startswith(f"{name}/") for utterance in cm.utterances]))


def test_scores_and_metrics_name_the_corpora(trained: Path, corpus: Path, other: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    assert set(results["protocols"]) == {
        "train", "dev", "eval", "train of LA", "train of B", "dev of LA", "dev of B", "eval of LA", "eval of B",
    }  # fmt: skip
    assert results["protocols"]["dev of LA"] == find_split(corpus, "LA", "dev").trials.digest
    assert results["experiment"]["weight of B"] == 1.5
    assert results["asv_scores"] == {"dev": None, "eval": None}
    for name, file in (("dev", "dev_scores.txt"), ("eval", EVAL_OUTPUT)):
        cm = read_cm_scores(trained / file)
        assert list(cm.utterances) == [
            f"{known}/{utterance}"
            for known, path in (("LA", corpus), ("B", other))
            for utterance in find_split(path, "LA", name).trials.utterance
        ]
        assert {attack[: attack.find("/")] for attack in cm.attacks[~cm.is_bonafide]} == {"LA", "B"}
        found = results["metrics"][name]
        assert found["eer"] == evaluate(cm).eer
        assert found["min_tdcf"] is None
        parts = {known: of_corpus(cm, known) for known in ("LA", "B")}
        assert found["per_corpus_eer"] == {
            known: compute_eer(part.bonafide, part.spoof)[0] for known, part in parts.items()
        }
    eers = results["metrics"]["eval"]["per_corpus_eer"]
    text = (trained / "t-DCF_EER.txt").read_text()
    assert f"EER per corpus\n  LA         {100 * eers['LA']:8.4f} %\n  B          {100 * eers['B']:8.4f} %\n" in text
    selected = results["history"][results["selected_epoch"]]["dev"]
    assert selected["eer"] == min(row["dev"]["eer"] for row in results["history"])


def test_the_page_has_a_table_by_corpus_and_audio_of_all(trained: Path, other: Path, tmp_path: Path) -> None:
    text = (trained / "report.html").read_text()
    assert "EER by corpus" in text
    assert text.count("data:audio/flac;base64,") >= 6
    # Of somebody else's run audio is only taken from below the folder that is given.
    output = tmp_path / "page.html"
    report.main([str(trained), "--output", str(output)])
    assert output.read_text().count("data:audio/flac;base64,") == 0
    report.main([str(trained), "--output", str(output), "--database_path", str(other)])
    assert output.read_text().count("data:audio/flac;base64,") == 0
    assert f"LA does not lie below {other}" in output.read_text()
    # Corpora that were moved are found in it by the names of their folders.
    moved = tmp_path / "moved"
    moved.mkdir()
    record = json.loads((trained / "results.json").read_text())
    for entry in record["config"]["database_path"]:
        (moved / Path(entry["path"]).name).symlink_to(entry["path"])
    report.main([str(trained), "--output", str(output), "--database_path", str(moved)])
    # Links that lead elsewhere are not followed.
    assert output.read_text().count("data:audio/flac;base64,") == 0
    copied = tmp_path / "copied"
    for entry in record["config"]["database_path"]:
        shutil.copytree(entry["path"], copied / Path(entry["path"]).name)
    report.main([str(trained), "--output", str(output), "--database_path", str(copied)])
    assert output.read_text().count("data:audio/flac;base64,") >= 6


@pytest.mark.parametrize("more", [[], ["--set=num_workers=2", "--set=audio_cache=true"]], ids=["plain", "workers"])
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    more: list[str], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    more = [*more, "--set=save_every_steps=1"]
    train.main(arguments(config, tmp_path / "whole", *more))
    assert train_with_cuts(monkeypatch, arguments(config, tmp_path / "cut", *more)) == 16
    folders = [tmp_path / name / "LA_two_ep2_bs6" for name in ("whole", "cut")]
    assert not different(outcome(folders[0]), outcome(folders[1]))


def test_another_weight_is_another_experiment(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cut(where: str) -> None:
        raise Killed

    caplog.set_level("INFO")
    given = arguments(config, tmp_path, "--set=num_epochs=1", "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "raise_if_stop_requested", cut)
        with pytest.raises(Killed):
            train.main(given)
    content = json.loads(config.read_text())
    entries = content["database_path"]
    entries[1]["weight"] = 2
    config.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"another experiment \(weight of B is 1\.5 there and 2(\.0)? here\)"):
        train.main(given)
    entries[1] |= {"weight": 1.5, "name": "C"}
    config.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"weight of C is None there and 1\.5 here"):
        train.main(given)
    entries[1]["name"] = "B"
    config.write_text(json.dumps(content))
    train.main(given)
    train.main(given)
    assert "holds this training, finished; nothing to do" in caplog.text


def test_two_processes_train_as_one(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    train.main(arguments(config, tmp_path / "one"))
    command = torchrun(ROOT / "main.py", *arguments(config, tmp_path / "two"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (
        json.loads((tmp_path / name / "LA_two_ep2_bs6" / "results.json").read_text()) for name in ("one", "two")
    )
    assert two["sessions"][0]["processes"] == 2
    losses = [[row["loss"] for row in results["history"]] for results in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


def test_dev_and_eval_of_one_corpus_have_its_min_tdcf(corpus: Path, other: Path, tmp_path: Path) -> None:
    """The example of docs/corpora.md: the second corpus is for training alone."""
    mine = {"path": str(other), "weight": 0.5, "splits": ["train"]}
    config = write_config(tmp_path / "two.conf", str(corpus), mine, num_epochs=1)
    train.main(arguments(config, tmp_path))
    folder = tmp_path / "LA_two_ep1_bs6"
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    split = find_split(corpus, "LA", "eval")
    assert split.asv_scores is not None
    cm = read_cm_scores(folder / EVAL_OUTPUT)
    expected = evaluate(cm, read_asv_scores(split.asv_scores))
    assert metrics["eval"]["min_tdcf"] == expected.min_tdcf
    assert "per_corpus_eer" not in metrics["eval"]
    assert [name.removeprefix("LA/") for name in cm.utterances] == list(split.trials.utterance)
    assert "t-DCF" in (folder / "report.html").read_text()


def test_a_list_of_one_gives_the_scores_of_the_corpus_alone(corpus: Path, tmp_path: Path) -> None:
    found = []
    for name, entries in (("one", str(corpus)), ("several", [str(corpus)])):
        config = write_config(tmp_path / name / "own.conf", num_epochs=1)
        config.write_text(json.dumps(json.loads(config.read_text()) | {"database_path": entries}))
        train.main(arguments(config, tmp_path / name))
        rows = (tmp_path / name / "LA_own_ep1_bs6" / EVAL_OUTPUT).read_text().splitlines()
        found.append([row.split() for row in rows])
    assert [row[0] for row in found[1]] == [f"LA/{row[0]}" for row in found[0]]
    assert [row[2:] for row in found[1]] == [row[2:] for row in found[0]]


def test_the_other_commands_take_such_a_run(
    trained: Path, corpus: Path, other: Path, tmp_path: Path, capsys: Capture
) -> None:
    config, weights = str(trained / "config.conf"), str(trained / "weights" / "best.pth")
    given = ["--config", config, "--eval_model_weights", weights, "--device", "cpu", "--output_dir", str(tmp_path)]
    assert train.main(["--eval", *given]) == 0
    scored = read_cm_scores(tmp_path / "LA_config_ep2_bs6" / EVAL_OUTPUT)
    before = read_cm_scores(trained / EVAL_OUTPUT)
    assert scored.utterances.tolist() == before.utterances.tolist()
    np.testing.assert_allclose(scored.scores, before.scores, atol=1e-5)
    assert "EER per corpus" in capsys.readouterr().out
    assert train.main(["--eval", "--split", "dev", *given]) == 0
    clip = next(clips(corpus, "eval")).file
    words = ["--config", config, "--weights", weights, "--device", "cpu"]
    assert predict.main([*words, "--threshold", "0", str(clip)]) == 0
    capsys.readouterr()
    crossed = [str(corpus), f"mine={other}", *words, "--output_dir", str(tmp_path), "--threshold-of", "dev"]
    assert crosseval.main([*crossed, "--format", "json"]) == 0
    table = capsys.readouterr().out
    assert "mine" in table
    eer = evaluate(of_corpus(before, "B")).eer
    kept = read_cm_scores(tmp_path / "crosseval" / "config" / "mine.txt")
    assert evaluate(kept).eer == pytest.approx(eer)
    assert calibrate.main(["--cm", str(trained / "dev_scores.txt"), "--output", str(tmp_path / "own.json")]) == 0
    assert card.main([str(trained)]) == 0
    text = capsys.readouterr().out
    assert "trained on LA and B" in text
    saved = save_pretrained(trained, tmp_path / "saved")
    assert str(other) not in (saved / "config.conf").read_text()
    from_pretrained(saved, "cpu")


def test_several_seeds(config: Path, tmp_path: Path) -> None:
    assert train.main([*arguments(config, tmp_path, "--set=num_epochs=1")[:4], "--device", "cpu", "--seeds", "1,2",
                       "--set=num_epochs=1"]) == 0  # fmt: skip
    summary = json.loads((tmp_path / "LA_two_ep1_bs6_series" / "summary.json").read_text())
    assert summary["seeds"] == [1, 2]
    folders = [tmp_path / f"LA_two_ep1_bs6_seed{seed}" / "results.json" for seed in (1, 2)]
    eers = [json.loads(path.read_text())["metrics"]["eval"]["eer"] for path in folders]
    assert summary["metrics"]["eval"]["eer"]["mean"] == pytest.approx(sum(eers) / 2)


def test_a_corpus_that_is_not_in_order_ends_the_run_with_one_line(corpus: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder or file"):
        train.main(arguments(write_config(tmp_path / "a.conf", str(corpus), str(tmp_path / "nowhere")), tmp_path))
    mine = make_csv(other.parent / "LA", tmp_path / "mine")
    lines = (mine / "metadata.csv").read_text().splitlines()
    spoil(mine / lines[3].partition(",")[0], "not audio")
    with pytest.raises(InputError, match=r"1 of 24 files that .*metadata\.csv names cannot be used: .*\(line 4\)"):
        train.main(arguments(write_config(tmp_path / "b.conf", str(corpus), str(mine)), tmp_path))
