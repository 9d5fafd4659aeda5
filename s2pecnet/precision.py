"""Number formats that a model computes in: the config's `precision`.

    fp32   float32 throughout
    tf32   float32, and CUDA multiplies with 10 bits of mantissa; on a CPU the same as fp32
    bf16   autocast: convolutions and matrix products in bfloat16
    fp16   autocast to float16; in training with a scaled loss, as small gradients would become zero

Weights, features, losses and scores are float32 in all of them.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which a model computes with `precision`."""
    kind = _AUTOCAST.get(precision)
    return contextlib.nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def float32_region(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context for what is to be computed in float32 in every precision, a feature for example."""
    if torch.compiler.is_exporting():
        # Exported graphs are float32 throughout.
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """float32 of what autocast made half as wide; anything else as it is."""
    return x.float() if x.dtype in _AUTOCAST.values() else x


def allow_tf32(precision: str) -> None:
    """Let CUDA use TF32 in float32 products, or not: "fp32" means all of its digits."""
    allowed = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
