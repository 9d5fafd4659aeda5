"""Warm-up, a rate of its own for the front end, clipped gradients, SAM, early stopping: what they say, and no more."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2pecnet.cli import train
from s2pecnet.config.experiment import as_config, as_optim_config
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.systems import build
from s2pecnet.training.optim import create_optimizer, parameter_groups
from s2pecnet.training.step import TrainingStep
from s2pecnet.training.trainer import Progress
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST
from tests.training.test_parallel import STEPS as SCRIPT
from tests.training.test_parallel import torchrun

CPU = torch.device("cpu")
STEPS, EPOCHS = 5, 4
TOTAL = STEPS * EPOCHS


def rates(group: int = 0, parameters: Any = None, **options: Any) -> list[float]:
    """The learning rate of each step, and that after the last."""
    config = {"base_lr": 0.1, "epochs": EPOCHS, "steps_per_epoch": STEPS} | options
    optimizer, scheduler = create_optimizer(parameters or nn.Linear(2, 2).parameters(), config)
    assert scheduler is not None
    seen = []
    for _ in range(TOTAL):
        seen.append(optimizer.param_groups[group]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[group]["lr"]]


def test_a_linear_schedule_ends_at_its_lowest_rate() -> None:
    found = rates(scheduler="linear", lr_min=0.02)
    assert found == pytest.approx([0.1 - 0.08 * step / TOTAL for step in range(TOTAL + 1)])


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "multistep", "keras_decay", "none"])
def test_every_schedule_follows_a_warm_up(scheduler: str) -> None:
    found = rates(scheduler=scheduler, warmup_steps=4, lr_min=0.01, milestones=(2,))
    assert found[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    rest = TOTAL - 4
    by_hand = {
        "cosine": [0.01 + 0.09 * (1 + math.cos(math.pi * k / rest)) / 2 for k in range(rest + 1)],
        "linear": [0.1 - 0.09 * k / rest for k in range(rest + 1)],
        # Milestones are epochs of the training, the warm-up is in the first.
        "multistep": [0.1] * 6 + [0.01] * 11,
        "keras_decay": [0.1 / (1 + 1e-4 * k) for k in range(rest + 1)],
        "none": [0.1] * (rest + 1),
    }[scheduler]
    assert found[4:] == pytest.approx(by_hand)


def test_what_cannot_be_warmed_up() -> None:
    with pytest.raises(InputError, match=r"optim_config\.warmup_steps: 20 steps, and the training has 20"):
        rates(scheduler="cosine", warmup_steps=20)
    with pytest.raises(InputError, match=r"optim_config\.warmup_steps: does not work with the scheduler 'sgdr'"):
        as_config(TINIEST | {"optim_config": {"base_lr": 0.1, "scheduler": "sgdr", "warmup_steps": 3}})


class TwoParts(nn.Module):
    """A system as those with a self-supervised front end are."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end, self.back_end = nn.Linear(3, 3), nn.Linear(3, 2)


def test_the_front_end_has_a_rate_of_its_own() -> None:
    model = TwoParts()
    config = as_optim_config({"base_lr": 0.1, "front_end_lr": 0.001, "scheduler": "linear"})
    groups: Any = parameter_groups(model, config)
    assert [len(group["params"]) for group in groups] == [2, 2]
    assert groups[1]["params"][0] is model.front_end.weight
    options = {"front_end_lr": 0.001, "scheduler": "linear", "lr_min": 0.05, "warmup_steps": 4}
    back, front = (rates(number, parameter_groups(model, config), **options) for number in (0, 1))
    assert front == pytest.approx([0.01 * rate for rate in back])
    assert back[-1] == pytest.approx(0.05)


