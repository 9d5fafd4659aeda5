"""The convolutions of wav2vec 2.0, HuBERT and WavLM as a CPU computes them fastest: for scoring alone.

They compute what the library's modules compute, in whose places `FrontEnd.pack_weights` puts them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class PackedEncoder(nn.Module):
    """The convolutions over the waveform as matrix products: (B, samples) -> (B, channels, frames).

    Maps keep their channels last, as the norms want them. With stride s, s neighbouring rows of such a map (T, C) are
    one row of s C values: the products read the map as it lies in memory, a kernel of k taps is k / s of them, rounded
    up, and nothing is unfolded or transposed. One utterance at a time, which keeps the maps small.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype):
        """`dtype`: what autocast, if any, computes products in."""
        super().__init__()
        self.layers = encoder.conv_layers
        weights = (layer.conv.weight.detach().permute(2, 1, 0).flatten(0, 1) for layer in self.layers)
        self.weights = [weight.contiguous().to(dtype) for weight in weights]

    @staticmethod
    def available(encoder: Any) -> bool:
        """Are its convolutions plain ones, as those of all families are?"""
        convs = [getattr(layer, "conv", None) for layer in getattr(encoder, "conv_layers", ())]
        return bool(convs) and all(
            isinstance(conv, nn.Conv1d) and conv.groups == 1 and conv.dilation == (1,) and conv.padding == (0,)
            for conv in convs
        )

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms to what the transformer's projection takes."""
        return torch.stack([self._of_one(waveform[:, None]) for waveform in x]).transpose(1, 2)

    def _of_one(self, x: Tensor) -> Tensor:
        for layer, weight in zip(self.layers, self.weights, strict=True):
            x = layer.activation(_normalised(layer, _convolved(x, layer.conv, weight)))
        return x


class FourierConvolution(nn.Module):
    """A grouped convolution with many taps by Fourier transforms: (B, C, T) -> (B, C, T'), as `conv` gives it.

    Overlap-save: blocks of three times the taps, of which two thirds come out. Of XLS-R's positional convolution (128
    taps, 64 channels a group) the products of spectra are a thirtieth of the multiplications.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.taps, self.padding = conv.kernel_size[0], int(conv.padding[0])
        self.bias, self.groups = conv.bias, conv.groups
        self.size = 3 * self.taps
        # (channels out, channels in of a group, bins) to (bins, groups, in, out of a group).
        spectrum = torch.fft.rfft(conv.weight.detach().flip(-1), self.size).unflatten(0, (self.groups, -1))
        self.spectrum = spectrum.permute(3, 0, 2, 1).contiguous()

    @staticmethod
    def available(conv: Any) -> bool:
        """Is it such a convolution, and has this torch fast transforms and complex products?"""
        fits = isinstance(conv, nn.Conv1d) and conv.stride == (1,) and conv.dilation == (1,)
        return fits and conv.padding_mode == "zeros" and conv.padding != "same" and torch.backends.mkl.is_available()

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        count, channels, frames = len(x), x.shape[1], x.shape[2] + 2 * self.padding - self.taps + 1
        hop = self.size - self.taps + 1
        blocks = -(-frames // hop)
        behind = (blocks - 1) * hop + self.size - x.shape[2] - self.padding
        blocked = functional.pad(x.float(), (self.padding, behind)).unfold(2, self.size, hop)
        spectra = torch.fft.rfft(blocked)
        # (B, channels, blocks, bins) to (bins, groups, B blocks, channels of a group), multiplied, and back.
        spectra = spectra.unflatten(1, (self.groups, -1)).permute(4, 1, 0, 3, 2).flatten(2, 3)
        with torch.autocast(x.device.type, enabled=False):
            spectra = spectra @ self.spectrum
        spectra = spectra.unflatten(2, (count, blocks)).permute(2, 1, 4, 3, 0).reshape(count, channels, blocks, -1)
        y = torch.fft.irfft(spectra, self.size)[..., self.taps - 1 :].flatten(2)[..., :frames]
        return (y if self.bias is None else y + self.bias[:, None]).to(x.dtype)


def _convolved(x: Tensor, conv: nn.Conv1d, weight: Tensor) -> Tensor:
    """(T, C) through a convolution whose `weight` is (taps C, channels out)."""
    (taps,), (stride,), channels = conv.kernel_size, conv.stride, x.shape[1]
    frames = (len(x) - taps) // stride + 1
    x, bias = x.to(weight.dtype), weight.new_zeros(weight.shape[1])
    if conv.bias is not None:
        bias = conv.bias.to(weight.dtype)
    if channels == 1:
        return torch.addmm(bias, x[:, 0].unfold(0, taps, stride), weight)
    y: Tensor | None = None
    for first in range(0, taps, stride):
        width = min(stride, taps - first) * channels
        rows = x.as_strided((frames, width), (stride * channels, 1), x.storage_offset() + first * channels)
        part = weight[first * channels :][:width]
        y = torch.addmm(bias, rows, part) if y is None else y.addmm_(rows, part)
    assert y is not None
    return y


def _normalised(layer: Any, x: Tensor) -> Tensor:
    """(T, C): each frame, or in the models with a norm over time each channel, by the layer's norm; or as it is."""
    norm = getattr(layer, "layer_norm", None)
    if norm is None:
        return x
    return norm(x) if isinstance(norm, nn.LayerNorm) else norm(x.t()[None])[0].t().contiguous()
