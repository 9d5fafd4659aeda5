"""FLAC: its header, and whether its last frame is the one that the header announces."""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from s2pecnet.audio.containers.content import WINDOW, Content, DamagedError, Piece, Recording, Walk
from s2pecnet.audio.containers.signatures import sniff


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


WALKS: dict[str, Walk] = {"flac": _flac}
