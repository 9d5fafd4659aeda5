"""Audio files to waveforms: float32 (samples,), mono (mean of the channels), 16 kHz, in [-1, 1].

    read_blocks     all samples of a file, block by block: hours of audio in the memory of one block
    read_audio      a complete file
    read_crop       a crop of a file; of a file at 16 kHz nothing else is decoded
    check_waveform  samples that are in memory already, held to the same rules

All of them refuse the same audio in the same words, by a `BadAudio`: what cannot be decoded, is shorter than 10 ms, is
silent (all samples 0), not finite, louder than any waveform, or at a rate that cannot be resampled.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from s2pecnet.audio.crops import Start, cropped, first_sample
from s2pecnet.audio.resampling import Floats32, Resampler, filter_size, resample
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError

PathLike = str | Path

# 10 ms.
SHORTEST = 0.01
# What libsndfile says of the length of a FLAC file whose header has none, as encoders leave it that write to a pipe.
UNKNOWN_LENGTH = 2**63 - 1
# Samples decoded at a time, all channels together.
BLOCK = 1 << 17
# Samples of a complete file, all channels together: 1 GiB decoded, four and a half hours in mono. Damaged headers
# announce more.
MOST_SAMPLES = 1 << 28
# No telephone is worse, and samples at 16 kHz would be many times those of the file.
LOWEST_RATE = 4000
# Numbers that the resampling filters may have; rates in use need thousands.
LARGEST_FILTER = 1 << 24
# Some write floats on a scale of 32768; what is far beyond that overflows on its way through a system.
LOUDEST = 1e6


class BadAudio(InputError):
    """A file holds nothing that could be used; the message names the file and the reason."""


def read_audio(path: PathLike) -> Floats32:
    """Decode a complete file to float32 (samples,), mono, 16 kHz.

    Raises:
        BadAudio: see the top of this module.
    """
    with opened(path) as stream:
        waveform = _rest(path, stream)
    check_audible(path, waveform)
    return waveform


def read_crop(path: PathLike, samples: int, start: Start = first_sample) -> Floats32:
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
            crop = _decoded(path, stream, samples)
            if len(crop) < samples:
                raise BadAudio(f"{path}: cannot be decoded, it is cut short")
        else:
            crop = cropped(_rest(path, stream), samples, start)
    if not crop.any():
        # A pause, or a file that is silent from end to end: the complete file decides.
        read_audio(path)
    return crop


def read_blocks(path: PathLike) -> Iterator[Floats32]:
    """All samples of a file in blocks of bounded size, float32, mono, 16 kHz.

    Raises:
        BadAudio: as `read_audio`, but for silence; possibly after the first blocks.
    """
    with opened(path) as stream:
        check_rate(path, stream.samplerate)
        resampler, read = Resampler(stream.samplerate), 0
        while len(block := _decoded(path, stream, max(1, BLOCK // stream.channels))):
            read += len(block)
            yield from resampler.push(block)
        check_length(path, read, stream.samplerate)
        yield from resampler.flush()


def check_waveform(samples: np.ndarray, rate: int, name: str) -> Floats32:
    """A waveform (samples,) at `rate` Hz that is in memory, as float32 (samples,) at 16 kHz.

    Args:
        name: what messages call it.

    Raises:
        BadAudio: it is not one-dimensional floats, or for what a file would be refused for.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f" or rate < 1:
        got = f"{samples.dtype} {samples.shape} at {rate} Hz"
        raise BadAudio(f"{name}: got {got}, expected float32 (samples,) in [-1, 1] and its sample rate")
    check_rate(name, rate)
    check_length(name, len(samples), rate)
    check_values(name, samples)
    waveform = np.ascontiguousarray(samples, dtype=np.float32)
    check_audible(name, waveform)
    return waveform if rate == SAMPLE_RATE else resample(waveform, rate)


def check_length(name: PathLike, samples: int, rate: int) -> None:
    """Refuse less than 10 ms."""
    if samples < SHORTEST * rate:
        held = "no samples" if not samples else f"{samples} samples at {rate} Hz, less than 10 ms"
        raise BadAudio(f"{name}: holds {held}")


def check_values(name: PathLike, samples: np.ndarray) -> None:
    """Refuse samples that are not finite, or louder than any waveform."""
    loudest = max(float(samples.max()), -float(samples.min())) if samples.size else 0.0
    if not math.isfinite(loudest):
        raise BadAudio(f"{name}: holds NaN or infinite samples")
    if loudest > LOUDEST:
        raise BadAudio(f"{name}: holds samples up to {loudest:.3g}, expected a waveform in [-1, 1]")


def check_audible(name: PathLike, waveform: np.ndarray) -> None:
    """Refuse silence."""
    if not waveform.any():
        raise BadAudio(f"{name}: is silent, all of its samples are 0")


def check_rate(name: PathLike, rate: int) -> None:
    """Refuse sample rates that cannot be resampled to 16 kHz with filters of reasonable size."""
    if rate < LOWEST_RATE or filter_size(rate) > LARGEST_FILTER:
        raise BadAudio(f"{name}: a sample rate of {rate:,} Hz cannot be resampled to 16 kHz; convert the file first")


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[soundfile.SoundFile]:
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


def _rest(path: PathLike, stream: soundfile.SoundFile) -> Floats32:
    """All samples of an open file at 16 kHz."""
    frames, channels, rate = stream.frames, stream.channels, stream.samplerate
    if frames != UNKNOWN_LENGTH and frames * channels > MOST_SAMPLES:
        raise BadAudio(
            f"{path}: the header announces {frames * channels:,} samples, more than {MOST_SAMPLES:,}: it is wrong "
            "(encode the file again), or the file is too long (split it)"
        )
    check_rate(path, rate)
    waveform = _decoded(path, stream, -1)
    check_length(path, len(waveform), rate)
    return waveform if rate == SAMPLE_RATE else resample(waveform, rate)


def _decoded(path: PathLike, stream: soundfile.SoundFile, samples: int) -> Floats32:
    """The next samples of an open file, float32 (at most `samples`,), mono, at the file's own rate; -1: all of them."""
    if samples < 0 and stream.frames == UNKNOWN_LENGTH:
        # soundfile would seek to where it has read to, and libsndfile cannot seek to the end of such a file.
        stream.seekable = lambda: False
        blocks = [np.zeros((0, stream.channels), dtype=np.float32)]
        while len(block := stream.read(BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
            if (len(blocks) - 1) * BLOCK * stream.channels > MOST_SAMPLES:
                raise BadAudio(f"{stream.name}: more than {MOST_SAMPLES:,} samples; the file is too long (split it)")
        channels = np.concatenate(blocks)
    else:
        channels = stream.read(samples, dtype="float32", always_2d=True)
    check_values(path, channels)
    return channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
