"""The reference of configs, made from the code that reads them: tables of docs/config.md, config/config.schema.json.

    python -m tools.config_reference              write both again
    python -m tools.config_reference --check      compare both with the code

The tables stand between `<!-- made by tools/config_reference.py: ... -->` and `<!-- end -->`; what is around them is
written by hand.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import make_parser, run_command
from s2pecnet.config.augmentation import STEPS
from s2pecnet.config.corpora import CorpusEntry
from s2pecnet.config.experiment import Config
from s2pecnet.config.options import describe_options
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from tools.config_schema import SCHEMA, config_schema, system_options

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
EXAMPLES = """examples:
  python -m tools.config_reference             after a change of a key, of a default, of a help text
  python -m tools.config_reference --check     does nothing but compare; exit status 2 if they differ
"""


def main(argv: Sequence[str] | None = None, prog: str = "python -m tools.config_reference") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    for path, text in made().items():
        if arguments.check and not (path.is_file() and path.read_text(encoding="utf-8") == text):
            raise InputError(f"{path}: not what the code says; run python -m tools.config_reference")
        if not arguments.check:
            with atomic_write(path) as stream:
                stream.write(text)
        print(f"{path}: {'as the code says' if arguments.check else 'written'}")
    return 0


def build_parser(prog: str = "python -m tools.config_reference") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Write the reference of configs from the code: docs/config.md, config/config.schema.json.", EXAMPLES
    )
    parser.add_argument("--check", action="store_true", help="only compare; exit status 2 where they differ")
    return parser


def made() -> dict[Path, str]:
    """What the files have to hold.

    Raises:
        InputError: there is no docs/config.md, as in an installed copy.
    """
    if not PAGE.is_file():
        raise InputError(f"{PAGE}: no such file; the reference is written in a checkout")
    systems = [f"### {name}\n\n{reference_table(cls)}" for name, cls in system_options().items()]
    steps = [f"### {name}\n\n{cls.__doc__}\n\n{reference_table(cls)}" for name, cls in STEPS.items()]
    page = PAGE.read_text(encoding="utf-8")
    corpora = [reference_table(CorpusEntry)]
    parts = {"keys": [reference_table(Config)], "corpora": corpora, "augment": steps, "systems": systems}
    for name, texts in parts.items():
        text = "\n\n".join(texts)
        start, end = f"<!-- made by tools/config_reference.py: {name} -->\n", "\n<!-- end -->"
        before, found, behind = page.partition(start)
        _, closed, after = behind.partition(end)
        if not (found and closed):
            raise InputError(f"{PAGE}: no lines {start.strip()!r} and {end.strip()!r} to write between")
        page = f"{before}{start}\n{text}\n{end}{after}"
    return {PAGE: page, SCHEMA: json.dumps(config_schema(), indent=2) + "\n"}


def reference_table(cls: type) -> str:
    """The keys of an options class, a Markdown table."""
    lines = ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for key, kind, default, text in describe_options(cls):
        lines.append(f"| `{key}` | {kind} | {default if default == 'required' else f'`{default}`'} | {text} |")
    return "\n".join(lines).replace("|h|", r"\|h\|")


if __name__ == "__main__":
    run_command(main)
