"""A batch that does not fit into memory gets one line: the batch size, what would fit, and the keys that help."""

import contextlib
import gc
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from errors import InputError
from training_step import TrainingStep

# What torch says when the CPU's memory is at its end; there it has no exception of its own.
CPU_WORDS = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is at its end."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and CPU_WORDS in str(error)
    )


@contextlib.contextmanager
def memory_told(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> Iterator[None]:
    """Turn the end of memory, while a step is taken on a batch, into one line.

    What would fit is found by trying: forward and backward on a half, a quarter, ... of the batch; no weight moves.

    Raises:
        InputError: the batch does not fit.
    """
    failed = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The search begins outside of this block: the exception holds on to the frames, and they to the tensors.
        failed = True
    if failed:
        raise InputError(_advice(step, len(labels), _largest_that_fits(step, inputs, labels)))


def _largest_that_fits(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> int:
    size = min(step.config.micro_batch_size or len(labels), len(labels)) // 2
    while size and not _fits(step, [tensor[:size] for tensor in inputs], labels[:size]):
        size //= 2
    return size


def _fits(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> bool:
    try:
        step.try_out(inputs, labels)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _advice(step: TrainingStep, size: int, fitting: int) -> str:
    config = step.config
    pieces = f" in pieces of {config.micro_batch_size} (micro_batch_size)" if config.micro_batch_size else ""
    out = f"out of memory on {step.device}: a batch of {size} (batch_size){pieces} does not fit"
    keys = [] if config.activation_checkpointing or config.compile else ["activation_checkpointing=true"]
    if config.precision in ("fp32", "tf32") and step.device.type == "cuda":
        keys.append("precision=bf16")
    if not fitting:
        return f"{out}, and neither does a single utterance; " + (
            f"try {', '.join(keys)}, or a narrower system" if keys else "the system is too large for this device"
        )
    helps = "".join(f", or {key}" for key in keys)
    pieces = f"micro_batch_size={fitting} (the same batch, in pieces)"
    return f"{out}; {fitting} fits: set {pieces}{helps}, or a smaller batch_size"
