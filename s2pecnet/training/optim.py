"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, LRScheduler, MultiStepLR

from s2pecnet.config.experiment import OptimConfig, as_optim_config
from s2pecnet.errors import InputError

# Rate of the `keras_decay` schedule, a step.
KERAS_DECAY = 1e-4
# The length of the training, and which schedules need to know it.
_LENGTH = ("steps_per_epoch", "epochs")
_NEEDED = {"cosine": _LENGTH, "linear": _LENGTH, "multistep": ("steps_per_epoch",), "sgdr": ("steps_per_epoch",)}


def create_optimizer(
    model_parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], optim_config: OptimConfig | Mapping[str, Any]
) -> tuple[Optimizer, LRScheduler | None]:
    """Optimizer and learning-rate schedule.

    Every schedule takes one `step()` after each batch; milestones and cycles are given in epochs and converted with
    `steps_per_epoch`. `warmup_steps` come before it, and are no part of the length of `cosine` and `linear`.

    Args:
        model_parameters: parameters, or groups of them as torch takes them (`parameter_groups`).
        optim_config: an `OptimConfig` or a dictionary with its keys and, as the released loop passes them,
            `steps_per_epoch` and `epochs`; every schedule but `none` and `keras_decay` needs `steps_per_epoch`,
            `cosine` and `linear` also `epochs`.

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
    options: dict[str, Any] = {"lr": config.base_lr, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        if config.nesterov and not config.momentum:
            raise InputError("optim_config.nesterov: needs optim_config.momentum > 0")
        options |= {"momentum": config.momentum, "nesterov": config.nesterov}
    else:
        options |= {"betas": config.betas, "amsgrad": config.amsgrad}
    optimizer: Optimizer = {"adam": Adam, "adamw": AdamW, "sgd": SGD}[config.optimizer](model_parameters, **options)
    return optimizer, _schedule(schedule, optimizer, config, length["steps_per_epoch"], length["epochs"])


def parameter_groups(
    model: nn.Module, config: OptimConfig, source: str = "config"
) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
    """What `create_optimizer` takes of a model: its parameters, or with `front_end_lr` those but the front end's, and
    the front end's with their own rate.

    Raises:
        InputError: there is no front end.
    """
    if config.front_end_lr is None:
        return model.parameters()
    front_end: nn.Module | None = getattr(model, "front_end", None)
    if not isinstance(front_end, nn.Module) or next(front_end.parameters(), None) is None:
        raise InputError(
            f"{source}: optim_config.front_end_lr: this system has no front end with parameters (a module "
            "`front_end`); leave it out"
        )
    own = {id(parameter) for parameter in front_end.parameters()}
    others: dict[str, Any] = {"params": [parameter for parameter in model.parameters() if id(parameter) not in own]}
    return [others, {"params": list(front_end.parameters()), "lr": config.front_end_lr}]


def base_rates(optimizer: Optimizer) -> list[float]:
    """The learning rate that the schedule of each group of parameters starts from."""
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]


def set_base_rates(optimizer: Optimizer, scheduler: LRScheduler | None, rates: Sequence[float]) -> None:
    """Let the schedules go on from where they are with other base rates; nothing happens where they are the same."""
    for group, rate, before in zip(optimizer.param_groups, rates, base_rates(optimizer), strict=True):
        if rate != before:
            group["lr"] *= rate / before
            if "initial_lr" in group:
                group["initial_lr"] = rate
    if scheduler is not None:
        scheduler.base_lrs = list(rates)


def _schedule(name: str, optimizer: Optimizer, config: OptimConfig, steps: Any, epochs: Any) -> LRScheduler | None:
    if config.warmup_steps or name == "linear":
        return LambdaLR(optimizer, _warmed_up(name, config, steps, epochs))
    if name == "cosine":
        lowest = config.lr_min / config.base_lr
        # A factor: 1 at the first step, `lowest` at the last.
        return LambdaLR(optimizer, lambda k: lowest + (1 - lowest) * (1 + math.cos(math.pi * k / (steps * epochs))) / 2)
    if name == "keras_decay":
        return LambdaLR(optimizer, lambda step: 1 / (1 + KERAS_DECAY * step))
    if name == "multistep":
        return MultiStepLR(optimizer, [epoch * steps for epoch in config.milestones], config.lr_decay)
    if name == "sgdr":
        return CosineAnnealingWarmRestarts(optimizer, config.T0 * steps, config.Tmult, eta_min=config.lr_min)
    return None


def _warmed_up(name: str, config: OptimConfig, steps: Any, epochs: Any) -> Callable[[int], float]:
    """The factor of the rates at each step: a linear rise, then a schedule over what is left of the training.

    Raises:
        InputError: the warm-up is as long as the training.
    """
    warmup, lowest = config.warmup_steps, config.lr_min / config.base_lr
    total = steps * epochs if isinstance(steps, int) and isinstance(epochs, int) else None
    if total is not None and warmup >= total:
        raise InputError(
            f"optim_config.warmup_steps: {warmup} steps, and the training has {total} ({epochs} epochs of {steps})"
        )

    def factor(step: int) -> float:
        if step < warmup:
            # The first step moves something, and the last of them has nearly the whole rate.
            return (step + 1) / (warmup + 1)
        if name in ("cosine", "linear"):
            assert total is not None
            done = min(1.0, (step - warmup) / (total - warmup))
            falls = (1 + math.cos(math.pi * done)) / 2 if name == "cosine" else 1 - done
            return lowest + (1 - lowest) * falls
        if name == "keras_decay":
            return 1 / (1 + KERAS_DECAY * (step - warmup))
        if name == "multistep":
            return config.lr_decay ** sum(step >= epoch * steps for epoch in config.milestones)
        return 1.0

    return factor
