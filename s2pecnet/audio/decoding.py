"""Audio files to waveforms: float32 (samples,), mono (mean of the channels), 16 kHz, in [-1, 1].

    read_blocks     all samples of a file, block by block: hours of audio in the memory of one block
    read_audio      a complete file
    read_crop       a crop of a file; of a file at 16 kHz nothing else is decoded
    inspect         length, rate and channels, true to what the file holds
    check_waveform  samples that are in memory already, held to the same rules

Where a path is expected, the bytes of a file do as well (`containers.content.AudioBytes`).

libsndfile decodes, and PyAV what libsndfile does not read or refuses though it is complete; `containers` looks after
what headers announce. Recordings that are joined to one file are read one after the other.

All of these refuse the same audio in the same words, by a `BadAudio`: what cannot be decoded or is cut short, is
shorter than 10 ms, is silent (all samples 0), is of channels that cancel each other, is not finite, louder than any
waveform, or at a rate that cannot be resampled.
"""

import contextlib
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import soundfile

from s2pecnet.audio.containers.content import AudioBytes, Content, DamagedError, PiecedFile, Recording
from s2pecnet.audio.containers.flac import flac_header, plain_flac
from s2pecnet.audio.containers.recordings import recordings_of
from s2pecnet.audio.containers.signatures import SECOND_ONLY, describe, sniff
from s2pecnet.audio.crops import Start, cropped, first_sample
from s2pecnet.audio.resampling import Floats32, Resampler, filter_size, resample
from s2pecnet.audio.second_decoder import SecondDecoder, flac_md5
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError

PathLike = str | Path | AudioBytes

# 10 ms.
SHORTEST = 0.01
# What libsndfile says of the length of a FLAC file whose header has none, as encoders leave it that write to a pipe.
UNKNOWN_LENGTH = 2**63 - 1
# Samples decoded at a time, all channels together.
BLOCK = 1 << 17
# Samples of a complete file, all channels together: 1 GiB decoded, four and a half hours in mono.
MOST_SAMPLES = 1 << 28
# No telephone is worse, and samples at 16 kHz would be many times those of the file.
LOWEST_RATE = 4000
# Numbers that the resampling filters may have; rates in use need thousands.
LARGEST_FILTER = 1 << 24
# Decoders and resamplers overshoot full scale by less. What is louder was written on another scale, such as that of
# 16-bit integers.
LOUDEST = 2.0
# Energy of the sum of channels, in parts of the sum of their energies, below which they cancel each other: that of
# independent channels is 1, and 1 + r that of two with the correlation r. Lossy codecs leave 0.04 of inverted ones.
CANCELLED = 0.1
# Files of which is remembered, for the next epoch, what has been found.
REMEMBERED = 1 << 17

T = TypeVar("T")


class BadAudio(InputError):
    """A file holds nothing that could be used; the message names the file and the reason."""


class AudioInfo(NamedTuple):
    """What a file truly holds: samples a channel at `rate` Hz, those of joined recordings together.

    Attributes:
        second: the second decoder reads it, or a part of it.
    """

    frames: int
    rate: int
    channels: int
    second: bool


