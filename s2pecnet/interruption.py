"""Graceful shutdown: SIGTERM and SIGINT (Ctrl-C) end a run at the next safe point instead of in the middle.

with handle_signals():            the first signal is recorded, the second one ends the process at once
    ...
    raise_if_stop_requested("...")    raises `Stopped` where a signal has come
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from s2pecnet.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_noted: signal.Signals | None = None


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Record the signals instead of dying of them, as long as the block runs."""
    global _noted
    _noted = None
    before = [signal.signal(number, _note) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a signal has come."""
    return _noted is not None


def raise_if_stop_requested(where: str) -> None:
    """Raise `Stopped` where a signal has come.

    Args:
        where: what has been done, for the message.
    """
    if _noted is not None:
        raise Stopped(f"stopped by {_noted.name}: {where}", status=128 + _noted)


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    _noted = signal.Signals(number)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    # Not print: the signal may have come in the middle of one.
    os.write(
        sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{_noted.name}: stopping soon; again: at once\n".encode()
    )
