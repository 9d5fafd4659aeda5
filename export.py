"""Export a trained system to a file that scores without this repository: ONNX, or torch.export's .pt2.

    python export.py --config config/AASIST.conf --weights AASIST.pth --output AASIST.onnx --check clips/
    python export.py --config config/S2pecNet.conf --weights S2pecNet.pth --output S2pecNet.pt2

This file is the command line: what goes along with a system, and the check. Graphs and formats are those of
exported_graphs.py. A file appears only after what was written has been read back and has given the scores of the
checkpoint itself.

Conventions: a score is that of predict.py and `--eval`, higher = bona fide. A system that takes a feature of the whole
utterance as its second input gets a second file beside the first, `<name>.feature.<ending>`, which computes it.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_paths import Found, find_audio, require_files
from commands import make_parser
from errors import InputError, run_command
from experiment_config import Config, load_config
from files import sha256_of, whole_file
from predict import POLARITY, SAMPLE_RATE, given_weights, load_calibration

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from calibration import Calibration
    from exported_graphs import Graph, Runner
    from features import FixedFrames
    from scorer import Scorer

    Floats = np.ndarray[Any, np.dtype[np.float32]]

# What each format needs beside requirements.txt.
PACKAGES: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
TOLERANCE = 1e-4
# Sizes of the check's batches, in turn.
BATCHES = (1, 2, 4)
# 10 ms, the shortest utterance that audio.py lets pass.
SHORTEST = SAMPLE_RATE // 100
EXAMPLES = """examples:
  python export.py --config config/AASIST.conf --weights AASIST.pth --output AASIST.onnx --check clips/
  python export.py --config config/AASIST.conf --weights AASIST.pth --output AASIST.pt2 --calibration calibration.json

exit status: 0 the file is there and gives the checkpoint's scores; 2 wrong arguments, or it does not"""


def main(argv: Sequence[str] | None = None, prog: str = "export.py") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    # To be said before torch is imported, see main.py.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parse_arguments(argv, prog)
    config = load_config(arguments.config, arguments.set)
    weights = given_weights(arguments.weights, config)
    require_packages(arguments.format)
    found = require_files(find_audio(arguments.check), arguments.check) if arguments.check else None
    about = describe(config, weights, load_calibration(arguments.calibration, weights), arguments.format)
    system = load_system(config, weights)
    utterances = noise(config.samples) if found is None else decoded(found)
    # Read first: a clip that cannot be used is told before the work.
    utterances = itertools.chain([next(utterances)], utterances)
    lines, checked = export(system, about, arguments, utterances)
    print("\n".join(lines))
    kind = "stretches of noise (--check takes real clips)" if found is None else "clips"
    print(
        f"checked on {checked.clips} {kind}: largest difference {checked.difference:.2e} from the checkpoint's scores"
    )
    print(f"  in batches of {_listed(checked.batches)}; windows of {_listed(checked.lengths)} samples")
    return 0


def build_parser(prog: str = "export.py") -> argparse.ArgumentParser:
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
        help="largest difference from the checkpoint's scores that is let pass (default: %(default)g)")  # fmt: skip
    add("--calibration", metavar="FILE",
        help="a calibration to go along (default: what is stored with the weights)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value; repeatable")  # fmt: skip
    return parser


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "export.py") -> argparse.Namespace:
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


