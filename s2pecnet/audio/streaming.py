"""Audio files of any length as windows: read from the disk block by block, ten hours in the memory of one.

    file --decode a block, mono--> Resampler, 16 kHz --> windows of `length` samples every `hop` samples

The samples are those of `audio.read_audio`: at 16 kHz to the bit; at other rates the resampler computes what
torchaudio.functional.resample computes with its defaults in float64 (Hann-windowed sinc, 6 zero crossings, cut-off at
0.99 of the lower Nyquist frequency; J. O. Smith, "Digital audio resampling", ccrma.stanford.edu/~jos/resample), from
which its float32 differs by less than 1e-3. It is written out here because torchaudio's takes whole waveforms only, and
gigabytes at a rate that shares no large divisor with 16,000, such as 44,099 Hz.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from s2pecnet.audio.decoding import BadAudio, decoded, opened, require_length
from s2pecnet.conventions import SAMPLE_RATE

Floats32 = NDArray[np.float32]

# Values decoded at a time, all channels together, and samples resampled at a time.
BLOCK = 1 << 17
ZERO_CROSSINGS, ROLL_OFF = 6, 0.99


class Window(NamedTuple):
    """Samples of a file (at most the window's length,), float32, 16 kHz, and the index of the first of them."""

    start: int
    samples: Floats32


def read_windows(path: str | Path, length: int, hop: int) -> Iterator[Window]:
    """Windows of a file, one every `hop` samples, and one that ends with the file where these leave a rest.

    A file that is not longer than `length` is one window with all its samples. Windows without any sound, all samples
    0, are left out.

    Args:
        length, hop: samples at 16 kHz, 1 <= hop <= length.

    Raises:
        BadAudio: as `audio.read_audio`; of a long file possibly after its first windows.
    """
    held, begin, start, silent = np.zeros(0, dtype=np.float32), 0, 0, True
    for block in read_blocks(path):
        held = np.concatenate((held, block))
        silent = silent and not block.any()
        while start + length <= begin + len(held):
            yield from _audible(start, held[start - begin :][:length])
            start += hop
        # The last window may have to reach back by its whole length.
        kept = max(begin, min(start, begin + len(held) - length))
        held, begin = held[kept - begin :], kept
    end = begin + len(held)
    if silent:
        raise BadAudio(f"{path}: the file is silent, all of its samples are 0")
    if start == 0 or start - hop + length < end:
        yield from _audible(max(0, end - length), held[-length:])


def read_blocks(path: str | Path) -> Iterator[Floats32]:
    """All samples of a file in pieces of bounded size, float32, mono (mean of the channels), 16 kHz.

    Raises:
        BadAudio: as `audio.read_audio`, but for silence; possibly after the first pieces.
    """
    with opened(path) as stream:
        resampler, read = Resampler(stream.samplerate), 0
        while len(block := decoded(path, stream, max(1, BLOCK // stream.channels))):
            read += len(block)
            yield from resampler.push(block)
        require_length(path, read, stream.samplerate)
        yield from resampler.flush()


def _audible(start: int, samples: Floats32) -> Iterator[Window]:
    if samples.any():
        yield Window(start, samples)


class Resampler:
    """A stream of blocks at `rate` Hz to the same stream at 16 kHz, without seams.

    With rate : 16000 = step : phases in lowest terms, output n lies at input n * step / phases, and there are `phases`
    different filters, each `taps` long; output n takes filter n % phases.
    """

    def __init__(self, rate: int):
        common = math.gcd(rate, SAMPLE_RATE)
        self.step, self.phases = rate // common, SAMPLE_RATE // common
        cutoff = min(1.0, self.phases / self.step) * ROLL_OFF
        self.reach = math.ceil(ZERO_CROSSINGS / cutoff)
        self.taps = 2 * self.reach + 2
        self.filters = self._filters(cutoff)
        # Inputs not yet done with, the index of the first of them, and what came in and went out in all.
        self.held: Floats32 = np.zeros(self.reach, dtype=np.float32)
        self.begin, self.inputs, self.outputs = -self.reach, 0, 0

    def push(self, block: Floats32) -> Iterator[Floats32]:
        """The outputs that `block` (samples,) completes, in pieces of bounded size."""
        self.inputs += len(block)
        if self.step == self.phases:
            yield block
            return
        self.held = np.concatenate((self.held, block))
        # An output is complete when the last of its taps has come in.
        complete = ((self.inputs - self.reach - 1) * self.phases - 1) // self.step + 1
        yield from self._up_to(complete)

    def flush(self) -> Iterator[Floats32]:
        """The last outputs, ceil(16000 / rate * inputs) of them in all; silence follows the last input."""
        if self.step == self.phases:
            return
        self.held = np.concatenate((self.held, np.zeros(self.taps, dtype=np.float32)))
        yield from self._up_to(-(-self.inputs * self.phases // self.step))

    def _up_to(self, end: int) -> Iterator[Floats32]:
        while self.outputs < end:
            numbers = np.arange(self.outputs, min(end, self.outputs + BLOCK))
            first = numbers * self.step // self.phases - self.reach - self.begin
            inputs = sliding_window_view(self.held, self.taps)[first]
            yield np.einsum("nt,nt->n", inputs, self.filters[numbers % self.phases])
            self.outputs += len(numbers)
            done = self.outputs * self.step // self.phases - self.reach - self.begin
            self.held, self.begin = self.held[done:], self.begin + done

    def _filters(self, cutoff: float) -> Floats32:
        """(phases, taps): the windowed sinc at the distance of each tap from the output's place."""
        fraction = np.arange(self.phases) * self.step % self.phases / self.phases
        distance = np.arange(self.taps) - self.reach - fraction[:, None]
        crossings = np.clip(distance * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = np.cos(np.pi / 2 * crossings / ZERO_CROSSINGS) ** 2
        return np.asarray(cutoff * np.sinc(crossings) * window, dtype=np.float32)
