"""A whole training: honest selection, SWA; and going on from where it was killed, to the bit."""

import dataclasses
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from s2pecnet import experiment
from s2pecnet.cli import train
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.runs.provenance import check_same_experiment
from s2pecnet.systems.weights import description, save_weights
from s2pecnet.training import trainer
from s2pecnet.training.trainer import Progress
from tests.helpers import ROOT
from tests.helpers.samples import TINY

pytestmark = pytest.mark.slow


def metrics(eer: float) -> Metrics:
    return Metrics(eer, 0.0, None, None, None, {}, 1, 1)


def test_ties_go_to_the_later_epoch_and_the_first_epoch_counts() -> None:
    assert Progress().is_best(metrics(0.9))
    progress = Progress(best_dev=metrics(0.2))
    assert progress.is_best(metrics(0.2))
    assert not progress.is_best(metrics(0.21))


def test_swa_is_the_mean_of_the_selected_epochs(tiny_config: Path, tmp_path: Path) -> None:
    train.main(["--config", str(tiny_config), "--output_dir", str(tmp_path), "--set", "num_epochs=3"])
    folder = tmp_path / "LA_tiny_ep3_bs6"
    results = json.loads((folder / "results.json").read_text())
    states = [torch.load(path, weights_only=True) for path in sorted((folder / "weights").glob("epoch_*.pth"))]
    assert results["swa_epochs"] == len(states) >= 1
    averaged = torch.load(folder / "weights" / "swa.pth", weights_only=True)
    for name in ("out_layer.weight", "resnet.conv1.weight"):
        torch.testing.assert_close(averaged[name], torch.stack([state[name] for state in states]).mean(dim=0))
    assert not torch.equal(averaged["first_bn.running_mean"], states[-1]["first_bn.running_mean"])


def test_the_selected_weights_carry_the_calibration_of_their_dev_scores(tiniest_config: Path, tmp_path: Path) -> None:
    from s2pecnet.metrics import calibration
    from s2pecnet.score_files.cm_asv import read_cm_scores
    from s2pecnet.systems.weights import description

    train.main(["--config", str(tiniest_config), "--output_dir", str(tmp_path), "--set", "num_epochs=1"])
    folder = tmp_path / "LA_tiniest_ep1_bs6"
    stored = description(folder / "weights" / "best.pth")["calibration"]
    fitted = calibration.fit(read_cm_scores(folder / "dev_scores.txt")).as_dict()
    assert stored == fitted | {"eval_crop": "first"}
    dev = json.loads((folder / "results.json").read_text())["metrics"]["dev"]
    assert stored["eer_threshold"] == dev["eer_threshold"]


def test_progress_survives_being_saved() -> None:
    progress = Progress(3, 1, [{"epoch": 0}], ["line"], 2, metrics(0.1), None, [{"step": 4}])
    assert Progress.from_state(json.loads(json.dumps(dataclasses.asdict(progress)))) == progress


# ---- going on --------------------------------------------------------------------------------------------------------


