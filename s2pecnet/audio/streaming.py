"""Audio files of any length as windows, read from the disk block by block: ten hours in the memory of one block.

file --read_blocks: decode, mono, 16 kHz--> windows of `length` samples every `hop` samples
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s2pecnet.audio.decoding import read_blocks
from s2pecnet.audio.resampling import Floats32


class Window(NamedTuple):
    """Samples of a file (at most the window's length,), float32, 16 kHz, and the index of the first of them."""

    start: int
    samples: Floats32


def read_windows(
    path: str | Path, length: int, hop: int, on_second: Callable[[], object] = lambda: None
) -> Iterator[Window]:
    """Windows of a file, one every `hop` samples, and one that ends with the file where these leave a rest.

    A file that is not longer than `length` is one window with all its samples. Windows without any sound, all samples
    0, are left out.

    Args:
        length, hop: samples at 16 kHz, 1 <= hop <= length.
        on_second: called where the second decoder is needed.

    Raises:
        BadAudio: as `decoding.read_audio`; of a long file possibly after its first windows.
    """
    held, begin, start = np.zeros(0, dtype=np.float32), 0, 0
    for block in read_blocks(path, on_second, remember=False):
        held = np.concatenate((held, block))
        while start + length <= begin + len(held):
            window = held[start - begin :][:length]
            if window.any():
                yield Window(start, window)
            start += hop
        # The last window may have to reach back by its complete length.
        kept = max(begin, min(start, begin + len(held) - length))
        held, begin = held[kept - begin :], kept
    end = begin + len(held)
    if (start == 0 or start - hop + length < end) and held[-length:].any():
        yield Window(max(0, end - length), held[-length:])
