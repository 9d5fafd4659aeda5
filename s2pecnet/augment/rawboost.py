"""RawBoost: linear and non-linear convolutive noise, impulsive noise and stationary noise, on the raw waveform.

Source: Tak et al., "RawBoost: a raw data boosting and augmentation method applied to automatic speaker verification
anti-spoofing", ICASSP 2022, arXiv:2111.04433; it computes what the released code computes, in the order of its draws:
with `numpy.random.RandomState(seed)` a chain gives what the released functions give after `numpy.random.seed(seed)`.

The filters are applied by overlap-save with short FFTs, and the powers of algorithm 1 are summed before one inverse
transform: a small part of the time of the direct convolutions.
"""

import functools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from s2pecnet.config.augmentation import RawBoost
from s2pecnet.conventions import SAMPLE_RATE

Floats = NDArray[np.float64]
Waveform = NDArray[np.float32] | NDArray[np.float64]
# Both have the methods that are used here.
Draws = np.random.Generator | np.random.RandomState

# An edge of a notch that falls outside of (0, SAMPLE_RATE / 2) comes to lie so far inside, in Hz.
EDGE = 0.001
# Frequencies, from 0 on and without the highest, among which the gain of a filter is sought.
BINS = 512
# Blocks of a waveform that are filtered at a time.
BLOCKS = 8
# What each algorithm above 3 is: these, one after the other. 8 is 1 and 2 side by side.
SERIES = {4: (1, 2, 3), 5: (1, 2), 6: (1, 3), 7: (2, 3)}


def rawboost(x: Waveform, options: RawBoost, rng: Draws) -> NDArray[np.float32]:
    """A complete utterance with the noise of `options.algorithm`.

    Args:
        x: (samples,), 16 kHz, taken as float32.

    Returns:
        float32 (samples,). Stationary noise may take it beyond [-1, 1]; silence stays silent.
    """
    x = np.asarray(x, dtype=np.float32)
    if options.algorithm == 8:
        convolutive = convolutive_noise(x, options, rng)
        y: Waveform = peak_limited(convolutive + impulsive_noise(x, options, rng))
    else:
        y = x
        for one in SERIES.get(options.algorithm, (options.algorithm,)):
            y = {1: convolutive_noise, 2: impulsive_noise, 3: stationary_noise}[one](y, options, rng)
    return y.astype(np.float32, copy=False)


def convolutive_noise(x: Waveform, options: RawBoost, rng: Draws) -> Floats:
    """Algorithm 1: the sum of the powers x, x^2, ... x^N_f, each through a notch filter of its own; float64."""
    low, high = options.minG, options.maxG
    filters = []
    for power in range(options.N_f):
        filters.append(drawn_filter(options, low, high, rng))
        if not power:
            low, high = low - options.minBiasLinNonLin, high - options.maxBiasLinNonLin
    return peak_limited_without_mean(sum_of_filtered_powers(x, filters))


def impulsive_noise(x: Waveform, options: RawBoost, rng: Draws) -> Waveform:
    """Algorithm 2: at most P per cent of the samples deviate in proportion to themselves; of the type of `x`."""
    count = int(len(x) * (_uniform(0, options.P, rng) / 100))
    if isinstance(rng, np.random.RandomState):
        places = rng.permutation(len(x))[:count]
    else:
        # The same sets, without drawing the rest of the permutation.
        places = rng.choice(len(x), count, replace=False, shuffle=False)
    return with_impulses(x, places, rng.random(count), rng.random(count), options.g_sd)


def stationary_noise(x: Waveform, options: RawBoost, rng: Draws) -> Waveform:
    """Algorithm 3: white noise through a notch filter, added at a signal-to-noise ratio; not limited.

    Computed in float32, which nothing follows in any series, so that it is all that is rounded.
    """
    if isinstance(rng, np.random.RandomState):
        white = rng.standard_normal(len(x)).astype(np.float32)
    else:
        white = standard_normals(len(x), rng)
    notches = drawn_filter(options, options.minG, options.maxG, rng)
    return with_coloured_noise(x, white, notches, _uniform(options.SNRmin, options.SNRmax, rng))


# ------------------------------------------------------------------- what the algorithms are made of, without draws


def drawn_filter(options: RawBoost, low: float, high: float, rng: Draws) -> Floats:
    """A notch filter with a gain between `low` and `high` dB: 3 draws a band, and one for the gain in any case."""
    bands = [
        (
            _uniform(options.minF, options.maxF, rng),
            _uniform(options.minBW, options.maxBW, rng),
            int(_uniform(options.minCoeff, options.maxCoeff, rng)),
        )
        for _ in range(options.nBands)
    ]
    centres, widths, taps = map(np.array, zip(*bands, strict=True))
    return notch_filter(centres, widths, taps, _uniform(low, high, rng))