def read_audio(path: PathLike) -> Floats32:
    """Decode a complete file to float32 (samples,), mono, 16 kHz.

    Raises:
        BadAudio: see the top of this module.
    """
    blocks, held = [], 0
    for block in read_blocks(path):
        blocks.append(block)
        held += len(block)
        if held > MOST_SAMPLES:
            raise BadAudio(f"{path}: more than {MOST_SAMPLES:,} samples at 16 kHz; the file is too long (split it)")
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def read_crop(path: PathLike, samples: int, start: Start = first_sample) -> Floats32:
    """At most `samples` samples of a file; of a file at 16 kHz the others are not decoded.

    Args:
        start: gives the first sample of the crop, from how many samples the file has more than wanted (> 0).

    Returns:
        float32 (samples,), or all of a file that is not longer.

    Raises:
        BadAudio: as `read_audio`, as far as the crop shows it.
    """
    with opened(path) as file:
        stream = file.only_stream()
        frames = stream.frames or 0 if stream is not None and stream.can_seek and stream.rate == SAMPLE_RATE else 0
        if stream is not None and samples < frames:
            if stream.floats and isinstance(path, AudioBytes):
                # Nothing is remembered of it, which would keep it in memory.
                for _ in read_blocks(path):
                    pass
            elif stream.floats:
                _check_floats(path, *file.identity)
            levels = _Levels(path)
            stream.seek(start(frames - samples))
            crop = levels.mono(stream.read(samples))
            if len(crop) < samples:
                raise BadAudio(f"{path}: cannot be decoded, it is cut short")
            if levels.heard:
                return crop
            # A pause, or a file that is silent from end to end: the complete file decides.
            for _ in read_blocks(path):
                pass
            return crop
        blocks = list(_blocks(path, file))
    return cropped(blocks[0] if len(blocks) == 1 else np.concatenate(blocks), samples, start)


def read_blocks(
    path: PathLike, on_second: Callable[[], object] = lambda: None, remember: bool = True
) -> Iterator[Floats32]:
    """All samples of a file in blocks of bounded size, float32, mono, 16 kHz.

    Args:
        on_second: called where the second decoder is needed.
        remember: what the file is made of, for the next time that it is read.

    Raises:
        BadAudio: as `read_audio`; possibly after the first blocks.
    """
    with opened(path, remember) as file:
        yield from _blocks(path, file)
        if file.second:
            on_second()


