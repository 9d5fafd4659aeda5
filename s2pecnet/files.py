"""Files that appear complete or not at all.

A result that is half written is worse than none: it looks finished. Everything that the framework writes goes through
`atomic_write`: the content is written to a temporary file in the same folder, flushed to the disk, and renamed over the
target in one step; then the folder is flushed too.

A link is followed; a device or a FIFO (/dev/stdout, /dev/null) is written through, never replaced.

The temporary file of `scores.txt` is `.scores.txt.<host>.<pid>.<random>.part`. One whose process does not run any more
on this host was left by a killed writer: the next write of the same target removes it.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# What a disk says when it cannot take a file; these errors often come without the file's name.
DISK_ERRORS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EFBIG", "EDQUOT", "EIO", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG")
    if hasattr(errno, name)
}

_writes = True


def writes() -> bool:
    """Whether this process writes results: of those that share a training, the first one alone does."""
    return _writes


@contextlib.contextmanager
def leaving_results_to_others() -> Iterator[None]:
    """Write no results in this block: `atomic_write` writes nowhere."""
    global _writes
    before, _writes = _writes, False
    try:
        yield
    finally:
        _writes = before


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", by_any: bool = False) -> Iterator[IO[Any]]:
    """Open `path` for writing; it appears (or is replaced) only when the block ends without an error.

    Args:
        path: target file; its folder is created where it is missing.
        mode: "w" for UTF-8 text, "wb" for bytes.
        by_any: it is no result, but what any process may write, such as a cache.

    Raises:
        OSError: the folder cannot be written or the disk is full (`filename` is the target); a file of
            that name that was there before is untouched.
    """
    target, encoding = Path(os.path.realpath(path)), None if "b" in mode else "utf-8"
    if not (_writes or by_any):
        target = Path(os.devnull)
    if target.exists() and not target.is_file() and not target.is_dir():
        with open(target, mode, encoding=encoding) as stream:
            yield stream
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, target.name)
    # Of a long name the beginning is enough.
    name = f".{target.name[:40]}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.part"
    temporary = str(target.with_name(name))
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        error.filename = str(target)
        raise
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            _name_target(error, target, temporary)
        raise
    _flush_folder(target.parent)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused."""
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_below(path: Path, folder: Path | None) -> bool:
    """Whether a file, its links followed, lies in a folder; None: in any."""
    return folder is None or path.resolve().is_relative_to(folder.resolve())


def remove_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove the temporary files that killed writers of this host left in `folder`.

    Args:
        name: only those of this target.
    """
    start, host = f".{name[:40]}." if name else ".", f".{_host()}."
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".part") and entry.name.startswith(start):
                pid = entry.name.removesuffix(".part").rpartition(host)[2].partition(".")[0]
                if host in entry.name and pid.isdecimal() and not is_running(int(pid)):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def is_running(pid: int) -> bool:
    """Whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _name_target(error: OSError, target: Path, temporary: str) -> None:
    """Let the error speak of the target: nobody knows the temporary file. Errors about other files stay as they are."""
    if error.filename == temporary or (error.filename is None and error.errno in DISK_ERRORS):
        error.filename = str(target)
        # A rename that failed names both files; None would be printed, so it has to go.
        if error.filename2 is not None:
            del error.filename2


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets folders be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _host() -> str:
    """This machine's name: processes of another machine on a shared disk cannot be seen from here."""
    return platform.node().partition(".")[0][:32] or "localhost"