class Holder(torch.nn.Module):
    """A module whose state dict is the one given."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        self.given = state

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.given


class Killed(Exception):
    """Stands for the end of the process."""


def outcome(folder: Path) -> dict[str, Any]:
    """What a run leaves behind, as bytes, and the figures of results.json; nothing in it depends on when it ran."""
    files = [*folder.glob("weights/*"), *folder.glob("*.txt"), *folder.glob("metrics/*")]
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    results = json.loads((folder / "results.json").read_text())
    for row in results["history"]:
        del row["utterances_per_second"]
    return found | {key: results[key] for key in ("metrics", "history", "selected_epoch", "swa_epochs")}


def arguments(config: Path, output: Path, *more: str) -> list[str]:
    return ["--config", str(config), "--output_dir", str(output), "--seed", "3", "--device", "cpu", *more]


def train_with_cuts(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> int:
    """Train, killed and resumed three times; returns how many steps were taken in all."""
    calls = iter(range(100))

    def cut(where: str) -> None:
        if where.startswith("after step") and next(calls) in (1, 3, 6):
            raise Killed

    monkeypatch.setattr(trainer, "raise_if_stop_requested", cut)
    for _ in range(3):
        with pytest.raises(Killed):
            train.main([*given, "--resume"])
    train.main([*given, "--resume"])
    return next(calls)


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


@pytest.fixture(autouse=True)
def _same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights tell by which command they were made; in these tests by the same."""
    monkeypatch.setattr(sys, "argv", ["main.py"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_workers": 2, "audio_cache": True},
        {"precision": "fp16", "eval_all_best": True, "optim_config.scheduler": "sgdr", "optim_config.T0": 1},
        {"optim_config.scheduler": "multistep", "optim_config.milestones": [1], "weights_format": "safetensors"},
        {"model_config": TINY["model_config"]},
        {"optim_config.optimizer": "sgd", "micro_batch_size": 4, "activation_checkpointing": True, "freq_aug": True},
        {"loss": "OC-Softmax", "optim_config.scheduler": "linear", "optim_config.warmup_steps": 3, "select_by": "loss"},
        {"loss": "AM-Softmax", "optim_config.sam_rho": 0.05, "micro_batch_size": 4, "optim_config.clip_grad_norm": 0.1},
    ],
    ids=lambda changes: "-".join(map(str, changes)) or "plain",
)
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    changes: dict[str, Any], tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]
    more = [*settings, "--set=save_every_steps=1"]
    train.main(arguments(tiniest_config, tmp_path / "whole", *more))
    assert train_with_cuts(monkeypatch, arguments(tiniest_config, tmp_path / "cut", *more)) == 8
    folders = [tmp_path / name / "LA_tiniest_ep2_bs6" for name in ("whole", "cut")]
    assert not different(outcome(folders[0]), outcome(folders[1]))
    assert not any((folder / "state").exists() for folder in folders)


