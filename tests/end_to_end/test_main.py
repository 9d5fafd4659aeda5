"""The real command lines, end to end on a tiny corpus; and what bad input gets to hear."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2pecnet import experiment
from s2pecnet.cli import train
from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.errors import InputError
from s2pecnet.metrics.calibration import read_calibration
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.runtime import set_seed
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.scoring import splits
from s2pecnet.scoring.splits import produce_evaluation_file
from s2pecnet.systems import build
from s2pecnet.systems.weights import description
from s2pecnet.training import loop
from s2pecnet.training.loop import train_epoch
from s2pecnet.training.optim import create_optimizer
from tests.helpers import ROOT
from tests.helpers.samples import TINY

pytestmark = pytest.mark.slow


def command(*arguments: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "main.py", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the real command."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "tiny.conf"
    config.write_text(json.dumps(TINY | {"database_path": str(corpus), "eval_all_best": "True"}))
    done = command("--config", config, "--output_dir", folder / "out", "--seed", 5, "--comment", "first", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "out" / "LA_tiny_ep2_bs6_first"


def test_training_writes_all_it_promises(trained: Path) -> None:
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    promised = {
        "config.conf", "weights/best.pth", "weights/swa.pth", "dev_scores.txt", "metric_log.txt",
        "t-DCF_EER.txt", "t-DCF_EER_swa.txt", "report.html",
        "eval_scores_using_best_dev_model.txt", "results.json", "figures.png",
        "metrics/dev_t-DCF_EER_0epo.txt", "metrics/dev_t-DCF_EER_1epo.txt",
    }  # fmt: skip
    assert promised <= names
    assert any(re.fullmatch(r"weights/epoch_\d+_[\d.]+\.pth", name) for name in names)
    assert any("tfevents" in name for name in names)


def test_results_describe_the_run(trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    assert results["seed"] == 5
    assert results["mode"] == "train"
    assert results["config"]["num_epochs"] == 2
    assert len(results["history"]) == 2
    assert set(results["history"][0]["terms"]) == {"classification", "first_order", "second_order"}
    assert set(results["metrics"]) == {"dev", "eval", "eval_swa"}
    assert 0 <= results["metrics"]["eval"]["min_tdcf"] <= 1
    assert {"torch", "python", "numpy"} <= set(results["versions"])
    system = build.get_model(TINY["model_config"], "cpu")
    assert results["parameters"] == sum(parameter.numel() for parameter in system.parameters())
    assert results["command"][1:3] == ["main.py", "--config"]
    assert results["wall_time_s"] > 0


def test_selection_is_on_dev_alone(trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    dev = [row["dev"]["eer"] for row in results["history"]]
    assert results["selected_epoch"] == max(i for i, eer in enumerate(dev) if eer == min(dev))
    assert results["metrics"]["dev"]["eer"] == min(dev)
    assert "eval" in results["history"][0]


def test_tensorboard_has_the_curves(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(trained))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {
        "loss/total", "loss/classification", "learning_rate", "throughput/train", "EER_percent/dev", "min_tDCF/dev",
        "EER_percent/eval", "min_tDCF/eval",
    } <= tags  # fmt: skip
    assert len(board.Scalars("loss/total")) == 2


def test_evaluation_of_the_trained_weights_gives_its_scores(trained: Path, tmp_path: Path) -> None:
    config = trained / "config.conf"
    done = command("--eval", "--config", config, "--eval_model_weights", trained / "weights" / "best.pth",
                   "--output_dir", tmp_path, "--device", "cpu", "--set", "batch_size=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "LA_config_ep2_bs1"
    name = "eval_scores_using_best_dev_model.txt"
    ours, before = ([line.split() for line in (path / name).read_text().splitlines()] for path in (folder, trained))
    assert [row[:3] for row in ours] == [row[:3] for row in before]
    np.testing.assert_allclose([float(row[3]) for row in ours], [float(row[3]) for row in before], atol=1e-4)
    results = json.loads((folder / "results.json").read_text())
    assert results["mode"] == "eval"
    assert results["metrics"]["eval"]["n_bonafide"] + results["metrics"]["eval"]["n_spoof"] == 18
    assert (folder / "t-DCF_EER.txt").read_text().startswith("trials")


def test_dev_is_scored_and_the_weights_are_calibrated_on_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of weights of the last epoch: the scores of dev, and a calibration, that the training wrote itself."""
    last = max((trained / "weights").glob("epoch_*.pth"), key=lambda path: int(path.name.split("_")[1]))
    arguments = ["--eval", "--split", "dev", "--config", str(trained / "config.conf"), "--device", "cpu"]
    train.main([*arguments, "--eval_model_weights", str(last), "--output_dir", str(tmp_path)])
    folder = tmp_path / "LA_config_ep2_bs6"
    ours = read_cm_scores(folder / "dev_scores.txt")
    told = json.loads((trained / "results.json").read_text())["history"][int(last.name.split("_")[1])]["dev"]
    assert evaluate(ours).eer == told["eer"]
    fitted = read_calibration(folder / "calibration.json")
    assert fitted.eer_threshold == pytest.approx(told["eer_threshold"], abs=1e-4)
    assert fitted.slope == pytest.approx(description(last)["calibration"]["slope"], rel=1e-2)
    assert f"--calibration: {folder / 'calibration.json'}" in capsys.readouterr().out
    assert not (folder / "results.json").exists()


