"""Number formats that a model computes in: the config's `precision`.

    fp32   float32 throughout
    tf32   float32, and CUDA multiplies with 10 bits of mantissa; on a CPU the same as fp32
    bf16   autocast: convolutions and matrix products in bfloat16
    fp16   autocast to float16; in training with a scaled loss, as small gradients would become zero

Weights, features, losses and scores are float32 in all of them.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """A number format.

    Attributes:
        autocast_to: what convolutions and matrix products compute in; None: float32.
        allows_tf32: CUDA may use TF32 in float32 products.
        scales_loss: gradients would underflow without a scaled loss.
    """

    autocast_to: torch.dtype | None = None
    allows_tf32: bool = True
    scales_loss: bool = False

    @property
    def is_float32(self) -> bool:
        """Nothing is autocast; modules may use weights packed for float32."""
        return self.autocast_to is None

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """The context in which a model computes."""
        if self.autocast_to is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast_to)

    def allow_tf32(self) -> None:
        """Let CUDA use TF32 in float32 products, or not: fp32 means all of its digits."""
        torch.backends.cuda.matmul.allow_tf32 = self.allows_tf32
        torch.backends.cudnn.allow_tf32 = self.allows_tf32


FP32 = Precision(allows_tf32=False)
PRECISIONS = {
    "fp32": FP32,
    "tf32": Precision(),
    "bf16": Precision(torch.bfloat16),
    "fp16": Precision(torch.float16, scales_loss=True),
}


# Came with torch 2.7; earlier ones train and score, and cannot export.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


def float32_region(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context for what is to be computed in float32 in every precision, a feature for example."""
    if is_exporting():
        # Exported graphs are float32 throughout.
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """float32 of what autocast made half as wide; anything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
