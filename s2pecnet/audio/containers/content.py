"""The bytes of an audio file, and the recordings that they hold."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

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


# Follows a file from a byte on, and gives the recordings that it finds.
Walk = Callable[["Content", int], Iterator[Recording]]


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


def cut_short(announced: str, there: str) -> DamagedError:
    """The error of a file that has less than its header announces; both in words, such as "20 bytes"."""
    return DamagedError(f"it is cut short: the header announces {announced}, {there} are there")
