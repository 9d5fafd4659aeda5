"""The process that computes: its device, seeds, random generators, threads and memory."""

import ctypes
import logging
import os
import random
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2pecnet.config.experiment import Config
from s2pecnet.config.options import str_to_bool
from s2pecnet.errors import InputError
from s2pecnet.precision import PRECISIONS

log = logging.getLogger(__name__)

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def usable_cores() -> int:
    """Cores that this process may run on, which a scheduler may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        reason = why_no_cuda() or "try --device auto"
        raise InputError(f"--device {shown}: torch sees {torch.cuda.device_count()} CUDA devices; {reason}")
    return device


def why_no_cuda() -> str | None:
    """Why torch does not use the NVIDIA GPU that a driver of this machine serves; None where there is no driver."""
    if torch.cuda.is_available() or not (Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")):
        return None
    if torch.version.cuda is None:
        return f"an NVIDIA driver is here, but torch {torch.__version__} is built without CUDA: install a CUDA build"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        build = f"torch {torch.__version__} (CUDA {torch.version.cuda})"
        return (
            f"an NVIDIA driver is here, but {build} cannot use it: {reason}; update the driver, or install a torch for "
            "an older CUDA"
        )
    return None


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


def prepare(device_name: str, seed: int, config: Config) -> torch.device:
    """Make this process ready to compute: seeds, number format, memory; returns the device.

    Raises:
        InputError: there is no such device.
    """
    device = resolve_device(device_name)
    if device_name == "auto" and device.type == "cpu":
        reason = why_no_cuda()
        if reason:
            log.warning("computing on the CPU: %s", reason)
        else:
            log.debug("no CUDA device here, computing on the CPU")
    if device.type == "cpu":
        keep_freed_memory()
    PRECISIONS[config.precision].allow_tf32()
    set_seed(seed, config)
    return device
