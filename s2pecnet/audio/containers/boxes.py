"""Formats of boxes and elements within each other: MP4, Matroska, ASF."""

import re
import struct
from collections.abc import Iterator

from s2pecnet.audio.containers.chunks import ended
from s2pecnet.audio.containers.content import Content, DamagedError, Recording, Walk, cut_short


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
            raise cut_short(f"{size:,} bytes of an element", f"{content.size - position:,}")
        position += size
    yield Recording(((begin, content.size),))


def _asf(content: Content, start: int) -> Iterator[Recording]:
    """WMA: the length of the file stands in its file properties."""
    head = content.at(start, 8192)
    found = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if found >= 0 and len(head) >= found + 92:
        size, flags = struct.unpack("<Q", head[found + 40 : found + 48])[0], head[found + 88]
        if not flags & 1 and size > content.size - start:
            raise cut_short(f"{size:,} bytes", f"{content.size - start:,}")
        if not flags & 1 and size:
            yield from ended(content, start, start + size, re.escape(head[:8]), _asf)
            return
    yield Recording(((start, content.size),))


WALKS: dict[str, Walk] = {"mp4": _mp4, "matroska": _matroska, "asf": _asf}
