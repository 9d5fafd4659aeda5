"""Systems as graphs that need nothing of this repository: traced, written, and read back, in two formats.

    system, weights --ScoringForm--> torch.export --Graph--> onnx | pt2 --bytes--> callable

A graph holds the scoring form of a system: eval mode, BatchNorms folded, only the weights that a score depends on.
Its batch varies; the length of a window is that of training, or varies where that was asked for.

Conventions: `waveform` float32 (batch, samples) at 16 kHz, `feature` float32 (batch, bins, frames), `score` float32
(batch,), higher = bona fide.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from s2pecnet.errors import InputError
from s2pecnet.features import FixedFrames
from s2pecnet.systems.registry import forward
from s2pecnet.systems.scorer import fold_batch_norms

OPSET = 18
# A file of the ONNX format is one protobuf message, which ends at 2 GiB.
MOST_ONNX_BYTES = 2**31 - 1
ABOUT_FILE = "about.json"
# What the tools say of themselves and not of the model; where each comes from is in `_quiet`.
NOISE = (
    r".*_flat_weights.* were assigned during export",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"# The axis name: batch will not be used, since it shares the same shape constraints with another axis: batch",
    r"No complete tensor found in the group! Returning the first one",
    r"The given buffer is not writable",
)
Runner = Callable[..., Tensor]


class ScoringForm(nn.Module):
    """What of a system makes a score: waveforms (B, samples)[, features (B, bins, frames)] to scores (B,)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = fold_batch_norms(model)

    def forward(self, waveform: Tensor, feature: Tensor | None = None) -> Tensor:
        """The logit of bona fide, higher = bona fide."""
        return forward(self.model, [waveform] if feature is None else [waveform, feature])[1][:, 1]


class FeatureForm(nn.Module):
    """A system's second input: utterances (B, samples) of any length to features (B, bins, frames)."""

    def __init__(self, feature: FixedFrames):
        super().__init__()
        self.extractor = feature

    def forward(self, utterance: Tensor) -> Tensor:
        """The feature of complete utterances."""
        computed: Tensor = self.extractor(utterance)
        return computed


class Axis(NamedTuple):
    """An axis that varies: its name, its least and its largest size (None: none)."""

    name: str
    least: int
    most: int | None = None


BATCH = Axis("batch", 1)


class Input(NamedTuple):
    """An input of a graph by an example, and the axes of it that vary, by their place."""

    example: Tensor
    axes: Mapping[int, Axis]


@dataclass(frozen=True)
class Graph:
    """A module as torch.export traced it.

    Attributes:
        program: the graph with its weights.
        inputs, output: by the names that files give them.
    """

    program: ExportedProgram
    inputs: Mapping[str, Input]
    output: str

    def describe(self) -> str:
        """Inputs with their shapes, and the output, in a line."""
        shapes = []
        for name, (example, axes) in self.inputs.items():
            sizes = (axes[place].name if place in axes else str(size) for place, size in enumerate(example.shape))
            shapes.append(f"{name} ({', '.join(sizes)})")
        return f"{', '.join(shapes)} -> {self.output}"


def trace(module: nn.Module, inputs: Mapping[str, Input], output: str) -> Graph:
    """Trace a module in eval mode. Weights that its output does not depend on are taken out of it.

    Args:
        inputs: by the names that `module.forward` gives them; an axis that varies is to be at least 2 in the example.

    Raises:
        InputError: torch.export cannot trace it, or the module fixes an axis that is to vary.
    """
    dynamic = {
        name: {place: Dim.AUTO(min=axis.least, max=axis.most) for place, axis in given.axes.items()}
        for name, given in inputs.items()
    }
    examples = tuple(given.example for given in inputs.values())
    try:
        with _quiet():
            program = torch.export.export(module.eval(), examples, dynamic_shapes=dynamic)
    except Exception as error:
        # A user's own system can fail there in every way that a program can fail.
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"torch.export cannot trace the model: {type(error).__name__}: {reason}") from error
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            # Paths of this machine.
            node.meta.pop("stack_trace", None)
    # Parameters and buffers that nothing in the program reads.
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs, weights = program.graph_signature.input_specs, (InputKind.PARAMETER, InputKind.BUFFER)
    for spec in [one for one in specs if one.kind in weights and not placeholders[one.arg.name].users]:
        program.graph.erase_node(placeholders[spec.arg.name])
        specs.remove(spec)
        held = program.constants if spec.persistent is False else program.state_dict
        held.pop(str(spec.target), None)
    program.graph_module.recompile()
    shapes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.name in inputs}
    for name, (_, axes) in inputs.items():
        fixed = [axis.name for place, axis in axes.items() if isinstance(shapes[name][place], int)]
        if fixed:
            raise InputError(f"the model fixes the size of {' and '.join(fixed)} of its input {name}; it cannot vary")
    return Graph(program, inputs, output)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings that are about the exporters themselves: see NOISE; and that torchvision is not here."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        registration.setLevel(level)


# ---- formats -----------------------------------------------------------------------------------


def to_onnx(graph: Graph, about: Mapping[str, str]) -> bytes:
    """The graph as an ONNX model, with `about` as its metadata.

    Raises:
        InputError: it is larger than the format can hold, or an operator of it has no counterpart there.
    """
    import onnx
    import onnx_ir.passes.common

    names = {name: {place: axis.name for place, axis in given.axes.items()} for name, given in graph.inputs.items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.program.state_dict.values())
    if size > MOST_ONNX_BYTES:
        raise InputError(f"weights of {size:,} bytes are more than an ONNX file holds (2 GiB); export to .pt2")
    try:
        with _quiet():
            made = torch.onnx.export(
                graph.program,
                input_names=list(graph.inputs),
                output_names=[graph.output],
                dynamic_shapes=names,
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(f"torch.onnx cannot export the model: {reason}") from error
    assert made is not None
    # Nodes carry the paths and lines that they were traced from.
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(made.model)
    made.model.metadata_props.clear()
    made.model.metadata_props.update(about)
    proto = made.model_proto
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def from_onnx(data: bytes) -> tuple[Runner, dict[str, str]]:
    """A callable that runs an ONNX model with onnxruntime on the CPU, and the model's metadata."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run, dict(session.get_modelmeta().custom_metadata_map)


def to_pt2(graph: Graph, about: Mapping[str, str]) -> bytes:
    """The graph as torch.export saves it, with `about` as JSON in its extra file `about.json`."""
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(graph.program, stream, extra_files={ABOUT_FILE: json.dumps(about)})
    return stream.getvalue()


def from_pt2(data: bytes) -> tuple[Runner, dict[str, str]]:
    """A callable that runs what `to_pt2` gave, and what was given along."""
    extra: dict[str, Any] = {ABOUT_FILE: ""}
    with _quiet():
        # Guards say what was true of the example: a batch of more than one utterance. None of it is needed.
        module = torch.export.load(io.BytesIO(data), extra_files=extra).module(check_guards=False)

    def run(*inputs: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = module(*inputs)
        return result

    return run, json.loads(extra[ABOUT_FILE])


class Format(NamedTuple):
    """How graphs are written and read back."""

    write: Callable[[Graph, Mapping[str, str]], bytes]
    read: Callable[[bytes], tuple[Runner, dict[str, str]]]


FORMATS = {"onnx": Format(to_onnx, from_onnx), "pt2": Format(to_pt2, from_pt2)}
