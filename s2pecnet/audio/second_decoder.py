"""PyAV (FFmpeg's libraries), the second decoder: for what libsndfile does not read, or refuses though it is whole."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from s2pecnet.audio.containers.content import Content, DamagedError, Piece, PiecedFile
from s2pecnet.audio.resampling import Floats32

# Containers whose length is a number that was written down, not estimated from a bit rate.
EXACT = frozenset(("mov", "mp4", "matroska", "webm", "asf", "wv", "tta", "ape", "flv", "avi"))
# Seconds by which such a number may be too large: the decoder's delay, and rounding.
TOLERANCE = 0.25


class SecondDecoder:
    """The first audio stream of a file, as far as `soundfile.SoundFile` reads: `read` alone, from first to last sample.

    Attributes:
        samplerate, channels: of its first frame.

    Raises:
        DamagedError: it cannot be decoded, or holds no audio.
    """

    subtype = ""

    def __init__(self, content: Content, pieces: tuple[Piece, ...]):
        # Loading it takes a tenth of a second, which most commands have no use for.
        import av

        self._errors = (av.FFmpegError, ValueError, OSError, LookupError, RuntimeError)
        try:
            self._container: Any = av.open(PiecedFile(content, pieces), metadata_errors="ignore")
            streams = self._container.streams
            if not streams.audio:
                raise DamagedError("it holds no audio" + (", only video" if streams.video else ""))
            self.stream = streams.audio[0]
        except self._errors as error:
            raise _in_words(error) from None
        self.packets, self.decoded = 0, 0
        self._blocks = self._decode()
        self._held = next(self._blocks, None)
        if self._held is None:
            raise DamagedError("it holds no audio that could be decoded")
        self.channels = self._held.shape[1]

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Floats32:
        """The next samples, float32 (at most `frames`, channels); none at the end."""
        parts: list[Floats32] = []
        wanted = frames
        while wanted and self._held is not None:
            part, self._held = self._held[:wanted], self._held[wanted:]
            parts.append(part)
            wanted -= len(part)
            if not len(self._held):
                self._held = next(self._blocks, None)
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), dtype=np.float32)

    def seek(self, frames: int) -> None:
        """Nothing to do: who opens it in the midst of a file has read as far as that."""

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def check_length(self) -> None:
        """Compare what has been decoded, all of it, with what the container announces.

        Raises:
            DamagedError: there is less.
        """
        names = EXACT & set(self._container.format.name.split(","))
        if "mov" in names and self.packets < self.stream.frames:
            raise DamagedError(
                f"it is cut short: the header announces {self.stream.frames:,} packets, {self.packets:,} are there"
            )
        if not names:
            return
        if self.stream.duration and self.stream.time_base:
            seconds = float(self.stream.duration * self.stream.time_base)
        else:
            alone = len(self._container.streams) == 1
            seconds = (self._container.duration or 0) / 1e6 if alone else 0.0
        there = self.decoded / self.samplerate
        if there < seconds - TOLERANCE:
            raise DamagedError(f"it is cut short: the header announces {seconds:.2f} s, {there:.2f} s are there")

    def _decode(self) -> Iterator[Floats32]:
        self.samplerate, channels = 0, 0
        try:
            for packet in self._container.demux(self.stream):
                self.packets += packet.size > 0
                for frame in packet.decode():
                    block = _as_floats(frame.to_ndarray(), frame)
                    self.samplerate = self.samplerate or frame.sample_rate
                    channels = channels or block.shape[1]
                    if (frame.sample_rate, block.shape[1]) != (self.samplerate, channels):
                        raise DamagedError("it changes its sample rate or its channels on the way; convert it first")
                    self.decoded += len(block)
                    if len(block):
                        yield block
        except self._errors as error:
            raise _in_words(error) from None


def _in_words(error: Exception) -> DamagedError:
    if isinstance(error, DamagedError):
        return error
    words = getattr(error, "strerror", None) or str(error)
    # FFmpeg has codes without words.
    words = "FFmpeg cannot decode it" if words.startswith("Error number") else words
    return DamagedError(f"it is corrupt or cut short ({words})")


def _as_floats(samples: np.ndarray, frame: Any) -> Floats32:
    """Samples of a frame of any format as float32 (samples, channels)."""
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, dtype=np.float32)
    if samples.dtype == np.uint8:
        samples = samples.astype(np.int16) - 128
        return (samples / np.float32(128)).astype(np.float32)
    return (samples * (1 / 2.0 ** (8 * samples.dtype.itemsize - 1))).astype(np.float32)


def flac_md5(blocks: Iterable[Floats32], bits: int) -> tuple[bytes, int]:
    """FLAC's MD5 of decoded samples, blocks (samples, channels) that come of integers of `bits`, and their number."""
    digest, count = hashlib.md5(usedforsecurity=False), 0
    width = math.ceil(bits / 8)
    for block in blocks:
        count += len(block)
        integers = np.rint(block.astype(np.float64) * 2.0 ** (bits - 1)).astype("<i4")
        digest.update(integers.reshape(-1, 1).view(np.uint8)[:, :width].tobytes())
    return digest.digest(), count
