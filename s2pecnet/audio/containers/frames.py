"""Formats that are followed from page to page or from frame to frame: Ogg, MPEG, AAC, AC-3, AMR, transport streams."""

import re
import zlib
from collections.abc import Callable, Iterator

from s2pecnet.audio.containers.content import WINDOW, Content, DamagedError, Recording, Walk, cut_short
from s2pecnet.audio.containers.signatures import ac3_frame, adts_frame, mpeg_header, sniff, synchsafe

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


def _mpeg(content: Content, start: int) -> Iterator[Recording]:
    """MP2 and MP3; a further recording begins at a header of Xing's, at another sample rate, or behind a tag."""
    part, position = _MpegPart(start), start
    while position < content.size:
        header = mpeg_header(content.at(position, 4))
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
            raise cut_short(f"{self.announced:,} frames", f"{self.frames:,}")
        if self.frames in (self.announced - 1, self.announced):
            return Recording(((self.begin, end),))
        # Without a right number libsndfile takes one from the first frame's bit rate: it gets a frame that has it.
        head = content.at(self.first, 4)
        length = (mpeg_header(head) or (0, 0))[0]
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
        return min(content.size, position + 10 + synchsafe(head[6:10]))
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


def _aac(content: Content, start: int) -> Iterator[Recording]:
    yield from _framed(content, start, start, adts_frame)


def _ac3(content: Content, start: int) -> Iterator[Recording]:
    yield from _framed(content, start, start, ac3_frame)


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
                yield from WALKS[kind](content, further)
                return
            if following > position > first:
                position = following
                continue
            raise DamagedError(f"it is corrupt or cut short: no frame where one is expected, at byte {position:,}")
        if position + size > content.size:
            raise DamagedError("it is cut short: its last frame is not complete")
        position += size
    yield Recording(((begin, content.size),))


WALKS: dict[str, Walk] = {
    "ogg": _ogg,
    "mpeg": _mpeg,
    "aac": _aac,
    "ac3": _ac3,
    "ts": _ts,
    "av": _av,
    "amr": _amr,
}
