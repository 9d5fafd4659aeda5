"""Seeds, devices, optimizers and schedules: the small things every experiment needs."""

import ctypes
import math
import random
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, LRScheduler, MultiStepLR

from errors import InputError
from experiment_config import Config, OptimConfig, as_optim_config
from schema import str_to_bool

__all__ = ["create_optimizer", "keep_freed_memory", "resolve_device", "seed_worker", "set_seed", "str_to_bool"]

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

# Rate of the `keras_decay` schedule, a step.
KERAS_DECAY = 1e-4


def set_seed(seed: int, config: Config | Mapping[str, Any] | None = None) -> None:
    """Seed python, numpy and torch, and set cuDNN as `config` says (deterministic without one)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if isinstance(config, Config):
        deterministic, benchmark = config.cudnn_deterministic_toggle, config.cudnn_benchmark_toggle
    else:
        toggles = config or {}
        deterministic = str_to_bool(toggles.get("cudnn_deterministic_toggle", True))
        benchmark = str_to_bool(toggles.get("cudnn_benchmark_toggle", False))
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark


def seed_worker(worker_id: int) -> None:
    """Seed python and numpy in a loader's worker from the seed that torch gave it (`worker_init_fn`).

    A worker does not hear Ctrl-C: the main process does, and ends its workers when it is done with them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process: python, numpy, torch, CUDA."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every random generator back to what `random_state` gave."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def resolve_device(name: str = "auto") -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:N" stands for.

    Raises:
        InputError: there is no such device here.
    """
    # A terminal is to show the name, not to obey it.
    shown = name.encode("unicode_escape").decode()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {shown}: expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {shown}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {shown}: torch sees {torch.cuda.device_count()} CUDA devices; try --device auto")
    return device


def keep_freed_memory() -> None:
    """Make glibc keep the memory that tensors free, where the C library is glibc; elsewhere nothing happens.

    A CPU step frees and asks again for tensors of many megabytes. By default glibc gives each back to the system, and
    every page of the next one costs a page fault: half of the time of scoring with AASIST on the machine where this was
    measured.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
    except (OSError, AttributeError, TypeError):
        return


def create_optimizer(
    model_parameters: Iterable[nn.Parameter], optim_config: OptimConfig | Mapping[str, Any]
) -> tuple[Optimizer, LRScheduler | None]:
    """Optimizer and learning-rate schedule.

    Every schedule takes one `step()` after each batch; milestones and cycles are given in epochs and converted with
    `steps_per_epoch`.

    Args:
        optim_config: an `OptimConfig` or a dictionary with its keys; every schedule but `none` and `keras_decay` needs
            `steps_per_epoch`, `cosine` also `epochs`.

    Returns:
        the optimizer and the schedule, None for `none`.

    Raises:
        InputError: unknown names or impossible values.
    """
    config = as_optim_config(optim_config)
    optimizer = _OPTIMIZERS[config.optimizer](model_parameters, config)
    scheduler = _SCHEDULERS[config.scheduler or "none"](optimizer, config)
    return optimizer, scheduler


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


def _cosine(optimizer: Optimizer, config: OptimConfig) -> LRScheduler:
    total = _steps_per_epoch(config) * _needed(config.epochs, "epochs", config)
    return LambdaLR(optimizer, lambda step: cosine_factor(step, total, config.lr_min / config.base_lr))


def _keras_decay(optimizer: Optimizer, config: OptimConfig) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1 / (1 + KERAS_DECAY * step))


def _multistep(optimizer: Optimizer, config: OptimConfig) -> LRScheduler:
    steps = _steps_per_epoch(config)
    return MultiStepLR(optimizer, [epoch * steps for epoch in config.milestones], config.lr_decay)


def _sgdr(optimizer: Optimizer, config: OptimConfig) -> LRScheduler:
    first_cycle = config.T0 * _steps_per_epoch(config)
    return CosineAnnealingWarmRestarts(optimizer, first_cycle, config.Tmult, eta_min=config.lr_min)


def _steps_per_epoch(config: OptimConfig) -> int:
    return _needed(config.steps_per_epoch, "steps_per_epoch", config)


def _needed(value: int | None, key: str, config: OptimConfig) -> int:
    if value is None:
        raise InputError(f"optim_config: scheduler {config.scheduler!r} needs {key!r}")
    return value


_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": _adam(Adam), "adamw": _adam(AdamW), "sgd": _sgd}
_SCHEDULERS: dict[str, Callable[[Optimizer, OptimConfig], LRScheduler | None]] = {
    "cosine": _cosine,
    "keras_decay": _keras_decay,
    "multistep": _multistep,
    "sgdr": _sgdr,
    "none": lambda optimizer, config: None,
}
