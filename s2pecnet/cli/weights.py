"""`s2pecnet weights`: published weights, listed or fetched."""

import argparse
from collections.abc import Sequence

from s2pecnet.cli.command import make_parser

EXAMPLES = """examples:
  %(prog)s                  what is known, and where it is
  %(prog)s AASIST AASIST-L  fetch ahead, for a machine that will have no network

environment:
  S2PEC_OFFLINE=1              never touch the network
  S2PEC_WEIGHTS_MIRROR=URL     take URL/AASIST.pth and so on from there, with the same check
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet weights") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    from s2pecnet.systems.published import PUBLISHED, fetch_weights, kept_at

    for name in arguments.names:
        print(f"{name}: {fetch_weights(name)}")
    if not arguments.names:
        for name, one in PUBLISHED.items():
            path = kept_at(name)
            size = f"{one.size:,} bytes" if one.size else "size not known"
            how = f"get it by the links of the page, as {path}" if one.page else f"fetch it with `{prog} {name}`"
            print(f"{name}: {path if path.is_file() else f'not here; {how}'}")
            print(f"  {one.page or one.url}\n  {size}, {one.digest.replace(':', ' ')}, licence: {one.licence}")
            if one.remark:
                print(f"  {one.remark}")
    return 0


def build_parser(prog: str = "s2pecnet weights") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "List the weights that systems' authors published, or fetch some of them.", EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="published weights to fetch (default: list them)")
    return parser
