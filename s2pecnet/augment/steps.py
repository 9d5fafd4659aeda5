"""The steps of augmentation but RawBoost and codecs: what happens to one utterance.

Each takes float32 (samples,) at 16 kHz, its options and a generator, and gives float32 again. All but `speed_changed`
and `trimmed` keep the length, and every sample in its place.
"""

import fractions
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s2pecnet.audio.decoding import BadAudio, read_crop
from s2pecnet.audio.resampling import resample
from s2pecnet.config.augmentation import Bandwidth, Clip, Gain, Noise, Room, SpeedChange, Trim
from s2pecnet.conventions import AUDIO_ENDINGS, SAMPLE_RATE
from s2pecnet.errors import InputError

Floats32 = NDArray[np.float32]

# In RIRS_NOISES, what is a response and what is noise.
RESPONSES, NOISES = ("simulated_rirs", "_rir_"), ("pointsource_noises", "_noise_")
# Frames of trimming, and the least that it leaves, in samples.
FRAME, LEAST = SAMPLE_RATE // 50, SAMPLE_RATE // 10


def find_files(folder: str, key: str, without: Sequence[str] = ()) -> list[str]:
    """The audio files of a folder and those below it, in the order of their names.

    Args:
        key: where the folder is asked for, for the message.
        without: files are left out that have one of these words in their path below the folder.

    Raises:
        InputError: there is no such folder, or none in it.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{key}: there is no folder {folder}")
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        below = os.path.relpath(place, folder)
        for name in sorted(names):
            path = f"{below}/{name}"
            if os.path.splitext(name)[1].lower() in AUDIO_ENDINGS and not any(word in path for word in without):
                found.append(os.path.join(place, name))
    if not found:
        raise InputError(f"{key}: no audio file in {folder}, nor in the folders below it")
    return found


def with_noise(x: Floats32, options: Noise, files: Sequence[str], rng: np.random.Generator) -> Floats32:
    """x plus pieces of recordings, each as loud as the others, at a signal-to-noise ratio over the utterance."""
    low, high = options.clips
    noise = np.zeros(len(x))
    for _ in range(int(rng.integers(low, high + 1))):
        path = files[int(rng.integers(len(files)))]
        piece = _read(path, len(x), rng)
        noise += np.resize(piece, len(x)) / max(_rms(piece), 1e-9)
    level = _rms(noise)
    if not level:
        return x
    snr = rng.uniform(*options.snr)
    return (x + noise * (_rms(x) / level / 10 ** (snr / 20))).astype(np.float32)


def in_room(x: Floats32, options: Room, files: Sequence[str], rng: np.random.Generator) -> Floats32:
    """x in a room: the direct sound stays in its place, the level of the utterance as it is."""
    import soundfile
    from scipy.signal import oaconvolve

    path = files[int(rng.integers(len(files)))]
    try:
        content, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: not a response of a room that can be read ({error})") from None
    # One microphone: the mean of several would be a filter of its own.
    response = content[:, int(rng.integers(content.shape[1]))]
    response = response if rate == SAMPLE_RATE else resample(response, rate)
    direct = int(np.argmax(np.abs(response))) if len(response) else 0
    # What lies before the direct sound by more than 1 ms is the way to the microphone.
    first = max(0, direct - SAMPLE_RATE // 1000)
    response = response[first:]
    if not response.any():
        raise InputError(f"{path}: a silent response of a room")
    y = oaconvolve(x.astype(np.float64), response.astype(np.float64))[direct - first :][: len(x)]
    return (y * (_rms(x) / max(_rms(y), 1e-12))).astype(np.float32)


def band_limited(x: Floats32, options: Bandwidth, rng: np.random.Generator) -> Floats32:
    """x at a lower sample rate and back."""
    rate = options.rates[int(rng.integers(len(options.rates)))]
    low = _resampled(x, fractions.Fraction(rate, SAMPLE_RATE))
    back = _resampled(low, fractions.Fraction(SAMPLE_RATE, rate))[: len(x)]
    return np.pad(back, (0, len(x) - len(back)))


def speed_changed(x: Floats32, options: SpeedChange, rng: np.random.Generator) -> Floats32:
    """x played faster (factor above 1) or slower."""
    factor = fractions.Fraction(round(100 * rng.uniform(*options.factor)), 100)
    return _resampled(x, 1 / factor)


def with_gain(x: Floats32, options: Gain, rng: np.random.Generator) -> Floats32:
    """x louder or quieter."""
    return x * np.float32(10 ** (rng.uniform(*options.gain) / 20))


def clipped(x: Floats32, options: Clip, rng: np.random.Generator) -> Floats32:
    """x cut off at a share of its peak."""
    level = np.float32(rng.uniform(*options.level)) * np.abs(x).max(initial=0)
    return np.clip(x, -level, level)


def trimmed(x: Floats32, options: Trim, rng: np.random.Generator) -> Floats32:
    """x without the silence at its ends; as it is where less than 0.1 s would stay."""
    below = rng.uniform(*options.below)
    count = len(x) // FRAME
    if not count:
        return x
    levels = np.sqrt(np.square(x[: count * FRAME].reshape(count, FRAME), dtype=np.float64).mean(axis=1))
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (below / 20))
    last = len(x) if loud[-1] == count - 1 else int(loud[-1] + 1) * FRAME
    kept = x[int(loud[0]) * FRAME : last]
    return kept if len(kept) >= LEAST else x


def _read(path: str, samples: int, rng: np.random.Generator) -> Floats32:
    """At most `samples` of a recording, from a random start."""
    try:
        return read_crop(path, samples, lambda spare: int(rng.integers(spare + 1)))
    except BadAudio as why:
        # Not the utterance's own: `on_bad_audio` has no say in it.
        raise InputError(f"{why}; remove it from the folder of noises") from None


def _resampled(x: Floats32, ratio: fractions.Fraction) -> Floats32:
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(x, ratio.numerator, ratio.denominator), dtype=np.float32)


def _rms(x: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.square(x, dtype=np.float64).mean()))