def test_the_same_seed_gives_the_same_run(tiny_config: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        out = tmp_path / name
        train.main(
            ["--config", str(tiny_config), "--output_dir", str(out), "--seed", str(seed), "--set", "num_epochs=1"]
        )
        state: dict[str, torch.Tensor] = torch.load(out / "LA_tiny_ep1_bs6" / "weights" / "best.pth", weights_only=True)
        return state

    one, two, other = weights("one", 1), weights("two", 1), weights("other", 2)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_a_second_run_keeps_the_first(tiny_config: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(tiny_config), "--output_dir", str(tmp_path), "--set", "num_epochs=1"]
    train.main(arguments)
    first = (tmp_path / "LA_tiny_ep1_bs6" / "results.json").read_text()
    train.main(arguments)
    assert (tmp_path / "LA_tiny_ep1_bs6.1" / "results.json").read_text() == first


def test_without_asv_scores_there_is_an_eer_and_a_note(
    tiny_config: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = tmp_path / "LA"
    shutil.copytree(corpus, root, ignore=shutil.ignore_patterns("*asv_scores*"))
    train.main(["--config", str(tiny_config), "--output_dir", str(tmp_path), "--set", f"database_path={root}",
               "--set", "num_epochs=1"])  # fmt: skip
    assert "dev has no ASV scores" in caplog.text
    results = json.loads((tmp_path / "LA_tiny_ep1_bs6" / "results.json").read_text())
    assert results["metrics"]["eval"]["min_tdcf"] is None


def test_a_loop_of_ones_own(tiny_config: Path, tmp_path: Path) -> None:
    """The names that forks import, with the released signatures and dictionaries."""
    config = json.loads(tiny_config.read_text())
    device = torch.device("cpu")
    set_seed(1, config)
    model = build.get_model(config["model_config"], device)
    trn_loader, dev_loader, eval_loader = experiment.get_loader(config["database_path"], 1, config)
    optim_config = config["optim_config"] | {"epochs": 2, "steps_per_epoch": len(trn_loader)}
    optimizer, scheduler = create_optimizer(model.parameters(), optim_config)
    losses = [loop.train_epoch(trn_loader, model, optimizer, device, scheduler, config) for _ in range(3)]
    assert losses[-1] < losses[0]
    protocol = Path(config["database_path"]) / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.dev.trl.txt"
    splits.produce_evaluation_file(dev_loader, model, device, tmp_path / "scores.txt", protocol)
    assert len((tmp_path / "scores.txt").read_text().splitlines()) == 18
    with pytest.raises(InputError, match="is it the protocol of another split"):
        splits.produce_evaluation_file(eval_loader, model, device, tmp_path / "scores.txt", protocol)
    assert len((tmp_path / "scores.txt").read_text().splitlines()) == 18
    assert loop.train_epoch is train_epoch
    assert splits.produce_evaluation_file is produce_evaluation_file


def test_published_aasist_scores_real_speech(shared: Path, tmp_path: Path) -> None:
    """A sample of the acceptance run: sixteen eval trials with the published weights, against the released code."""
    minila = shared / "minila" / "LA"
    expected = [line.split() for line in (shared / "reference" / "minila_AASIST_scores.txt").read_text().splitlines()]
    name = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt"
    root = tmp_path / "LA"
    (root / name).parent.mkdir(parents=True)
    lines = (minila / name).read_text().splitlines(keepends=True)[:16]
    (root / name).write_text("".join(lines))
    (root / "ASVspoof2019_LA_eval").symlink_to(minila / "ASVspoof2019_LA_eval")
    train.main(["--eval", "--config", str(ROOT / "config" / "AASIST.conf"), "--output_dir", str(tmp_path),
               "--eval_model_weights", str(shared / "reference" / "weights" / "AASIST.pth"),
               "--set", f"database_path={root}", "--set", "asv_score_path=null"])  # fmt: skip
    scores = tmp_path / "LA_AASIST_ep100_bs24" / "eval_scores_using_best_dev_model.txt"
    ours = [line.split() for line in scores.read_text().splitlines()]
    assert [row[:3] for row in ours] == [row[:3] for row in expected[:16]]
    np.testing.assert_allclose([float(r[3]) for r in ours], [float(r[3]) for r in expected[:16]], atol=1e-3)


def test_the_example_of_the_readme_is_a_system(corpus: Path, tmp_path: Path) -> None:
    """The file and the config that the README shows, put into a copy of the code, train by the README's command."""
    blocks = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert [name for name, _ in blocks] == ["models/MyCountermeasure.py", "config/MyCountermeasure.conf"]
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    for folder in ("models", "config", "s2pecnet"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name, content in blocks:
        (tmp_path / name).write_text(content)
    done = command("--config", "./config/MyCountermeasure.conf", "--set", f"database_path={corpus}",
                   "--set", "num_epochs=1", "--set", "batch_size=4", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "exp_result" / "LA_MyCountermeasure_ep1_bs4" / "results.json").read_text())
    assert results["system"] == "MyCountermeasure"


def test_help_and_config_errors_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom s2pecnet.cli import train\n"
        "try: train.main({})\nexcept BaseException as e: print(type(e).__name__)\n"
        "assert 'torch' not in sys.modules"
    )
    for arguments, outcome in ((["--help"], "SystemExit"), (["--config", "nothing.conf"], "InputError")):
        done = subprocess.run([sys.executable, "-c", code.format(arguments)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == outcome


def break_nothing(root: Path) -> None:
    pass


def break_protocol(root: Path) -> None:
    path = root / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.train.trn.txt"
    path.write_text(path.read_text() + "too few columns\n")


def remove_audio(root: Path) -> None:
    next((root / "ASVspoof2019_LA_eval" / "flac").iterdir()).unlink()


def cut_audio(root: Path) -> None:
    path = next((root / "ASVspoof2019_LA_train" / "flac").iterdir())
    path.write_bytes(path.read_bytes()[:1000])


def empty_audio(root: Path) -> None:
    next((root / "ASVspoof2019_LA_dev" / "flac").iterdir()).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (break_nothing, ["--config", "nothing.conf"], "nothing.conf: no such config"),
        (break_nothing, ["--set", "batchsize=3"], "unknown key 'batchsize'; did you mean 'batch_size'?"),
        (break_nothing, ["--set", "num_epochs=few"], 'num_epochs: got "few", expected an integer of at least 1'),
        (break_nothing, ["--set", "model_config.architecture=AASSIST"], "unknown architecture 'AASSIST'"),
        (break_nothing, ["--set", "model_config.orders=3"], "model_config.orders: got 3, expected one of"),
        (
            break_nothing,
            ["--set", "database_path=/nowhere"],
            "/nowhere: no such folder or file; python download_dataset.py fetches ASVspoof2019 LA",
        ),
        (break_nothing, ["--set", "track=PA"], "holds ASVspoof2019 LA, but track is PA; set track=LA"),
        (break_nothing, ["--set", "asv_score_path=no.txt"], "no such ASV scores (asv_score_path)"),
        (break_nothing, ["--eval"], "no weights; give"),
        (break_nothing, ["--eval", "--eval_model_weights", "no.pth"], "no.pth: no such checkpoint"),
        (break_nothing, ["--eval_model_weights", "no.pth"], "--eval_model_weights is for --eval"),
        (break_nothing, ["--split", "dev"], "--split is for --eval"),
        (break_nothing, ["--output_dir", "{config}"], "tiny.conf"),
        (break_nothing, ["--device", "tpu"], "--device tpu: expected auto, cpu, cuda or cuda:N"),
        (break_nothing, ["--comment", "../x"], "--comment '../x'"),
        (break_nothing, ["--seed", "-1"], "--seed -1"),
        (break_nothing, ["--set", "batch_size=500"], "24 trials are less than one batch (batch_size 500)"),
        (break_protocol, [], "ASVspoof2019.LA.cm.train.trn.txt:25: got 3 columns, expected 5"),
        (remove_audio, [], "1 of 18 files that"),
        (cut_audio, [], "cannot be decoded, it is corrupt or cut short"),
        (empty_audio, [], "the audio file is empty"),
    ],
)
def test_bad_input_gets_one_clear_line(
    damage: Any, arguments: list[str], message: str, tiny_config: Path, corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "LA"
    shutil.copytree(corpus, root)
    damage(root)
    tiny_config.write_text(json.dumps(json.loads(tiny_config.read_text()) | {"database_path": str(root)}))
    given = [argument.format(config=tiny_config) for argument in arguments]
    start = ["--config", str(tiny_config), "--output_dir", str(tmp_path / "out")]
    with pytest.raises((InputError, OSError)) as caught:
        train.main([*start, *given])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [["--config", "nothing.conf"], ["--config", "config/AASIST.conf"], ["--config", "config/AASIST.conf", "--eval"]],
)
def test_exit_status_is_2_and_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    done = command(*arguments, "--output_dir", tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_weights_of_another_architecture(trained: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights of another architecture"):
        train.main(["--eval", "--config", str(ROOT / "config" / "AASIST.conf"), "--output_dir", str(tmp_path),
                   "--eval_model_weights", str(trained / "weights" / "best.pth"),
                   "--set", f"database_path={corpus}"])  # fmt: skip


def test_every_key_of_a_config_is_read(trained: Path) -> None:
    """The effective config in the run's folder trains again, to the letter."""
    config = load_config(trained / "config.conf")
    assert config.raw == json.loads((trained / "config.conf").read_text())
    assert as_config(config.raw).eval_all_best is True
