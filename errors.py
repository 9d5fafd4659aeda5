"""The one exception that means "the user's input is wrong".

Everything the framework can blame on an input (a config, a protocol, an audio file, a checkpoint,
a path) is raised as `InputError`, with a message that names the place (file, line, key), says what
was found and what was expected, and tells what to do. Command lines print it as one line and exit
with status 2; a library user can catch it, or its base class `ValueError`.
"""

import io
import os
import re
import sys
from collections.abc import Callable

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what to do."""

    def __init__(self, message: str):
        # A DataLoader worker sends its exception as text with a traceback around it; the user needs the message alone.
        if message.startswith("Caught "):
            message = message.rsplit(f"{type(self).__module__}.{type(self).__qualname__}: ", 1)[-1].strip()
        super().__init__(message)


class Stopped(Exception):
    """The run was asked to end, and did so at a safe place; `status` is the exit status that says so."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command line's `main` and leave with its exit status.

    `InputError` and operating-system errors become one line on stderr and exit status 2; Ctrl-C exits with 130, and
    a run that a signal asked to end with 128 plus the signal's number. Anything else is a defect of ours and keeps its
    traceback.
    """
    # A path may hold what a terminal's encoding lacks; that must not end a run when it says where its results are.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {_printable(str(error))}", file=sys.stderr)
        status = EXIT_BAD_INPUT
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        status = stopped.status
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; python must not complain about it while leaving either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    except OSError as error:
        print(f"error: {_printable(describe_os_error(error))}", file=sys.stderr)
        status = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _printable(text: str) -> str:
    """What an input brought into a message must not move the cursor of a terminal; line breaks stay."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def describe_os_error(error: OSError) -> str:
    """One line for an operating-system error: the file it is about, then the system's own words."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
