"""The command `s2pecnet`: one map of all commands, each a module of this folder.

    s2pecnet train --config AASIST          python main.py --config ./config/AASIST.conf
    s2pecnet score --config AASIST          python main.py --eval --config ./config/AASIST.conf

A module has `build_parser(prog)` and `main(argv, prog)`. It is imported when it is asked for: `s2pecnet --help` imports
none, and no help needs torch. In a checkout that is not installed the command is `python -m s2pecnet`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from s2pecnet import __version__
from s2pecnet.cli.command import PROGRAM, run_command
from s2pecnet.errors import InputError
from s2pecnet.text import nearest


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: the module of this folder that has its parser and its `main`.
        does: one line for the map.
        arguments: what it puts in front of the user's own.
    """

    module: str
    does: str
    arguments: tuple[str, ...] = ()

    def main(self, argv: Sequence[str], prog: str) -> int:
        """Run it; returns the exit status."""
        return int(self.imported().main([*self.arguments, *argv], prog=prog) or 0)

    def parser(self, prog: str) -> argparse.ArgumentParser:
        """Its command line."""
        parser: argparse.ArgumentParser = self.imported().build_parser(prog)
        return parser

    def imported(self):  # type: ignore[no-untyped-def]
        """The module, imported."""
        return importlib.import_module(f"{__name__}.{self.module}")


COMMANDS = {
    "train": Command("train", "train a system on a corpus, and score its eval set"),
    "score": Command("train", "score a corpus's eval set with given weights", ("--eval",)),
    "augment": Command("augment", "what training would hear of recordings: audio and pictures"),
    "predict": Command("predict", "score audio files: bona fide or spoof?"),
    "evaluate": Command("evaluate", "metrics of score files: EER, min t-DCF, intervals, tests, tables"),
    "crosseval": Command("crosseval", "systems over corpora: one table, at own and at one shared threshold"),
    "calibrate": Command("calibrate", "fit log-likelihood ratios and thresholds on scores of dev"),
    "fuse": Command("fuse", "one score file out of several systems'"),
    "export": Command("export", "a system as an ONNX or .pt2 file that scores without this framework"),
    "report": Command("report", "an HTML page of a run, or of several side by side"),
    "card": Command("card", "the model card of a run, for the Hugging Face Hub"),
    "download": Command("download", "get ASVspoof2019 LA, check any corpus, make the demo corpus"),
    "arena": Command("arena", "files of the Speech Anti-Spoofing Arena"),
    "weights": Command("weights", "list the published weights, or fetch them"),
    "schema": Command("schema", "print the JSON Schema of configs, for editors"),
    "completion": Command("completion", "print the completion of this command for a shell"),
}
EXAMPLES = """examples:
  s2pecnet download --demo demo_corpus/LA          make a small synthetic corpus
  s2pecnet train --config demo                     train on it
  s2pecnet predict --config AASIST talk.mp3        fetches the published weights
  s2pecnet evaluate --cm scores.txt

s2pecnet COMMAND --help describes one command, with examples of its own. A config is a file, or the name of one that
came with the framework."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0].startswith("-"):
        parser = build_map()
        parser.parse_args(words)
        parser.print_help()
        return 0
    name, *rest = words
    if name not in COMMANDS:
        guess = nearest(name, COMMANDS, cutoff=0.6)
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise InputError(f"{PROGRAM}: there is no command {name!r}{hint} (have: {', '.join(COMMANDS)})")
    return COMMANDS[name].main(rest, f"{PROGRAM} {name}")


def run(name: str, prog: str) -> NoReturn:
    """Run a command with this process's arguments under another name, `python main.py` say, and leave."""
    run_command(lambda: COMMANDS[name].main(sys.argv[1:], prog))


def build_map() -> argparse.ArgumentParser:
    """The parser of `s2pecnet` without its subcommands: help and version."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {command.does}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND ...",
        description=f"Audio anti-spoofing: train, score and judge countermeasures.\n\ncommands:\n{lines}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__} ({__path__[0]})")
    return parser
