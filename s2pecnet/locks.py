"""One writer at a time.

    run_lock        the folder of a run: a second run there is refused
    waiting_lock    a cache, a download: a second process waits, and then finds what the first has made

A lock is released when its process ends, however it does. Beside the lock, a file `.pid` says who holds it.
"""

import contextlib
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, is_running, writes
from s2pecnet.interruption import raise_if_stop_requested

log = logging.getLogger(__name__)

SECONDS_UNTIL_ORPHANS_LEAVE = 20.0
# After which a process that waits says for whom, and again after ten times as long, and so on.
SECONDS_UNTIL_WARNING = 2.0


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a run's folder. The lock of a process that died, however it died, is free.

    Of the processes that share a training, the one that writes holds it.

    Raises:
        InputError: another process holds it; with its pid.
    """
    if not writes():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.pid")
    try:
        # Loading processes share the lock of the run that made them, and outlive it by a few seconds when it is killed.
        lock.acquire(timeout=0 if _is_running(holder) else SECONDS_UNTIL_ORPHANS_LEAVE)
    except Timeout:
        raise InputError(
            f"{path}: another run (pid {_name_of(holder)}) is writing there; wait for it, or give this one a "
            "--comment or another --output_dir"
        ) from None
    with _held(lock, holder):
        yield


@contextlib.contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`. While another process has it, wait; a warning says for whom.

    Args:
        what: what the other one does, for the warning: "makes the audio cache".

    Raises:
        Stopped: a signal has come meanwhile.
        OSError: the lock cannot be made, in a folder that cannot be written for example.
    """
    lock, holder = FileLock(path), path.with_suffix(".pid")
    began, warn_after = time.monotonic(), SECONDS_UNTIL_WARNING
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            raise_if_stop_requested(f"while another process {what}")
            if time.monotonic() - began > warn_after:
                log.warning("waiting: another process (pid %s) %s; its lock is %s", _name_of(holder), what, path)
                warn_after *= 10
    with _held(lock, holder):
        yield


@contextlib.contextmanager
def _held(lock: FileLock, holder: Path) -> Iterator[None]:
    try:
        with atomic_write(holder, by_any=True) as stream:
            stream.write(f"{os.getpid()} on {platform.node()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _name_of(holder: Path) -> str:
    try:
        return holder.read_text(errors="replace").strip()[:100] or "unknown"
    except OSError:
        return "unknown"


def _is_running(holder: Path) -> bool:
    """Whether the process that a .pid file names runs, as far as this machine can see."""
    try:
        pid, _, host = holder.read_text().split()
        return host != platform.node() or is_running(int(pid))
    except (OSError, ValueError):
        return False
