"""A stream of samples at any rate to the same stream at 16 kHz.

Band-limited interpolation with a Hann-windowed sinc, 6 zero crossings, cut-off at 0.99 of the lower Nyquist frequency:
what torchaudio.functional.resample computes with its defaults in float64, from which its float32 differs by less than
1e-3 (J. O. Smith, "Digital audio resampling", ccrma.stanford.edu/~jos/resample). It is written out here because
torchaudio's takes complete waveforms only, and gigabytes at a rate that shares no large divisor with 16,000.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from s2pecnet.conventions import SAMPLE_RATE

Floats32 = NDArray[np.float32]

# Samples resampled at a time.
BLOCK = 1 << 17
ZERO_CROSSINGS, ROLL_OFF = 6, 0.99
# With more phases than this, one output after the other is faster than one phase after the other.
MOST_PHASES_AT_ONCE = 512


def resample(waveform: Floats32, rate: int) -> Floats32:
    """A complete waveform (samples,) at `rate` Hz to 16 kHz: (ceil(16000 / rate * samples),), float32."""
    resampler = Resampler(rate)
    return np.concatenate([*resampler.push(waveform), *resampler.flush(), np.zeros(0, dtype=np.float32)])


def filter_size(rate: int) -> int:
    """How many numbers the filters of a rate have; thousands for rates in use, billions for absurd ones."""
    step, phases, _, reach = _geometry(rate)
    return 0 if step == phases else phases * (2 * reach + 2)


class Resampler:
    """A stream of blocks at `rate` Hz to the same stream at 16 kHz, without seams.

    With rate : 16000 = step : phases in lowest terms, output n lies at input n * step / phases, and there are `phases`
    different filters, each `taps` long; output n takes filter n % phases.
    """

    def __init__(self, rate: int):
        self.step, self.phases, cutoff, self.reach = _geometry(rate)
        self.taps = 2 * self.reach + 2
        # (phases, taps): the windowed sinc at the distance of each tap from the output.
        self.filters = np.zeros((0, 0), dtype=np.float32)
        if self.step != self.phases:
            fraction = np.arange(self.phases) * self.step % self.phases / self.phases
            distance = np.arange(self.taps) - self.reach - fraction[:, None]
            crossings = np.clip(distance * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
            window = np.cos(np.pi / 2 * crossings / ZERO_CROSSINGS) ** 2
            self.filters = np.asarray(cutoff * np.sinc(crossings) * window, dtype=np.float32)
        # Inputs that are still needed, the index of the first of them, and what came in and went out in all.
        self.held: Floats32 = np.zeros(self.reach, dtype=np.float32)
        self.begin, self.inputs, self.outputs = -self.reach, 0, 0

    def push(self, block: Floats32) -> Iterator[Floats32]:
        """The outputs that `block` (samples,) completes, in blocks of bounded size."""
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
            count = min(end - self.outputs, BLOCK)
            outputs = np.empty(count, dtype=np.float32)
            windows = sliding_window_view(self.held, self.taps)
            offset = self.reach + self.begin
            if self.phases > MOST_PHASES_AT_ONCE:
                numbers = np.arange(self.outputs, self.outputs + count)
                firsts = numbers * self.step // self.phases - offset
                np.einsum("nt,nt->n", windows[firsts], self.filters[numbers % self.phases], out=outputs)
            else:
                for number in range(self.outputs, self.outputs + min(count, self.phases)):
                    # Outputs of one phase lie `step` inputs apart and share a filter.
                    mine = outputs[number - self.outputs :: self.phases]
                    inputs = windows[number * self.step // self.phases - offset :: self.step][: len(mine)]
                    # Not a matrix product: its rounding would depend on how the stream is cut into blocks.
                    np.einsum("nt,t->n", inputs, self.filters[number % self.phases], out=mine)
            yield outputs
            self.outputs += count
            done = self.outputs * self.step // self.phases - self.reach - self.begin
            self.held, self.begin = self.held[done:], self.begin + done


def _geometry(rate: int) -> tuple[int, int, float, int]:
    """Step, phases, cut-off in parts of the input's Nyquist frequency, and taps to either side of an output."""
    common = math.gcd(rate, SAMPLE_RATE)
    step, phases = rate // common, SAMPLE_RATE // common
    cutoff = min(1.0, phases / step) * ROLL_OFF
    return step, phases, cutoff, math.ceil(ZERO_CROSSINGS / cutoff)