@pytest.mark.parametrize("place", ["write_summary", "save_weights", "headline", "recompute_batch_norm"])
def test_a_run_that_was_cut_between_its_steps_resumes_too(
    place: str, tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.main(arguments(tiniest_config, tmp_path / "whole"))
    real, calls = getattr(trainer, place), iter(range(100))

    def cut(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        if next(calls) == 0:
            raise Killed
        return found

    monkeypatch.setattr(trainer, place, cut)
    with pytest.raises(Killed):
        train.main(arguments(tiniest_config, tmp_path / "cut"))
    train.main(arguments(tiniest_config, tmp_path / "cut", "--resume"))
    names = ("whole", "cut")
    assert not different(*(outcome(tmp_path / name / "LA_tiniest_ep2_bs6") for name in names))


@pytest.fixture
def unfinished(tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was killed after six steps (two of the second epoch), each of them saved."""
    calls = iter(range(100))

    def cut(where: str) -> None:
        if next(calls) == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "raise_if_stop_requested", cut)
        with pytest.raises(Killed):
            train.main(arguments(tiniest_config, tmp_path / "out", "--set=save_every_steps=1"))
    return tmp_path / "out" / "LA_tiniest_ep2_bs6"


def test_the_last_two_states_are_kept(unfinished: Path) -> None:
    names = sorted(path.name for path in (unfinished / "state").iterdir())
    assert names == ["00001_00000001.state", "00001_00000002.state"]


def test_a_damaged_state_falls_back_to_the_one_before(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    newest = unfinished / "state" / "00001_00000002.state"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    train.main(arguments(tiniest_config, tmp_path / "out", "--resume", "--set=save_every_steps=1"))
    assert "00001_00000002.state is damaged (checksum), going back to 00001_00000001.state" in capfd.readouterr().err
    train.main(arguments(tiniest_config, tmp_path / "whole", "--set=save_every_steps=1"))
    assert not different(outcome(unfinished), outcome(tmp_path / "whole" / "LA_tiniest_ep2_bs6"))


def test_another_experiments_state_is_refused(unfinished: Path, tiniest_config: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()}
    for change, named in [
        ("--set=optim_config.weight_decay=0.5", "optim_config.weight_decay is 0.0 there and 0.5 here"),
        ("--set=model_config.gat_dims=[8,16]", "model_config.gat_dims is [8, 8] there and [8, 16] here"),
        ("--seed=4", "seed is 3 there and 4 here"),
    ]:
        with pytest.raises(InputError, match="holds the state of another experiment") as caught:
            train.main(arguments(tiniest_config, tmp_path / "out", "--resume", change))
        assert named in str(caught.value)
    assert before == {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()}


def test_what_does_not_decide_about_the_results_may_change(
    unfinished: Path, tiniest_config: Path, tmp_path: Path
) -> None:
    train.main(
        arguments(tiniest_config, tmp_path / "out", "--resume", "--set=num_workers=1", "--set=save_every_minutes=0")
    )
    train.main(arguments(tiniest_config, tmp_path / "whole"))
    assert (
        json.loads((unfinished / "results.json").read_text())["metrics"]
        == json.loads((tmp_path / "whole" / "LA_tiniest_ep2_bs6" / "results.json").read_text())["metrics"]
    )


def test_remedies_may_change_and_are_recorded(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = ("skip_nonfinite=3", "micro_batch_size=3", "on_bad_audio=skip", "eval_output=other.txt")
    train.main(arguments(tiniest_config, tmp_path / "out", "--resume", *(f"--set={change}" for change in changes)))
    assert "resuming with another skip_nonfinite: 0 -> 3" in caplog.messages
    assert "resuming with another eval_output: 'eval_scores_using_best_dev_model.txt' -> 'other.txt'" in caplog.messages
    results = json.loads((unfinished / "results.json").read_text())
    assert results["config"]["skip_nonfinite"] == 3
    assert (unfinished / "other.txt").is_file()


def test_every_start_is_listed_and_a_difference_is_reported(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)
    try:
        train.main(arguments(tiniest_config, tmp_path / "out", "--resume"))
    finally:
        torch.set_num_threads(torch.get_num_threads() - 1)
    first, second = json.loads((unfinished / "results.json").read_text())["sessions"]
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (0, 0, 1, 2)
    assert first.keys() == second.keys() >= {"started", "host", "threads", "commit", "versions", "system_sha256"}
    assert f"resuming with another threads: {first['threads']} -> {second['threads']}" in caplog.messages


@pytest.mark.parametrize("damage", ["missing", "flipped", "another epoch's"])
def test_best_weights_that_are_not_the_selected_epochs_are_noticed_at_once(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    best = unfinished / "weights" / "best.pth"
    (twin,) = (unfinished / "weights").glob("epoch_0_*.pth")
    if damage == "another epoch's":
        model, about = torch.load(best, weights_only=True), description(best)
        save_weights(Holder(model), best, about | {"epoch": 7})
    elif damage == "flipped":
        content = bytearray(best.read_bytes())
        content[len(content) // 2] ^= 1
        best.write_bytes(content)
    else:
        best.unlink()
    spare = twin.read_bytes()
    twin.unlink()
    with pytest.raises(InputError, match=r"not the weights of the selected epoch 0 .* starts again"):
        train.main(arguments(tiniest_config, tmp_path / "out", "--resume"))
    twin.write_bytes(spare)
    train.main(arguments(tiniest_config, tmp_path / "out", "--resume"))
    assert "taken from epoch_0_" in caplog.text


def test_resume_in_the_config_and_a_finished_run(
    tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With "resume": "auto" the first run starts, and the second finds it finished."""
    caplog.set_level("INFO")
    for _ in range(2):
        train.main(arguments(tiniest_config, tmp_path, "--set=resume=auto", "--set=num_epochs=1"))
    assert "finished; nothing to do" in caplog.text
    assert not list(tmp_path.glob("*.1"))


def test_a_finished_training_is_not_the_result_of_another_rate(
    tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train.main(arguments(tiniest_config, tmp_path, "--set=num_epochs=1", "--resume"))
    folder = tmp_path / "LA_tiniest_ep1_bs6"
    before = (folder / "results.json").read_bytes()
    other = r"finished with another optim_config.base_lr: 0.001 -> 0.5; give this one a --comment"
    with pytest.raises(InputError, match=other):
        train.main(
            arguments(tiniest_config, tmp_path, "--set=num_epochs=1", "--resume", "--set=optim_config.base_lr=0.5")
        )
    assert (folder / "results.json").read_bytes() == before
    # What may have been needed to get through is said.
    train.main(arguments(tiniest_config, tmp_path, "--set=num_epochs=1", "--resume", "--set=skip_nonfinite=3"))
    assert f"{folder}: finished with another skip_nonfinite: 0 -> 3" in caplog.messages


def test_a_front_end_gets_no_rate_of_its_own_in_the_middle(tmp_path: Path) -> None:
    """Its parameters would be another group of the optimizer's."""
    one, other = {"optim_config.front_end_lr": 1e-5}, {"optim_config.front_end_lr": 1e-6}
    assert check_same_experiment(one, other, tmp_path) == ["optim_config.front_end_lr: 1e-06 -> 1e-05"]
    for own, earlier in ((one, {}), ({}, one)):
        with pytest.raises(InputError, match=r"holds the state of another experiment \(optim_config.front_end_lr is"):
            check_same_experiment(own, earlier, tmp_path)


def test_weights_may_get_another_format_in_the_middle(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = arguments(tiniest_config, tmp_path / "out", "--resume", "--set=weights_format=safetensors")
    train.main(given)
    assert "resuming with another weights_format: 'pth' -> 'safetensors'" in caplog.messages
    assert "lost, damaged" not in caplog.text
    train.main(arguments(tiniest_config, tmp_path / "whole"))
    figures = [
        json.loads((folder / "results.json").read_text())["metrics"]
        for folder in (unfinished, tmp_path / "whole" / unfinished.name)
    ]
    assert figures[0] == figures[1]
    assert (unfinished / "weights" / "best.safetensors").is_file()


def test_weights_are_deleted_only_when_no_state_needs_them(
    tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the second best epoch, before its state is saved; only the latest weights are to be kept."""
    given = arguments(tiniest_config, tmp_path, "--set=keep_checkpoints=1")
    monkeypatch.setattr(trainer.Progress, "is_best", lambda *_: True)
    real = trainer.Trainer.save

    def cut(self: Any) -> None:
        if self.progress.epoch == 2:
            raise Killed
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "save", cut)
        with pytest.raises(Killed):
            train.main(given)
    train.main([*given, "--resume"])
    (kept,) = (tmp_path / "LA_tiniest_ep2_bs6" / "weights").glob("epoch_*")
    assert kept.name.startswith("epoch_1_")


def test_a_page_that_could_not_be_written_is_made_by_resume(
    tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "report.html")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "write_report", full)
        train.main(arguments(tiniest_config, tmp_path))
    assert "no report.html: report.html: No space left on device" in caplog.text
    page = tmp_path / "LA_tiniest_ep2_bs6" / "report.html"
    assert not page.exists()
    train.main(arguments(tiniest_config, tmp_path, "--resume"))
    assert page.read_text().rstrip().endswith("</html>")


def test_without_resume_the_unfinished_run_is_backed_up(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train.main(arguments(tiniest_config, tmp_path / "out", "--set=num_epochs=2"))
    assert "unfinished: --resume would have resumed it" in caplog.text
    assert len(list((unfinished.with_name(f"{unfinished.name}.1") / "state").iterdir())) == 2


def test_a_loss_that_is_not_finite_names_the_batch(tiniest_config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss is .*; the utterances of that batch are in") as caught:
        train.main(
            arguments(tiniest_config, tmp_path, "--set=optim_config.base_lr=1e6", "--set=optim_config.optimizer=sgd")
        )
    path = Path(str(caught.value).rpartition(" are in ")[2])
    (batch,) = json.loads(path.read_text())
    assert batch["epoch"] == 0
    assert len(set(batch["utterances"])) == 6
    assert all(name.startswith("LA_T_") for name in batch["utterances"])


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_loss_that_is_looked_at_late_names_its_own_batch(
    bad: int, tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: with the next step, with a state to be saved, at the end of the epoch."""

    class Event:
        def record(self) -> None: ...

        def synchronize(self) -> None: ...

    asked: list[list[str]] = []
    real = trainer.TrainingStep.__call__

    def poisoned(self: Any, inputs: Any, labels: Any) -> Any:
        self._late = True
        asked.append([])
        if len(asked) - 1 == bad:
            inputs = [torch.full_like(one, float("nan")) for one in inputs]
        return real(self, inputs, labels)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(trainer.TrainingStep, "__call__", poisoned)
    every = ["--set=save_every_steps=2"] if bad == 1 else []
    with pytest.raises(InputError, match="is not finite") as caught:
        train.main(arguments(tiniest_config, tmp_path, *every))
    (batch,) = json.loads(Path(str(caught.value).rpartition(" are in ")[2]).read_text())
    assert batch["step"] == bad
    assert len(batch["utterances"]) == 6


def test_a_state_that_is_not_finite_is_not_written(
    unfinished: Path, tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states before it stay, and the training resumes from them, with the lower rate that the message asks for."""
    states = {path.name: path.read_bytes() for path in (unfinished / "state").iterdir()}
    real = trainer.TrainingStep.__call__

    def poisoned(self: Any, *given: Any) -> Any:
        terms = real(self, *given)
        next(self.model.parameters()).data.view(-1)[0] = float("inf")
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(trainer.TrainingStep, "__call__", poisoned)
        with pytest.raises(InputError, match=r"weights are not finite after step 3 of epoch 1; the last state is kept"):
            train.main(arguments(tiniest_config, tmp_path / "out", "--resume", "--set=save_every_steps=1"))
    assert {path.name: path.read_bytes() for path in (unfinished / "state").iterdir()} == states
    lower = "--set=optim_config.base_lr=1e-4"
    train.main(arguments(tiniest_config, tmp_path / "out", "--resume", lower))
    results = json.loads((unfinished / "results.json").read_text())
    # Cosine from 1e-4 to 1e-5 over 8 steps, of which all are done.
    assert results["history"][1]["learning_rate"] == pytest.approx(1e-5, rel=1e-3)
    assert results["config"]["optim_config"]["base_lr"] == 1e-4


# ---- real processes --------------------------------------------------------------------------------------------------


def start(config: Path, output: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "main.py", *arguments(config, output, *more)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def long_config(tiniest_config: Path) -> Path:
    """Enough epochs that a signal comes before the end."""
    config = json.loads(tiniest_config.read_text()) | {"num_epochs": 200, "save_every_steps": 1, "num_workers": 1}
    tiniest_config.write_text(json.dumps(config))
    return tiniest_config


def test_signals_save_and_leave_and_a_second_run_is_refused(long_config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "LA_tiniest_ep200_bs6"

    def saved() -> bool:
        return len(list(folder.glob("state/*.state"))) == 2

    process = start(long_config, tmp_path)
    wait_for(saved, process)
    second = start(long_config, tmp_path)
    assert second.communicate()[1].splitlines()[-1].startswith(f"error: {folder}: another run (pid {process.pid} on ")
    assert second.returncode == 2
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith("stopped by SIGTERM: ")
    assert err.splitlines()[-1].endswith("the training's state is saved, --resume continues it")
    assert "Traceback" not in err

    process = start(long_config, tmp_path, "--resume")
    lines = [process.stderr.readline()]  # type: ignore[union-attr]
    assert "note: resuming after step" in lines[-1], lines
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err


def test_a_second_sigint_leaves_at_once(long_config: Path, tmp_path: Path) -> None:
    process = start(long_config, tmp_path)
    wait_for(lambda: list((tmp_path / "LA_tiniest_ep200_bs6").glob("state/*.state")), process)
    process.send_signal(signal.SIGSTOP)
    # Both wait until the process is woken: it cannot get to a safe place between them.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert process.stderr is not None
    while (line := process.stderr.readline()).startswith("note: "):
        pass
    assert line == "SIGINT: stopping soon; again: at once\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from s2pecnet.cli import train
from s2pecnet.cli.command import run_command
run_command(lambda: train.main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_the_states_as_they_were(unfinished: Path, tiniest_config: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (unfinished / "state").iterdir()}
    command = [sys.executable, "-c", FULL_DISK, *arguments(tiniest_config, tmp_path / "out", "--resume")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: {unfinished}/state/")
    assert line.endswith("File too large")
    assert before == {path: path.read_bytes() for path in (unfinished / "state").iterdir()}


KILL_SERVER = """
import os, sys, torch, torch.utils.tensorboard
from s2pecnet import experiment
from s2pecnet.cli import train
sys.argv = ["main.py"]
for line in sys.stdin:
    if not (pid := os.fork()):
        sys.stdout = open(os.devnull, "w")
        train.main(line.split("\\t")[:-1])
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Runs:
    """Starts runs quickly: each is a fork of a process that has imported everything."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", KILL_SERVER]
        self.server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, arguments: list[str], kill_after: float | None) -> int:
        """The wait status of a run that is killed by SIGKILL after so many seconds, if it has not ended."""
        import os
        import threading

        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write("\t".join([*arguments, "\n"]))
        self.server.stdin.flush()
        pid = int(self.server.stdout.readline())
        timer = None
        if kill_after is not None:
            timer = threading.Timer(kill_after, os.kill, (pid, signal.SIGKILL))
            timer.start()
        status = int(self.server.stdout.readline())
        if timer:
            timer.cancel()
        return status


@pytest.fixture
def runs() -> Iterator[Runs]:
    made = Runs()
    yield made
    made.server.stdin.close()  # type: ignore[union-attr]
    made.server.wait(60)
    made.server.stdout.close()  # type: ignore[union-attr]


def test_killed_at_twenty_random_instants_nothing_is_lost(tiniest_config: Path, tmp_path: Path, runs: Runs) -> None:
    more = ["--set=num_epochs=3", "--set=save_every_steps=2", "--set=eval_all_best=true"]
    began = time.monotonic()
    assert runs.run(arguments(tiniest_config, tmp_path / "whole", *more), kill_after=None) == 0
    duration = time.monotonic() - began
    expected = outcome(tmp_path / "whole" / "LA_tiniest_ep3_bs6")
    draw, kills, compared = random.Random(20), 0, 0
    folder = tmp_path / "killed" / "LA_tiniest_ep3_bs6"
    while kills < 20 or not compared:
        instant = draw.uniform(0, 0.7 * duration) if kills < 20 else None
        status = runs.run(arguments(tiniest_config, tmp_path / "killed", *more, "--resume"), instant)
        assert status in (0, signal.SIGKILL)
        kills += status == signal.SIGKILL
        if status == 0:
            assert not different(expected, outcome(folder))
            compared += 1
            shutil.rmtree(tmp_path / "killed")


def test_dev_scores_that_are_lost_or_wrong_are_scored_again(
    tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train.main(arguments(tiniest_config, tmp_path / "whole"))
    expected = outcome(tmp_path / "whole" / "LA_tiniest_ep2_bs6")
    for harm in ("lost", "wrong"):
        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, "_final_evaluation", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                train.main(arguments(tiniest_config, tmp_path / harm))
        folder = tmp_path / harm / "LA_tiniest_ep2_bs6"
        scores = folder / "dev_scores.txt"
        if harm == "lost":
            scores.unlink()
        else:
            scores.write_text(scores.read_text().replace("-", ""))
        caplog.clear()
        train.main(arguments(tiniest_config, tmp_path / harm, "--resume"))
        assert "dev_scores.txt: lost or damaged" in caplog.text
        assert not different(expected, outcome(folder))


def test_an_evaluation_leaves_the_training_in_its_folder_alone(tiniest_config: Path, tmp_path: Path) -> None:
    train.main(arguments(tiniest_config, tmp_path))
    folder = tmp_path / "LA_tiniest_ep2_bs6"

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    before = content()
    weights = str(folder / "weights" / "best.pth")
    for more in ([], ["--split", "dev"]):
        train.main(arguments(tiniest_config, tmp_path, "--eval", "--eval_model_weights", weights, *more))
    assert content() == before
    assert json.loads((tmp_path / f"{folder.name}_scored_eval" / "results.json").read_text())["mode"] == "eval"
    assert (tmp_path / f"{folder.name}_scored_dev" / "calibration.json").is_file()


def test_a_signal_while_headers_are_read_is_one_line(tiniest_config: Path, tmp_path: Path) -> None:
    """Also between the members of a series."""
    script = (
        "import os, signal, sys\n"
        "from s2pecnet.cli.command import run_command\n"
        "from s2pecnet.cli import train\n"
        "import s2pecnet.data.cache as cache, s2pecnet.training.series as series\n"
        "real = cache._header\n"
        "def header(audio, index):\n"
        "    os.kill(os.getpid(), signal.SIGTERM) if index == 5 else None\n"
        "    return real(audio, index)\n"
        "if sys.argv.pop(1) == 'headers':\n"
        "    cache._header = header\n"
        "else:\n"
        "    write = series.RunRecord.write\n"
        "    def at_the_end(self, path):\n"
        "        write(self, path)\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    series.RunRecord.write = at_the_end\n"
        "run_command(train.main)\n"
    )

    def run(where: str, *more: str) -> "subprocess.CompletedProcess[str]":
        given = ["--config", str(tiniest_config), "--output_dir", str(tmp_path / where), "--device", "cpu", *more]
        return subprocess.run([sys.executable, "-c", script, where, *given], cwd=ROOT, capture_output=True, text=True)

    done = run("headers")
    assert done.returncode == 128 + signal.SIGTERM
    assert re.search(r"^stopped by SIGTERM: .* was not read completely$", done.stderr, re.M)
    done = run("series", "--seeds", "1,2", "--set=num_epochs=1")
    assert done.returncode == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1: before seed 2; the same command continues the series" in done.stderr
    assert (tmp_path / "series" / "LA_tiniest_ep1_bs6_seed1" / "report.html").is_file()
