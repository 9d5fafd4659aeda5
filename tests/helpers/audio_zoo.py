"""Audio files of every kind that is found, whole and damaged, each made of one short voice-like sound."""

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

SECONDS, RATE = 0.9, 16000


class Animal(NamedTuple):
    """A file, and what is to be said of it: its length in seconds, or words of the refusal."""

    name: str
    content: bytes
    seconds: float | None = None
    refusal: str | None = None


def sound(seconds: float = SECONDS, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone that comes and goes, with noise, (samples,), peak below 0.5."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, len(time))
    return 0.4 * np.sin(2 * np.pi * (200 + 40 * seed) * time) * np.sin(2 * np.pi * 3 * time) ** 2 + noise


def written(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    """A file as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **options)
    return stream.getvalue()


def encoded(container: str, codec: str, samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    """A file as FFmpeg writes it."""
    import av

    class Sink(io.BytesIO):
        name = f"a.{container}"

    stream = Sink()
    with av.open(stream, "w", format=container, **options) as output:
        audio = output.add_stream(codec, rate=rate, layout="mono")
        audio.bit_rate = 64000 if codec != "libopencore_amrnb" else 12200
        frame = av.AudioFrame.from_ndarray(np.float32(samples)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=audio.codec_context.format, layout="mono", rate=rate,
                                      frame_size=audio.codec_context.frame_size or 1024)  # fmt: skip
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(audio.encode(part))
        output.mux(audio.encode(None))
    return stream.getvalue()


def with_bytes(content: bytes, position: int, new: bytes) -> bytes:
    """The content with other bytes in one place."""
    return content[:position] + new + content[position + len(new) :]


def flac_samples(content: bytes, samples: int) -> bytes:
    """A FLAC file whose header announces so many samples (36 bits of STREAMINFO)."""
    return with_bytes(content, 21, bytes([content[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples & 0xFFFFFFFF))


def id3(size: int = 700) -> bytes:
    """An ID3 tag of zeros."""
    return b"ID3\4\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)


def xing_of(content: bytes, frames: int) -> bytes:
    """An MP3 file whose header announces so many frames."""
    place = max(content.find(b"Info"), content.find(b"Xing"))
    return with_bytes(content, place + 8, struct.pack(">I", frames))


LIBSNDFILE: dict[str, dict[str, str]] = {
    "wav": {}, "float.wav": {"format": "WAV", "subtype": "FLOAT"}, "alaw.wav": {"format": "WAV", "subtype": "ALAW"},
    "ima.wav": {"format": "WAV", "subtype": "IMA_ADPCM"}, "ms.wav": {"format": "WAV", "subtype": "MS_ADPCM"},
    "gsm.wav": {"format": "WAV", "subtype": "GSM610"}, "g721.au": {"format": "AU", "subtype": "G721_32"},
    "g723.au": {"format": "AU", "subtype": "G723_24"}, "wavex.wav": {"format": "WAVEX"}, "g721.wav": {"format": "WAV", "subtype": "G721_32"},
    "flac": {}, "24.flac": {"format": "FLAC", "subtype": "PCM_24"}, "8.flac": {"format": "FLAC", "subtype": "PCM_S8"}, "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"}, "mp3": {}, "aiff": {}, "float.aiff": {"format": "AIFF", "subtype": "FLOAT"}, "au": {}, "caf": {},
    "alac.caf": {"format": "CAF", "subtype": "ALAC_16"},
    "w64": {}, "rf64": {}, "voc": {}, "paf": {}, "nist": {}, "svx": {}, "pvf": {}, "ircam": {}, "avr": {}, "sds": {}, "xi": {"format": "XI", "subtype": "DPCM_16"},
}  # fmt: skip
FFMPEG = {
    "m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "mov": ("mov", "aac"), "3gp": ("3gp", "libopencore_amrnb"),
    "aac": ("adts", "aac"), "amr": ("amr", "libopencore_amrnb"), "webm": ("webm", "libopus"),
    "mka": ("matroska", "aac"), "mkv": ("matroska", "libmp3lame"), "wma": ("asf", "wmav2"), "ac3": ("ac3", "ac3"), "eac3": ("eac3", "eac3"),
    "wv": ("wv", "wavpack"), "tta": ("tta", "tta"), "alac.m4a": ("ipod", "alac"), "avi": ("avi", "aac"), "mpegts.ts": ("mpegts", "aac"), "flv": ("flv", "aac"), "ff.opus": ("ogg", "libopus"), "ff.mp3": ("mp3", "libmp3lame"), "frag.mp4": ("mp4", "aac"),
}  # fmt: skip
RATES = {"amr": 8000, "3gp": 8000, "ac3": 48000, "eac3": 48000, "webm": 48000, "ff.opus": 48000, "flv": 44100}


def plain() -> Iterator[Animal]:
    """Whole files in every format."""
    for ending, options in LIBSNDFILE.items():
        kind = {"format": ending.upper()} | options
        if "." in ending and "format" not in options:
            kind["format"] = ending.split(".")[1].upper()
        yield Animal(f"plain.{ending}", written(sound(), **kind), SECONDS)
    for ending, (container, codec) in FFMPEG.items():
        rate = RATES.get(ending, RATE)
        options = {"options": {"movflags": "frag_keyframe+empty_moov"}} if ending.startswith("frag") else {}
        yield Animal(f"plain.{ending}", encoded(container, codec, sound(rate=rate), rate, **options), SECONDS)
