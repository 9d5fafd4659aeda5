"""What the systems share: sinc filter bank, residual blocks, graph attention, graph pooling.

Shapes: B batch, T samples, C channels, F frequency bins, N graph nodes, D node features.

Parameter names are an interface: they are the keys of the published checkpoints. That is why some stand here although
nothing is computed with them (`ResidualBlock2d.bn1`).

Sources: Jung et al., "AASIST", ICASSP 2022; Tak et al., "End-to-end spectro-temporal graph attention networks",
ASVspoof 2021 workshop; Tak et al., "End-to-end anti-spoofing with RawNet2", ICASSP 2021; Ravanelli and Bengio,
"Speaker recognition from raw waveform with SincNet", SLT 2018.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from s2pecnet.errors import InputError
from s2pecnet.nn.sinc import SincFilterBank


class _NormaliseBatch(torch.autograd.Function):
    """BatchNorm with batch statistics that the caller computed; the backward pass is torch's own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.eps = eps
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        found = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
        )
        return *found, None, None, None


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose batch statistics are right in channels-last order on a CPU too.

    There torch 2.11 adds up a channel's million values one after the other in float32: the variance is off by 5e-4 in
    the first block of AASIST, and the loss with it. Here rows are added up first, and their sums in float64.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) to the same shape."""
        by_torch = not self.training or x.device.type != "cpu" or x.dtype != torch.float32 or x.is_contiguous()
        if by_torch or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        rows = x.detach().permute(0, 2, 3, 1).flatten(0, 1)
        count = rows.shape[0] * rows.shape[1]
        exact_mean = rows.sum(dim=1).double().sum(dim=0) / count
        mean_square = torch.linalg.vector_norm(rows, dim=1).double().square().sum(dim=0) / count
        mean, variance = exact_mean.float(), (mean_square - exact_mean.square()).clamp_min(0).float()
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), share)
        return _NormaliseBatch.apply(x, self.weight, self.bias, mean, variance, self.eps)


class Checkpointed(nn.Module):
    """A block that can recompute its activations in the backward pass instead of keeping them (`recompute`).

    Weights, gradients and BatchNorm's statistics are those of a block that keeps them.
    """

    recompute = False

    def __call__(self, *inputs: Any) -> Any:
        """Run the block; in training with `recompute`, nothing but its inputs is kept."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().__call__(*inputs)
        return checkpoint(
            super().__call__,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), self._statistics_kept()),
        )

    @contextlib.contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """Let BatchNorms move copies of their statistics: the first run has moved the real ones already."""
        norms = [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        real = [dict(norm._buffers) for norm in norms]
        for norm in norms:
            for name, buffer in norm._buffers.items():
                norm._buffers[name] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for norm, buffers in zip(norms, real, strict=True):
                norm._buffers.update(buffers)


def checkpoint_activations(model: nn.Module) -> int:
    """Turn on activation checkpointing in every block that has it; returns how many there are.

    A module made of somebody else's blocks takes part by a method `checkpoint_layers`, which gives their number.
    """
    blocks = [module for module in model.modules() if isinstance(module, Checkpointed)]
    for block in blocks:
        block.recompute = True
    others: list[Any] = [module for module in model.modules() if hasattr(module, "checkpoint_layers")]
    return len(blocks) + sum(module.checkpoint_layers() for module in others)


Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)


def fold(convolution: Convolution, norm: Any) -> Convolution:
    """One convolution that does what `convolution` and the BatchNorm behind it do, in eval mode."""
    folded = fuse_conv_bn_eval(convolution, norm)
    if folded.weight.dim() == 4:
        folded.weight.data = folded.weight.data.contiguous(memory_format=torch.channels_last)
    return folded


def max_of_threes(x: Tensor, *axes: int) -> Tensor:
    """Max-pooling of a map (B, C, F, T) by 3 along axis 2, 3 or both; what does not fill a three is cut off.

    torch's pooling notes where each maximum lies, for the backward pass. Where none follows, on a CPU, maxima of
    strided views are two to four times as fast.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad):
        return functional.max_pool2d(x, [3 if axis in axes else 1 for axis in (2, 3)])
    for axis in axes:
        threes = x.narrow(axis, 0, x.shape[axis] // 3 * 3).unflatten(axis, (-1, 3))
        first, second, third = threes.unbind(axis + 1)
        x = torch.maximum(torch.maximum(first, second), third)
    return x


class ResidualBlock2d(Checkpointed):
    """Residual block of the AASIST family, (B, C_in, F, T) -> (B, C_out, F, T // 3).

    Args:
        first: the first of an encoder, which has no idle `bn1`.
        pooled: max-pool by 3 along time behind the sum; without, T stays.
    """

    def __init__(self, channels_in: int, channels_out: int, first: bool = False, pooled: bool = True):
        super().__init__()
        self.pooled = pooled
        if not first:
            # In the published checkpoints and parameter counts, but no part of the forward pass.
            self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, (2, 3), padding=(1, 1))
        self.bn2: nn.Module = BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, (2, 3), padding=(0, 1))
        self.conv_downsample: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.conv_downsample = nn.Conv2d(channels_in, channels_out, (1, 3), padding=(0, 1))

    def fold_batch_norm(self) -> None:
        """For scoring alone: put `bn2` into the weights of `conv1`."""
        self.conv1, self.bn2 = fold(self.conv1, self.bn2), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch plus shortcut, then max-pooling by 3 along time."""
        y = self.conv2(functional.selu(self.bn2(self.conv1(x)), inplace=True)).add_(self.conv_downsample(x))
        return max_of_threes(y, 3) if self.pooled else y


def encoder_channels(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Channels in and out of the six blocks, from the four pairs of a config's `filts`; the last serves three blocks.

    Raises:
        InputError: the first block does not take the one channel that there is, or a block not what the last one gives.

    >>> encoder_channels([(1, 32), (32, 32), (32, 64), (64, 64)])[3:]
    [(64, 64), (64, 64), (64, 64)]
    """
    out = pairs[-1][1]
    channels = [*pairs, (out, out), (out, out)]
    if channels[0][0] != 1:
        raise InputError(
            f"model_config.filts: the first block takes {channels[0][0]} channels, expected 1 (the spectrogram)"
        )
    for (_, before), (after, _) in itertools.pairwise(channels):
        if before != after:
            raise InputError(f"model_config.filts: a block gives {before} channels and the next takes {after}")
    return channels


def residual_encoder(channels: list[tuple[int, int]], pooled: bool = True) -> nn.Sequential:
    """Residual blocks in a row, each in a Sequential of its own as the published keys have it (`0.0.conv1`, ...)."""
    return nn.Sequential(
        *(nn.Sequential(ResidualBlock2d(*pair, first=index == 0, pooled=pooled)) for index, pair in enumerate(channels))
    )


class RawSpectrogram(nn.Module):
    """Front of the AASIST family without its BatchNorm: waveform (B, T) -> (B, 1, C // 3, (T - taps + 1) // 3)."""

    def __init__(self, bands: int, taps: int):
        super().__init__()
        self.bank = SincFilterBank(bands, taps)

    def forward(self, x: Tensor, mask: bool = False) -> Tensor:
        """Magnitude of the filter bank, max-pooled 3x3."""
        return max_of_threes(self.bank(x, mask).abs_().unsqueeze(1), 2, 3)
