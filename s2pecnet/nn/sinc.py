"""The sinc filter bank of RawNet2, RawGAT-ST and AASIST: fixed mel-spaced band-pass filters over the waveform.

Shapes: B batch, T samples, C filters.

Sources: Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018; Tak et al., "End-to-end
anti-spoofing with RawNet2", ICASSP 2021.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.conventions import SAMPLE_RATE

# Sizes that a `model_config` may ask for, many times those of the published systems; with all of them at their largest
# the weights are a few gigabytes.
MOST_CHANNELS, MOST_TAPS, MOST_UNITS = 1024, 16384, 4096
# Ten minutes, in frames of 10 ms.
MOST_FRAMES = 60_000

# Widest band of filters that frequency masking sets to zero.
MAX_MASKED_FILTERS = 20
# Length of the filter bank's Fourier transforms, in taps of its filters, then rounded up to a power of two.
FFT_SIZE_PER_TAP = 8


def sinc_filters(bands: int, taps: int) -> Tensor:
    """Band-pass filters, difference of two windowed sincs: (bands, taps), float32; an even `taps` becomes odd.

    The bands' edges are equally spaced on the mel scale from 0 Hz to Nyquist.
    """
    taps += 1 - taps % 2
    n = np.arange(taps) - taps // 2
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 1)
    edges = 700 * (10 ** (mel / 2595) - 1)[:, None] * 2 / SAMPLE_RATE
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
        """Filter the waveforms; `mask` zeroes a random band of neighbouring filters, the same for all of the batch."""
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
