"""Formats that name the length of their samples: WAV, AIFF, CAF, AU, W64, NIST, VOC, 8SVX."""

import re
import struct
from collections.abc import Callable, Iterator

from s2pecnet.audio.containers.content import Content, DamagedError, Recording, Walk, cut_short


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
    raise cut_short(f"{announced:,} bytes of samples", f"{there:,}")


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
                raise cut_short(f"{size - 8:,} bytes of samples", f"{there:,}")
            if width and frames * width > size - 8:
                raise cut_short(f"{frames:,} samples", f"{(size - 8) // width:,}")
        position += 8 + size + size % 2
    if not has_samples and frames:
        raise DamagedError("it is cut short: the file ends before its samples begin")
    yield from ended(content, start, position, rb"FORM....AIF", _aiff)


def ended(
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
            raise cut_short(f"{size:,} bytes", f"{there:,}")
        position = begin + size
    yield from ended(content, start, position, rb"caff\0", _caf)


def _au(content: Content, start: int) -> Iterator[Recording]:
    order = ">" if content.at(start, 4) == b".snd" else "<"
    begin, size = struct.unpack(order + "II", content.at(start + 4, 8).ljust(8, b"\0"))
    there = content.size - start - begin
    if size >= 0x7FFF0000 > there or (size == 0 and there > 0):
        patch = {start + 8: struct.pack(order + "I", there)}
        yield Recording((_patched(content, start, start + begin, patch), (start + begin, content.size)))
        return
    if size > there:
        raise cut_short(f"{size:,} bytes of samples", f"{max(0, there):,}")
    yield from ended(content, start, start + begin + size, rb"\.snd|dns\.", _au)


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
                raise cut_short(f"{size - 24:,} bytes of samples", f"{there:,}")
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
        raise cut_short(f"{samples:,} bytes of samples", f"{max(0, there):,}")
    following = _further(content, start + size + samples, rb"NIST_1A")
    yield Recording(((start, start + size + samples),))
    if following is not None:
        yield from _nist(content, following)


def _voc(content: Content, start: int) -> Iterator[Recording]:
    position = start + int.from_bytes(content.at(start + 20, 2), "little")
    while (head := content.at(position, 4)) and head[0]:
        size = int.from_bytes(head[1:], "little")
        if position + 4 + size > content.size:
            raise cut_short(f"a block of {size:,} bytes", f"{max(0, content.size - position - 4):,}")
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
                raise cut_short(f"{size:,} bytes of samples", f"{content.size - position - 8:,}")
        position += 8 + size + size % 2
    if end == content.size and position < end:
        raise DamagedError("it is cut short: the file ends before its samples begin")
    following = _further(content, end, rb"FORM")
    yield Recording(((start, end),))
    if following is not None:
        yield from _svx(content, following)


WALKS: dict[str, Walk] = {
    "wav": _wav,
    "aiff": _aiff,
    "caf": _caf,
    "au": _au,
    "w64": _w64,
    "nist": _nist,
    "voc": _voc,
    "svx": _svx,
}
