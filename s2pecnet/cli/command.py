"""What all command lines share: the form of their parsers, what they log, and how they end.

Exit status: 0 done, 1 some inputs could not be used, 2 bad input or an operating-system error (one line on stderr), 130
Ctrl-C, 141 the reader of our output left, 128 + N stopped by signal N.
"""

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from s2pecnet.errors import InputError, Stopped, describe_error
from s2pecnet.text import printable

PROGRAM = "s2pecnet"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """Refuses options with an empty value, as a variable of a shell that is not set gives one."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and "" in arg_strings:
            raise InputError(f"{action.option_strings[0]}: its value is empty (a variable that is not set?)")
        return super()._get_values(action, arg_strings)


def make_parser(prog: str, description: str, examples: str, cls: type[Parser] = Parser) -> argparse.ArgumentParser:
    """A parser as every command has it.

    Args:
        prog: what the user typed, "python main.py" or "s2pecnet train"; "%(prog)s" in the texts stands for it.
        examples: the text behind the options.
    """
    parser = cls(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    accept_negative_numbers(parser)
    parser.add_argument("-q", "--quiet", action=_LogLevel, const=logging.WARNING, help="no notes, only warnings")
    parser.add_argument("-v", "--verbose", action=_LogLevel, const=logging.DEBUG, help="notes with all details")
    return parser


def accept_negative_numbers(parser: argparse.ArgumentParser) -> None:
    """Let a value be a negative number of any form: argparse takes -6.4e-05 for an option, up to Python 3.13."""
    parser._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)


class _LogLevel(argparse.Action):
    """Sets what the framework's logger lets through, as soon as the option is read."""

    def __init__(self, option_strings: list[str], dest: str, const: int, help: str):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, const=const, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: Any) -> None:
        logging.getLogger(PROGRAM).setLevel(self.const)


class _Lines(logging.Formatter):
    """`note: ...`, `warning: ...`; a text that came from outside cannot move the terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        kind = "warning" if record.levelno >= logging.WARNING else "note"
        return f"{kind}: {printable(record.getMessage())}"


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is when a line comes."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def show_log() -> None:
    """Show what the framework logs on stderr: notes and warnings, a line each."""
    logger = logging.getLogger(PROGRAM)
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(_Lines())
        logger.addHandler(handler)


def is_same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether both names are of one file, which is there."""
    return os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second)


def check_output(
    output: str | os.PathLike[str] | None,
    inputs: Iterable[str | os.PathLike[str] | None],
    option: str = "--output",
) -> None:
    """Refuse an output that is one of the inputs, which it would replace.

    Args:
        option: what messages call the output.

    Raises:
        InputError: it is.
    """
    for one in inputs:
        if output and one and is_same_file(output, one):
            raise InputError(f"{option} {output}: that is an input of this command ({one}); choose another name")


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command line's `main` and leave with its exit status.

    `InputError` and operating-system errors become one line on stderr and exit status 2; Ctrl-C exits with 130, and
    a run that a signal stopped with 128 plus the signal's number. Anything else is a defect of ours and keeps its
    traceback.
    """
    # Before torch is imported: its threads are to sleep, not spin, while they wait. Where other processes want the
    # cores too, spinning made a training step up to thirty times slower; on idle cores sleeping costs little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for number, name in ((1, "stdout"), (2, "stderr")):
        # Closed by who started this process, or not for writing: as if it were /dev/null.
        try:
            os.write(number, b"")
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    show_log()
    # A path may hold what a terminal's encoding lacks; that must not end a run when it says where its results are.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        status = stopped.status
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; python must not complain about it while leaving either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    except (InputError, OSError) as error:
        print(f"error: {printable(describe_error(error))}", file=sys.stderr)
        status = EXIT_BAD_INPUT
    except MemoryError:
        print("error: out of memory", file=sys.stderr)
        status = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    sys.exit(status)
