"""Clocks, peak memory and the ceiling: what the figures are made with.

On a CPU a step is timed by the clock on the wall. CUDA computes behind the caller's back: there events are put between
the steps and read when all are done, so that nothing waits that would not wait in a training.
"""

import itertools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

Step = Callable[[], Any]
# The first calls choose algorithms, fill caches and clock a GPU up.
WARM_UP_CPU, WARM_UP_CUDA = 1, 3
# Sides of the square matrices whose product is the ceiling: large enough to be limited by arithmetic.
SIDE_CPU, SIDE_CUDA = 2048, 8192
PRODUCTS = 8
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Timed(NamedTuple):
    """Seconds of each of several calls, and the processor time of one on average, of all threads together."""

    seconds: list[float]
    processor_s: float


def time_steps(step: Step, repeats: int, device: torch.device, warm_up: int | None = None) -> Timed:
    """Time `repeats` calls, after calls that are not counted; CUDA's peak memory starts again after those."""
    cuda = device.type == "cuda"

    def mark() -> Any:
        if not cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    for _ in range(warm_up or (WARM_UP_CUDA if cuda else WARM_UP_CPU)):
        step()
    started = time.process_time()
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    marks = [mark()]
    for _ in range(repeats):
        step()
        marks.append(mark())
    if cuda:
        torch.cuda.synchronize(device)
    processor_s = (time.process_time() - started) / repeats
    pairs = itertools.pairwise(marks)
    return Timed([one.elapsed_time(two) / 1000 if cuda else two - one for one, two in pairs], processor_s)


def peak_memory(device: torch.device) -> float:
    """GiB: the most that tensors took on a CUDA device, the most that this process held otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss`: on Linux that remembers what the process was before it became this program.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def matrix_products(device: torch.device, precision: str = "fp32") -> dict[str, float]:
    """The rate of matrix products in a precision: what no convolution here can exceed by much.

    Returns:
        `ceiling_gflops`, GFLOP/s of the best of a few; of a CPU also `ceiling_gflop_per_processor_s`, which on a busy
        machine is the fairer one.
    """
    cuda = device.type == "cuda"
    side = SIDE_CUDA if cuda else SIDE_CPU
    one, other = torch.randn(2, side, side, device=device, dtype=_FORMATS.get(precision)).unbind()
    timed = time_steps(lambda: one @ other, PRODUCTS, device)
    gflop = 2 * side**3 / 1e9
    ceiling = {"ceiling_gflops": gflop / min(timed.seconds)}
    return ceiling if cuda else ceiling | {"ceiling_gflop_per_processor_s": gflop / timed.processor_s}
