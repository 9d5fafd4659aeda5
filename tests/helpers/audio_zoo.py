"""Audio files of every kind that is found, whole and damaged, each made of one short voice-like sound."""

import io
import struct
from collections.abc import Iterator
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


def written(samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    """A file as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **{"format": "WAV"} | options)
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
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
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
    return with_bytes(
        content, 21, bytes([content[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples & 0xFFFFFFFF)
    )


def id3(size: int = 700) -> bytes:
    """An ID3 tag of zeros."""
    return b"ID3\4\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)


def xing_of(content: bytes, frames: int) -> bytes:
    """An MP3 file whose header announces so many frames."""
    place = max(content.find(b"Info"), content.find(b"Xing"))
    return with_bytes(content, place + 8, struct.pack(">I", frames))


# What libsndfile writes, by the endings of the names here: its format and its subtype.
LIBSNDFILE = {
    "wav": ("WAV", ""), "float.wav": ("WAV", "FLOAT"), "alaw.wav": ("WAV", "ALAW"), "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"), "gsm.wav": ("WAV", "GSM610"), "g721.wav": ("WAV", "G721_32"),
    "g721.au": ("AU", "G721_32"), "g723.au": ("AU", "G723_24"), "ex.wav": ("WAVEX", ""), "flac": ("FLAC", ""),
    "24.flac": ("FLAC", "PCM_24"), "8.flac": ("FLAC", "PCM_S8"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", ""), "aiff": ("AIFF", ""), "float.aiff": ("AIFF", "FLOAT"), "au": ("AU", ""), "caf": ("CAF", ""),
    "alac.caf": ("CAF", "ALAC_16"), "w64": ("W64", ""), "rf64": ("RF64", ""), "voc": ("VOC", ""), "nist": ("NIST", ""),
    "svx": ("SVX", ""),
}  # fmt: skip
# What FFmpeg writes: container, codec, rate.
FFMPEG = {
    "m4a": ("ipod", "aac", RATE), "mp4": ("mp4", "aac", RATE), "mov": ("mov", "aac", RATE),
    "3gp": ("3gp", "libopencore_amrnb", 8000), "aac": ("adts", "aac", RATE), "amr": ("amr", "libopencore_amrnb", 8000),
    "webm": ("webm", "libopus", 48000), "mka": ("matroska", "aac", RATE), "mkv": ("matroska", "libmp3lame", RATE),
    "wma": ("asf", "wmav2", RATE), "ac3": ("ac3", "ac3", 48000), "eac3": ("eac3", "eac3", 48000),
    "wv": ("wv", "wavpack", RATE), "tta": ("tta", "tta", RATE), "alac.m4a": ("ipod", "alac", RATE),
    "mp2": ("mp2", "mp2", RATE), "mp3.wav": ("wav", "libmp3lame", RATE),
    "ts": ("mpegts", "aac", RATE), "ff.opus": ("ogg", "libopus", 48000), "ff.mp3": ("mp3", "libmp3lame", RATE),
}  # fmt: skip
# Seconds by which codecs lengthen or shorten a sound: blocks, delays.
SLACK = 0.13


def plain() -> dict[str, bytes]:
    """Whole files in every format, by name."""
    files = {}
    for ending, (container, subtype) in LIBSNDFILE.items():
        files[f"plain.{ending}"] = written(sound(), format=container, subtype=subtype or None)
    for ending, (container, codec, rate) in FFMPEG.items():
        files[f"plain.{ending}"] = encoded(container, codec, sound(rate=rate), rate)
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    files["plain.frag.mp4"] = encoded("mp4", "aac", sound(), options=fragmented)
    return files


def damaged(files: dict[str, bytes]) -> Iterator[Animal]:
    """What becomes of whole files: cut, joined, with wrong lengths, under wrong names."""
    one_of_several = {"plain.tta"}
    for name, content in files.items():
        if not name.endswith(("wv", "tta")):
            for cut in (len(content) // 4, 93, 1):
                # GSM in WAV ends with a byte of padding.
                if cut > 1 or "gsm" not in name:
                    yield Animal(f"cut{cut}.{name}", content[:-cut], refusal="cut short")
        if name in one_of_several:
            yield Animal(f"joined.{name}", 2 * content, refusal="several files joined to one")
        elif not name.endswith("wv"):
            yield Animal(f"joined.{name}", 2 * content, seconds=2 * SECONDS)
    yield from damaged_flac(files["plain.flac"])
    yield from _damaged_wav(files)
    yield from _damaged_mp3(files["plain.mp3"], files["plain.ff.mp3"])
    ogg = files["plain.ogg"]
    yield Animal("three.ogg", ogg + files["plain.opus"] + ogg, seconds=3 * SECONDS)
    yield Animal("no_end.ogg", ogg[: ogg.rindex(b"OggS")], refusal="not marked as the end")
    yield Animal("flipped.ogg", with_bytes(ogg, 6000, b"\x55\xaa"), refusal="does not match its checksum")
    yield Animal("named.wav", files["plain.m4a"], seconds=SECONDS)
    yield Animal("named.mp3", files["plain.flac"], seconds=SECONDS)
    yield Animal("named", files["plain.amr"], seconds=SECONDS)
    yield Animal("id3.aac", id3() + files["plain.aac"], seconds=SECONDS)
    yield from _no_audio()
    yield from _levels()


def damaged_flac(flac: bytes) -> Iterator[Animal]:
    """A FLAC file of `SECONDS` with other bytes in its header, behind it, and in its midst."""
    frames = 42 + 4 + int.from_bytes(flac[43:46], "big")
    picture = b"\x86\0\0\x28" + b"\xff" * 40
    no_md5 = with_bytes(flac, 26, bytes(16))
    samples = round(SECONDS * RATE)
    yield Animal("piped.flac", flac_samples(no_md5, 0), seconds=SECONDS)
    yield Animal("piped_with_md5.flac", flac_samples(flac, 0), seconds=SECONDS)
    yield Animal("piped_and_cut.flac", flac_samples(no_md5, 0)[:-500], refusal="corrupt or cut short")
    for announced in (1, samples // 2, samples + 1, 2**36 - 1):
        yield Animal(f"counts{announced}.flac", flac_samples(flac, announced), seconds=SECONDS)
        yield Animal(
            f"counts{announced}_no_md5.flac", flac_samples(no_md5, announced), refusal=f"announces {announced:,}"
        )
    # What libsndfile 1.2.2 refuses, and the checksum proves to be whole.
    yield Animal("tail.flac", flac + bytes(range(1, 256)) * 9, seconds=SECONDS)
    yield Animal("zeros.flac", flac + bytes(3000), seconds=SECONDS)
    yield Animal("id3v1.flac", flac + b"TAG" + bytes(125), seconds=SECONDS)
    yield Animal("ape.flac", flac + b"APETAGEX" + bytes(24), seconds=SECONDS)
    yield Animal("picture.flac", flac[:42] + picture + flac[frames:], seconds=SECONDS)
    yield Animal("cue.flac", flac[:42] + b"\x85" + picture[1:] + flac[frames:], seconds=SECONDS)
    yield Animal("comment.flac", flac[:42] + b"\x84\0\0\x08" + b"\xff" * 8 + flac[frames:], seconds=SECONDS)
    yield Animal("channels.flac", with_bytes(flac, 20, bytes([flac[20] & 0xF1 | 2])), seconds=SECONDS)
    yield Animal("blocks.flac", with_bytes(flac, 8, struct.pack(">HH", 4608, 4608)), seconds=SECONDS)
    yield Animal("id3.flac", id3() + id3() + flac, seconds=SECONDS)
    yield Animal("flipped.flac", with_bytes(flac, 2000, b"\x55\xaa\x55"), refusal="it is corrupt")
    yield Animal("tail_flipped.flac", with_bytes(flac, len(flac) // 2, b"\x55\xaa") + b"tail" * 99, refusal="corrupt")
    yield Animal("wrong_md5_tail.flac", with_bytes(flac, 30, b"\1\2\3") + b"tail" * 99, refusal="corrupt")
    other = written(sound(seed=1, rate=24000), 24000, format="FLAC")
    yield Animal("two_rates.flac", flac + other, seconds=2 * SECONDS)


def _damaged_wav(files: dict[str, bytes]) -> Iterator[Animal]:
    wav, rf64, aiff = files["plain.wav"], files["plain.rf64"], files["plain.aiff"]
    place = wav.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 36):
        yield Animal(f"size{size:x}.wav", with_bytes(wav, place, struct.pack("<I", size)), seconds=SECONDS)
    yield Animal("size0.wav", with_bytes(wav, place, bytes(4)), refusal="was never finished")
    yield Animal("half.wav", with_bytes(wav, place, struct.pack("<I", 14400)), refusal="bytes behind the samples")
    yield Animal("riff0.wav", with_bytes(wav, 4, bytes(4)), seconds=SECONDS)
    yield Animal("list.wav", wav + b"LIST\4\0\0\0INFO", seconds=SECONDS)
    yield Animal("odd.wav", wav + b"\0LIST\4\0\0\0INFO", seconds=SECONDS)
    yield Animal("id3v1.wav", wav + b"TAG" + bytes(125), seconds=SECONDS)
    yield Animal("zeros.wav", wav + bytes(9000), seconds=SECONDS)
    yield Animal("header.wav", wav[:30], refusal="cut short")
    place = rf64.index(b"ds64") + 16
    yield Animal("size.rf64", with_bytes(rf64, place, b"\xff" * 8), seconds=SECONDS)
    common, sound_data = aiff.index(b"COMM") + 10, aiff.index(b"SSND") + 4
    for number in (bytes(4), b"\xff" * 4):
        yield Animal(f"frames{number.hex()}.aiff", with_bytes(aiff, common, number), seconds=SECONDS)
        both = with_bytes(with_bytes(aiff, common, number), sound_data, number)
        yield Animal(f"size{number.hex()}.aiff", both, seconds=SECONDS)
        yield Animal(f"size{number.hex()}.au", with_bytes(files["plain.au"], 8, number), seconds=SECONDS)
    caf = files["plain.caf"]
    yield Animal("size.caf", with_bytes(caf, caf.index(b"data") + 4, b"\xff" * 8), seconds=SECONDS)
    w64 = files["plain.w64"]
    yield Animal("size.w64", with_bytes(w64, w64.index(b"data") + 16, bytes(8)), seconds=SECONDS)


def _damaged_mp3(mp3: bytes, of_ffmpeg: bytes) -> Iterator[Animal]:
    # The frame that announces a number, of fewer frames than there are, of more, and without one.
    frame = next(place for place in range(20, 2000) if mp3[place : place + 2] == mp3[:2])
    bare = mp3[frame:]
    yield Animal("counts_few.mp3", xing_of(mp3, 5), seconds=SECONDS)
    yield Animal("counts_many.mp3", xing_of(mp3, 500), refusal="cut short: the header announces 500 frames")
    yield Animal("bare.mp3", bare, seconds=SECONDS)
    yield Animal("joined_bare.mp3", mp3 + bare, seconds=2 * SECONDS)
    yield Animal("joined_tags.mp3", id3() + mp3 + b"TAG" + bytes(125) + id3() + of_ffmpeg, seconds=2 * SECONDS)
    yield Animal("id3v1.mp3", mp3 + b"TAG" + bytes(125), seconds=SECONDS)
    yield Animal("zeros.mp3", mp3 + bytes(5000), seconds=SECONDS)
    small_frames = written(sound(1.699, 22050, seed=3), 22050, format="MP3")
    yield Animal("small_frames.mp3", 2 * small_frames, seconds=2 * 1.699)
    yield Animal("led.mp3", b"\1" * 100 + 2 * mp3, seconds=2 * SECONDS)
    yield Animal("garbage.mp3", mp3[:1500] + b"\1" * 300 + mp3[1500:], refusal="corrupt or cut short")
    other = written(sound(seed=1, rate=24000), 24000, format="MP3")
    yield Animal("two_rates.mp3", mp3 + other, seconds=2 * SECONDS)


def _no_audio() -> Iterator[Animal]:
    for name, content, words in (
        ("empty.wav", b"", "the audio file is empty"),
        ("text.wav", b"this is no sound\n", "it is text, not audio: 'this is no sound'"),
        ("wide.mp3", "this is no sound".encode("utf-16"), "it is text in UTF-16"),
        ("page.flac", b"<!DOCTYPE html>\n<html><body>404", "an HTML page"),
        ("data.wav", b'{"url": "https://example.org/a.wav"}', "JSON"),
        ("pointer.flac", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a Git LFS pointer"),
        ("zipped.wav", b"PK\3\4" + bytes(90), "an archive"),
        ("array.wav", b"\x93NUMPY" + bytes(90), "a NumPy array"),
        ("voice.silk", b"\2#!SILK_V3" + bytes(90), "a SILK voice message"),
        ("bytes.wav", bytes(range(7, 256)), "its first bytes .07 08 09 0a. are those of no audio format"),
    ):
        yield Animal(name, content, refusal=words)


def _levels() -> Iterator[Animal]:
    voice = sound()
    pairs = {
        "left": ((voice, 0 * voice), None),
        "inverted": ((voice, -voice), "channels cancel each other"),
        "nearly": ((voice, -0.99 * voice), "channels cancel each other"),
        "silent": ((0 * voice, 0 * voice), "is silent"),
    }
    for name, (channels, refusal) in pairs.items():
        for ending in ("wav", "flac", "ogg", "mp3"):
            content = written(np.stack(channels, axis=1), format=ending.upper())
            yield Animal(f"{name}.{ending}", content, None if refusal else SECONDS, refusal)
    scaled = {"16": (32768, "a scale of 32768"), "24": (2**23, "a scale of 8388608"), "loud": (5, "normalise it")}
    for name, (factor, refusal) in scaled.items():
        for kind in ("WAV", "AIFF"):
            loud = written(factor * voice, format=kind, subtype="FLOAT")
            yield Animal(f"scale{name}.{kind.lower()}", loud, refusal=refusal)
    quiet = np.concatenate([np.zeros(6000), 32768 * voice])
    yield Animal("scale_later.wav", written(quiet, format="WAV", subtype="FLOAT"), refusal="a scale of 32768")


def zoo() -> Iterator[Animal]:
    """All of them."""
    files = plain()
    for name, content in files.items():
        yield Animal(name, content, seconds=SECONDS)
    yield from damaged(files)
