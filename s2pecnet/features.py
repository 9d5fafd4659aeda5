"""Waveform to spectral features: modules without parameters, batched, differentiable, on any device.

Conventions: waveforms are float tensors (..., samples) at 16 kHz in [-1, 1]; features are (..., bins, frames).
`FixedFrames` brings any of them to the fixed number of frames that a system takes.

Sources: the LFCC front-end of the ASVspoof challenges' baseline (Sahidullah, Kinnunen and Hanilci, Interspeech 2015,
"A comparison of features for synthetic speech detection"), whose MATLAB extractor `LFCC` equals.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.precision import float32_region


def count_frames(samples: int, hop: int = 160) -> int:
    """Frames of an utterance: ceil((samples - hop) / hop), at least one.

    >>> count_frames(64600), count_frames(480), count_frames(1)
    (403, 2, 1)
    """
    # Exporters trace it with a length that may vary.
    return torch.sym_max(1, (samples - 1) // hop)


class _FramedPower(nn.Module):
    """Short-time power spectrum: Hamming frames, zero-padded at the end, |FFT|^2."""

    window: Tensor

    def __init__(self, frame: int, hop: int, n_fft: int):
        super().__init__()
        if n_fft < frame:
            raise ValueError(f"n_fft ({n_fft}) is shorter than the frame ({frame})")
        self.frame, self.hop, self.n_fft = frame, hop, n_fft
        # Built in float64, so that `.double()` gives the exact window and not a widened float32 one.
        self.register_buffer("window", torch.from_numpy(np.hamming(frame)), persistent=False)

    def power(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., frames, n_fft // 2 + 1)."""
        samples = waveform.shape[-1]
        if samples == 0:
            raise ValueError("the waveform has no samples")
        frames = count_frames(samples, self.hop)
        padded = functional.pad(waveform, (0, (frames - 1) * self.hop + self.frame - samples))
        framed = padded.unfold(-1, self.frame, self.hop)
        spectrum = torch.fft.rfft(framed * self.window.to(waveform.dtype), n=self.n_fft)
        return spectrum.real.square() + spectrum.imag.square()


class PowerSpectrogram(_FramedPower):
    """Power spectrogram, (..., samples) -> (..., n_fft // 2 + 1, frames).

    Args:
        log: give log10(power + 1e-10) instead of the power.
    """

    def __init__(self, frame: int = 320, hop: int = 160, n_fft: int = 512, log: bool = False):
        super().__init__(frame, hop, n_fft)
        self.log = log
        self.bins = n_fft // 2 + 1

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (..., samples), any float type, to (..., bins, frames) of the same type."""
        power = self.power(waveform).transpose(-1, -2)
        return torch.log10(power + 1e-10) if self.log else power


class LFCC(_FramedPower):
    """Linear-frequency cepstral coefficients with deltas, (..., samples) -> (..., 3 * coefficients, frames).

    Pre-emphasis, frames of 20 ms every 10 ms, power spectrum, triangular filters equally spaced on a linear
    frequency scale, log10, orthonormal DCT-II; then the static coefficients, their deltas (c[t+1] - c[t-1], ends
    repeated, not halved) and the deltas of the deltas, stacked in this order.

    Equals the challenge organisers' MATLAB extractor: within 1e-6 in float64, within 1e-3 in float32.
    """

    # MATLAB's eps, added before the logarithm.
    FLOOR = 2.220446049250313e-16

    filters: Tensor
    dct: Tensor

    def __init__(
        self,
        frame: int = 320,
        hop: int = 160,
        n_fft: int = 512,
        n_filters: int = 20,
        coefficients: int = 20,
        pre_emphasis: float = 0.97,
    ):
        super().__init__(frame, hop, n_fft)
        self.pre_emphasis = pre_emphasis
        self.bins = 3 * coefficients
        self.register_buffer("filters", torch.from_numpy(triangular_filters(n_filters, n_fft)), persistent=False)
        self.register_buffer("dct", torch.from_numpy(dct_matrix(n_filters, coefficients)), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (..., samples), any float type, to (..., bins, frames) of the same type."""
        previous = functional.pad(waveform[..., :-1], (1, 0))
        power = self.power(waveform - self.pre_emphasis * previous)
        # Under autocast these products would lose the digits that the logarithm needs.
        with float32_region(waveform.device):
            energies = power @ self.filters.to(waveform.dtype)
            cepstra = torch.log10(energies + self.FLOOR) @ self.dct.to(waveform.dtype)
        static = cepstra.transpose(-1, -2)
        delta = _delta(static)
        return torch.cat([static, delta, _delta(delta)], dim=-2)


def triangular_filters(n_filters: int, n_fft: int) -> np.ndarray:
    """Triangles of height 1 with equally spaced corners from 0 Hz to Nyquist: (n_fft // 2 + 1, n_filters), float64."""
    corners = np.linspace(0, SAMPLE_RATE / 2, n_filters + 2)
    frequencies = np.arange(n_fft // 2 + 1)[:, None] * SAMPLE_RATE / n_fft
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def dct_matrix(inputs: int, outputs: int) -> np.ndarray:
    """Orthonormal DCT-II as a matrix to multiply from the right: (inputs, outputs), float64."""
    rows = np.arange(inputs)[:, None] + 0.5
    matrix = np.sqrt(2.0 / inputs) * np.cos(np.pi / inputs * rows * np.arange(outputs))
    matrix[:, 0] /= np.sqrt(2.0)
    return np.asarray(matrix)


def _delta(feature: Tensor) -> Tensor:
    """c[t+1] - c[t-1] along the last axis, the end frames repeated."""
    ahead = torch.cat([feature[..., 1:], feature[..., -1:]], dim=-1)
    behind = torch.cat([feature[..., :1], feature[..., :-1]], dim=-1)
    return ahead - behind


def fix_frames(feature: Tensor, frames: int, start: int = 0) -> Tensor:
    """Bring (..., bins, n) to (..., bins, frames): tiled in time where shorter, cropped from `start` where longer."""
    places = torch.arange(start, start + frames, device=feature.device).fmod(feature.shape[-1])
    return feature.index_select(-1, places)


class FixedFrames(nn.Module):
    """A feature of the complete utterance, brought to a fixed number of frames.

    A system that wants such a feature as its second input returns one of these from `utterance_feature`; the
    loader applies it to the utterance *before* the waveform is cropped.
    """

    def __init__(self, extractor: PowerSpectrogram | LFCC, frames: int):
        super().__init__()
        self.extractor = extractor
        self.bins = extractor.bins
        self.frames = frames

    def forward(self, waveform: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """(..., samples) -> (..., bins, frames).

        Args:
            rng: draws the start of the crop when there are more frames than wanted (training); without it the
                crop starts at the first frame (scoring).
        """
        feature = self.extractor(waveform)
        spare = feature.shape[-1] - self.frames
        start = int(rng.integers(spare + 1)) if rng is not None and spare > 0 else 0
        return fix_frames(feature, self.frames, start)
