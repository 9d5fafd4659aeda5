"""`python download_dataset.py`, `s2pecnet download`: get ASVspoof2019 LA, check a corpus, make the demo corpus."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from s2pecnet.cli.command import EXIT_BAD_INPUT, Parser, make_parser
from s2pecnet.errors import InputError

DEMO_FOLDER = "demo_corpus/LA"

EXAMPLES = f"""examples:
  %(prog)s                      fetch LA.zip (7.1 GB) and unpack it to ./LA
  %(prog)s --out /data          the same, to /data/LA; run it again to resume
  %(prog)s --check /data/LA     compare a folder with its protocols
  %(prog)s --check mine.csv     check a corpus of your own, see docs/own-data.md
  %(prog)s --demo               make a small SYNTHETIC corpus at ./{DEMO_FOLDER}
  %(prog)s --demo d --seed 7 --shuffle-labels
                                                  the same with labels that cannot be learnt
"""


def report_tree(root: Path) -> int:
    """Print what `check_tree` finds; the exit status, 0 where it is complete and 2 elsewhere."""
    from s2pecnet.corpora.check import check_tree
    from s2pecnet.text import printable

    report = check_tree(root)
    for line in report.facts:
        print(printable(line))
    for line in report.problems:
        print(f"error: {printable(line)}", file=sys.stderr)
    print(f"{root}: {'complete' if report.complete else 'INCOMPLETE'}")
    return 0 if report.complete else EXIT_BAD_INPUT


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def build_parser(prog: str = "python download_dataset.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Get the ASVspoof2019 LA corpus, check a corpus, or make a small synthetic one.", EXAMPLES, _Parser
    )
    download = parser.add_argument_group("download").add_argument
    download("--out", type=Path, metavar="DIR", help="folder that will hold LA (default: here)")
    download("--url", help="address of the archive (default: LA.zip at the University of Edinburgh)")
    download("--sha256", metavar="HEX", help="checksum that the archive must have")
    download("--keep-archive", action="store_true", help="keep LA.zip once it is unpacked")
    check = parser.add_argument_group("check").add_argument
    check("--check", type=Path, metavar="PATH", help="check the corpus at PATH, and no more")
    demo = parser.add_argument_group("demo corpus").add_argument
    demo(
        "--demo",
        type=Path,
        nargs="?",
        const=Path(DEMO_FOLDER),
        metavar="DIR",
        help=f"make a small SYNTHETIC corpus, which proves nothing about speech (default: {DEMO_FOLDER})",
    )
    demo("--seed", type=int, metavar="N", help="with --demo: the same seed gives the same corpus")
    demo("--shuffle-labels", action="store_true", help="with --demo: labels at random")
    return parser


def _parse(argv: list[str] | None, prog: str) -> argparse.Namespace:
    parser = build_parser(prog)
    options = parser.parse_args(argv)
    _check_consistent(parser, options)
    return options


def _check_consistent(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that the chosen job would silently ignore."""
    of_download = {
        "--out": options.out,
        "--url": options.url,
        "--sha256": options.sha256,
        "--keep-archive": options.keep_archive or None,
    }
    of_demo = {"--seed": options.seed, "--shuffle-labels": options.shuffle_labels or None}
    if options.check is not None and options.demo is not None:
        parser.error("--check and --demo are two different jobs, give one")
    if options.check is not None or options.demo is not None:
        job = "--check" if options.check is not None else "--demo"
        for name, value in of_download.items():
            if value is not None:
                parser.error(f"{name} belongs to the download and means nothing with {job}")
    if options.demo is None:
        for name, value in of_demo.items():
            if value is not None:
                parser.error(f"{name} belongs to --demo")


def main(argv: list[str] | None = None, prog: str = "python download_dataset.py") -> int:
    """The command line, which help calls `prog`; the exit status.

    Raises:
        InputError: bad options, and whatever the chosen job cannot do.
    """
    options = _parse(argv, prog)
    if options.check is not None:
        return report_tree(options.check)
    if options.demo is not None:
        from s2pecnet.corpora import demo

        seed = demo.DEFAULT_SEED if options.seed is None else options.seed
        demo.make_demo_corpus(options.demo, seed, options.shuffle_labels)
        return 0
    from s2pecnet.corpora.download import LA_URL, fetch

    fetch(options.url or LA_URL, options.out or Path(), options.sha256, options.keep_archive)
    return 0
