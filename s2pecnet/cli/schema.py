"""`s2pecnet schema`: the JSON Schema of configs, for editors."""

import argparse
from collections.abc import Sequence

from s2pecnet.cli.command import make_parser
from s2pecnet.shipped import CONFIGS_FOLDER

EXAMPLES = """examples:
  %(prog)s > config.schema.json

docs/config.md shows how VS Code and PyCharm use it."""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet schema") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    build_parser(prog).parse_args(argv)
    print((CONFIGS_FOLDER / "config.schema.json").read_text(encoding="utf-8"), end="")
    return 0


def build_parser(prog: str = "s2pecnet schema") -> argparse.ArgumentParser:
    """The command line."""
    return make_parser(prog, "Print the JSON Schema of configs, for editors.", EXAMPLES)