# ---- what is exported --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class System:
    """A trained system.

    Attributes:
        samples: samples of a window, those of a crop in training.
        scorer: gives the scores that the exported ones are compared with.
        feature: computes the second input of systems that want one.
    """

    samples: int
    model: "nn.Module"
    scorer: "Scorer"
    feature: "FixedFrames | None"

    def lengths(self, any_length: bool) -> list[int]:
        """Lengths of windows that the check tries; with `any_length` the least and the largest are among them."""
        return [self.samples, self.samples // 2, self.samples * 3 // 2, 2 * self.samples][: 4 if any_length else 1]


def load_system(config: Config, weights: str) -> System:
    """The system of a config with its weights, on the CPU and in float32, whatever the config says.

    Raises:
        InputError: the system cannot be built, or the weights do not fit.
    """
    import torch

    from checkpoints import load_weights
    from main import get_model
    from models import utterance_feature
    from scorer import Scorer

    model = get_model(config.model_config, "cpu", config.channels_last)
    load_weights(model, weights)
    scorer = Scorer(model, torch.device("cpu"))
    return System(config.samples, model.eval(), scorer, utterance_feature(config.model_config))


def describe(config: Config, weights: str, calibration: "Calibration | None", kind: str) -> dict[str, str]:
    """What goes along with a system, as texts by name; what is not a plain text is JSON."""
    from run_folder import commit, versions

    packages = {name: importlib.metadata.version(name) for name in PACKAGES[kind]}
    about = {
        "system": config.architecture,
        "config": config.name,
        "model_config": json.dumps(config.model_config),
        "sample_rate": str(SAMPLE_RATE),
        "window_samples": str(config.samples),
        "polarity": POLARITY,
        "weights": Path(weights).name,
        "weights_sha256": sha256_of(weights),
        "versions": json.dumps(versions() | packages),
        "commit": commit() or "unknown",
    }
    return about if calibration is None else about | {"calibration": json.dumps(calibration.as_dict())}


def feature_path(output: Path) -> Path:
    """The second file of a system with a second input: `<name>.feature.<ending>`."""
    return output.with_name(f"{output.stem}.feature{output.suffix}")


def make_graphs(system: System, any_length: bool) -> "list[Graph]":
    """The graph that scores, and that of the second input where there is one.

    Raises:
        InputError: the model cannot be traced, or its windows cannot have any length.
    """
    import torch

    from exported_graphs import BATCH, Axis, FeatureForm, Input, ScoringForm, trace

    waveforms, lengths = torch.zeros(2, system.samples), system.lengths(any_length)
    if any_length:
        _require_lengths(system, lengths)
    varying = {0: BATCH} | ({1: Axis("samples", min(lengths), max(lengths))} if any_length else {})
    inputs = {"waveform": Input(waveforms, varying)}
    if system.feature is None:
        return [trace(ScoringForm(system.model), inputs, "score")]
    inputs["feature"] = Input(system.feature(waveforms), {0: BATCH})
    utterance = Input(waveforms, {0: BATCH, 1: Axis("length", SHORTEST)})
    return [
        trace(ScoringForm(system.model), inputs, "score"),
        trace(FeatureForm(system.feature), {"utterance": utterance}, "feature"),
    ]


def _require_lengths(system: System, lengths: Sequence[int]) -> None:
    import numpy as np

    for length in lengths:
        try:
            system.scorer(*_inputs([np.ones(length, dtype=np.float32)], length, system.feature))
        except (InputError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"--any-length: the system does not take windows of {length} samples ({reason}); leave it out"
            ) from error


def export(
    system: System, about: dict[str, str], arguments: argparse.Namespace, utterances: "Iterable[Floats]"
) -> "tuple[list[str], Comparison]":
    """Write a system's file or files, which appear once they have given its scores; a line for each of them.

    Raises:
        InputError: the system cannot be exported, or the scores differ by more than the tolerance.
        OSError: a file cannot be written.
    """
    from exported_graphs import FORMATS

    kind, lines = FORMATS[arguments.format], []
    paths = [Path(arguments.output)]
    if system.feature is not None:
        paths.append(feature_path(paths[0]))
        about = about | {"feature_file": paths[1].name}
    with contextlib.ExitStack() as files:
        # Opened first: what cannot be written is told before the work.
        streams = [files.enter_context(whole_file(path, "w+b")) for path in paths]
        runners = []
        for path, stream, graph in zip(paths, streams, make_graphs(system, arguments.any_length), strict=True):
            stream.write(kind.write(graph, about))
            lines.append(f"{path}: {graph.describe()}, {stream.tell() / 1e6:.1f} MB")
            stream.seek(0)
            runners.append(kind.read(stream.read())[0])
        checked = compare(system, runners, utterances, system.lengths(arguments.any_length))
        beyond = sum(difference > arguments.tolerance for difference in checked.differences)
        if beyond:
            raise InputError(
                f"{paths[0]}: not written: {beyond} of {len(checked.differences)} scores differ from the checkpoint's "
                f"by more than --tolerance {arguments.tolerance:g}, up to {checked.difference:.2e} (see docs/export.md)"
            )
    return lines, checked


# ---- the check ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Comparison:
    """How far two ways to the same scores are apart, score by score, and what was tried."""

    differences: list[float] = dataclasses.field(default_factory=list)
    clips: int = 0
    batches: set[int] = dataclasses.field(default_factory=set)
    lengths: set[int] = dataclasses.field(default_factory=set)

    @property
    def difference(self) -> float:
        """The largest difference."""
        return max(self.differences)


def compare(
    system: System, runners: "Sequence[Runner]", utterances: "Iterable[Floats]", lengths: Sequence[int]
) -> Comparison:
    """Compare exported scores with the system's own; a score that is not finite is infinitely far off.

    Args:
        runners: the scoring graph, and that of the second input where there is one.
        utterances: waveforms (samples,) at 16 kHz of any length; of each the first window is scored, as `--eval` does.
        lengths: samples of the windows, one after the other.
    """
    score, *features = runners
    found = Comparison()

    def counted() -> "Iterator[Floats]":
        for utterance in utterances:
            found.clips += 1
            yield utterance

    for batch in _in_batches(counted()):
        for length in lengths:
            own = system.scorer(*_inputs(batch, length, system.feature))
            other = _run(score, _inputs(batch, length, features[0] if features else None))
            differences = (own - other).abs().tolist()
            found.differences += [value if math.isfinite(value) else math.inf for value in differences]
            found.batches.add(len(batch))
            found.lengths.add(length)
    return found


def _run(score: "Runner", inputs: "list[Tensor]") -> "Tensor":
    try:
        return score(*inputs)
    except Exception as error:
        # A graph that a user's own system fixed to one size fails in the words of whatever runs it.
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in inputs)
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the exported graph fails on inputs of shape {shapes}: {reason}") from error


