"""Files that appear whole or not at all.

A result that is half written is worse than none: it looks finished. Everything that the framework
writes goes through `whole_file`: the text is written to a temporary file in the same folder,
flushed to the disk, and renamed over the target in one step.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open `path` for writing; it appears (or is replaced) only when the block ends without an error.

    Args:
        path: target file; its folder is created where it is missing.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        OSError: the folder cannot be written or the disk is full; a file of that name that
            was there before is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are meant to be read by the group as any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all; NaN and infinity are refused."""
    with whole_file(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