def test_a_system_without_a_front_end_is_reported(tiniest_config: Path, tmp_path: Path) -> None:
    more = ["--set", "optim_config.front_end_lr=1e-6", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(InputError, match=r"tiniest\.conf: optim_config\.front_end_lr: this system has no front end"):
        train.main(["--config", str(tiniest_config), *more])


def batch(size: int = 6) -> tuple[list[Tensor], Tensor]:
    waveforms = 0.1 * torch.randn(size, 2400, generator=torch.Generator().manual_seed(3))
    return [waveforms], (torch.arange(size) % 3 == 0).long()


def prepared(**changes: Any) -> TrainingStep:
    """A step of SGD with rate 1 on a system in which nothing is drawn and nothing looks at the whole batch."""
    optim = {"base_lr": 1.0} | changes.pop("optim_config", {})
    config = as_config(TINIEST | {"optim_config": optim} | changes)
    torch.manual_seed(0)
    model = build.get_model(config.model_config, CPU).train()
    for module in model.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            module.eval()
    return TrainingStep(model, torch.optim.SGD(model.parameters(), lr=1.0), None, config, CPU)


def flat(step: TrainingStep) -> Tensor:
    return torch.cat([one.detach().flatten().clone() for one in step.model.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_clipped_to_their_norm(precision: str) -> None:
    free, clipped, loose = (
        prepared(precision=precision, optim_config={"clip_grad_norm": limit} if limit else {})
        for limit in (None, 1e-3, 1e9)
    )
    moves = []
    for step in (free, clipped, loose):
        before = flat(step)
        step(*batch())
        moves.append(before - flat(step))
    assert moves[1].norm() == pytest.approx(1e-3, rel=1e-2)
    assert torch.cosine_similarity(moves[0], moves[1], dim=0) > 0.999
    torch.testing.assert_close(moves[2], moves[0], rtol=1e-4, atol=1e-7)


def test_fp16_goes_on_after_a_batch_that_is_skipped() -> None:
    step = prepared(precision="fp16", skip_nonfinite=2, optim_config={"clip_grad_norm": 1.0})
    (waveforms,), labels = batch()
    broken = waveforms.clone()
    broken[0, 0] = math.nan
    before = flat(step)
    assert step([broken], labels) == {}
    assert torch.equal(flat(step), before)
    assert step([waveforms], labels)
    assert not torch.equal(flat(step), before)


@pytest.mark.parametrize("micro", [None, 2])
def test_sam_steps_with_the_gradient_uphill(micro: int | None) -> None:
    """By hand: the gradient at w + rho g / |g| moves w."""
    radius, inputs, labels = 0.05, *batch()
    sharp = prepared(optim_config={"sam_rho": radius}, micro_batch_size=micro)
    hand = prepared()
    start, loss = flat(hand), nn.CrossEntropyLoss(weight=torch.tensor([0.1, 0.9]))

    def gradient(at: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(at, hand.model.parameters())
        hand.model.zero_grad()
        loss(hand.model(inputs[0])[1], labels).backward()
        # Some parameters of the released system take no part.
        return torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten()
                          for one in hand.model.parameters()])  # fmt: skip

    first = gradient(start)
    expected = start - gradient(start + radius * first / first.norm())
    terms = sharp(inputs, labels)
    torch.testing.assert_close(flat(sharp), expected, rtol=1e-4, atol=1e-6)
    nn.utils.vector_to_parameters(start, hand.model.parameters())
    torch.testing.assert_close(terms["classification"], loss(hand.model(inputs[0])[1], labels).detach())
    assert not torch.allclose(expected, start - first, atol=1e-6)


def test_sam_leaves_the_statistics_of_its_first_pass() -> None:
    steps = [prepared(), prepared(optim_config={"sam_rho": 5.0})]
    for step in steps:
        step.model.train()
        for module in step.model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        step(*batch())
    plain, sharp = (dict(step.model.named_buffers()) for step in steps)
    assert all(torch.equal(buffer, sharp[name]) for name, buffer in plain.items())


def metrics(eer: float) -> Metrics:
    return Metrics(eer, 0.0, None, None, None, {}, 1, 1)


def test_when_a_training_is_over() -> None:
    assert Progress(epoch=5).is_over(5, None)
    assert not Progress(epoch=4, best_epoch=0).is_over(5, None)
    assert not Progress().is_over(5, 1)
    assert not Progress(epoch=3, best_epoch=2).is_over(9, 1)
    assert not Progress(epoch=4, best_epoch=1).is_over(9, 3)
    assert Progress(epoch=5, best_epoch=1).is_over(9, 3)


def test_selection_by_loss() -> None:
    progress = Progress(best_dev=metrics(0.1), best_loss=0.5)
    assert progress.is_best(metrics(0.3), loss=0.4)
    assert progress.is_best(metrics(0.3), loss=0.5)
    assert not progress.is_best(metrics(0.05), loss=0.6)
    assert progress.is_best(metrics(0.05))


@pytest.mark.slow
def test_a_training_without_progress_ends_early(tiniest_config: Path, tmp_path: Path) -> None:
    more = ["--set=num_epochs=9", "--set=patience=2", "--set=select_by=loss", "--set=optim_config.base_lr=0.02"]
    more += ["--set=optim_config.scheduler=none", "--set=optim_config.lr_min=0"]
    train.main(["--config", str(tiniest_config), "--output_dir", str(tmp_path), "--seed", "1", *more])
    folder = next(tmp_path.glob("LA_*"))
    results = json.loads((folder / "results.json").read_text())
    losses = [row["dev_loss"] for row in results["history"]]
    selected = results["selected_epoch"]
    assert losses[selected] == min(losses)
    assert len(losses) == min(9, selected + 3)
    log = (folder / "metric_log.txt").read_text()
    assert ("(patience)" in log) == (len(losses) < 9)
    assert f"dev loss {losses[0]:.5f}" in log


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("loss", ["OC-Softmax", "focal"])
def test_processes_that_share_a_training_take_the_same_steps(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = TINIEST | {"loss": loss, "batch_size": 8, "micro_batch_size": 4}
    config |= {"optim_config": {"base_lr": 0.001, "sam_rho": 0.05, "clip_grad_norm": 0.1}}
    script = tmp_path / "steps.py"
    script.write_text(SCRIPT)
    for way, command in (("one", [sys.executable, script]), ("two", torchrun(script))):
        words = [*map(str, command), json.dumps(config), str(tmp_path / way)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / way, weights_only=True) for way in ("one", "two"))
    for before, now in zip(one["losses"], two["losses"], strict=True):
        assert now == pytest.approx(before, rel=1e-9)
    for key, tensor in one["state"].items():
        torch.testing.assert_close(two["state"][key], tensor, rtol=1e-7, atol=1e-7)
