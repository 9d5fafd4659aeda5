"""What a file holds, by its own bytes: its format, where each recording in it begins and ends, whether all is there.

Lengths that headers announce are compared with what is there, since decoders believe them: files out of pipes have
placeholders, files cut short have too much, and of files joined to one they count the first alone. Frames, pages,
chunks and boxes are followed without being decoded.
"""

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

# Bytes of a file, or bytes in their place.
Piece = tuple[int, int] | bytes
WINDOW = 1 << 18


class DamagedError(ValueError):
    """Not all of a file is there, or it is not what it says; the message says what is wrong."""


class Recording(NamedTuple):
    """One recording of a file.

    Attributes:
        pieces: make a file of it; none: the file as it is.
        to_prove: its length or its end is not that of its header, so that only decoding it shows whether it is whole.
    """

    pieces: tuple[Piece, ...] = ()
    to_prove: bool = False


class AudioBytes:
    """An audio file in memory, such as a row of a table holds it: taken wherever the path of a file is.

    Args:
        name: what messages call it.
    """

    def __init__(self, name: str, data: bytes):
        self.name, self.data = name, data

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class Content:
    """The bytes of a file, a window of them in memory; those of a pipe are all kept, for it is read once only.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: "str | os.PathLike[str] | AudioBytes"):
        if isinstance(path, AudioBytes):
            self.file: io.RawIOBase | io.FileIO = io.BytesIO()  # type: ignore[assignment]
            self.is_pipe, self.begin, self.held, self.size = True, 0, path.data, len(path.data)
            return
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115
        status = os.fstat(self.file.fileno())
        self.is_pipe = not stat.S_ISREG(status.st_mode)
        self.begin, self.held = 0, self.file.readall() if self.is_pipe else b""
        self.size = len(self.held) if self.is_pipe else status.st_size

    def at(self, start: int, length: int) -> bytes:
        """The bytes from `start` on, fewer at the end."""
        offset = start - self.begin
        if not self.is_pipe and (offset < 0 or offset + length > len(self.held)) and start < self.size:
            # The beginning shows most; what needs more than that mostly needs all of a small file.
            first = not self.held and start < 4096
            self.begin = 0 if first or self.size <= WINDOW else start
            self.file.seek(self.begin)
            self.held, offset = self.file.read(4096 if first else max(length, WINDOW)), start - self.begin
        return self.held[offset : offset + length]

    def blocks(self, start: int) -> Iterator[bytes]:
        """All bytes from `start` on, in blocks."""
        for begin in range(start, self.size, WINDOW):
            yield self.at(begin, WINDOW)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class PiecedFile(io.RawIOBase):
    """A file made of pieces of another, for decoders to read."""

    def __init__(self, content: Content, pieces: tuple[Piece, ...]):
        self.content, self.pieces, self.position = content, pieces or ((0, content.size),), 0
        self.lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self.pieces]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = max(0, offset + (0, self.position, sum(self.lengths))[whence])
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        filled, begin = 0, 0
        for piece, length in zip(self.pieces, self.lengths, strict=True):
            inside = self.position - begin
            if 0 <= inside < length and filled < len(view):
                count = min(length - inside, len(view) - filled)
                start = inside if isinstance(piece, bytes) else piece[0] + inside
                data = piece[start : start + count] if isinstance(piece, bytes) else self.content.at(start, count)
                view[filled : filled + len(data)] = data
                filled, self.position = filled + len(data), self.position + len(data)
            begin += length
        return filled


# --------------------------------------------------------------------------------- formats

_MAGIC = [
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"(RIFF|RIFX|RF64|BW64)....WAVE", "wav"),
        (rb"FORM....AIF[FC]", "aiff"),
        (rb"FORM....(8SVX|16SV)", "svx"),
        (rb"NIST_1A", "nist"),
        (rb"Creative Voice File", "voc"),
        (rb"fLaC", "flac"),
        (rb"OggS", "ogg"),
        (rb"caff\0", "caf"),
        (rb"\.snd|dns\.", "au"),
        (rb"riff\x2e\x91\xcf\x11", "w64"),
        (rb"Extended Instrument: |ALawSoundFile|PVF1| paf|fap |2BIT|\xf0\x7e", "other"),
        (rb"\x64\xa3[\x01-\x04]\0|\0[\x01-\x04]\xa3\x64", "other"),
        (rb"#!AMR(-WB)?\n", "amr"),
        (rb"....(ftyp|moov|mdat|wide|free|skip)", "mp4"),
        (rb"\x1a\x45\xdf\xa3", "matroska"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (rb"wvpk|MAC |TTA1|TTA2|tBaK|MPCK|MP\+|\.ra\xfd|\.RMF|FLV\x01|DSD |FRM8|RIFF....AVI |\0\0\x01\xba", "av"),
        (rb"\x0b\x77", "ac3"),
        (rb"\x7f\xfe\x80\x01", "av"),
        (rb"G.{187}G.{187}G", "ts"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "aac"),
        (rb"\xff[\xe2-\xff]", "mpeg"),
    )
]
# Formats that libsndfile does not know.
SECOND_ONLY = frozenset(("amr", "mp4", "matroska", "asf", "av", "aac", "ac3", "ts"))
_NO_AUDIO = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the audio itself; fetch that with git lfs pull"),
    (rb"\s*<(!doctype html|html|head)", "an HTML page, not audio: a download that went wrong?"),
    (rb"\s*(<\?xml|<)", "XML, not audio"),
    (rb'\s*[\[{]\s*["\[{\]}\d]', "JSON, not audio"),
    (rb"#!SILK|\x02#!SILK", "a SILK voice message, which is not read; convert it first"),
    (rb"\x1f\x8b|PK\x03\x04|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive or compressed; unpack it"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{8}", "a picture, not audio"),
    (rb"%PDF", "a PDF, not audio"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16, not audio"),
    (rb"\x93NUMPY", "a NumPy array, which names no sample rate; write it as WAV or FLAC"),
    (rb"\x89HDF|\x80[\x02-\x05]", "stored data, not audio"),
)


def sniff(content: Content, start: int = 0) -> tuple[str, int]:
    """The format of a file by its first bytes ("" if unknown), and where it begins, behind ID3 tags."""
    while (tag := content.at(start, 10))[:3] == b"ID3" and len(tag) == 10:
        start += 10 + _synchsafe(tag[6:10]) + 10 * (tag[5] >> 4 & 1)
        start += len(padding) - len(padding.lstrip(b"\0")) if (padding := content.at(start, 4096)) else 0
    head = content.at(start, 600)
    for pattern, name in _MAGIC:
        if pattern.match(head):
            known = {"aac": _adts_frame, "mpeg": _mpeg_frame, "ac3": _ac3_frame}.get(name)
            size = known(content, start) if known else 1
            if size and (not known or start + size == content.size or known(content, start + size)):
                return name, start
    # MP3 behind what no format begins with, such as zeros.
    for found in re.finditer(rb"\xff[\xe2-\xff]", content.at(start, 1 << 16)):
        begin = position = start + found.start()
        for _ in range(3):
            size = _mpeg_frame(content, position)
            position += size
            if not size or position >= content.size:
                break
        else:
            return "mpeg", begin
    return "", start


def describe(content: Content) -> str:
    """What a file is that is no audio, in words; "" where it cannot be told."""
    head = content.at(0, 512)
    for pattern, words in _NO_AUDIO:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            return words
    text = head.decode("utf-8", "ignore")
    if len(text.encode()) + 3 >= len(head) and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"text, not audio: {text.strip()[:30]!r}"
    return ""


def recordings_of(content: Content, kind: str, start: int) -> list[Recording]:
    """The recordings of a file, one behind the other; nearly always one, the file as it is.

    Args:
        kind, start: what `sniff` found.

    Raises:
        DamagedError: not all of it is there, or there is more than its header knows of.
    """
    walk = _WALKS.get(kind)
    try:
        found = list(walk(content, start)) if walk else [Recording()]
    except (struct.error, IndexError, OverflowError):
        raise DamagedError("it is corrupt or cut short: its header ends too early") from None
    except RecursionError:
        raise DamagedError("it is more files joined to one than can be followed; split it") from None
    whole = len(found) == 1 and found[0].pieces in ((), ((start, content.size),))
    return [Recording((), found[0].to_prove)] if whole else found


def _cut(announced: str, there: str) -> DamagedError:
    return DamagedError(f"it is cut short: the header announces {announced}, {there} are there")


# --------------------------------------------------------------------------------- chunks


def _wav(content: Content, start: int) -> Iterator[Recording]:
    """RIFF, RIFX, RF64 and BW64; what stands behind the samples may be chunks, tags, or a further file."""
    name = content.at(start, 4)
    order = ">" if name == b"RIFX" else "<"
    position, wide, data_rate, has_ds64 = start + 12, 0, 0, False
    while len(head := content.at(position, 8)) == 8 and head[:4] != b"data":
        (size,) = struct.unpack(order + "I", head[4:])
        body = content.at(position + 8, 24)
        if head[:4] == b"ds64" and len(body) == 24:
            wide, has_ds64 = struct.unpack("<Q", body[8:16])[0], True
        if head[:4] == b"fmt " and len(body) == 24:
            data_rate = struct.unpack(order + "I", body[8:12])[0]
        position += 8 + size + size % 2
    if len(head) < 8:
        raise DamagedError("it is cut short: the file ends before its samples begin")
    (announced,) = struct.unpack(order + "I", head[4:])
    begin = position + 8
    announced = wide if announced == 0xFFFFFFFF and name in (b"RF64", b"BW64") else announced
    end, to_the_end = _end_of_samples(content, begin, announced, order)
    if to_the_end:
        riff, data = end - start - 8, end - begin
        patches = {start + 4: b"\xff" * 4, begin - 4: b"\xff" * 4, start + 20: struct.pack("<QQ", riff, data)}
        if not has_ds64:
            riff, data = min(riff, 0xFFFFFFFF), min(data, 0xFFFFFFFF)
            patches = {start + 4: struct.pack(order + "I", riff), begin - 4: struct.pack(order + "I", data)}
        yield Recording((_patched(content, start, begin, patches), (begin, end)))
        return
    rest = _behind(content, end, order, max(1, data_rate // 100))
    if rest is None:
        yield Recording(((start, content.size),) if start else ())
        return
    yield Recording(((start, rest),))
    yield from _wav(content, rest)


def _end_of_samples(content: Content, begin: int, announced: int, order: str) -> tuple[int, bool]:
    """Where the samples of a WAV file end, and whether that is the file's end, its length being a placeholder."""
    there = content.size - begin
    if announced == 0 and there and _behind(content, begin, order, 0) is not None:
        raise DamagedError(
            f"it was never finished: the header counts no samples, {there:,} bytes follow it; repair it with "
            "ffmpeg -i IN.wav OUT.wav"
        )
    if announced <= there:
        return begin + announced, False
    if announced >= 0x7FFF0000 and there < announced // 2:
        # What encoders write that write to a pipe: 0xFFFFFFFF, 0x7FFFF000 and their like.
        return content.size, True
    raise _cut(f"{announced:,} bytes of samples", f"{there:,}")


