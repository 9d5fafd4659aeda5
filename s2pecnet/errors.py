"""The one exception that means "the user's input is wrong".

Everything the framework can blame on an input (a config, a protocol, an audio file, a checkpoint,
a path) is raised as `InputError`, with a message that names the place (file, line, key), says what
was found and what was expected, and says what to do. Command lines print it as one line and exit
with status 2; a library user can catch it, or its base class `ValueError`.
"""

import os


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


def describe_error(error: InputError | OSError) -> str:
    """The message of an error; of an operating-system error the file it is about, then the system's own words."""
    if isinstance(error, InputError):
        return str(error)
    reason = error.strerror or str(error)
    # Some libraries hand on the name as bytes.
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason
