"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, LRScheduler, MultiStepLR

from s2pecnet.config.experiment import OptimConfig, as_optim_config
from s2pecnet.errors import InputError

# Rate of the `keras_decay` schedule, a step.
KERAS_DECAY = 1e-4


def create_optimizer(
    model_parameters: Iterable[nn.Parameter], optim_config: OptimConfig | Mapping[str, Any]
) -> tuple[Optimizer, LRScheduler | None]:
    """Optimizer and learning-rate schedule.

    Every schedule takes one `step()` after each batch; milestones and cycles are given in epochs and converted with
    `steps_per_epoch`.

    Args:
        optim_config: an `OptimConfig` or a dictionary with its keys and, as the released loop passes them,
            `steps_per_epoch` and `epochs`; every schedule but `none` and `keras_decay` needs `steps_per_epoch`,
            `cosine` also `epochs`.

    Returns:
        the optimizer and the schedule, None for `none`.

    Raises:
        InputError: unknown names or impossible values.
    """
    length: dict[str, Any] = dict.fromkeys(_LENGTH)
    if isinstance(optim_config, Mapping):
        length |= {name: optim_config[name] for name in _LENGTH if name in optim_config}
        optim_config = {name: value for name, value in optim_config.items() if name not in _LENGTH}
    config = as_optim_config(optim_config)
    schedule = config.scheduler or "none"
    for name in _NEEDED.get(schedule, ()):
        if not isinstance(length[name], int) or length[name] < 1:
            raise InputError(f"optim_config: scheduler {schedule!r} needs {name!r}, an integer of at least 1")
    optimizer = _OPTIMIZERS[config.optimizer](model_parameters, config)
    return optimizer, _SCHEDULERS[schedule](optimizer, config, length["steps_per_epoch"], length["epochs"])


def _adam(kind: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    def build(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Optimizer:
        return kind(
            parameters,
            lr=config.base_lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
        )

    return build


def _sgd(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Optimizer:
    if config.nesterov and not config.momentum:
        raise InputError("optim_config.nesterov: needs optim_config.momentum > 0")
    return SGD(
        parameters,
        lr=config.base_lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
    )


def cosine_factor(step: int, total: int, lowest: float) -> float:
    """Factor of the cosine schedule: 1 at step 0, `lowest` at step `total`.

    >>> cosine_factor(0, 10, 0.1), round(cosine_factor(10, 10, 0.1), 6)
    (1.0, 0.1)
    """
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * step / total))


Schedule = Callable[[Optimizer, OptimConfig, Any, Any], LRScheduler | None]


def _cosine(optimizer: Optimizer, config: OptimConfig, steps: int, epochs: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: cosine_factor(step, steps * epochs, config.lr_min / config.base_lr))


def _keras_decay(optimizer: Optimizer, config: OptimConfig, steps: int, epochs: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1 / (1 + KERAS_DECAY * step))


def _multistep(optimizer: Optimizer, config: OptimConfig, steps: int, epochs: int) -> LRScheduler:
    return MultiStepLR(optimizer, [epoch * steps for epoch in config.milestones], config.lr_decay)


def _sgdr(optimizer: Optimizer, config: OptimConfig, steps: int, epochs: int) -> LRScheduler:
    return CosineAnnealingWarmRestarts(optimizer, config.T0 * steps, config.Tmult, eta_min=config.lr_min)


# The length of the training, and which schedules need to know it.
_LENGTH = ("steps_per_epoch", "epochs")
_NEEDED = {"cosine": _LENGTH, "multistep": ("steps_per_epoch",), "sgdr": ("steps_per_epoch",)}
_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": _adam(Adam), "adamw": _adam(AdamW), "sgd": _sgd}
_SCHEDULERS: dict[str, Schedule] = {
    "cosine": _cosine,
    "keras_decay": _keras_decay,
    "multistep": _multistep,
    "sgdr": _sgdr,
    "none": lambda optimizer, config, steps, epochs: None,
}