def _behind(content: Content, position: int, order: str, unlike: int) -> int | None:
    """Where a further WAV file begins behind the samples that end at `position`; None: nowhere.

    Args:
        unlike: from so many bytes on, bytes that are no chunk are an error; 0: they count as a further file.
    """
    while (left := content.size - position) > 8:
        head = content.at(position, 12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return position
        if not head.strip(b"\0") and not any(block.strip(b"\0") for block in content.blocks(position)):
            return None
        if not re.match(rb"[A-Za-z0-9_]{3}[A-Za-z0-9_ ]", head) and re.match(
            rb"[A-Za-z0-9_]{3}", content.at(position + 1, 4)
        ):
            position += 1
            continue
        if head[:3] in (b"TAG", b"ID3") or head[:8] == b"APETAGEX":
            return None
        if not re.match(rb"[A-Za-z0-9_]{3}[A-Za-z0-9_ ]", head):
            if not unlike:
                return position
            if left < unlike:
                return None
            raise DamagedError(
                f"it holds {left:,} bytes behind the samples that its header counts: the length in the header is "
                "wrong, or files were joined; convert it from its source again"
            )
        (size,) = struct.unpack(order + "I", head[4:8])
        position += 8 + size + size % 2
    return None


def _patched(content: Content, start: int, end: int, patches: dict[int, bytes]) -> bytes:
    header = bytearray(content.at(start, end - start))
    for position, data in patches.items():
        header[position - start : position - start + len(data)] = data
    return bytes(header)


def _further(content: Content, position: int, magic: bytes) -> int | None:
    """Where a further file begins, if it does at `position`, behind what a header counts; None: nowhere."""
    head = content.at(position, 40)
    if re.match(magic, head, re.DOTALL):
        return position
    padding = head[:3] in (b"TAG", b"ID3") or not any(block.strip(b"\0") for block in content.blocks(position))
    if content.size - position < 4096 or padding:
        return None
    raise DamagedError(
        f"it holds {content.size - position:,} bytes behind the samples that its header counts: the length in the "
        "header is wrong, or files were joined; convert it from its source again"
    )


_PLAIN_AIFC = (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32", b"raw ")


def _aiff(content: Content, start: int) -> Iterator[Recording]:
    position, frames, width, common, has_samples = start + 12, 0, 0, 0, False
    while re.match(rb"[A-Za-z0-9()] *[A-Za-z0-9 .(]{2,3}", head := content.at(position, 12)) and len(head) >= 8:
        (size,) = struct.unpack(">I", head[4:8])
        if head[:4] == b"FORM" and head[8:11] == b"AIF":
            break
        if head[:4] == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", content.at(position + 8, 8))
            packed = content.at(start + 8, 4) == b"AIFC" and content.at(position + 26, 4) not in _PLAIN_AIFC
            common, width = position, 0 if packed else channels * -(-bits // 8)
        if head[:4] == b"SSND":
            begin, there, has_samples = position + 16, content.size - position - 16, True
            if width and (size <= 8 or size >= 0x7FFF0000 or frames in (0, 0xFFFFFFFF)) and there < 0x7FFF0000:
                there -= there % width
                patches = {
                    start + 4: struct.pack(">I", content.size - start - 8),
                    common + 10: struct.pack(">I", there // width),
                    position + 4: struct.pack(">I", there + 8),
                }
                if there:
                    yield Recording((_patched(content, start, begin, patches), (begin, begin + there)))
                    return
            if size - 8 > there:
                raise _cut(f"{size - 8:,} bytes of samples", f"{there:,}")
            if width and frames * width > size - 8:
                raise _cut(f"{frames:,} samples", f"{(size - 8) // width:,}")
        position += 8 + size + size % 2
    if not has_samples and frames:
        raise DamagedError("it is cut short: the file ends before its samples begin")
    yield from _ended(content, start, position, rb"FORM....AIF", _aiff)


def _ended(
    content: Content, start: int, end: int, magic: bytes, walk: Callable[[Content, int], Iterator[Recording]]
) -> Iterator[Recording]:
    """A recording that ends at `end`, and those that are joined to it."""
    further = _further(content, end, magic) if end < content.size else None
    yield Recording(((start, content.size if further is None else further),))
    if further is not None:
        yield from walk(content, further)


def _caf(content: Content, start: int) -> Iterator[Recording]:
    position = start + 8
    while len(head := content.at(position, 12)) == 12 and re.match(rb"[a-zA-Z]{4}", head) and head[:4] != b"caff":
        (size,) = struct.unpack(">q", head[4:])
        begin, there = position + 12, content.size - position - 12
        if head[:4] == b"data" and size < 4:
            patch = {position + 4: struct.pack(">q", there)}
            yield Recording((_patched(content, start, begin, patch), (begin, content.size)))
            return
        if not 0 <= size <= there:
            raise _cut(f"{size:,} bytes", f"{there:,}")
        position = begin + size
    yield from _ended(content, start, position, rb"caff\0", _caf)


def _au(content: Content, start: int) -> Iterator[Recording]:
    order = ">" if content.at(start, 4) == b".snd" else "<"
    begin, size = struct.unpack(order + "II", content.at(start + 4, 8).ljust(8, b"\0"))
    there = content.size - start - begin
    if size >= 0x7FFF0000 > there or (size == 0 and there > 0):
        patch = {start + 8: struct.pack(order + "I", there)}
        yield Recording((_patched(content, start, start + begin, patch), (start + begin, content.size)))
        return
    if size > there:
        raise _cut(f"{size:,} bytes of samples", f"{max(0, there):,}")
    yield from _ended(content, start, start + begin + size, rb"\.snd|dns\.", _au)


def _w64(content: Content, start: int) -> Iterator[Recording]:
    position = start + 40
    while len(head := content.at(position, 24)) == 24 and re.match(rb"[a-z0-9 ]{4}.{2}[\xac-\xf3]", head, re.DOTALL):
        (size,) = struct.unpack("<Q", head[16:])
        begin, there = position + 24, content.size - position - 24
        if head[:4] == b"riff":
            break
        if head[:4] == b"data":
            if size <= 24 or size >= 2**62:
                patches = {start + 16: struct.pack("<Q", content.size), position + 16: struct.pack("<Q", there + 24)}
                yield Recording((_patched(content, start, begin, patches), (begin, content.size)))
                return
            if size - 24 > there:
                raise _cut(f"{size - 24:,} bytes of samples", f"{there:,}")
            if size - 24 + 7 < there:
                # libsndfile would take what stands behind them for samples.
                end = begin + size - 24
                yield Recording(((start, end),))
                following = _further(content, position + -(-size // 8) * 8, rb"riff\x2e\x91\xcf\x11")
                if following is not None:
                    yield from _w64(content, following)
                return
        position += max(24, -(-size // 8) * 8)
    yield Recording(((start, content.size),))


def _nist(content: Content, start: int) -> Iterator[Recording]:
    """NIST SPHERE: a header in text; libsndfile reads to the end of the file whatever it says."""
    header = content.at(start, 1024)
    found = dict(re.findall(rb"\n(\w+) -\w+ ([^\n]+)", header))
    try:
        size = int(header.split(b"\n")[1])
        samples = int(found[b"sample_count"]) * int(found[b"channel_count"]) * int(found[b"sample_n_bytes"])
    except (KeyError, ValueError, IndexError):
        samples = 0
    if b"embedded" in found.get(b"sample_coding", b"") or not samples:
        yield Recording(((start, content.size),))
        return
    there = content.size - start - size
    if samples > there:
        raise _cut(f"{samples:,} bytes of samples", f"{max(0, there):,}")
    following = _further(content, start + size + samples, rb"NIST_1A")
    yield Recording(((start, start + size + samples),))
    if following is not None:
        yield from _nist(content, following)


def _voc(content: Content, start: int) -> Iterator[Recording]:
    position = start + int.from_bytes(content.at(start + 20, 2), "little")
    while (head := content.at(position, 4)) and head[0]:
        size = int.from_bytes(head[1:], "little")
        if position + 4 + size > content.size:
            raise _cut(f"a block of {size:,} bytes", f"{max(0, content.size - position - 4):,}")
        position += 4 + size
    if not head:
        raise DamagedError("it is cut short: its last block is missing")
    following = _further(content, position + 1, rb"Creative Voice File")
    yield Recording(((start, position + 1),))
    if following is not None:
        yield from _voc(content, following)


def _svx(content: Content, start: int) -> Iterator[Recording]:
    position, end = start + 12, content.size
    while len(head := content.at(position, 8)) == 8 and position < end:
        (size,) = struct.unpack(">I", head[4:])
        if head[:4] == b"BODY":
            end = position + 8 + size
            if end > content.size:
                raise _cut(f"{size:,} bytes of samples", f"{content.size - position - 8:,}")
        position += 8 + size + size % 2
    if end == content.size and position < end:
        raise DamagedError("it is cut short: the file ends before its samples begin")
    following = _further(content, end, rb"FORM")
    yield Recording(((start, end),))
    if following is not None:
        yield from _svx(content, following)


# --------------------------------------------------------------------------------- FLAC


class StreamInfo(NamedTuple):
    """What a FLAC file's header says of it; `begin` is where its frames do."""

    block: int
    largest_frame: int
    rate: int
    channels: int
    bits: int
    samples: int
    md5: bytes
    begin: int


def flac_header(content: Content, recording: Recording) -> StreamInfo:
    """The header of a FLAC recording.

    Raises:
        DamagedError: it ends before its samples begin.
    """
    header = recording.pieces[0] if recording.pieces else b""
    return (
        _stream_info(header[8:42], 42)
        if isinstance(header, bytes) and header
        else _read_info(content, sniff(content)[1])
    )


def _read_info(content: Content, start: int) -> StreamInfo:
    info, position, last = content.at(start + 8, 34), start + 4, 0
    while not last:
        head = content.at(position, 4)
        if len(head) < 4 or len(info) < 34:
            raise DamagedError("it is cut short: the file ends before its samples begin")
        last, position = head[0] & 0x80, position + 4 + int.from_bytes(head[1:], "big")
    return _stream_info(info, position)


def _stream_info(info: bytes, begin: int) -> StreamInfo:
    packed = int.from_bytes(info[10:18], "big")
    return StreamInfo(
        block=int.from_bytes(info[2:4], "big"),
        largest_frame=int.from_bytes(info[7:10], "big"),
        rate=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        samples=packed & 0xFFFFFFFFF,
        md5=info[18:34],
        begin=begin,
    )


def _flac(content: Content, start: int) -> Iterator[Recording]:
    """One recording, its end being that which its header announces; or those that are joined, each to be proved."""
    info = _read_info(content, start)
    begins = [start]
    for begin in range(info.begin, content.size, WINDOW // 2):
        # A header may lie over the seam of two blocks.
        data = content.at(begin, WINDOW // 2 + 7)
        if b"fLaC" in data:
            begins += [begin + found.start() for found in re.finditer(rb"fLaC[\0\x80]\0\0\x22", data)]
    if len(begins) == 1 and info.samples and _last_sample(content, info) == info.samples:
        yield Recording()
        return
    for begin, end in zip(begins, [*begins[1:], content.size], strict=True):
        yield Recording(plain_flac(content, begin, end), to_prove=True)


def plain_flac(content: Content, start: int, end: int) -> tuple[Piece, ...]:
    """A FLAC file without any metadata but what decoders need, some of which refuse what they do not."""
    info = _read_info(content, start)
    return b"fLaC\x80\0\0\x22" + content.at(start + 8, 34), (min(info.begin, end), end)


def _last_sample(content: Content, info: StreamInfo) -> int | None:
    """Where the last frame of a FLAC file ends, counted in samples; None where the file ends otherwise."""
    begin = max(info.begin, content.size - (info.largest_frame or 1 << 15) - 64)
    tail = content.at(begin, content.size - begin)
    sync = content.at(info.begin, 2)
    # Frames that follow each other have a right checksum together, too: the last one is wanted.
    found = tail.rfind(sync) if sync in (b"\xff\xf8", b"\xff\xf9") else -1
    while found >= 0:
        end = _frame_end(tail[found : found + 16], info.block)
        if end is not None and not _crc16(tail[found:]):
            return end
        found = tail.rfind(sync, 0, found)
    return None


def _frame_end(head: bytes, block: int) -> int | None:
    """The sample behind a FLAC frame that has this header; None where it is none (RFC 9639, 9.1)."""
    if len(head) < 6:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    length = max(1, ones)
    wide, odd = {6: 1, 7: 2}.get(size, 0), {12: 1, 13: 2, 14: 2}.get(rate, 0)
    stop = 4 + length + wide + odd
    if not size or rate == 15 or ones in (1, 8) or len(head) <= stop or _crc8(head[: stop + 1]):
        return None
    number = head[4] & (0x7F >> ones if ones else 0x7F)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    if wide:
        samples = int.from_bytes(head[4 + length : 4 + length + wide], "big") + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    return (number if head[1] & 1 else number * block) + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 7 if crc & 0x80 else crc << 1) & 0xFF
    return crc


@cache
def _powers() -> np.ndarray:
    """x^k modulo FLAC's polynomial x^16 + x^15 + x^2 + 1, whose period is 32767, for as many k as a frame has bits."""
    powers = [1]
    while len(powers) < 32767:
        following = powers[-1] << 1
        powers.append(following ^ 0x18005 if following & 0x10000 else following)
    # Falling, as the bits of a frame stand for them.
    return np.resize(np.array(powers, dtype=np.uint16), 1 << 20)[::-1].copy()


def _crc16(data: bytes) -> int:
    """FLAC's checksum of a frame that ends with it: 0 where it is right. A sum of powers, fast in numpy."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    return int(np.bitwise_xor.reduce(_powers()[-len(bits) :] * bits))


# --------------------------------------------------------------------------------- pages and frames

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg(content: Content, start: int) -> Iterator[Recording]:
    """Chained streams, each a recording of its own (RFC 3533)."""
    position, begin, open_streams, first_pages = start, start, set[bytes](), True
    while position < content.size:
        head = content.at(position, 27)
        if head[:4] != b"OggS":
            if not open_streams and not any(block.strip(b"\0") for block in content.blocks(position)):
                break
            if not open_streams and (head[:3] in (b"TAG", b"ID3") or head[:8] == b"APETAGEX"):
                break
            raise DamagedError(f"it is corrupt: no Ogg page where one is expected, at byte {position:,}")
        segments = content.at(position + 27, head[26]) if len(head) == 27 else b""
        length = 27 + len(segments) + sum(segments)
        if len(head) < 27 or len(segments) < head[26] or position + length > content.size:
            raise DamagedError("it is cut short: its last Ogg page is not complete")
        page = content.at(position, length)
        crc = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if int(f"{crc:032b}"[::-1], 2) != int.from_bytes(page[22:26], "little"):
            raise DamagedError(f"it is corrupt: the Ogg page at byte {position:,} does not match its checksum")
        serial = head[14:18]
        if head[5] & 2:
            if not first_pages:
                if open_streams:
                    raise DamagedError("it is cut short: a stream of it is followed by another before its end")
                yield Recording(((begin, position),))
                begin = position
            open_streams.add(serial)
        first_pages = bool(head[5] & 2)
        if head[5] & 4:
            open_streams.discard(serial)
            first_pages = False
        position += length
    if open_streams:
        raise DamagedError("it is cut short: its last Ogg page is not marked as the end of the stream")
    yield Recording(((begin, content.size),))


_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)


def _mpeg_header(head: bytes) -> tuple[int, int] | None:
    """The length of an MPEG audio frame and its sample rate; None where there is none, or its bit rate is free."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    bits = 1000 * _BITRATES[1 if version == 3 else 2, layer][bitrate - 1]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4, hertz
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding, hertz


def _mpeg_frame(content: Content, position: int) -> int:
    header = _mpeg_header(content.at(position, 4))
    return header[0] if header else 0


def _mpeg(content: Content, start: int) -> Iterator[Recording]:
    """MP2 and MP3; a further recording begins at a header of Xing's, at another sample rate, or behind a tag."""
    part, position = _MpegPart(start), start
    while position < content.size:
        header = _mpeg_header(content.at(position, 4))
        if header is None:
            following = _behind_tags(content, position)
            if following == position and content.size - position >= 4:
                raise DamagedError(
                    f"it is corrupt or cut short: no MPEG frame where one is expected, at byte {position:,}"
                )
            if part.frames and following < content.size:
                yield part.recording(content, position)
            part = part if following >= content.size or following == position else _MpegPart(following)
            position = max(following, position + 1)
            continue
        length, hertz = header
        if position + length > content.size:
            raise DamagedError("it is cut short: its last frame is not complete")
        announced = _xing_frames(content.at(position, min(length, 200)))
        if part.frames and (announced is not None or hertz != part.rate):
            yield part.recording(content, position)
            part = _MpegPart(position)
        if announced is None:
            part.frames += 1
        else:
            part.announced, part.first = announced, position + length
        part.rate, position = hertz, position + length
    yield part.recording(content, content.size)


class _MpegPart:
    """Frames that belong together: where they begin, the first that holds sound, how many there are and should be."""

    def __init__(self, begin: int):
        self.begin = self.first = begin
        self.frames, self.rate, self.announced = 0, 0, 0

    def recording(self, content: Content, end: int) -> Recording:
        # Some count the frame of the header too.
        if self.frames + 1 < self.announced:
            raise _cut(f"{self.announced:,} frames", f"{self.frames:,}")
        if self.frames in (self.announced - 1, self.announced):
            return Recording(((self.begin, end),))
        # Without a right number libsndfile takes one from the first frame's bit rate: it gets a frame that has it.
        head = content.at(self.first, 4)
        length = (_mpeg_header(head) or (0, 0))[0]
        offset = 4 + ((17, 32), (9, 17))[not head[1] & 8][head[3] >> 6 != 3]
        if head[1] >> 1 & 3 != 1 or length < offset + 12:
            # Layer I and II have no such frame.
            return Recording(((self.first, end),), to_prove=True)
        count = b"Xing\0\0\0\1" + self.frames.to_bytes(4, "big")
        frame = (bytes((head[0], head[1] | 1, *head[2:])).ljust(offset, b"\0") + count).ljust(length, b"\0")
        return Recording((frame, (self.first, end)))


def _xing_frames(frame: bytes) -> int | None:
    """How many frames a first frame announces, 0 where it names no number; None where it is no such frame."""
    for name in (b"Xing", b"Info"):
        found = frame.find(name, 4, 60)
        if found >= 0:
            flags = frame[found + 7 : found + 8]
            return int.from_bytes(frame[found + 8 : found + 12], "big") if flags and flags[0] & 1 else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def _behind_tags(content: Content, position: int) -> int:
    """Where tags and padding end that begin at `position`."""
    head = content.at(position, 32)
    if head[:3] == b"TAG":
        return min(content.size, position + 128)
    if head[:3] == b"ID3" and len(head) >= 10:
        return min(content.size, position + 10 + _synchsafe(head[6:10]))
    if head[:8] == b"APETAGEX":
        return min(content.size, position + int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0))
    if head[:11] == b"LYRICSBEGIN":
        return content.size
    while block := content.at(position, 4096):
        rest = block.lstrip(b"\0")
        position += len(block) - len(rest)
        if rest:
            break
    return position


def _synchsafe(data: bytes) -> int:
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def _adts_frame(content: Content, position: int) -> int:
    head = content.at(position, 7)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _aac(content: Content, start: int) -> Iterator[Recording]:
    yield from _framed(content, start, start, _adts_frame)


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _ac3_frame(content: Content, position: int) -> int:
    """The length of a frame of AC-3 or E-AC-3; 0 where there is none."""
    head = content.at(position, 6)
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >> 1 >= len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[code >> 1]
    return 2 * (2 * kbits, kbits * 320 // 147 + (code & 1), 3 * kbits)[rate]


def _ac3(content: Content, start: int) -> Iterator[Recording]:
    yield from _framed(content, start, start, _ac3_frame)


def _ts(content: Content, start: int) -> Iterator[Recording]:
    if content.size % 188:
        raise DamagedError("it is cut short: its last packet is not complete")
    yield Recording()


def _av(content: Content, start: int) -> Iterator[Recording]:
    """What FFmpeg reads the first file of where several are joined."""
    head = content.at(start, 12)
    if re.match(rb"TTA|MAC |FLV|DSD |FRM8|tBaK|MPCK|MP\+", head):
        for begin in range(start, content.size, WINDOW // 2):
            if head in content.at(begin + (begin == start), WINDOW // 2 + 11):
                raise DamagedError("it is several files joined to one; split it")
    yield Recording()


_AMR_BYTES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6),
}


def _amr(content: Content, start: int) -> Iterator[Recording]:
    magic = next(magic for magic in _AMR_BYTES if content.at(start, len(magic)) == magic)
    sizes = _AMR_BYTES[magic]

    def frame(content: Content, position: int) -> int:
        head = content.at(position, 1)[0]
        if content.at(position, 5) == b"#!AMR" or head & 0x83:
            return 0
        kind = head >> 3 & 15
        return sizes[kind] if kind < len(sizes) else 1 if kind >= 14 else 0

    yield from _framed(content, start, start + len(magic), frame)


def _framed(content: Content, begin: int, position: int, frame: Callable[[Content, int], int]) -> Iterator[Recording]:
    """Frames that name their length; a further recording begins where there is none."""
    first = position
    while position < content.size:
        size = frame(content, position)
        if not size:
            following = _behind_tags(content, position)
            if following >= content.size and position > first:
                break
            kind, further = sniff(content, following)
            if position > first and kind in ("aac", "ac3", "amr"):
                yield Recording(((begin, position),))
                yield from _WALKS[kind](content, further)
                return
            if following > position > first:
                position = following
                continue
            raise DamagedError(f"it is corrupt or cut short: no frame where one is expected, at byte {position:,}")
        if position + size > content.size:
            raise DamagedError("it is cut short: its last frame is not complete")
        position += size
    yield Recording(((begin, content.size),))


# --------------------------------------------------------------------------------- boxes and elements


def _mp4(content: Content, start: int) -> Iterator[Recording]:
    """Boxes at the top of an MP4, M4A, MOV or 3GP file."""
    position, begin, names = start, start, list[bytes]()
    while position < content.size:
        head = content.at(position, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if not head.strip(b"\0") or (size == 0 and len(head) >= 8):
            position = content.size
        elif size < 8 or len(head) < 8 or not re.match(rb"[\xa9 -~]{4}", head[4:]):
            raise DamagedError(f"it is corrupt or cut short: no MP4 box where one is expected, at byte {position:,}")
        if head[4:8] == b"ftyp" and b"ftyp" in names:
            if b"moov" in names:
                yield Recording(((begin, position),))
            begin, names = position, []
        names.append(head[4:8])
        if position + size > content.size and position < content.size:
            raise DamagedError(f"it is cut short: its box {head[4:8].decode('latin-1')!r} is not complete")
        position += size if position < content.size else 0
    if b"moov" not in names:
        raise DamagedError("it is cut short: it has no index (box 'moov')")
    yield Recording(((begin, content.size),))


_SEGMENT, _CLUSTER, _EBML = 0x18538067, 0x1F43B675, 0x1A45DFA3


def _matroska(content: Content, start: int) -> Iterator[Recording]:
    """Elements of a WebM, MKA or MKV file; segments and clusters of unknown length (streams) are entered."""
    position, begin = start, start
    while position < content.size:
        head = content.at(position, 12)
        (name_length,) = (9 - head[0].bit_length(),)
        size_length = 9 - head[name_length].bit_length() if len(head) > name_length else 9
        if name_length > 4 or size_length > 8 or len(head) < name_length + size_length:
            if not any(block.strip(b"\0") for block in content.blocks(position)):
                break
            raise DamagedError(f"it is corrupt or cut short: no element where one is expected, at byte {position:,}")
        name = int.from_bytes(head[:name_length], "big")
        size = int.from_bytes(head[name_length : name_length + size_length], "big") & (1 << 7 * size_length) - 1
        if name == _EBML and position > begin:
            yield Recording(((begin, position),))
            begin = position
        position += name_length + size_length
        if size == (1 << 7 * size_length) - 1 and name in (_SEGMENT, _CLUSTER):
            continue
        if position + size > content.size:
            raise _cut(f"{size:,} bytes of an element", f"{content.size - position:,}")
        position += size
    yield Recording(((begin, content.size),))


def _asf(content: Content, start: int) -> Iterator[Recording]:
    """WMA: the length of the file stands in its file properties."""
    head = content.at(start, 8192)
    found = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if found >= 0 and len(head) >= found + 92:
        size, flags = struct.unpack("<Q", head[found + 40 : found + 48])[0], head[found + 88]
        if not flags & 1 and size > content.size - start:
            raise _cut(f"{size:,} bytes", f"{content.size - start:,}")
        if not flags & 1 and size:
            yield from _ended(content, start, start + size, re.escape(head[:8]), _asf)
            return
    yield Recording(((start, content.size),))


_WALKS: dict[str, Callable[[Content, int], Iterator[Recording]]] = {
    "wav": _wav,
    "aiff": _aiff,
    "caf": _caf,
    "au": _au,
    "w64": _w64,
    "nist": _nist,
    "voc": _voc,
    "svx": _svx,
    "flac": _flac,
    "ogg": _ogg,
    "mpeg": _mpeg,
    "aac": _aac,
    "amr": _amr,
    "mp4": _mp4,
    "matroska": _matroska,
    "asf": _asf,
    "ac3": _ac3,
    "ts": _ts,
    "av": _av,
}
