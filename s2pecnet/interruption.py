"""Graceful shutdown: signals that ask a run to stop end it at the next safe point instead of in the middle.

SIGTERM, SIGINT (Ctrl-C), SIGHUP (the terminal is gone; not under nohup) and SIGUSR1 (schedulers send it ahead of the
end of a job's time).

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

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
HANGUP = getattr(signal, "SIGHUP", None)

_noted: signal.Signals | None = None
_handling = False


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Record the signals instead of dying of them, as long as the block, or one around it, runs."""
    global _noted, _handling
    if _handling:
        yield
        return
    _noted, _handling = None, True
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before.get(HANGUP) == signal.SIG_IGN:  # started by nohup
        del before[HANGUP]
    try:
        for number in before:
            signal.signal(number, _note)
        yield
    finally:
        _handling = False
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a signal has come."""
    return _noted is not None


def requested_signal() -> int:
    """The number of the signal that has come; 0: none."""
    return int(_noted or 0)


def note_signal(number: int) -> None:
    """Act as if a signal had come: another process of the same training got it."""
    global _noted
    _noted = _noted or signal.Signals(number)


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
    # torchrun hands on the signal that a scheduler has sent to all processes already: the second one means no more.
    again = signal.SIG_IGN if "TORCHELASTIC_RUN_ID" in os.environ else signal.SIG_DFL
    for each in SIGNALS:
        if signal.getsignal(each) == _note:
            signal.signal(each, again if each != signal.SIGINT else signal.SIG_DFL)
    # Not print: the signal may have come in the middle of one.
    os.write(
        sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{_noted.name}: stopping soon; again: at once\n".encode()
    )
