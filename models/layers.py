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
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from errors import InputError
from features import SAMPLE_RATE

# Sizes that a `model_config` may ask for, many times those of the published systems; with all of them at their largest
# the weights are a few gigabytes.
MOST_CHANNELS, MOST_TAPS, MOST_UNITS = 1024, 16384, 4096
# Ten minutes, in samples and in frames of 10 ms.
MOST_SAMPLES, MOST_FRAMES = 600 * SAMPLE_RATE, 60_000

# Widest band of filters that frequency masking sets to zero.
MAX_MASKED_FILTERS = 20
# Length of the filter bank's Fourier transforms, in taps of its filters, then rounded up to a power of two.
FFT_SIZE_PER_TAP = 8


def mel_band_edges(bands: int, highest_hz: float = SAMPLE_RATE / 2) -> np.ndarray:
    """`bands` + 1 edges in Hz, equally spaced on the mel scale from 0 to `highest_hz`."""
    mel = np.linspace(0, 2595 * np.log10(1 + highest_hz / 700), bands + 1)
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def sinc_filters(bands: int, taps: int, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Band-pass filters, difference of two windowed sincs: (bands, taps), float32; an even `taps` becomes odd."""
    taps += 1 - taps % 2
    n = np.arange(taps) - taps // 2
    edges = mel_band_edges(bands, sample_rate / 2)[:, None] * 2 / sample_rate
    low_pass = edges * np.sinc(edges * n)
    return torch.from_numpy(np.hamming(taps) * (low_pass[1:] - low_pass[:-1])).float()


def filter_by_fft(x: Tensor, filters: Tensor) -> Tensor:
    """Correlate waveforms (B, T) with every filter (C, taps): (B, C, T - taps + 1), what `conv1d` gives.

    By Fourier transforms of overlapping blocks ("overlap-save": Oppenheim and Schafer, "Discrete-Time Signal
    Processing", section 8.7). `conv1d` does `taps` multiplications a sample, this some log2(taps).
    """
    taps, count = filters.shape[1], x.shape[1] - filters.shape[1] + 1
    size = 2 ** math.ceil(math.log2(FFT_SIZE_PER_TAP * max(taps - 1, 1)))
    hop = size - taps + 1
    blocks = math.ceil(count / hop)
    padded = functional.pad(x, (0, (blocks - 1) * hop + size - x.shape[1]))
    spectra = torch.fft.rfft(padded.unfold(1, size, hop)).unsqueeze(1)
    responses = torch.fft.rfft(filters, n=size).conj().unsqueeze(1)
    # What wraps around at the end of a block is cut off.
    filtered = torch.fft.irfft(spectra * responses, n=size)[..., :hop]
    return filtered.flatten(2)[..., :count]


class SincFilterBank(nn.Module):
    """Fixed band-pass filter bank, (B, T) -> (B, C, T - taps + 1). No parameters, nothing in the state dict."""

    filters: Tensor

    def __init__(self, bands: int, taps: int):
        super().__init__()
        self.register_buffer("filters", sinc_filters(bands, taps), persistent=False)

    def forward(self, x: Tensor, mask: bool = False) -> Tensor:
        """Filter the waveforms; `mask` zeroes a random band of neighbouring filters, the same for the whole batch."""
        filters = self._masked() if mask else self.filters
        # Compilers and exporters know convolutions better; on CUDA the transforms have not been measured.
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return filter_by_fft(x, filters)
        return functional.conv1d(x.unsqueeze(1), filters.unsqueeze(1))

    def _masked(self) -> Tensor:
        bands = self.filters.shape[0]
        # Drawn on the CPU: a draw on the GPU would have to be waited for.
        width = min(int(torch.rand(()) * MAX_MASKED_FILTERS), bands)
        start = int(torch.randint(bands - width + 1, ()))
        masked = self.filters.clone()
        masked[start : start + width] = 0
        return masked


def frames_after_encoder(samples: int, taps: int, blocks: int) -> int:
    """Time frames that a filter bank, a pooling by 3 and `blocks` poolings by 3 leave of `samples`."""
    frames = samples - (taps + 1 - taps % 2) + 1
    for _ in range(blocks + 1):
        frames //= 3
    return frames


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
        mean, variance = self._statistics(x.detach())
        self._track(mean, variance, x.numel() // x.shape[1])
        normalised: Tensor = _NormaliseBatch.apply(x, self.weight, self.bias, mean, variance, self.eps)
        return normalised

    @staticmethod
    def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.permute(0, 2, 3, 1).flatten(0, 1)
        count = rows.shape[0] * rows.shape[1]
        mean = rows.sum(dim=1).double().sum(dim=0) / count
        mean_square = torch.linalg.vector_norm(rows, dim=1).double().square().sum(dim=0) / count
        return mean.float(), (mean_square - mean.square()).clamp_min(0).float()

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), share)


class Recomputable(nn.Module):
    """A block that can compute its maps again in the backward pass instead of keeping them (`recompute`).

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


def recompute_blocks(model: nn.Module) -> int:
    """Let every block that can compute its maps again; returns how many there are."""
    blocks = [module for module in model.modules() if isinstance(module, Recomputable)]
    for block in blocks:
        block.recompute = True
    return len(blocks)


Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)


def fold(convolution: Convolution, norm: Any) -> Convolution:
    """One convolution that does what `convolution` and the BatchNorm behind it do, in eval mode."""
    folded = fuse_conv_bn_eval(convolution, norm)
    if folded.weight.dim() == 4:
        folded.weight.data = folded.weight.data.contiguous(memory_format=torch.channels_last)
    return folded


class ResidualBlock2d(Recomputable):
    """Residual block of the AASIST family, (B, C_in, F, T) -> (B, C_out, F, T // 3)."""

    def __init__(self, channels_in: int, channels_out: int, first: bool = False):
        super().__init__()
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
        y = self.conv2(functional.selu(self.bn2(self.conv1(x)), inplace=True))
        return functional.max_pool2d(y.add_(self.conv_downsample(x)), (1, 3))


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


def residual_encoder(channels: list[tuple[int, int]]) -> nn.Sequential:
    """Residual blocks in a row, each in a Sequential of its own as the published keys have it (`0.0.conv1`, ...)."""
    return nn.Sequential(
        *(nn.Sequential(ResidualBlock2d(*pair, first=index == 0)) for index, pair in enumerate(channels))
    )


class RawSpectrogram(nn.Module):
    """Front of the AASIST family without its BatchNorm: waveform (B, T) -> (B, 1, C // 3, (T - taps + 1) // 3)."""

    def __init__(self, bands: int, taps: int):
        super().__init__()
        self.bank = SincFilterBank(bands, taps)

    def forward(self, x: Tensor, mask: bool = False) -> Tensor:
        """Magnitude of the filter bank, max-pooled 3x3."""
        return functional.max_pool2d(self.bank(x, mask).abs_().unsqueeze(1), (3, 3))


def attention_vector(size: int) -> nn.Parameter:
    """A learned vector (size, 1) that turns a node pair's features into one attention score."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(size, 1)))


def batch_norm_nodes(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """BatchNorm over nodes and batch together: (B, N, D) as (B * N, D)."""
    return norm(x.flatten(0, 1)).view_as(x)


class GraphAttention(nn.Module):
    """Graph attention over a fully connected graph, (B, N, D_in) -> (B, N, D_out).

    The score of a pair is symmetric: it sees the element-wise product of the two nodes.
    """

    def __init__(self, size_in: int, size_out: int, temperature: float = 1.0, dropout: float = 0.2):
        super().__init__()
        self.att_proj = nn.Linear(size_in, size_out)
        self.att_weight = attention_vector(size_out)
        self.proj_with_att = nn.Linear(size_in, size_out)
        self.proj_without_att = nn.Linear(size_in, size_out)
        self.bn = nn.BatchNorm1d(size_out)
        self.input_drop = nn.Dropout(dropout)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Attend, project, normalise."""
        x = self.input_drop(x)
        attention = torch.softmax(self._scores(x) / self.temperature, dim=-1)
        y = self.proj_with_att(attention @ x) + self.proj_without_att(x)
        return functional.selu(batch_norm_nodes(self.bn, y))

    def _scores(self, x: Tensor) -> Tensor:
        pairs = torch.tanh(self.att_proj(x.unsqueeze(2) * x.unsqueeze(1)))
        return (pairs @ self.att_weight).squeeze(-1)


class HeterogeneousGraphAttention(nn.Module):
    """Graph attention over two sets of nodes and a master node that reads them all.

    Pairs within the first set, within the second and across have attention vectors of their own.
    """

    def __init__(self, size_in: int, size_out: int, temperature: float = 1.0, dropout: float = 0.2):
        super().__init__()
        self.proj_type1 = nn.Linear(size_in, size_in)
        self.proj_type2 = nn.Linear(size_in, size_in)
        self.att_proj = nn.Linear(size_in, size_out)
        self.att_projM = nn.Linear(size_in, size_out)
        self.att_weight11 = attention_vector(size_out)
        self.att_weight22 = attention_vector(size_out)
        self.att_weight12 = attention_vector(size_out)
        self.att_weightM = attention_vector(size_out)
        self.proj_with_att = nn.Linear(size_in, size_out)
        self.proj_without_att = nn.Linear(size_in, size_out)
        self.proj_with_attM = nn.Linear(size_in, size_out)
        self.proj_without_attM = nn.Linear(size_in, size_out)
        self.bn = nn.BatchNorm1d(size_out)
        self.input_drop = nn.Dropout(dropout)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes (B, N1, D_in), (B, N2, D_in) and master (B or 1, 1, D_in) to the same with D_out."""
        size1 = first.shape[1]
        x = self.input_drop(torch.cat([self.proj_type1(first), self.proj_type2(second)], dim=1))
        new_master = self._update_master(x, master)
        attention = torch.softmax(self._scores(x, size1) / self.temperature, dim=-1)
        y = self.proj_with_att(attention @ x) + self.proj_without_att(x)
        y = functional.selu(batch_norm_nodes(self.bn, y))
        return y[:, :size1], y[:, size1:], new_master

    def _scores(self, x: Tensor, size1: int) -> Tensor:
        pairs = torch.tanh(self.att_proj(x.unsqueeze(2) * x.unsqueeze(1)))
        vectors = torch.cat([self.att_weight11, self.att_weight12, self.att_weight22], dim=1)
        within1, across, within2 = (pairs @ vectors).unbind(-1)
        in_first = torch.arange(x.shape[1], device=x.device) < size1
        # torch.compile (2.11) stumbles over an equality of truth values; this says the same.
        differ = in_first.unsqueeze(0) ^ in_first.unsqueeze(1)
        return torch.where(differ, across, torch.where(in_first, within1, within2))

    def _update_master(self, x: Tensor, master: Tensor) -> Tensor:
        scores = torch.tanh(self.att_projM(x * master)) @ self.att_weightM
        weights = torch.softmax(scores / self.temperature, dim=1)
        return self.proj_with_attM(weights.transpose(1, 2) @ x) + self.proj_without_attM(master)


class GraphPool(nn.Module):
    """Keeps the best-scored share of the nodes, each multiplied by its score: (B, N, D) -> (B, k, D), best first."""

    def __init__(self, ratio: float, size: int, at_least: int = 1, dropout: float = 0.3):
        super().__init__()
        self.proj = nn.Linear(size, 1)
        self.drop = nn.Dropout(dropout)
        self.ratio, self.at_least = ratio, at_least

    def kept(self, nodes: int) -> int:
        """How many of `nodes` nodes survive."""
        if not isinstance(nodes, int):
            # While a graph with any number of nodes is traced, which can neither round nor compare them.
            share = Fraction(str(self.ratio))
            return nodes * share.numerator // share.denominator
        return min(nodes, max(int(nodes * self.ratio), self.at_least))

    def forward(self, h: Tensor) -> Tensor:
        """Score, select, gate."""
        scores = torch.sigmoid(self.proj(self.drop(h)))
        best = scores.topk(self.kept(h.shape[1]), dim=1).indices
        return torch.gather(h * scores, 1, best.expand(-1, -1, h.shape[2]))
