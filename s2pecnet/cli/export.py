"""`s2pecnet export`: a system as an ONNX or .pt2 file that scores without this framework."""

import argparse
import importlib.metadata
import importlib.util
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from s2pecnet.cli.command import check_output, make_parser
from s2pecnet.errors import InputError
from s2pecnet.export import PACKAGES, TOLERANCE

EXAMPLES = """examples:
  %(prog)s --config AASIST --weights AASIST.pth --output AASIST.onnx --check clips/
  %(prog)s --config AASIST --weights AASIST.pth --output AASIST.pt2 --calibration calibration.json

exit status: 0 the file is there and gives the checkpoint's scores; 2 wrong arguments, or it does not"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet export") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = parse_arguments(argv, prog)
    require_packages(arguments.format)
    from s2pecnet.audio.paths import find_audio, require_files
    from s2pecnet.config.experiment import load_config
    from s2pecnet.export import check
    from s2pecnet.scoring.verdicts import load_calibration
    from s2pecnet.systems.published import find_weights

    check_output(arguments.output, (arguments.weights, arguments.config, arguments.calibration))
    config = load_config(arguments.config, arguments.set)
    weights = str(find_weights(arguments.weights, config))
    found = require_files(find_audio(arguments.check), arguments.check) if arguments.check else None
    about = check.describe(config, weights, load_calibration(arguments.calibration, weights), arguments.format)
    system = check.load(config, weights)
    utterances = check.noise(config.samples) if found is None else check.decoded(found)
    # Read first: a clip that cannot be used is reported before the work.
    utterances = itertools.chain([next(utterances)], utterances)
    lines, checked = check.export(
        system,
        about,
        Path(arguments.output),
        utterances,
        kind=arguments.format,
        any_length=arguments.any_length,
        tolerance=arguments.tolerance,
    )
    print("\n".join(lines))
    kind = "stretches of noise (--check takes real clips)" if found is None else "clips"
    print(
        f"checked on {checked.clips} {kind}: largest difference {checked.difference:.2e} from the checkpoint's scores"
    )
    print(f"  in batches of {_listed(checked.batches)}; windows of {_listed(checked.lengths)} samples")
    return 0


def build_parser(prog: str = "s2pecnet export") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Export a trained system to a file that scores without this repository.", EXAMPLES)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="config of the system: a file, or a name such as AASIST")
    add("--weights", metavar="FILE", help="its weights (default: the config's model_path)")
    add("--output", required=True, metavar="FILE", help="file to write, .onnx or .pt2")
    add("--format", choices=sorted(PACKAGES), help="its format (default: by the ending)")
    add("--check", nargs="+", default=[], metavar="PATH",
        help="audio to compare scores on: files, folders, globs, - for a list on stdin (default: noise)")  # fmt: skip
    add("--any-length", action="store_true",
        help="windows of any length, from half of that in training to twice as long; not all systems can")  # fmt: skip
    add("--tolerance", type=float, default=TOLERANCE, metavar="NUMBER",
        help="largest difference from the checkpoint's scores that is accepted (default: %(default)g)")  # fmt: skip
    add("--calibration", metavar="FILE",
        help="calibration to export with the model (default: what is stored with the weights)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value; repeatable")  # fmt: skip
    return parser


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "s2pecnet export") -> argparse.Namespace:
    """Read the command line; `format` is that of the ending where none is given."""
    arguments = build_parser(prog).parse_args(argv)
    ending = Path(arguments.output).suffix.lower().removeprefix(".")
    if arguments.format is None and ending not in PACKAGES:
        raise InputError(f"--output {arguments.output}: expected a name that ends in .onnx or .pt2, or --format")
    if ending in PACKAGES and arguments.format not in (None, ending):
        raise InputError(f"--output {arguments.output}: ends in .{ending}, but --format is {arguments.format}")
    arguments.format = arguments.format or ending
    if not arguments.tolerance >= 0:
        raise InputError(f"--tolerance {arguments.tolerance:g}: expected a number >= 0")
    return arguments


def require_packages(kind: str) -> None:
    """Make sure that what a format needs is installed.

    Raises:
        InputError: naming what is not.
    """
    missing = [name for name in PACKAGES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--format {kind} needs {' and '.join(missing)}, not installed here: pip install 's2pecnet[export]', or "
            f"pip install {' '.join(PACKAGES[kind])}"
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
