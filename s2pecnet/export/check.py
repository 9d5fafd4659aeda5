"""Export a trained system to files that score without this framework, and check them.

A file appears only after what was written has been read back and has given the scores of the checkpoint itself. Graphs
and formats are those of `graphs`.

Conventions: a score is that of `s2pecnet predict` and `--eval`, higher = bona fide. A system that takes a feature of
the complete utterance as its second input gets a second file beside the first, `<name>.feature.<ending>`, for it.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2pecnet.audio.decoding import read_audio
from s2pecnet.audio.paths import Found
from s2pecnet.config.experiment import Config
from s2pecnet.conventions import POLARITY, SAMPLE_RATE
from s2pecnet.errors import InputError
from s2pecnet.export import PACKAGES
from s2pecnet.export.graphs import BATCH, FORMATS, Axis, FeatureForm, Graph, Input, Runner, ScoringForm, trace
from s2pecnet.features import FixedFrames
from s2pecnet.files import atomic_write, sha256_of
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.runs.provenance import commit, versions
from s2pecnet.systems.build import System
from s2pecnet.systems.inputs import Inputs

Floats = np.ndarray[Any, np.dtype[np.float32]]

SHORTEST = SAMPLE_RATE // 100  # 10 ms, the shortest utterance that is scored
BATCHES = (1, 2, 4)  # sizes of the check's batches, in turn


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


def load(config: Config, weights: str) -> System:
    """The system of a config with its weights, on the CPU and in float32, whatever the config says.

    Raises:
        InputError: the system cannot be built, or the weights do not fit.
    """
    plain = dataclasses.replace(config, precision="fp32", compile=False)
    system = System.load(plain, weights, torch.device("cpu"))
    system.model.eval()
    return system


def window_lengths(samples: int, any_length: bool) -> list[int]:
    """Lengths of windows that the check tries; with `any_length` the least and the largest are among them."""
    return [samples, samples // 2, samples * 3 // 2, 2 * samples][: 4 if any_length else 1]


def describe(config: Config, weights: str, calibration: Calibration | None, kind: str) -> dict[str, str]:
    """What goes along with a system, as texts by name; what is not a plain text is JSON."""
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


def make_graphs(system: System, any_length: bool) -> list[Graph]:
    """The graph that scores, and that of the second input where there is one.

    Raises:
        InputError: the model cannot be traced, or its windows cannot have any length.
    """
    waveforms, lengths = torch.zeros(2, system.inputs.samples), window_lengths(system.inputs.samples, any_length)
    feature, scorer = system.inputs.feature, system.scorer()
    for length in lengths if any_length else ():
        try:
            scorer(*Inputs(length, feature).batch([np.ones(length, dtype=np.float32)]))
        except (InputError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"--any-length: the system does not take windows of {length} samples ({reason}); leave it out"
            ) from error
    varying = {0: BATCH} | ({1: Axis("samples", min(lengths), max(lengths))} if any_length else {})
    inputs = {"waveform": Input(waveforms, varying)}
    if feature is None:
        return [trace(ScoringForm(system.model), inputs, "score")]
    inputs["feature"] = Input(feature(waveforms), {0: BATCH})
    utterance = Input(waveforms, {0: BATCH, 1: Axis("length", SHORTEST)})
    return [
        trace(ScoringForm(system.model), inputs, "score"),
        trace(FeatureForm(feature), {"utterance": utterance}, "feature"),
    ]


def export(
    system: System,
    about: dict[str, str],
    output: Path,
    utterances: Iterable[Floats],
    *,
    kind: str,
    any_length: bool,
    tolerance: float,
) -> tuple[list[str], Comparison]:
    """Write a system's file or files, which appear once they have given its scores; a line for each of them.

    Raises:
        InputError: the system cannot be exported, or the scores differ by more than the tolerance.
        OSError: a file cannot be written.
    """
    form, lines, paths = FORMATS[kind], [], [output]
    if system.inputs.feature is not None:
        paths.append(output.with_name(f"{output.stem}.feature{output.suffix}"))
        about = about | {"feature_file": paths[1].name}
    with contextlib.ExitStack() as files:
        # Opened first: what cannot be written is reported before the work.
        streams = [files.enter_context(atomic_write(path, "w+b")) for path in paths]
        runners = []
        for path, stream, graph in zip(paths, streams, make_graphs(system, any_length), strict=True):
            stream.write(form.write(graph, about))
            lines.append(f"{path}: {graph.describe()}, {stream.tell() / 1e6:.1f} MB")
            stream.seek(0)
            runners.append(form.read(stream.read())[0])
        lengths = window_lengths(system.inputs.samples, any_length)
        checked = compare(system.scorer(), system.inputs.feature, runners, utterances, lengths)
        beyond = sum(difference > tolerance for difference in checked.differences)
        if beyond:
            raise InputError(
                f"{output}: not written: {beyond} of {len(checked.differences)} scores differ from the checkpoint's "
                f"by more than --tolerance {tolerance:g}, up to {checked.difference:.2e} (see docs/export.md)"
            )
    return lines, checked


def compare(
    scorer: Runner,
    feature: FixedFrames | None,
    runners: Sequence[Runner],
    utterances: Iterable[Floats],
    lengths: Sequence[int],
) -> Comparison:
    """Compare exported scores with the system's own; a score that is not finite is infinitely far off.

    Args:
        scorer, feature: what the system itself scores with, and what makes its second input.
        runners: the scoring graph, and that of the second input where there is one.
        utterances: waveforms (samples,) at 16 kHz of any length; of each the first window is scored.
        lengths: samples of the windows, one after the other.
    """
    score, *features = runners
    utterances, at_least = iter(utterances), sum(BATCHES)
    # Batches of 1, 2, 4, 1, 2, 4, ... utterances; a few utterances come again until there was one of each size.
    first = list(itertools.islice(utterances, at_least))
    coming = itertools.chain(itertools.islice(itertools.cycle(first), at_least), utterances)
    sizes, found = itertools.cycle(BATCHES), Comparison(clips=len(first) - at_least)
    while batch := list(itertools.islice(coming, next(sizes))):
        found.clips += len(batch)
        found.batches.add(len(batch))
        for length in lengths:
            inputs = Inputs(length, feature).batch(batch)
            own = scorer(*inputs)
            if features:
                inputs[1] = torch.cat([features[0](torch.from_numpy(utterance)[None]) for utterance in batch])
            try:
                differences = (own - score(*inputs)).abs().tolist()
            except Exception as error:
                # A graph that a user's own system fixed to one size fails in the words of whatever runs it.
                shapes = " and ".join(str(tuple(tensor.shape)) for tensor in inputs)
                reason = str(error).strip().partition("\n")[0]
                raise InputError(f"the exported graph fails on inputs of shape {shapes}: {reason}") from error
            found.differences += [value if math.isfinite(value) else math.inf for value in differences]
            found.lengths.add(length)
    return found


def decoded(found: Iterable[Found]) -> Iterator[Floats]:
    """Waveforms of audio files, one by one.

    Raises:
        InputError: a file cannot be used.
    """
    for path in found:
        if isinstance(path, InputError):
            raise path
        if path is not None:
            yield read_audio(path)


def noise(samples: int) -> Iterator[Floats]:
    """White noise for want of clips: a stretch for each place in the batches, shorter and longer than a window."""
    rng = np.random.default_rng(0)
    for count in np.linspace(samples // 3, 2 * samples, sum(BATCHES), dtype=int):
        yield rng.normal(0, 0.1, max(SHORTEST, count)).astype(np.float32)
