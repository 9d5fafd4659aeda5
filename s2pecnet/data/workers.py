"""The processes that load audio: how they start, and what is said when one of them fails.

A signal to a job reaches every process of it. The loading processes leave SIGTERM and its like to the training, which
saves its state and ends them; they end by themselves when it is gone. One that dies, hangs for `PATIENCE` seconds, or
finds no shared memory is one line that names the files that were asked for.
"""

import atexit
import contextlib
import functools
import logging
import math
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from s2pecnet.errors import InputError
from s2pecnet.interruption import SIGNALS
from s2pecnet.runtime import seed_worker
from s2pecnet.text import listed

log = logging.getLogger(__name__)

SHARED_MEMORY = "/dev/shm"
# Seconds without a batch after which a warning names the files that are waited for, and after which a loading process
# counts as stuck. A disk that sleeps, or a network's, takes less.
WARN_AFTER, PATIENCE = 10, 600


class WorkerFailed(InputError):
    """A loading process died, hung, or had no memory."""


# torch's handler of SIGCHLD, which raises where a loading process has died; and whether a batch is being waited for.
_torch_handler: Callable[[int, FrameType | None], Any] | None = None
_waiting = False


def _on_child(number: int, frame: FrameType | None) -> None:
    """Look for dead loading processes only where a batch is waited for, not in the middle of a training step."""
    if _waiting and _torch_handler is not None:
        _torch_handler(number, frame)


def _take_over_child_signals() -> None:
    global _torch_handler
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler) and handler is not _on_child:
        _torch_handler = handler
        signal.signal(signal.SIGCHLD, _on_child)


@functools.cache
def end_with_python() -> None:
    """Let loading processes end when python exits: they do not heed the signal by which they would be asked to.

    Not before: one that is killed may hold a lock that torch wants.
    """
    atexit.register(_kill_children)


def _kill_children() -> None:
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def start_worker(worker_id: int) -> None:
    """What each loading process does first: seeds of its own, and no ear for signals that are meant for the job."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    seed_worker(worker_id)


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a pass over `loader`.

    Raises:
        WorkerFailed: a loading process failed.
    """
    global _waiting
    # Which items come, before the sampler moves on to its next pass.
    pending = getattr(getattr(loader, "sampler", None), "pending", None)
    order = None if pending is None else pending()
    taken, iterator = 0, None

    def asked() -> str:
        names, size = loader.dataset.list_IDs, loader.batch_size or 1  # type: ignore[attr-defined]
        coming = range(taken, min(taken + size, len(names))) if order is None else order[taken : taken + size]
        return f"the files asked for: {listed([str(names[index]) for index in coming])}"

    watched = getattr(loader, "num_workers", 0) and threading.current_thread() is threading.main_thread()
    watch = _Watch(asked) if watched else None
    try:
        while True:
            try:
                _waiting = True
                # Who died since the last batch.
                _on_child(signal.SIGCHLD, None)
                with watch or contextlib.nullcontext():
                    if iterator is None:
                        iterator = iter(loader)
                        if watched:
                            _take_over_child_signals()
                    batch = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                reason = _why_failed(str(error))
                if reason is None:
                    raise
                raise WorkerFailed(f"{reason}; {asked()}") from None
            finally:
                _waiting = False
            yield batch
            # Of windows an utterance has several rows.
            taken += getattr(loader, "batch_size", None) or len(batch[0])
    finally:
        if watch is not None:
            watch.over.set()


class _Watch:
    """Warns once where a batch takes long, from a thread of its own; `with` it while one is waited for."""

    def __init__(self, asked: Callable[[], str]):
        self.asked, self.since, self.over = asked, math.inf, threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def __enter__(self) -> None:
        self.since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since = math.inf

    def _look(self) -> None:
        while not self.over.wait(WARN_AFTER / 10):
            if time.monotonic() - self.since > WARN_AFTER:
                log.warning("no batch for %d s (the run ends after %d s); %s", WARN_AFTER, PATIENCE, self.asked())
                return


def _why_failed(message: str) -> str | None:
    if "unable to allocate shared memory" in message or "Bus error" in message:
        return f"a loading process found {SHARED_MEMORY} full: set a smaller num_workers, or prefetch=1"
    if "timed out after" in message:
        return f"no batch for {PATIENCE // 60} minutes: a loading process is stuck (a disk or network that hangs?)"
    killed = re.search(r"worker \(pid\S* ([\d, ]+)\) (?:is killed by signal: (\w+)|exited unexpectedly)", message)
    if killed is None:
        return None
    hint = " (out of memory? set a smaller num_workers)" if killed[2] == "Killed" else ""
    return f"the loading process {killed[1]} died{f' of signal {killed[2]}' if killed[2] else ''}{hint}"


def workers_that_fit(workers: int, prefetch: int, batch_bytes: int, chosen: bool) -> int:
    """How many loading processes the shared memory takes, through which batches come: `workers`, or fewer.

    Args:
        chosen: the user has set the number: too many are then an error instead of a warning.

    Raises:
        InputError: they do not fit, and were chosen.
    """
    try:
        room = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return workers
    # Those ready ahead, and the one that is being put together.
    free, each = room.f_bavail * room.f_frsize, batch_bytes * (prefetch + 1)
    if workers * each <= free:
        return workers
    fitting = free // each
    what = (
        f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free; {workers} loading processes with batches of "
        f"{batch_bytes / 2**20:.1f} MiB need about {workers * each / 2**20:.0f}"
    )
    if chosen:
        raise InputError(
            f"{what}: set num_workers={fitting} or a smaller prefetch, or give the container more (docker run "
            "--shm-size=1g)"
        )
    log.warning("%s: num_workers is %d here (docker run --shm-size=1g gives a container more)", what, fitting)
    return fitting
