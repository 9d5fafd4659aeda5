"""The command `s2pecnet`: one map of all command lines, each a subcommand that is the script of that name.

    s2pecnet train --config AASIST          python main.py --config ./config/AASIST.conf
    s2pecnet score --config AASIST          python main.py --eval --config ./config/AASIST.conf

A script has `build_parser(prog)` and `main(argv, prog)`; `make_parser` gives all of them the same form, and examples in
the words that the user started them by. Scripts are imported when they are asked for: `s2pecnet --help` imports none.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from errors import InputError
from s2pecnet import FRAMEWORK, __version__
from schema import nearest

PROGRAM = "s2pecnet"


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        script: how it is called in a checkout, behind "python".
        does: one line for the map.
        arguments: what it puts in front of the user's own.
    """

    script: str
    does: str
    arguments: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that has its parser and its `main`."""
        name = self.script.removesuffix(".py")
        return f"{name.removeprefix('-m ')}.__main__" if name.startswith("-m ") else name


COMMANDS = {
    "train": Command("main.py", "train a system on a corpus, and score its eval set"),
    "score": Command("main.py", "score a corpus's eval set with given weights", ("--eval",)),
    "predict": Command("predict.py", "score audio files: bona fide or spoof?"),
    "evaluate": Command("evaluation.py", "figures of score files: EER, min t-DCF, intervals, tests, tables"),
    "calibrate": Command("calibration.py", "fit log-likelihood ratios and thresholds on scores of dev"),
    "fuse": Command("fusion.py", "one score file out of several systems'"),
    "export": Command("export.py", "a system as an ONNX or .pt2 file that scores without this framework"),
    "report": Command("report.py", "an HTML page of a run, or of several side by side"),
    "download": Command("download_dataset.py", "get ASVspoof2019 LA, check any corpus, make the demo corpus"),
    "arena": Command("arena.py", "files of the Speech Anti-Spoofing Arena"),
    "benchmark": Command("-m benchmarks", "measure speed and memory on this machine"),
    "schema": Command("config_schema.py", "print the JSON Schema of configs, for editors"),
    "completion": Command("completion.py", "print the completion of this command for a shell"),
}
EXAMPLES = """examples:
  s2pecnet download --demo demo_corpus/LA          make a small synthetic corpus
  s2pecnet train --config demo                     train on it
  s2pecnet predict --config AASIST --weights AASIST.pth talk.mp3
  s2pecnet evaluate --cm scores.txt

s2pecnet COMMAND --help tells about one command, with examples of its own. A config is a file, or the name of one that
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
    command = COMMANDS[name]
    script = importlib.import_module(command.module)
    return int(script.main([*command.arguments, *rest], prog=f"{PROGRAM} {name}") or 0)


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
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__} ({FRAMEWORK})")
    return parser


def build_tree() -> argparse.ArgumentParser:
    """The parser of `s2pecnet` with all its subcommands, for completion; it imports every script."""
    parser = build_map()
    tree = parser.add_subparsers(metavar="COMMAND", parser_class=_script_parser)  # type: ignore[call-overload]
    for name, command in COMMANDS.items():
        tree.add_parser(name, help=command.does, module=command.module)
    return parser


def _script_parser(prog: str, module: str, **_: object) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module(module).build_parser(prog)
    return parser


def make_parser(
    prog: str, description: str, examples: str, cls: type[argparse.ArgumentParser] = argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """A parser as every script has it.

    Args:
        prog: what the user typed, "main.py" or "s2pecnet train"; description and examples speak in its words.
        examples: the text behind the options, with commands as in a checkout.
    """
    return cls(
        prog=prog,
        description=in_words_of(prog, description),
        epilog=in_words_of(prog, examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def in_words_of(prog: str, text: str) -> str:
    """Commands of a checkout, as `prog` would say them.

    >>> in_words_of("s2pecnet train", "python main.py --eval --config ./config/AASIST.conf")
    's2pecnet score --config AASIST'
    >>> in_words_of("main.py", "python main.py --config ./config/AASIST.conf")
    'python main.py --config ./config/AASIST.conf'
    """
    if not prog.startswith(PROGRAM):
        return text
    # Those with arguments first: "main.py --eval" is not "main.py".
    for name, command in sorted(COMMANDS.items(), key=lambda item: -len(item[1].arguments)):
        text = text.replace(" ".join(["python", command.script, *command.arguments]), f"{PROGRAM} {name}")
    return re.sub(r"(?:\./)?config/([\w-]+)\.conf", r"\1", text)