def notch_filter(centres: Floats, widths: Floats, taps: NDArray[np.int64], gain_db: float) -> Floats:
    """Band-stop filters in a row, scaled so that the largest gain is `gain_db`.

    Args:
        centres, widths: of each band, in Hz.
        taps: of each band's filter; an even number becomes the next odd one.

    Returns:
        the coefficients, float64, an odd number of them.
    """
    b = np.ones(1)
    for centre, width, count in zip(centres, widths, taps, strict=True):
        low, high = centre - width / 2, centre + width / 2
        low = low if low > 0 else EDGE
        high = high if high < SAMPLE_RATE / 2 else SAMPLE_RATE / 2 - EDGE
        count += 1 - count % 2
        # The window method: the ideal band-stop's impulse response under a Hamming window, with gain 1 at 0 Hz.
        sine, window = _of_taps(count)
        ideal = (np.sin(2 * low / SAMPLE_RATE * sine) - np.sin(2 * high / SAMPLE_RATE * sine)) * window
        ideal[count // 2] = 1 - 2 * (high - low) / SAMPLE_RATE
        b = np.convolve(ideal / ideal.sum(), b)
    # The response at 512 frequencies is a spectrum of 1024; taps beyond that many fold back without changing it.
    folded = np.zeros(-(-len(b) // (2 * BINS)) * 2 * BINS)
    folded[: len(b)] = b
    response = np.abs(np.fft.rfft(folded.reshape(-1, 2 * BINS).sum(axis=0))[:BINS])
    return b * (10 ** (gain_db / 20) / response.max())


def sum_of_filtered_powers(x: Waveform, filters: list[Floats], precision: type[np.floating[Any]] = np.float64) -> Any:
    """x through filters[0], plus x^2 through filters[1], ...: (samples,), computed in `precision`.

    As in the released code, the output of a filter with M taps (an odd number) begins at its tap (M + 1) / 2, one
    sample before the middle; and powers are those of float32.
    """
    from scipy import fft

    longest = max(map(len, filters))
    size = 1024
    while size < 4 * longest:
        size *= 2
    # Output n is the sum of b[k] x[n + ahead - k]; filters of different lengths are put on a common `ahead`.
    ahead = (longest + 1) // 2
    spectra = []
    for b in filters:
        shifted = np.zeros(longest, dtype=precision)
        start = ahead - (len(b) + 1) // 2
        shifted[start : start + len(b)] = b
        spectra.append(fft.rfft(shifted, size))
    # Of each block the last `hop` outputs are those of the convolution, the others wrap around.
    hop = size - longest + 1
    blocks = -(-len(x) // hop)
    padded = np.zeros(blocks * hop + longest - 1, dtype=precision)
    padded[longest - 1 - ahead :][: len(x)] = x
    framed, y = sliding_window_view(padded, size)[::hop], np.empty((blocks, hop), dtype=precision)
    # A few blocks at a time: what is computed of them stays in the processor's cache.
    for first in range(0, blocks, BLOCKS):
        product = part = framed[first : first + BLOCKS]
        total = fft.rfft(part) * spectra[0]
        for spectrum in spectra[1:]:
            # In float64 and then rounded: what a power of float32 is, without its slow function.
            product = product * part
            total += fft.rfft(product.astype(x.dtype).astype(precision)) * spectrum
        y[first : first + BLOCKS] = fft.irfft(total, size)[:, longest - 1 :]
    return y.reshape(-1)[: len(x)]


def with_impulses(x: Waveform, places: NDArray[np.int64], u1: Floats, u2: Floats, gain: float) -> Waveform:
    """x, at `places` times 1 + gain (2 u1 - 1) (2 u2 - 1), peak-limited; of the type of `x`."""
    y, hit = x.copy(), x[places]
    y[places] = hit + gain * hit * ((2 * u1 - 1) * (2 * u2 - 1))
    return peak_limited(y)


def with_coloured_noise(x: Waveform, white: Waveform, notches: Floats, snr_db: float) -> Waveform:
    """x plus `white` through a filter, at a signal-to-noise ratio in dB over the complete utterance."""
    # The released code divides by the noise's peak first, which the division by its norm takes back.
    noise: Waveform = sum_of_filtered_powers(white, [notches], np.float32)
    noise *= _norm(x) / _norm(noise) / 10 ** (snr_db / 20)
    noise += x
    return noise


def standard_normals(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Independent standard normals, by Box and Muller: a third of the time of the generator's own way.

    The 24 bits of a uniform end the tails at 5.8, beyond which lies one of 10^8.
    """
    u = rng.random((2, -(-count // 2)), dtype=np.float32)
    radius, angle = np.sqrt(-2 * np.log1p(-u[0])), np.float32(2 * np.pi) * u[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def peak_limited(y: Waveform) -> Waveform:
    """y, divided by its peak where that is above 1."""
    # Without an array of magnitudes.
    peak = max(y.max(), -y.min())
    return y / peak if peak > 1 else y


def peak_limited_without_mean(y: Floats) -> Floats:
    """y without its mean, peak-limited."""
    return np.asarray(peak_limited(y - y.mean()), dtype=np.float64)


def _uniform(low: float, high: float, rng: Draws) -> float:
    """One draw; `low` may be above `high`, as the released gains have it."""
    return float(low + (high - low) * rng.random())


def _norm(x: Waveform) -> float:
    # Not by BLAS, whose sum depends on its threads.
    return float(np.sqrt(np.einsum("n,n->", x, x, dtype=np.float64)))


@functools.cache
def _of_taps(taps: int) -> tuple[Floats, Floats]:
    """Of a filter with so many taps: pi times the distance from the middle, and a Hamming window over that distance."""
    distance = np.asarray(np.pi * (np.arange(taps) - (taps - 1) / 2), dtype=np.float64)
    window = np.asarray(0.54 + 0.46 * np.cos(np.linspace(-np.pi, np.pi, taps)), dtype=np.float64)
    distance[taps // 2] = 1.0
    return distance, window / distance
