"""Crops of fixed length: waveforms (samples,) cut or tiled to what a system takes."""

import math
from collections.abc import Callable

import numpy as np

from s2pecnet.conventions import CROP

Start = Callable[[int], int]


def first_sample(spare: int) -> int:
    """The start of a crop that takes the first samples, whatever `spare` samples lie behind it."""
    return 0


def cropped(waveform: np.ndarray, samples: int, start: Start = first_sample) -> np.ndarray:
    """At most `samples` samples of (samples,), from where `start` says."""
    spare = len(waveform) - samples
    if spare <= 0:
        return waveform
    first = start(spare)
    return waveform[first : first + samples]


def pad(x: np.ndarray, max_len: int = CROP) -> np.ndarray:
    """The first `max_len` samples of (samples,), tiled where it is shorter.

    >>> pad(np.arange(3), 7)
    array([0, 1, 2, 0, 1, 2, 0])
    """
    if len(x) >= max_len:
        return x[:max_len]
    return np.tile(x, math.ceil(max_len / len(x)))[:max_len]


def pad_random(x: np.ndarray, max_len: int = CROP, rng: np.random.Generator | None = None) -> np.ndarray:
    """A random crop of `max_len` samples of (samples,), tiled where it is shorter.

    Args:
        rng: draws the start; without it numpy's global generator does.
    """
    draw = np.random.randint if rng is None else rng.integers
    return pad(cropped(x, max_len, lambda spare: int(draw(spare + 1))), max_len)
