"""Files that appear whole or not at all.

A result that is half written is worse than none: it looks finished. Everything that the framework
writes goes through `whole_file`: the text is written to a temporary file in the same folder,
flushed to the disk, and renamed over the target in one step; then the folder is flushed too.

The temporary file of `scores.txt` is `.scores.txt.<host>.<random>.part`. Its writer holds a lock (flock) on it until
the rename, and the system takes the lock back when the writer dies, however it dies. So a `.part` file of this host
that can be locked has no writer any more: the next write of the same target removes it. One that is locked belongs to a
process that is writing the same target now, and stays.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows has no flock; a killed writer's temporary file stays there
    fcntl = None  # type: ignore[assignment]


# What a disk says when it cannot take a file; these errors often come without the file's name.
DISK_ERRORS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EFBIG", "EDQUOT", "EIO", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG")
    if hasattr(errno, name)
}


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open `path` for writing; it appears (or is replaced) only when the block ends without an error.

    Args:
        path: target file; its folder is created where it is missing.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        OSError: the folder cannot be written or the disk is full (`filename` is the target); a file of
            that name that was there before is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, target.name)
    descriptor, lock, temporary = _open_part(target)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are meant to be read by the group as any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            _name_target(error, target, temporary)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    _flush_folder(target.parent)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all; NaN and infinity are refused."""
    with whole_file(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def remove_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove the temporary files that killed writers left in `folder`; those of living writers stay.

    Args:
        name: only those of this target.
    """
    start, end = f".{name[:40]}." if name else ".", f".{_host()}."
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem, _, ending = entry.name.rpartition(".")
            host = stem[: stem.rfind(".") + 1]
            if ending == "part" and entry.name.startswith(start) and host.endswith(end):
                _remove_abandoned(entry.path)


def _open_part(target: Path) -> tuple[int, int | None, str]:
    """A new temporary file: its descriptor, a second one that keeps its lock (None: no locks here), its path."""
    # Of a long name the beginning is enough: the lock, not the name, says whose the file is.
    prefix = f".{target.name[:40]}.{_host()}."
    while True:
        try:
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".part")
        except OSError as error:
            error.filename = str(target)
            raise
        try:
            locked = _try_lock(descriptor)
        except OSError:
            return descriptor, None, temporary
        # Somebody who cleans up may have come between: then the file is gone, or about to go.
        if locked and _is_at(temporary, descriptor):
            return descriptor, os.dup(descriptor), temporary
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a file against everybody else without waiting; OSError where the file system has no locks."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_abandoned(temporary: str) -> None:
    with contextlib.suppress(OSError):
        # Some network file systems lock only what is open for writing.
        descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _try_lock(descriptor):
                os.unlink(temporary)
        finally:
            os.close(descriptor)


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
    """This machine's name: locks of another machine on a shared disk may be invisible here."""
    return platform.node().partition(".")[0][:32] or "localhost"


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
