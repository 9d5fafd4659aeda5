"""Recordings of any length as windows; files are read block by block: ten hours in the memory of one block.

file --read_blocks: decode, mono, 16 kHz--> windows of `length` samples every `hop` samples
"""

from collections.abc import Callable, Iterable, Iterator
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
    """Windows of a file, see `windows`.

    Args:
        on_second: called where the second decoder is needed.

    Raises:
        BadAudio: as `decoding.read_audio`; of a long file possibly after its first windows.
    """
    return windows(read_blocks(path, on_second, remember=False), length, hop)


def windows(blocks: Iterable[Floats32], length: int, hop: int) -> Iterator[Window]:
    """Windows of a recording, one every `hop` samples, and one that ends with it where these leave a rest.

    A recording that is not longer than `length` is one window with all its samples. Windows without any sound, all
    samples 0, are left out.

    Args:
        blocks: the recording, float32, in parts (any number of samples,).
        length, hop: samples, 1 <= hop <= length.
    """
    held, begin, start = np.zeros(0, dtype=np.float32), 0, 0
    for block in blocks:
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
