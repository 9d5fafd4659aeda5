"""The signals of the demo corpus: a synthetic voice as bona fide, and vocoders that re-synthesise it as spoofs.

In reading order:

    Speaker    drawn once per speaker: pitch, vocal-tract length, irregularity, breathiness
    Voice      source-filter "speech": jittered glottal pulses, aspiration, moving formants,
               frication, pauses, a small room; this is the bona fide clip
    spectra    the framing, filtering and transforms that voice and vocoders share
    ATTACKS    twelve vocoder-like re-syntheses of such voices: A01-A06 in train and dev,
               A07-A12 (other methods, or the same idea with other parameters) in eval
    finish     one last stage for every clip, bona fide or spoof: noise floor, fades, level

What tells the classes apart is what tells early vocoders from voices: the voice is irregular from one
cycle and one frame to the next and has sharp resonances; a vocoder averages over frames, sees the
spectrum through few bands or coefficients, and excites it by even pulses, plain noise or made-up phases.
What must not tell them apart (duration, level, pauses, noise floor) is drawn alike for both.

Conventions: signals are float arrays of shape (samples,) at 16 kHz; spectra are (frames, bins);
frequencies are in Hz. Functions that draw take the generator that they draw from, and nothing else is random.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from s2pecnet.conventions import SAMPLE_RATE

Array = npt.NDArray[Any]
Rng = np.random.Generator

# Framing of the time-varying filters: 16 ms windows every 8 ms, with room for a 16 ms response.
FILTER_WINDOW, FILTER_HOP, FILTER_FFT = 256, 128, 512
# The centre in Hz of each bin of a response that `filter_frames` takes, shape (bins,).
BIN_FREQUENCIES = np.fft.rfftfreq(FILTER_FFT, 1 / SAMPLE_RATE)
VOWELS = np.array(  # F1, F2, F3 in Hz of a man's vowels, rounded from Peterson and Barney (1952)
    [[270, 2290, 3010], [390, 1990, 2550], [530, 1840, 2480], [660, 1720, 2410], [730, 1090, 2440],
     [570, 840, 2410], [440, 1020, 2240], [300, 870, 2240], [640, 1190, 2390], [490, 1350, 1690]],
    dtype=float,
)  # fmt: skip


# ---------------------------------------------------------------------------------- the voice


class Speaker(NamedTuple):
    """What stays the same from clip to clip; drawn independently of the class."""

    name: str
    f0: float  # Hz
    tract: float  # formant scale, 1 = a man's vocal tract
    jitter: float  # standard deviation of a cycle's length, as a fraction
    shimmer: float  # the same of a cycle's amplitude
    breath: float  # aspiration relative to the pulses


class Voice(NamedTuple):
    """A clean voice, with what an ideal vocoder analysis would know of it."""

    samples: Array  # (samples,)
    f0: Array  # (samples,) Hz, also defined where unvoiced
    voicing: Array  # (samples,) 0..1


def draw_speaker(name: str, rng: Rng) -> Speaker:
    """A speaker drawn at random: pitch 90-230 Hz, and a vocal tract that shortens as pitch rises."""
    height = rng.uniform()
    return Speaker(
        name=name,
        f0=90 + 140 * height,
        tract=0.95 + 0.2 * height + rng.normal(0, 0.02),
        jitter=rng.uniform(0.012, 0.024),
        shimmer=rng.uniform(0.12, 0.24),
        breath=rng.uniform(0.06, 0.14),
    )


def synthesise_voice(speaker: Speaker, seconds: float, rng: Rng) -> Voice:
    """A phrase of `seconds` of random syllables in the speaker's voice, recorded in a small room."""
    samples = round(seconds * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    score = _draw_score(speaker, seconds, rng)
    voicing = np.interp(time, score[0], score[1])
    # Declination, an accent per target, and slow irregularity.
    declination = -rng.uniform(0.05, 0.25) * time / time[-1]
    accents = np.interp(time, score[0], rng.normal(0, 0.06, size=score.shape[1]))
    knots = np.arange(0, time[-1] + 0.05, 0.04)
    wobble = np.interp(time, knots, rng.normal(0, 0.012, size=len(knots)))
    f0 = speaker.f0 * np.exp(rng.normal(0, 0.06) + declination + accents + wobble)
    flow, flow_slope = _glottal_cycles(speaker, f0, rng)
    breath = speaker.breath * rng.normal(size=samples) * (0.15 + flow)
    frication = rng.normal(size=samples) * np.interp(time, score[0], score[2])

    frame_time = np.arange(frame_count(samples)) * FILTER_HOP / SAMPLE_RATE
    centre, *formants = (np.interp(frame_time, score[0], row) for row in score[3:])
    moving = np.stack(formants, axis=1) * rng.normal(1, 0.02, size=(len(centre), 3))  # no tongue holds still
    sound = filter_frames(voicing * (flow_slope + breath), _tract_response(moving, speaker, rng))
    band = np.exp(-0.5 * ((BIN_FREQUENCIES - centre[:, None]) / 1500) ** 2) + 0.03
    sound += filter_frames(frication, band)

    # Unsteady loudness, about 2 dB from one 12 ms to the next.
    knots = np.arange(0, time[-1] + 0.024, 0.012)
    sound *= np.exp(np.interp(time, knots, rng.normal(0, 0.25, size=len(knots))))
    # The room: the direct path, then decaying noise (RT60 0.1-0.25 s).
    length = 4000
    decay = np.exp(-6.9 * np.arange(length) / SAMPLE_RATE / rng.uniform(0.1, 0.25))
    room = rng.normal(size=length) * decay * rng.uniform(0.005, 0.02)
    room[0] = 1.0
    return Voice(convolve(sound, room), f0, voicing)


def _draw_score(speaker: Speaker, seconds: float, rng: Rng) -> Array:
    """Articulation as break points, linearly interpolated in between: shape (7, targets).

    Rows: seconds, voicing (0..1), frication, centre of the frication in Hz, three formants in Hz.
    """

    def vowel() -> Array:
        return VOWELS[rng.integers(len(VOWELS))] * speaker.tract * rng.normal(1, 0.03, size=3)

    time = rng.uniform(0.08, 0.2)
    end = seconds - rng.uniform(0.08, 0.2)
    formants = vowel()
    targets = [(0.0, 0.0, 0.0, 4000.0, *formants), (time, 0.0, 0.0, 4000.0, *formants)]
    while time < end - 0.1:
        # Segments (seconds, voicing, frication): an onset of some kind, a vowel, sometimes a pause.
        held_vowel = (rng.uniform(0.08, 0.2), rng.uniform(0.7, 1.0), 0.0)
        onset = {
            "fricative": [(rng.uniform(0.05, 0.11), 0.0, rng.uniform(0.05, 0.25))],
            "stop": [(rng.uniform(0.03, 0.06), 0.0, 0.0), (0.02, 0.0, rng.uniform(0.1, 0.4))],
            "voiced": [(rng.uniform(0.03, 0.06), rng.uniform(0.25, 0.5), 0.0)],
            "none": [],
        }[str(rng.choice(["fricative", "stop", "voiced", "none"]))]
        pause = [(rng.uniform(0.06, 0.15), 0.0, 0.0)] if rng.uniform() < 0.15 else []
        for length, voicing, friction in [*onset, held_vowel, *pause]:
            # Each target is reached within 15 ms and then held for its length.
            held = (voicing, friction, rng.uniform(2500, 6500), *formants)
            targets.append((time + 0.015, *held))
            time = min(time + max(length, 0.02), end)
            targets.append((time, *held))
        formants = vowel()
    score = np.array([*targets, (end + 0.03, 0.0, 0.0, 4000.0, *formants)]).T
    score[0] = np.maximum.accumulate(score[0])  # a target cut short by `end` must not step back
    return score


def _glottal_cycles(speaker: Speaker, f0: Array, rng: Rng) -> tuple[Array, Array]:
    """Rosenberg's glottal flow (0..1) and its slope, cycle by cycle with jitter and shimmer."""
    phase = np.cumsum(f0) / SAMPLE_RATE
    cycles = int(phase[-1]) + 3
    edges = np.interp(np.arange(cycles - 2), phase, np.arange(len(f0)))
    edges += rng.normal(0, speaker.jitter, size=len(edges)) * SAMPLE_RATE / speaker.f0
    edges = np.concatenate([[-1.0], np.sort(edges), [len(f0) + 1.0]])
    now = np.arange(len(f0))
    cycle = np.searchsorted(edges, now, side="right") - 1
    where = (now - edges[cycle]) / (edges[cycle + 1] - edges[cycle])
    opening = (0.4 + rng.normal(0, 0.02, size=cycles))[cycle]
    closing = (0.16 + rng.normal(0, 0.015, size=cycles)).clip(0.1)[cycle]
    loudness = np.exp(rng.normal(0, speaker.shimmer, size=cycles))[cycle]

    rising, falling = where < opening, (where >= opening) & (where < opening + closing)
    up, down = np.pi * where / opening, np.pi / 2 * (where - opening) / closing
    flow = np.where(rising, 0.5 * (1 - np.cos(up)), np.where(falling, np.cos(down), 0.0))
    slope = np.where(rising, np.sin(up) / opening, np.where(falling, -np.sin(down) / closing, 0.0))
    return loudness * flow, loudness * slope / 8


def _tract_response(formants: Array, speaker: Speaker, rng: Rng) -> Array:
    """Cascade of resonators: (frames, 3) formants in Hz -> complex response (frames, bins)."""
    fixed = np.array([3500.0, 4500.0, 5600.0, 6700.0]) * speaker.tract * rng.normal(1, 0.02, size=4)
    centres = np.concatenate([formants, np.broadcast_to(fixed, (len(formants), 4))], axis=1)
    widths = np.array([60.0, 80.0, 100.0, 130.0, 160.0, 200.0, 240.0]) * rng.uniform(0.8, 1.4)
    delay = np.exp(-2j * np.pi * np.arange(FILTER_FFT // 2 + 1) / FILTER_FFT).astype(np.complex64)
    response = np.ones((len(formants), len(delay)), np.complex64)
    for k, width in enumerate(widths):
        radius = np.exp(-np.pi * width / SAMPLE_RATE)
        first = (-2 * radius * np.cos(2 * np.pi * centres[:, k] / SAMPLE_RATE)).astype(np.float32)[:, None]
        second = np.float32(radius**2)
        response *= (1 + first + second) / (1 + delay * (first + second * delay))
    return response


# ------------------------------------------------------------------------- short-time spectra


def frame_count(samples: int) -> int:
    """How many frames `filter_frames` cuts from a signal of `samples`."""
    return samples // FILTER_HOP + 2


def filter_frames(sound: Array, response: Array) -> Array:
    """Pass `sound` (samples,) through a filter that changes from frame to frame.

    Args:
        sound: shape (samples,).
        response: real or complex, shape (frame_count(samples), bins).
    """
    frames = _cut(sound, FILTER_WINDOW, FILTER_HOP, frame_count(len(sound)), FILTER_WINDOW // 2)
    spectra = np.fft.rfft(frames * np.hanning(FILTER_WINDOW + 1)[:-1], FILTER_FFT)
    shaped = np.fft.irfft(spectra * response, FILTER_FFT)
    return _overlap_add(shaped, FILTER_HOP)[FILTER_WINDOW // 2 :][: len(sound)]


def stft(sound: Array, size: int = 512) -> Array:
    """Complex spectra (frames, size // 2 + 1) of `sound` (samples,): Hann window of `size`, hop of a quarter window."""
    hop = size // 4
    return np.fft.rfft(_cut(sound, size, hop, len(sound) // hop + 4, 3 * hop) * np.hanning(size + 1)[:-1])


def istft(spectra: Array, samples: int) -> Array:
    """The inverse of `stft`: the signal of `samples` whose spectra come nearest (least squares)."""
    size = 2 * (spectra.shape[1] - 1)
    hop = size // 4
    sound = _overlap_add(np.fft.irfft(spectra) * np.hanning(size + 1)[:-1], hop)
    return sound[3 * hop :][:samples] / 1.5  # four squared Hann windows at a quarter hop sum to 1.5


def convolve(sound: Array, response: Array) -> Array:
    """Linear convolution of `sound` (samples,) with `response` (taps,) by FFT, cut to the length of `sound`."""
    size = 1 << (len(sound) + len(response) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]


def _cut(sound: Array, size: int, hop: int, frames: int, lead: int) -> Array:
    padded = np.zeros((frames - 1) * hop + size)
    padded[lead : lead + len(sound)] = sound[: len(padded) - lead]
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _overlap_add(frames: Array, hop: int) -> Array:
    count, size = frames.shape
    pieces = frames.reshape(count, size // hop, hop)
    total = np.zeros((count + size // hop - 1, hop))
    for k in range(size // hop):
        total[k : k + count] += pieces[:, k]
    return total.ravel()


# ---------------------------------------------------------------------------------- the spoofs


def griffin_lim(magnitude: Array, samples: int, iterations: int, rng: Rng, momentum: float = 0.0) -> Array:
    """A signal (samples,) for a magnitude spectrogram, from random phase (Griffin and Lim, 1984).

    With `momentum` above 0 it is the fast variant of Perraudin, Balazs and Sondergaard (2013).

    Args:
        magnitude: shape (frames, bins), framed as `stft` does with a window of 2 * (bins - 1).
        samples: length of the signal.
        iterations: the fewer, the more of the random phase is heard; 0: nothing else.
    """
    size = 2 * (magnitude.shape[1] - 1)
    spectra = magnitude * np.exp(2j * np.pi * rng.uniform(size=magnitude.shape))
    previous = np.zeros_like(spectra)
    for _ in range(iterations):
        consistent = stft(istft(spectra, samples), size)
        step = consistent + momentum * (consistent - previous)
        spectra = magnitude * step / (np.abs(step) + 1e-9)
        previous = consistent
    return istft(spectra, samples)


def through_mel(magnitude: Array, bands: int) -> Array:
    """A magnitude spectrogram (frames, bins) as a mel filter bank of `bands` would pass it on; same shape."""
    bins = magnitude.shape[1]
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 2)
    edges = (700 * (10 ** (mel / 2595) - 1)) / (SAMPLE_RATE / 2) * (bins - 1)
    # Narrow triangles at low frequencies still reach their neighbours' bins.
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    axis = np.arange(bins)
    rising = (axis - left) / np.maximum(centre - left, 1.0)
    falling = (right - axis) / np.maximum(right - centre, 1.0)
    bank = np.minimum(rising, falling).clip(0)
    return magnitude @ bank.T @ (bank / bank.sum(0).clip(1e-3))


def log_envelope(voice: Voice, coefficients: int, width: int) -> Array:
    """Natural log of a voice's spectral envelope, smoothed by cepstrum and over `width` frames; (frame_count, bins)."""
    sound = voice.samples
    frames = _cut(sound, FILTER_FFT, FILTER_HOP, frame_count(len(sound)), FILTER_FFT // 2)
    cepstra = np.fft.irfft(np.log(np.abs(np.fft.rfft(frames * np.hanning(FILTER_FFT))) + 1e-4))
    cepstra[:, coefficients : FILTER_FFT - coefficients + 1] = 0
    return smooth(np.fft.rfft(cepstra).real, width)


def level(voice: Voice, width: int, size: int = 512) -> Array:
    """A voice's magnitudes (frames, size // 2 + 1), averaged over `width` frames (odd)."""
    return smooth(np.abs(stft(voice.samples, size)), width)


def minimum_phase(envelope: Array) -> Array:
    """Complex minimum-phase response (frames, bins) of a log envelope of that shape."""
    cepstra = np.fft.irfft(envelope)
    half = FILTER_FFT // 2
    cepstra[:, 1:half] *= 2
    cepstra[:, half + 1 :] = 0
    return np.exp(np.fft.rfft(cepstra))


def pulses(f0: Array) -> Array:
    """Unit-power pulse train that follows `f0` (samples,) in Hz, without any irregularity."""
    phase = np.cumsum(f0) / SAMPLE_RATE
    where = np.interp(np.arange(1, int(phase[-1]) + 1), phase, np.arange(len(f0)))
    left = where.astype(int).clip(0, len(f0) - 2)
    train = np.zeros(len(f0))
    np.add.at(train, left, 1 - (where - left))
    np.add.at(train, left + 1, where - left)
    return train * np.sqrt(SAMPLE_RATE / f0)


def smooth(frames: Array, width: int) -> Array:
    """Moving average over `width` frames (odd) of an array (frames, bins)."""
    padded = np.pad(frames, ((width // 2 + 1, width // 2), (0, 0)), mode="edge").cumsum(0)
    return (padded[width:] - padded[:-width]) / width


def _stepwise(track: Array, seconds: float) -> Array:
    """A track held constant over pieces of `seconds`, at each piece's first value."""
    piece = round(seconds * SAMPLE_RATE)
    return np.repeat(track[::piece], piece)[: len(track)]


def source(voice: Voice, f0: Array, rng: Rng) -> Array:
    """Pulses where the voice is voiced, noise elsewhere: the classic hard switch."""
    return np.where(voice.voicing > 0.2, pulses(f0), rng.normal(size=len(f0)))


def _random_phases(voice: Voice, rng: Rng) -> Array:
    size = int(rng.choice([256, 512]))
    return griffin_lim(level(voice, 4096 // size - 1, size), len(voice.samples), 0, rng)


def _spectral_peaks(voice: Voice, rng: Rng) -> Array:
    """A sinusoidal model: only the strongest spectral peaks of each frame are kept."""
    spectra = stft(voice.samples, 1024)
    level = np.abs(spectra)
    peak = np.zeros(level.shape, bool)
    peak[:, 1:-1] = (level[:, 1:-1] > level[:, :-2]) & (level[:, 1:-1] >= level[:, 2:])
    ranked = np.sort(np.where(peak, level, 0), axis=1)
    kept = np.pad(peak & (level >= ranked[:, -int(rng.integers(15, 30)), None]), ((0, 0), (1, 1)))
    return istft(spectra * (kept[:, :-2] | kept[:, 1:-1] | kept[:, 2:]), len(voice.samples))


def _smoothed_vocoder(voice: Voice, rng: Rng) -> Array:
    """Mixed excitation (noise above 4 kHz) through an envelope smoothed in time and frequency."""
    response = minimum_phase(log_envelope(voice, 14, 9))
    high = 1 / (1 + np.exp(-(BIN_FREQUENCIES - 4000) / 300))
    noise = rng.normal(size=len(voice.f0))
    buzz = filter_frames(source(voice, voice.f0, rng), response * (1 - high))
    return buzz + filter_frames(noise, response * high)


def _harmonics(voice: Voice, rng: Rng) -> Array:
    """Harmonic sines with smoothed amplitudes up to 4.5 kHz, and noise above or where unvoiced."""
    envelope = np.exp(log_envelope(voice, 18, 7))
    phase = 2 * np.pi * np.cumsum(voice.f0) / SAMPLE_RATE
    start = rng.uniform(0, 2 * np.pi)
    tones = np.zeros(len(phase))
    for k in range(1, int(4500 / voice.f0.max()) + 1):
        tones += np.cos(k * phase + start * k**2)
    low = np.where(voice.voicing > 0.2, tones, rng.normal(size=len(phase)) * tones.std())
    high = BIN_FREQUENCIES > 4500
    return filter_frames(low, envelope * ~high) + filter_frames(rng.normal(size=len(phase)), envelope * high)


def _pulse_phases(voice: Voice, rng: Rng) -> Array:
    """The voice's magnitudes on the phases of a monotonous pulse train."""
    monotone = np.full(len(voice.f0), voice.f0.mean())
    carrier = stft(pulses(monotone) + 0.1 * rng.normal(size=len(monotone)))
    return istft(level(voice, 7) * carrier / (np.abs(carrier) + 1e-9), len(voice.samples))


def _sparse_vocoder(voice: Voice, rng: Rng) -> Array:
    """A pulse vocoder whose envelope is sent every 40 ms and glides in between; its pitch steps every 200 ms."""
    envelope = log_envelope(voice, 18, 5)
    sent = np.arange(len(envelope)) / 5
    last = sent.astype(int) * 5
    following = (last + 5).clip(max=len(envelope) - 1)
    glide = (sent % 1)[:, None]
    sparse = (1 - glide) * envelope[last] + glide * envelope[following]
    return filter_frames(source(voice, _stepwise(voice.f0, 0.2), rng), minimum_phase(sparse))


Attack = Callable[[Voice, Rng], Array]
KNOWN_ATTACKS: dict[str, Attack] = {
    # A pulse vocoder whose pitch steps every 100 ms.
    "A01": lambda v, rng: filter_frames(source(v, _stepwise(v.f0, 0.1), rng), minimum_phase(log_envelope(v, 16, 7))),
    # Griffin-Lim with few iterations: linear magnitudes, then those of 32 mel bands.
    "A02": lambda v, rng: griffin_lim(level(v, 9), len(v.samples), int(rng.integers(2, 5)), rng),
    "A03": lambda v, rng: griffin_lim(through_mel(level(v, 7), 32), len(v.samples), 8, rng),
    "A04": _random_phases,
    "A05": _spectral_peaks,
    "A06": _smoothed_vocoder,
}
UNSEEN_ATTACKS: dict[str, Attack] = {
    # A zero-phase vocoder in another pitch.
    "A07": lambda v, rng: filter_frames(
        source(v, v.f0 * rng.choice([0.85, 1.18]), rng), np.exp(log_envelope(v, 20, 5))
    ),
    # Griffin-Lim, the fast variant, from 24 mel bands.
    "A08": lambda v, rng: griffin_lim(through_mel(level(v, 5), 24), len(v.samples), 8, rng, momentum=0.9),
    "A09": _harmonics,
    # Griffin-Lim from log magnitudes that were averaged over time and quantised to steps of 6 dB.
    "A10": lambda v, rng: griffin_lim(
        2 ** np.round(smooth(np.log2(np.abs(stft(v.samples)) + 1e-3), 7)), len(v.samples), 5, rng
    ),
    "A11": _pulse_phases,
    "A12": _sparse_vocoder,
}
ATTACKS: dict[str, dict[str, Attack]] = {"train": KNOWN_ATTACKS, "dev": KNOWN_ATTACKS, "eval": UNSEEN_ATTACKS}


def finish(sound: Array, rng: Rng) -> Array:
    """The stage that every clip passes: noise floor, fades, level.

    It draws loudness and noise floor from the same distributions whatever the class, so that
    neither tells bona fide from spoof.

    Returns:
        int16 samples of the shape of `sound`; RMS between -36 and -26 dBFS.
    """
    sound = sound / np.sqrt(np.mean(sound**2))
    colour = np.array([1.0, rng.uniform(-0.5, 0.9)])
    noise = convolve(rng.normal(size=len(sound)), colour) / np.linalg.norm(colour)
    sound = sound + noise * 10 ** (-rng.uniform(32, 45) / 20)
    fade = np.minimum(1, np.arange(len(sound)) / (0.005 * SAMPLE_RATE))
    sound = sound * fade * fade[::-1]
    level = 10 ** (rng.uniform(-36, -26) / 20)
    sound = sound * level / np.sqrt(np.mean(sound**2))
    return np.round(sound.clip(-1, 1) * 32767).astype(np.int16)