def inspect(path: PathLike) -> AudioInfo:
    """What a file holds; nothing is decoded where its length can be trusted.

    Raises:
        BadAudio: it cannot be opened, or is not complete.
    """
    with opened(path) as file:
        frames, first = 0, (0, 0)
        for stream in file.streams():
            if stream.frames is None:
                while len(stream.read(max(1, BLOCK // stream.channels))):
                    pass
            frames += stream.position if stream.frames is None else stream.frames
            first = first if first[0] else (stream.rate, stream.channels)
        return AudioInfo(frames, *first, file.second)


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
    check_audible(name, bool(waveform.any()))
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
        scale = next((2**bits for bits in (15, 23, 31) if loudest <= 2**bits), 0)
        likely = f" (samples on a scale of {scale}? Divide them by it)" if scale and loudest > 16 else "; normalise it"
        raise BadAudio(f"{name}: holds samples up to {loudest:.3g}, expected a waveform in [-1, 1]{likely}")


def check_audible(name: PathLike, audible: bool) -> None:
    """Refuse silence, a file in which no sample is audible."""
    if not audible:
        raise BadAudio(f"{name}: is silent, all of its samples are 0")


def check_rate(name: PathLike, rate: int) -> None:
    """Refuse sample rates that cannot be resampled to 16 kHz with filters of reasonable size."""
    if rate < LOWEST_RATE or filter_size(rate) > LARGEST_FILTER:
        raise BadAudio(f"{name}: a sample rate of {rate:,} Hz cannot be resampled to 16 kHz; convert the file first")


class _Levels:
    """Blocks of channels to mono, checked, and whether anything is to be heard in all of them together."""

    def __init__(self, name: PathLike):
        self.name, self.channels, self.sum = name, 0.0, 0.0

    def mono(self, block: Floats32) -> Floats32:
        """The mean of the channels, (samples, channels) to (samples,)."""
        check_values(self.name, block)
        if block.shape[1] == 1:
            waveform = block[:, 0]
            self.sum = self.channels = self.sum or float(waveform.any())
            return waveform
        waveform = block.mean(axis=1)
        self.channels += float(np.vdot(block, block))
        self.sum += float(np.vdot(waveform, waveform)) * block.shape[1] ** 2
        return waveform

    @property
    def heard(self) -> bool:
        return self.sum > 0 and self.sum >= CANCELLED * self.channels

    def check(self) -> None:
        check_audible(self.name, self.channels > 0)
        if not self.heard:
            raise BadAudio(
                f"{self.name}: its channels cancel each other, their mean is as good as silent (is one of them the "
                "other inverted?); keep one of them"
            )


# --------------------------------------------------------------------------------- opening


@contextlib.contextmanager
def opened(path: PathLike, remember: bool = True) -> "Iterator[_AudioFile]":
    """An audio file open for decoding; whatever goes wrong while it is open is a `BadAudio`."""
    if os.fspath(path)[-4:].lower() == ".raw":
        raise BadAudio(f"{path}: samples without a header, their rate and format are not known; convert it to FLAC")
    with contextlib.ExitStack() as stack:
        try:
            file = _AudioFile(path, remember)
            stack.callback(file.close)
            yield file
        except DamagedError as error:
            raise BadAudio(f"{path}: cannot be decoded, {error}") from None
        except soundfile.SoundFileError as error:
            raise BadAudio(f"{path}: cannot be decoded, it is corrupt or cut short ({_words(error)})") from None
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) or not os.path.exists(path)
            raise BadAudio(f"{path}: {'no such audio file' if missing else error.strerror}") from None


class _AudioFile:
    """A file and the recordings in it.

    Attributes:
        identity: changes where the file does.
        second: whether the second decoder was needed so far.
    """

    def __init__(self, path: PathLike, remember: bool = True):
        self.path, self.second = path, False
        self.current: _Stream | None = None
        self._content: Content | None = None
        if isinstance(path, AudioBytes):
            if not path.data:
                raise BadAudio(f"{path}: the audio file is empty")
            self.identity, self.is_pipe = (len(path.data), zlib.crc32(path.data), 0), True
            self.kind, self.recordings = self._structure()
            return
        try:
            status = os.stat(path)
        except ValueError:  # a zero byte in the name
            raise BadAudio(f"{path}: no such audio file") from None
        self.identity = (status.st_size, status.st_mtime_ns, status.st_ino)
        self.is_pipe = stat.S_ISFIFO(status.st_mode)
        if not self.is_pipe and not stat.S_ISREG(status.st_mode):
            raise BadAudio(f"{path}: is no file")
        if not status.st_size and not self.is_pipe:
            raise BadAudio(f"{path}: the audio file is empty")
        try:
            key = (os.fspath(path), *self.identity, self.is_pipe and id(self))
            self.kind, self.recordings = (
                _remembered(_STRUCTURES, key, self._structure) if remember else self._structure()
            )
        except BaseException:
            self.close()
            raise

    @property
    def content(self) -> Content:
        """Its bytes; most files are opened by libsndfile alone, and by this the first time only."""
        if self._content is None:
            self._content = Content(self.path)
        return self._content

    def _structure(self) -> tuple[str, list[Recording]]:
        kind, start = sniff(self.content)
        return kind, recordings_of(self.content, kind, start)

    def only_stream(self) -> "_Stream | None":
        """The one recording that it holds, where its length can be trusted."""
        if len(self.recordings) > 1 or self.recordings[0].to_prove or self.kind in SECOND_ONLY:
            return None
        return self.stream(self.recordings[0])

    def streams(self) -> "Iterator[_Stream]":
        """Its recordings, open for decoding one after the other."""
        for recording in self.recordings:
            yield self.stream(recording)

    def stream(self, recording: Recording) -> "_Stream":
        """A recording open for decoding, from its first sample on; the one before is closed."""
        if self.current is not None and self.current.recording is recording and not self.current.position:
            return self.current
        self.end()
        self.current = _Stream(self, recording)
        self.second = self.second or self.current.second
        return self.current

    def end(self) -> None:
        """Close the recording that is open."""
        if self.current is not None:
            self.second = self.second or self.current.second
            self.current.source.close()
        self.current = None

    def close(self) -> None:
        """Close all that is open."""
        self.end()
        if self._content is not None:
            self._content.close()
            self._content = None

    def decoder(self, recording: Recording, second: bool) -> Any:
        """A decoder of a recording, from its first sample on."""
        if second:
            # FFmpeg refuses some metadata, too.
            bare = self.kind == "flac" and not recording.pieces
            pieces = plain_flac(self.content, sniff(self.content)[1], self.content.size) if bare else recording.pieces
            return SecondDecoder(self.content, pieces)
        if recording.pieces or self.is_pipe:
            return soundfile.SoundFile(PiecedFile(self.content, recording.pieces))
        # Names need not be valid text; soundfile alone would fail on those that are not.
        return soundfile.SoundFile(os.fsencode(self.path) if os.name == "posix" else str(self.path))


class _Stream:
    """A recording open for decoding.

    Attributes:
        frames: how many samples a channel it has; None where only reading shows it.
        position: how many of them have been read.
        second: the second decoder reads it.
    """

    def __init__(self, file: _AudioFile, recording: Recording):
        self.file, self.recording, self.position = file, recording, 0
        self.second, self.frames, self.floats = False, None, False
        if recording.to_prove or file.kind in SECOND_ONLY:
            self.second, self.frames = _proved(file, recording)
        self._open()

    def _open(self) -> None:
        try:
            self.source = self.file.decoder(self.recording, self.second)
        except soundfile.SoundFileError as error:
            if not self.file.kind:
                # Nothing vouches for bytes that no format begins with.
                raise DamagedError(_what_else(self.file.content, _words(error))) from None
            self.second, self.frames = True, _proved(self.file, self.recording)[1]
            self.source = self.file.decoder(self.recording, True)
        if self.file.kind != "mpeg" and not self.second and self.source.subtype.startswith("MPEG"):
            # Of MP3 in WAV, libsndfile guesses the length.
            self.source.close()
            self.second, self.frames = _proved(self.file, self.recording)
            self.source = self.file.decoder(self.recording, True)
        self.rate, self.channels = self.source.samplerate, self.source.channels
        self.can_seek = not self.second and self.source.seekable()
        if not self.second:
            # soundfile would seek after every read to where it has read to, which libsndfile cannot in every file.
            self.source.seekable = lambda: False
            self.floats = self.source.subtype in ("FLOAT", "DOUBLE")
            if self.frames is None and self.source.frames != UNKNOWN_LENGTH:
                self.frames = self.source.frames

    def seek(self, position: int) -> None:
        """Read from this sample on."""
        self.position = position
        self._try(lambda: self.source.seek(position))

    def read(self, samples: int) -> Floats32:
        """The next samples, float32 (at most `samples`, channels) at the file's own rate; none at its end.

        Raises:
            DamagedError: the file ends before the samples that it was to have, or cannot be decoded on.
        """
        if self.frames is not None:
            samples = min(samples, self.frames - self.position)
        if samples <= 0:
            return np.zeros((0, self.channels), dtype=np.float32)
        block = self._try(lambda: self.source.read(samples, dtype="float32", always_2d=True))
        self.position += len(block)
        if not len(block) and self.frames is not None:
            raise DamagedError(f"it is cut short: {self.frames:,} samples are announced, {self.position:,} are there")
        return block

    def _try(self, step: Callable[[], Any]) -> Any:
        """Take a step; where libsndfile refuses a FLAC file in its midst, with the second decoder."""
        try:
            return step()
        except soundfile.SoundFileError:
            if self.file.kind != "flac" or self.second:
                raise
            self.second, self.frames = True, _proved(self.file, self.recording)[1]
        self.source.close()
        self.source, left = self.file.decoder(self.recording, True), self.position
        self.channels = self.source.channels
        while left:
            left -= len(self.source.read(min(left, BLOCK)))
        return step()


def _blocks(path: PathLike, file: _AudioFile) -> Iterator[Floats32]:
    """All samples of an open file, mono, 16 kHz."""
    levels, read, rate = _Levels(path), 0.0, SAMPLE_RATE
    for stream in file.streams():
        rate = stream.rate
        check_rate(path, rate)
        resampler, begin = Resampler(rate), stream.position
        while len(block := stream.read(max(1, BLOCK // stream.channels))):
            yield from resampler.push(levels.mono(block))
        yield from resampler.flush()
        read += (stream.position - begin) / rate
    file.end()
    check_length(path, round(read * rate), rate)
    levels.check()


# --------------------------------------------------------------------------------- proofs

# By file and recording: whether the second decoder reads it, and how many samples it has.
_PROOFS: dict[tuple[object, ...], tuple[bool, int]] = {}
# By file: its format and the recordings in it, so that an epoch does not go through its bytes for each crop.
_STRUCTURES: dict[tuple[object, ...], tuple[str, list[Recording]]] = {}


def _proved(file: _AudioFile, recording: Recording) -> tuple[bool, int]:
    """Which decoder reads a recording that libsndfile refuses, or may not read completely.

    Returns:
        whether it is the second one; how many samples a channel there are.

    Raises:
        DamagedError: neither, or the recording is not complete.
    """
    proof = _proof_of_flac if file.kind == "flac" else _proof
    return _remembered(_PROOFS, (os.fspath(file.path), file.identity, recording.pieces), lambda: proof(file, recording))


def _remembered(memory: dict[tuple[object, ...], T], key: tuple[object, ...], find: Callable[[], T]) -> T:
    """What has been found under a key, or is found now; a full memory is emptied."""
    found = memory.get(key)
    if found is None:
        found = find()
        if len(memory) >= REMEMBERED:
            memory.clear()
        memory[key] = found
    return found


def _proof(file: _AudioFile, recording: Recording) -> tuple[bool, int]:
    with contextlib.closing(file.decoder(recording, True)) as decoder:
        while len(decoder.read(BLOCK)):
            pass
        decoder.check_length()
        return True, decoder.decoded


def _proof_of_flac(file: _AudioFile, recording: Recording) -> tuple[bool, int]:
    """By the MD5 of the samples in the header; without one by their number, as far as there is one."""
    info = flac_header(file.content, recording)
    counts: dict[bool, int] = {}
    words = ""
    for second in (False, True):
        blocks = _decoded(file, recording, second)
        try:
            md5, counts[second] = flac_md5(blocks, info.bits)
        except (DamagedError, soundfile.SoundFileError) as error:
            words = words or _words(error)
            continue
        if md5 == info.md5:
            return second, counts[second]
    there = max(counts.values(), default=0)
    if any(info.md5) and info.bits <= 24 and there >= info.samples > 0:
        raise DamagedError("it is corrupt: its samples do not match the checksum (MD5) in its header")
    if not counts or there < info.samples:
        found = f": the header announces {info.samples:,} samples" if info.samples else ""
        raise DamagedError(
            f"it is corrupt or cut short ({words}){found}" if words else f"it is cut short{found}, {there:,} are there"
        )
    if info.samples and there > info.samples:
        raise DamagedError(f"it holds {there:,} samples, its header announces {info.samples:,}; encode it again")
    return next((second, count) for second, count in counts.items() if count == there)


def _decoded(file: _AudioFile, recording: Recording, second: bool) -> Iterator[Floats32]:
    with contextlib.closing(file.decoder(recording, second)) as decoder:
        decoder.seekable = lambda: False
        while len(block := decoder.read(BLOCK, dtype="float32", always_2d=True)):
            yield block


@lru_cache(maxsize=REMEMBERED)
def _check_floats(path: PathLike, *identity: int) -> None:
    """Refuse a file of floats any of which is not finite or on another scale, wherever the crop lies."""
    for _ in read_blocks(path):
        pass


def _words(error: Exception) -> str:
    """A decoder's own words; in libsndfile's exception the path stands before them once more."""
    return str(getattr(error, "error_string", error) or error).removeprefix("Error : ").rstrip(". ")


def _what_else(content: Content, words: str) -> str:
    """Why bytes cannot be decoded that no known format begins with."""
    found = describe(content)
    if found:
        return f"it is {found}"
    return f"its first bytes ({content.at(0, 4).hex(' ')}) are those of no audio format that is known here ({words})"
