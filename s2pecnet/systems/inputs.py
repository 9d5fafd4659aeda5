"""From a waveform to what a model takes: the one recipe of training, scoring, prediction, the Arena and export."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2pecnet.audio.crops import pad, pad_random
from s2pecnet.audio.streaming import windows
from s2pecnet.conventions import CROP
from s2pecnet.features import FixedFrames


@dataclass(frozen=True)
class Inputs:
    """Callable: a waveform to the model's inputs, (waveform (samples,)[, feature (bins, frames)]).

    Attributes:
        samples: samples of a crop; a shorter waveform is tiled.
        feature: computes the second input, of the waveform before it is cropped; None: there is none.
    """

    samples: int = CROP
    feature: FixedFrames | None = None

    @torch.no_grad()
    def __call__(self, waveform: np.ndarray, rng: np.random.Generator | None = None) -> tuple[Tensor, ...]:
        """The inputs of one utterance.

        Args:
            waveform: float32 (any number of samples,), 16 kHz.
            rng: draws random crops, of the waveform and, independently, of the feature; None: the first samples.
        """
        crop = pad(waveform, self.samples) if rng is None else pad_random(waveform, self.samples, rng)
        if self.feature is None:
            return (_as_tensor(crop),)
        return _as_tensor(crop), self.feature(_as_tensor(waveform), rng=rng)

    def batch(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """The inputs of several utterances: (B, samples)[, (B, bins, frames)]."""
        return [torch.stack(column) for column in zip(*map(self, waveforms), strict=True)]

    @property
    def hop(self) -> int:
        """Samples from the start of a window to that of the next one: half a window."""
        return max(1, self.samples // 2)

    def windows(self, waveform: np.ndarray) -> list[Tensor]:
        """The inputs of windows of a complete utterance, one every `hop`: (W, samples)[, (W, bins, frames)].

        The feature of a window is computed from its own samples.

        Args:
            waveform: float32 (any number of samples,), 16 kHz, not silent.
        """
        return self.batch([window.samples for window in windows([waveform], self.samples, self.hop)])

    def unusable(self) -> tuple[Tensor, ...]:
        """Inputs in place of audio that cannot be used: all NaN, and so is their score."""
        waveform = torch.full((self.samples,), math.nan)
        if self.feature is None:
            return (waveform,)
        return waveform, torch.full((self.feature.bins, self.feature.frames), math.nan)


def _as_tensor(waveform: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(waveform))
