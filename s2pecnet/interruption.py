"""Leaving when asked to: SIGTERM and SIGINT (Ctrl-C) end a run at the next safe place instead of in the middle.

with listening():            the first signal is noted, the second one ends the process at once
    ...
    leave_if_asked("...")    raises `Stopped` where a signal has been noted
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
def listening() -> Iterator[None]:
    """Note the signals instead of dying of them, as long as the block runs."""
    global _noted
    _noted = None
    before = [signal.signal(number, _note) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def asked_to_leave() -> bool:
    """Whether a signal has been noted."""
    return _noted is not None


def leave_if_asked(where: str) -> None:
    """Raise `Stopped` where a signal has been noted.

    Args:
        where: what has been done and how to go on, for the message.
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
        sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{_noted.name}: leaving soon; again: at once\n".encode()
    )
