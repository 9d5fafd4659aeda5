"""The end of memory is told in one line, with a batch that fits, found by trying."""

import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2pecnet.config.experiment import as_config
from s2pecnet.errors import InputError
from s2pecnet.training.step import TrainingStep, explain_oom, is_out_of_memory
from tests.helpers.samples import TINIEST


class Hungry(nn.Module):
    """Has memory for so many utterances at a time."""

    def __init__(self, room: int, error: type[Exception], text: str = "out of memory"):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.room, self.error, self.text = room, error, text

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) > self.room:
            raise self.error(self.text)
        hidden = self.norm(x)
        return hidden, self.out(hidden)


def told(model: nn.Module, batch: int = 24, **changes: Any) -> str:
    config = as_config(TINIEST | changes)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config, torch.device("cpu"))
    inputs, labels = [torch.randn(batch, 4)], torch.arange(batch) % 2
    with pytest.raises(InputError) as caught, explain_oom(step, inputs, labels):
        step(inputs, labels)
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        (MemoryError, ""),
    ],
)
def test_the_largest_batch_that_fits_is_named(error: type[Exception], text: str) -> None:
    message = told(Hungry(7, error, text))
    assert message.startswith(
        "out of memory on cpu: a batch of 24 (batch_size) does not fit; 6 fits: set micro_batch_size=6"
    )
    assert "activation_checkpointing=true" in message
    assert "\n" not in message


def test_keys_that_are_in_use_are_not_proposed() -> None:
    message = told(Hungry(2, torch.OutOfMemoryError), activation_checkpointing=True, micro_batch_size=8)
    assert "in micro-batches of 8 (micro_batch_size) does not fit; 2 fits" in message
    assert "activation_checkpointing" not in message


def test_not_even_one() -> None:
    message = told(Hungry(0, torch.OutOfMemoryError), activation_checkpointing=True)
    assert "neither does a single utterance; the system is too large" in message


def test_trying_moves_nothing() -> None:
    model = Hungry(7, torch.OutOfMemoryError)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told(model)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_other_errors_stay_what_they_are() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    model = Hungry(0, RuntimeError, "a defect of ours")
    step = TrainingStep(
        model, torch.optim.SGD(model.parameters(), lr=0.1), None, as_config(TINIEST), torch.device("cpu")
    )
    inputs, labels = [torch.randn(2, 4)], torch.arange(2)
    with pytest.raises(RuntimeError, match="a defect of ours"), explain_oom(step, inputs, labels):
        step(inputs, labels)


class Crashing(Hungry):
    """As a library does that does not look at what its allocation gave."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.room < len(x) < 24:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(x)


def test_a_library_that_crashes_while_it_is_tried_is_no_crash_of_the_training() -> None:
    assert "; 3 fits: set micro_batch_size=3" in told(Crashing(5, RuntimeError, "could not create a primitive"))
