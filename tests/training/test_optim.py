"""Every optimizer and schedule works and ends where it says; seeds make runs repeat."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from s2pecnet.errors import InputError
from s2pecnet.runtime import resolve_device, seed_worker, set_seed
from s2pecnet.training.optim import create_optimizer

STEPS, EPOCHS = 5, 4


def rates(**options: Any) -> list[float]:
    parameters = nn.Linear(2, 2).parameters()
    config = {"optimizer": "adam", "base_lr": 0.1, "epochs": EPOCHS, "steps_per_epoch": STEPS} | options
    optimizer, scheduler = create_optimizer(parameters, config)
    seen = []
    for _ in range(STEPS * EPOCHS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers(name: str, kind: type) -> None:
    config = {"optimizer": name, "base_lr": 0.1, "weight_decay": 0.01, "nesterov": "True", "amsgrad": "False"}
    optimizer, scheduler = create_optimizer(nn.Linear(2, 2).parameters(), config)
    assert type(optimizer) is kind
    assert scheduler is None
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_cosine_goes_from_base_to_minimum() -> None:
    seen = rates(scheduler="cosine", lr_min=0.01)
    assert seen[0] == pytest.approx(0.1)
    assert seen[-1] == pytest.approx(0.01)
    assert seen[10] == pytest.approx(0.055)
    assert seen == sorted(seen, reverse=True)


def test_keras_decay() -> None:
    assert rates(scheduler="keras_decay")[10] == pytest.approx(0.1 / (1 + 1e-4 * 10))


def test_multistep_milestones_are_epochs() -> None:
    seen = rates(scheduler="multistep", milestones=[1, 3], lr_decay=0.5)
    assert seen[: 2 * STEPS + 1 : STEPS] == pytest.approx([0.1, 0.05, 0.05])
    assert seen[3 * STEPS] == pytest.approx(0.025)
    assert seen[STEPS - 1] == pytest.approx(0.1)


def test_sgdr_restarts() -> None:
    seen = rates(scheduler="sgdr", T0=1, Tmult=2, lr_min=0.02)
    assert seen[0] == seen[STEPS] == seen[3 * STEPS] == pytest.approx(0.1)
    assert seen[STEPS - 1] == pytest.approx(0.02 + 0.08 * 0.5 * (1 + math.cos(math.pi * 4 / 5)))


@pytest.mark.parametrize("name", ["none", None])
def test_no_schedule(name: str | None) -> None:
    assert set(rates(scheduler=name)) == {0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "cosin"}, "optim_config.scheduler"),
        ({"optimizer": "adamm"}, "optim_config.optimizer"),
        ({"scheduler": "cosine", "epochs": None}, "needs 'epochs'"),
        ({"optimizer": "sgd", "momentum": 0, "nesterov": True}, "needs optim_config.momentum"),
    ],
)
def test_mistakes_are_loud(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rates(**options)


def test_seeds_repeat() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    set_seed(5)
    first = draw()
    set_seed(5, {"cudnn_deterministic_toggle": "True", "cudnn_benchmark_toggle": "False"})
    assert draw() == first
    seed_worker(0)
    worker = random.random(), float(np.random.rand())
    seed_worker(1)
    assert (random.random(), float(np.random.rand())) == worker


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "meta", "cuda:99"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"--device {name}"):
        resolve_device(name)
    assert resolve_device("cpu").type == "cpu"
