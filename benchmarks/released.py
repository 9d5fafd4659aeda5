"""Our models made to compute as the released code does, for the yardstick `plain`, or as transformers does.

Row-major maps, sinc filters as a convolution, RawNet2 in one dimension, BatchNorms that take no part computed. Weights
and outputs are the same.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.RawNet2Spoof import Model as RawNet2
from models.RawNet2Spoof import ResidualBlock1d
from s2pecnet.nn.sinc import SincFilterBank


class WithTransformers(nn.Module):
    """A self-supervised system as a user of transformers writes it: the library's model, then the back end."""

    def __init__(self, system: Any):
        super().__init__()
        self.model, self.back_end = system.front_end.model, system.back_end

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, samples) to (embedding, logits (B, 2))."""
        embedding, logits = self.back_end(self.model(x).last_hidden_state)
        return embedding, logits


def run_as_released(model: nn.Module) -> nn.Module:
    """Change the model in place; it is to be row-major (`main.get_model` makes models channels-last)."""
    for module in model.modules():
        if isinstance(module, SincFilterBank):
            module.forward = MethodType(_convolve, module)  # type: ignore[method-assign]
        if isinstance(module, ResidualBlock1d):
            module.forward = MethodType(_pool_in_one_dimension, module)  # type: ignore[method-assign]
        if isinstance(module, RawNet2):
            module.cpu_format = torch.contiguous_format
        if hasattr(module, "conv_downsample") and hasattr(module, "bn1"):
            module.register_forward_pre_hook(_normalise)
    return model


def _convolve(bank: SincFilterBank, x: Tensor, mask: bool = False) -> Tensor:
    filters = bank._masked() if mask else bank.filters
    return functional.conv1d(x.unsqueeze(1), filters.unsqueeze(1))


def _pool_in_one_dimension(block: ResidualBlock1d, x: Tensor) -> Tensor:
    """Without gradients torch pools rows of a 1-D map several times as fast as those of a 2-D one."""
    y = block.conv2(functional.leaky_relu(block.bn2(block.conv1(x)), 0.3, inplace=True))
    return functional.max_pool1d((y + block.conv_downsample(x)).squeeze(2), 3).unsqueeze(2)


def _normalise(block: Any, given: tuple[Any, ...]) -> None:
    """The released blocks normalise and activate their input, and then convolve the input itself."""
    functional.selu(block.bn1(given[0]))
