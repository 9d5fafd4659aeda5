"""What a file holds, by its own bytes: its format, where each recording in it begins and ends, whether all is there.

Lengths that headers announce are compared with what is there, since decoders believe them: files out of pipes have
placeholders, files cut short have too much, and of files joined to one they count the first alone. Frames, pages,
chunks and boxes are followed without being decoded.
"""

import struct

from s2pecnet.audio.containers import boxes, chunks, flac, frames
from s2pecnet.audio.containers.content import Content, DamagedError, Recording

_WALKS = chunks.WALKS | flac.WALKS | frames.WALKS | boxes.WALKS


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
