"""Audio files to waveforms: float32, mono, 16 kHz, in [-1, 1].

What cannot be used raises `BadAudio`, whose message names the file and what is wrong with it: missing, empty, corrupt,
cut short, silent, shorter than 10 ms or longer than hours, of a rate that cannot be brought to 16 kHz, or with samples
that are not finite or far outside of [-1, 1].
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from s2pecnet.audio.crops import Start, cropped, first_sample
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError

SHORTEST = SAMPLE_RATE // 100
# What libsndfile says of the length of a FLAC file whose header tells none, as encoders leave it that write to a pipe.
UNKNOWN_LENGTH = 2**63 - 1
BLOCK = 1 << 16
# Samples of all channels together: 1 GiB decoded, four and a half hours in mono. Headers that lie announce more.
MOST_SAMPLES = 1 << 28
# No telephone is worse, and samples at 16 kHz would be many times those of the file.
LOWEST_RATE = 4000
# Numbers of the resampling filter; rates that divide well into 16 kHz need thousands, 44101 Hz needs 700 million.
LARGEST_FILTER = 1 << 24
# Some write floats on a scale of 32768; what is far beyond that overflows on its way through a system.
LOUDEST = 1e6


class BadAudio(InputError):
    """A file holds nothing that could be used; the message names the file and the reason."""


def read_audio(path: str | Path) -> np.ndarray:
    """Decode a whole file to float32 (samples,), mono (mean of the channels), 16 kHz.

    Raises:
        BadAudio: see the top of this module.
    """
    with opened(path) as stream:
        waveform = _rest(path, stream)
    if not waveform.any():
        raise BadAudio(f"{path}: the file is silent, all of its samples are 0")
    return waveform


def read_crop(path: str | Path, samples: int, start: Start = first_sample) -> np.ndarray:
    """At most `samples` samples of a file; of a file at 16 kHz the others are not decoded.

    Args:
        start: gives the first sample of the crop, from how many samples the file has more than wanted (> 0).

    Returns:
        float32 (samples,), or all of a file that is not longer.

    Raises:
        BadAudio: as `read_audio`, as far as the crop shows it.
    """
    with opened(path) as stream:
        if stream.samplerate == SAMPLE_RATE and samples < stream.frames < UNKNOWN_LENGTH:
            stream.seek(start(stream.frames - samples))
            crop = decoded(path, stream, samples)
            if len(crop) < samples:
                raise BadAudio(f"{path}: cannot be decoded, it is cut short")
        else:
            crop = cropped(_rest(path, stream), samples, start)
    if not crop.any():
        # A pause, or a file that is silent all along: the whole of it tells.
        read_audio(path)
    return crop


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """An audio file open for decoding; whatever goes wrong while it is open is a `BadAudio`."""
    if Path(path).suffix.lower() == ".raw":
        raise BadAudio(f"{path}: samples without a header, their rate and format are not known; convert it to FLAC")
    # Names need not be valid text; soundfile alone would fail on those that are not.
    name = os.fsencode(path) if os.name == "posix" else str(path)
    try:
        with soundfile.SoundFile(name) as stream:
            yield stream
    except (soundfile.SoundFileError, OSError) as error:
        raise BadAudio(f"{path}: {why_unreadable(Path(path), error)}") from None


def _demand_usable(path: str | Path, stream: soundfile.SoundFile) -> None:
    """Refuse to decode the whole of a file whose header announces more than memory holds."""
    frames, channels, rate = stream.frames, stream.channels, stream.samplerate
    if frames != UNKNOWN_LENGTH and frames * channels > MOST_SAMPLES:
        raise BadAudio(
            f"{path}: the header announces {frames * channels:,} samples, more than {MOST_SAMPLES:,}: it is wrong "
            "(encode the file again), or the file is too long (split it)"
        )
    filter_size = rate * SAMPLE_RATE // math.gcd(rate, SAMPLE_RATE) ** 2
    if rate < LOWEST_RATE or filter_size > LARGEST_FILTER:
        raise BadAudio(f"{path}: a sample rate of {rate:,} Hz, too odd to be brought to 16 kHz here; resample the file")


def _rest(path: str | Path, stream: soundfile.SoundFile) -> np.ndarray:
    _demand_usable(path, stream)
    waveform = decoded(path, stream, -1)
    require_length(path, len(waveform), stream.samplerate)
    return waveform if stream.samplerate == SAMPLE_RATE else _resample(waveform, stream.samplerate)


def require_length(path: str | Path, samples: int, rate: int) -> None:
    """Make sure that a file of `samples` samples at `rate` Hz is long enough to be used.

    Raises:
        BadAudio: it holds less than 10 ms.
    """
    if samples < SHORTEST * rate / SAMPLE_RATE:
        length = "no samples" if not samples else f"{samples} samples, less than 10 ms"
        raise BadAudio(f"{path}: the file holds {length}")


def decoded(path: str | Path, stream: soundfile.SoundFile, samples: int) -> np.ndarray:
    """The next samples of an open file, float32 (at most `samples`,), mono, at the file's own rate; -1: all of them.

    Raises:
        BadAudio: a sample is not finite.
    """
    if samples < 0 and stream.frames == UNKNOWN_LENGTH:
        channels = _until_the_end(stream)
    else:
        channels = stream.read(samples, dtype="float32", always_2d=True)
    loudest = max(float(channels.max()), -float(channels.min())) if channels.size else 0.0
    if not math.isfinite(loudest):
        raise BadAudio(f"{path}: the file holds NaN or infinite samples")
    if loudest > LOUDEST:
        raise BadAudio(f"{path}: the file holds samples up to {loudest:.3g}, expected a waveform in [-1, 1]")
    mono: np.ndarray = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
    return mono


def _until_the_end(stream: soundfile.SoundFile) -> np.ndarray:
    """All samples (n, channels) of a file of unknown length."""
    # soundfile would seek to where it has read to, and libsndfile cannot seek to the end of such a file.
    stream.seekable = lambda: False
    blocks: list[np.ndarray] = []
    while len(block := stream.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        if len(blocks) * BLOCK * stream.channels > MOST_SAMPLES:
            raise BadAudio(f"{stream.name}: more than {MOST_SAMPLES:,} samples; the file is too long (split it)")
    return np.concatenate(blocks) if blocks else np.zeros((0, stream.channels), dtype=np.float32)


def why_unreadable(path: Path, error: Exception | None) -> str:
    """The likely reason that a file could not be opened, in words."""
    if not os.path.exists(path):
        return "no such audio file"
    if path.is_file() and path.stat().st_size == 0:
        return "the audio file is empty"
    # libsndfile's own words; in its exception the path stands before them once more.
    words = getattr(error, "error_string", str(error or "")).rstrip(".")
    detail = f" ({words})" if words else ""
    return f"cannot be decoded, it is corrupt or cut short{detail}"


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    # Imported here: corpora at 16 kHz, the usual case, start faster without it.
    from torchaudio.functional import resample

    return np.asarray(resample(torch.from_numpy(np.ascontiguousarray(samples)), rate, SAMPLE_RATE).numpy())
