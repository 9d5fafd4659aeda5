"""Speech coded and decoded again, by real codecs: the same length, aligned with the original.

FFmpeg's codecs through PyAV, and libsndfile for what FFmpeg does not write (Vorbis in mono, GSM). Codecs of telephones
work at 8 kHz. A codec's delay is measured once in a process, on noise, and taken out.
"""

import fractions
import functools
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2pecnet.config.augmentation import Codec, CodecName
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError

Floats32 = NDArray[np.float32]

# Silence behind the last sample, which codecs with a delay would cut off otherwise, in samples at 16 kHz: while the
# delay is measured, and beyond it when it is known.
TAIL, MARGIN = 4096, 1024


class Coder(NamedTuple):
    """A codec: how it is reached, and its bit rates.

    Attributes:
        encoder, decoder: FFmpeg's names; of libsndfile its format and subtype.
        rate: samples a second.
        sample_format: what FFmpeg's encoder takes; "": libsndfile codes.
        kbits: kbit/s; of Vorbis what it needs for speech at the levels of VORBIS_LEVELS.
        options: FFmpeg's, the faster ways where there is a choice; of Opus its encoder's complexity, 0 to 10.
    """

    encoder: str
    decoder: str
    rate: int
    sample_format: str
    kbits: tuple[float, ...]
    options: tuple[tuple[str, str], ...] = ()


# Compression levels of libsndfile.
VORBIS_LEVELS = {24: 1.0, 32: 0.8, 40: 0.6, 48: 0.4, 60: 0.2}
AMR_KBITS = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)
CODERS: dict[CodecName, Coder] = {
    "mp3": Coder("libmp3lame", "mp3float", SAMPLE_RATE, "fltp", (16, 24, 32, 48, 64), (("compression_level", "7"),)),
    "aac": Coder("aac", "aac", SAMPLE_RATE, "fltp", (16, 24, 32, 48, 64, 96), (("aac_coder", "fast"),)),
    "opus": Coder("libopus", "opus", SAMPLE_RATE, "flt", (6, 8, 12, 16, 24, 32, 64), (("compression_level", "1"),)),
    "vorbis": Coder("OGG", "VORBIS", SAMPLE_RATE, "", tuple(VORBIS_LEVELS)),
    "g722": Coder("g722", "g722", SAMPLE_RATE, "s16", (64,)),
    "alaw": Coder("pcm_alaw", "pcm_alaw", 8000, "s16", (64,)),
    "mulaw": Coder("pcm_mulaw", "pcm_mulaw", 8000, "s16", (64,)),
    "gsm": Coder("WAV", "GSM610", 8000, "", (13,)),
    "amr": Coder("libopencore_amrnb", "amrnb", 8000, "s16", AMR_KBITS),
}  # fmt: skip


def check_codecs(names: Sequence[CodecName], key: str) -> None:
    """Make sure that the libraries here have codecs.

    Args:
        key: where they are asked for, for the message.

    Raises:
        InputError: one is missing.
    """
    for name in names:
        if not _is_here(CODERS[name]):
            have = ", ".join(f'"{one}"' for one in names if _is_here(CODERS[one]))
            library = "PyAV (FFmpeg)" if CODERS[name].sample_format else "libsndfile"
            raise InputError(
                f"{key}: the {library} of this machine cannot write {name!r} ({CODERS[name].encoder}); choose from "
                f"[{have}], or install another build of it"
            )


def coded(x: Floats32, options: Codec, rng: np.random.Generator) -> Floats32:
    """x (samples,) through a codec and a bit rate that are drawn: as many samples, in their places."""
    name = options.codecs[int(rng.integers(len(options.codecs)))]
    low, high = options.bitrate
    kbits = CODERS[name].kbits
    fitting = [one for one in kbits if low <= one <= high]
    fitting = fitting or [min(kbits, key=lambda one: max(low - one, one - high))]
    return code(x, name, fitting[int(rng.integers(len(fitting)))])


def code(x: Floats32, name: CodecName, kbits: float) -> Floats32:
    """x (samples,), 16 kHz, through a codec at one of its bit rates: float32 (samples,), aligned with x."""
    delay = delay_of(name, kbits)
    decoded = _through(x, name, kbits, delay + MARGIN)[delay:][: len(x)]
    return np.pad(decoded, (0, len(x) - len(decoded)))


