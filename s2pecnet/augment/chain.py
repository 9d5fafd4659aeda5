"""A config's `augment`, made ready: steps one after the other, drawn from the utterance's own seed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s2pecnet.augment import steps
from s2pecnet.augment.codecs import check_codecs, coded
from s2pecnet.augment.rawboost import rawboost
from s2pecnet.config.augmentation import (
    Bandwidth,
    Clip,
    Codec,
    Gain,
    Noise,
    RawBoost,
    Room,
    SpeedChange,
    Step,
    Trim,
)
from s2pecnet.conventions import SAMPLE_RATE

Floats32 = NDArray[np.float32]
# 10 ms: what counts as an utterance at all, as for files.
SHORTEST = SAMPLE_RATE // 100


class Augmentation:
    """Callable: a complete utterance, float32 (samples,) at 16 kHz, and its seed, to what training hears of it.

    What comes out is a function of both alone: not of the process that computes it, nor of what came before. Each step
    draws from a generator of its own, so that a step more changes nothing of the others.

    Args:
        options: the steps, in their order.

    Raises:
        InputError: a folder, or a codec, is not there.
    """

    def __init__(self, options: Sequence[Step]):
        self.options = tuple(options)
        # The files of each step that has some.
        self.files: list[list[str]] = []
        for number, one in enumerate(self.options):
            key = f"augment[{number}]"
            if isinstance(one, (Noise, Room)):
                without = steps.RESPONSES if isinstance(one, Noise) else steps.NOISES
                self.files.append(steps.find_files(one.folder, f"{key}.folder", without))
                continue
            self.files.append([])
            if isinstance(one, Codec):
                check_codecs(one.codecs, f"{key}.codecs")

    def __call__(self, waveform: Floats32, seed: Sequence[int]) -> Floats32:
        """The augmented utterance; a step is left out that would leave silence or less than 10 ms of it."""
        for number, (one, files) in enumerate(zip(self.options, self.files, strict=True), start=1):
            # The crop draws from the seed as it is.
            rng = np.random.default_rng([*seed, number])
            if rng.random() >= one.probability:
                continue
            changed = _changed(waveform, one, files, rng)
            if len(changed) >= SHORTEST and changed.any() and np.isfinite(changed).all():
                waveform = np.ascontiguousarray(changed, dtype=np.float32)
        return waveform


def _changed(x: Floats32, step: Step, files: Sequence[str], rng: np.random.Generator) -> Floats32:
    match step:
        case RawBoost():
            return rawboost(x, step, rng)
        case Noise():
            return steps.with_noise(x, step, files, rng)
        case Room():
            return steps.in_room(x, step, files, rng)
        case Codec():
            return coded(x, step, rng)
        case Bandwidth():
            return steps.band_limited(x, step, rng)
        case SpeedChange():
            return steps.speed_changed(x, step, rng)
        case Gain():
            return steps.with_gain(x, step, rng)
        case Clip():
            return steps.clipped(x, step, rng)
        case Trim():
            return steps.trimmed(x, step, rng)