def _in_batches(utterances: "Iterator[Floats]") -> "Iterator[list[Floats]]":
    """Batches of 1, 2, 4, 1, 2, 4, ... utterances; a few utterances come again until there was one of each size."""
    first = list(itertools.islice(utterances, sum(BATCHES)))
    again = itertools.islice(itertools.cycle(first), sum(BATCHES))
    coming = itertools.chain(again, utterances)
    for size in itertools.cycle(BATCHES):
        batch = list(itertools.islice(coming, size))
        if not batch:
            return
        yield batch


def _inputs(
    utterances: "Sequence[Floats]", length: int, feature: "Callable[[Tensor], Tensor] | None"
) -> "list[Tensor]":
    """A batch as a model takes it: first windows (B, length)[, features of the whole utterances]."""
    import numpy as np
    import torch

    from data_utils import pad

    inputs = [torch.from_numpy(np.stack([pad(utterance, length) for utterance in utterances]))]
    if feature is not None:
        inputs.append(torch.cat([feature(torch.from_numpy(utterance)[None]) for utterance in utterances]))
    return inputs


def decoded(found: "Iterable[Found]") -> "Iterator[Floats]":
    """Waveforms of audio files, one by one.

    Raises:
        InputError: a file cannot be used.
    """
    from audio import read_audio

    for path in found:
        if isinstance(path, InputError):
            raise path
        if path is not None:
            yield read_audio(path)


def noise(samples: int) -> "Iterator[Floats]":
    """White noise for want of clips: a stretch for each place in the batches, shorter and longer than a window."""
    import numpy as np

    rng = np.random.default_rng(0)
    for count in np.linspace(samples // 3, 2 * samples, sum(BATCHES), dtype=int):
        yield rng.normal(0, 0.1, max(SHORTEST, count)).astype(np.float32)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


if __name__ == "__main__":
    run_command(main)