@functools.cache
def delay_of(name: CodecName, kbits: float) -> int:
    """Samples at 16 kHz by which a codec comes late: where decoded noise fits the original best."""
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    # Of speech's spectrum, roughly: codecs of telephones carry no more than that.
    noise = np.convolve(noise, np.hanning(12) / 6, mode="same")
    x = (0.1 * noise / noise.std()).astype(np.float32)
    size = 1 << 16
    product = np.fft.rfft(_through(x, name, kbits, TAIL), size) * np.fft.rfft(x, size).conj()
    return int(np.argmax(np.fft.irfft(product)[: 2 * TAIL]))


def _through(x: Floats32, name: CodecName, kbits: float, tail: int) -> Floats32:
    """Coded and decoded with a tail of silence, and with what the codec puts before and behind it."""
    from scipy.signal import resample_poly

    coder = CODERS[name]
    padded = np.pad(np.clip(x, -1, 1), (0, tail))
    if coder.rate != SAMPLE_RATE:
        padded = resample_poly(padded, coder.rate, SAMPLE_RATE)
    # Full scale is all that 16 bits hold, and resampling goes beyond it; what did would come back from the other end.
    padded = np.clip(padded, -1, 1).astype(np.float32)
    way: Callable[[Floats32, Coder, float], tuple[Floats32, int]] = _ffmpeg if coder.sample_format else _libsndfile
    decoded, rate = way(padded, coder, kbits)
    if rate != SAMPLE_RATE:
        decoded = resample_poly(decoded, SAMPLE_RATE, rate).astype(np.float32)
    return decoded


def _ffmpeg(x: Floats32, coder: Coder, kbits: float) -> tuple[Floats32, int]:
    import av

    encoder = av.CodecContext.create(coder.encoder, "w")
    encoder.sample_rate, encoder.layout, encoder.format = coder.rate, "mono", coder.sample_format  # type: ignore[attr-defined]
    encoder.bit_rate, encoder.options = round(1000 * kbits), dict(coder.options)
    encoder.time_base, encoder.thread_count = fractions.Fraction(1, coder.rate), 1
    encoder.open()
    size = encoder.frame_size or len(x)  # type: ignore[attr-defined]
    x = np.pad(x, (0, -len(x) % size))
    if coder.sample_format == "s16":
        x = np.rint(x * 32767).astype(np.int16)
    # PyAV cuts it into the encoder's frames, in less time than it takes to make each of them here.
    frame = av.AudioFrame.from_ndarray(x[None], format=coder.sample_format, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = coder.rate, 0, encoder.time_base
    packets = encoder.encode(frame) + encoder.encode(None)  # type: ignore[attr-defined]
    decoder = av.CodecContext.create(coder.decoder, "r")
    decoder.sample_rate, decoder.layout, decoder.thread_count = coder.rate, "mono", 1  # type: ignore[attr-defined]
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]  # type: ignore[attr-defined]
    decoded = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[0]
    if decoded.dtype == np.int16:
        decoded = decoded / np.float32(32768)
    return decoded.astype(np.float32), frames[0].sample_rate


def _libsndfile(x: Floats32, coder: Coder, kbits: float) -> tuple[Floats32, int]:
    import soundfile

    stream = io.BytesIO()
    level = {"compression_level": VORBIS_LEVELS[int(kbits)]} if coder.decoder == "VORBIS" else {}
    with soundfile.SoundFile(stream, "w", coder.rate, 1, coder.decoder, format=coder.encoder, **level) as file:
        file.write(x)
    stream.seek(0)
    return soundfile.read(stream, dtype="float32")


@functools.cache
def _is_here(coder: Coder) -> bool:
    if not coder.sample_format:
        import soundfile

        return coder.encoder in soundfile.available_formats() and coder.decoder in soundfile.available_subtypes()
    import av

    try:
        av.Codec(coder.encoder, "w")
        av.Codec(coder.decoder, "r")
    except ValueError:
        return False
    return True
