"""The training loop: an epoch over a loader, and what is prepared before it and recomputed after it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import update_bn

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.data.workers import batches
from s2pecnet.errors import InputError
from s2pecnet.interruption import raise_if_stop_requested
from s2pecnet.nn.blocks import checkpoint_activations
from s2pecnet.parallel import processes
from s2pecnet.precision import FP32, Precision
from s2pecnet.scoring.splits import Loader, progress_bar
from s2pecnet.systems.registry import forward
from s2pecnet.training.step import TrainingStep, explain_oom, to_device

# The bar shows the loss about so often; reading it off a GPU more often would keep the GPU waiting.
SECONDS_BETWEEN_READINGS = 1.0


def prepare_for_training(model: nn.Module, config: Config) -> nn.Module:
    """Compile the model, or turn on activation checkpointing, as the config says; returns it.

    Raises:
        InputError: the system has no such blocks.
    """
    if config.activation_checkpointing and not checkpoint_activations(model):
        raise InputError(
            f"{config.source}: activation_checkpointing: {config.architecture} has no block that is a "
            "s2pecnet.nn.blocks.Checkpointed; switch it off, or use micro_batch_size to save memory"
        )
    if config.compile:
        model.compile()
    return model


class LossMeter:
    """Mean loss of an epoch and of each of its terms, kept on the device so that no step waits for it.

    Args:
        state: what `as_state` gave, to resume from there.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.sums: dict[str, Tensor] = dict(state["sums"]) if state else {}
        self.utterances: int = state["utterances"] if state else 0
        self.started, self.utterances_before = time.monotonic(), self.utterances

    def as_state(self) -> dict[str, Any]:
        """Plain values."""
        return {"sums": self.sums, "utterances": self.utterances}

    def add(self, terms: Mapping[str, Tensor], utterances: int) -> None:
        """Add the terms of one batch."""
        for name, term in terms.items():
            before = self.sums[name].to(term.device) if name in self.sums else 0
            self.sums[name] = before + term.detach() * utterances
        self.utterances += utterances

    def means(self) -> dict[str, float]:
        """Mean of each term over the utterances so far."""
        return {name: float(total) / max(1, self.utterances) for name, total in self.sums.items()}

    def loss(self) -> float:
        """Mean loss over the utterances so far: the sum of its terms."""
        return sum(self.means().values())

    def throughput(self) -> float:
        """Utterances a second."""
        return (self.utterances - self.utterances_before) / max(1e-9, time.monotonic() - self.started)


def train_epoch(
    trn_loader: Loader,
    model: nn.Module,
    optim: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None,
    config: Config | Mapping[str, Any],
    meter: LossMeter | None = None,
) -> float:
    """Train for one pass over `trn_loader`, whose batches are (waveforms[, features], labels).

    Args:
        scheduler: stepped after every batch.
        meter: takes the terms of the loss, for a caller that wants more than the mean.

    Returns:
        the mean loss.

    Raises:
        NonFiniteLoss, InputError: as `run_epoch`.
    """
    config = as_config(config)
    meter = meter or LossMeter()
    step = TrainingStep(model, optim, scheduler, config, device)
    run_epoch(trn_loader, step, meter)
    return meter.loss()


def run_epoch(
    loader: Loader, step: TrainingStep, meter: LossMeter, after_step: Callable[[], None] = lambda: None
) -> None:
    """Take a step on every batch of `loader`.

    Raises:
        NonFiniteLoss: the loss, or a gradient, is not finite any more.
        WorkerFailed: a loading process died or hangs.
        InputError: a batch does not fit into memory.
    """
    step.model.train()
    shown = 0.0
    with progress_bar(loader, "train") as bar:
        for *inputs, labels in batches(loader):
            with explain_oom(step, inputs, labels):
                terms = step(inputs, labels)
            if terms:
                meter.add(terms, len(labels) * processes().size)
            bar.update(len(labels))
            now = time.monotonic()
            if not bar.disable and now - shown > SECONDS_BETWEEN_READINGS:
                bar.set_postfix_str(f"loss {meter.loss():.4f}", refresh=False)
                shown = now
            after_step()
    step.check()


class _TakesBatch(nn.Module):
    """`update_bn` hands over one object a batch; this one hands it on as the model's arguments."""

    def __init__(self, model: nn.Module, freq_aug: bool, precision: Precision):
        super().__init__()
        self.model, self.freq_aug, self.precision = model, freq_aug, precision

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with self.precision.autocast(inputs[0].device):
            return forward(self.model, inputs, self.freq_aug)


def recompute_batch_norm(
    model: nn.Module, train_loader: Loader, device: torch.device, freq_aug: bool, precision: Precision = FP32
) -> None:
    """Recompute BatchNorm statistics in one pass over the inputs that the model trains on.

    Raises:
        Stopped: a signal has come.
    """

    def given() -> Iterator[list[list[Tensor]]]:
        for *inputs, _ in batches(train_loader):
            raise_if_stop_requested("the averaged weights were not finished")
            yield [to_device(inputs, device)]

    update_bn(given(), _TakesBatch(model, freq_aug, precision))
