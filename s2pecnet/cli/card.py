"""`s2pecnet card`: the model card of a run, for the Hugging Face Hub."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import make_parser

EXAMPLES = """examples:
  %(prog)s exp_result/LA_AASIST_ep100_bs24
  %(prog)s exp_result/LA_AASIST_ep100_bs24 --license mit --save aasist_repository/
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet card") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    from s2pecnet.hub import model_card, save_pretrained

    if arguments.save:
        print(f"model repository in {save_pretrained(arguments.run, arguments.save, arguments.license)}")
    else:
        print(model_card(arguments.run, arguments.license), end="")
    return 0


def build_parser(prog: str = "s2pecnet card") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Print the model card of a run: Markdown with the Hub's YAML header.", EXAMPLES)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a finished training")
    add("--license", metavar="NAME", help="licence of the weights, as the Hub names it, such as mit")
    add("--save", type=Path, metavar="DIR", help="write the repository: the card, the config and the weights")
    return parser
