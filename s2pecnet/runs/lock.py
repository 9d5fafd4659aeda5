"""One writer at a time: the lock on the folder of a run."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, is_running

SECONDS_UNTIL_ORPHANS_LEAVE = 20.0


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a run's folder. The lock of a process that died, however it died, is free.

    Raises:
        InputError: another process holds it; with its pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.pid")
    try:
        # Loading processes share the lock of the run that made them, and outlive it by a few seconds when it is killed.
        lock.acquire(timeout=0 if _is_running(holder) else SECONDS_UNTIL_ORPHANS_LEAVE)
    except Timeout:
        who = holder.read_text().strip() if holder.is_file() else "unknown"
        raise InputError(
            f"{path}: another run (pid {who}) is writing there; wait for it, or give this one a --comment or another "
            "--output_dir"
        ) from None
    try:
        with atomic_write(holder) as stream:
            stream.write(f"{os.getpid()} on {platform.node()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _is_running(holder: Path) -> bool:
    """Whether the process that a .pid file names runs, as far as this machine can see."""
    try:
        pid, _, host = holder.read_text().split()
        return host != platform.node() or is_running(int(pid))
    except (OSError, ValueError):
        return False
