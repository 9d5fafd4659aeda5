"""Scoring and training steps: rates, peak memory, floating-point operations, and where the time goes."""

import contextlib
import importlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.released import WithTransformers, run_as_released
from benchmarks.runs import CONFIGS, PROCESSOR, Workload
from benchmarks.timing import WARM_UP_CUDA, Step, matrix_products, peak_memory, time_steps
from s2pecnet.config.experiment import Config, load_config
from s2pecnet.precision import PRECISIONS
from s2pecnet.runtime import keep_freed_memory, resolve_device, set_seed
from s2pecnet.systems import build
from s2pecnet.systems.registry import find_model, utterance_feature
from s2pecnet.systems.scorer import Scorer
from s2pecnet.training.loop import prepare_for_training
from s2pecnet.training.optim import create_optimizer
from s2pecnet.training.step import TrainingStep

# Utterances whose operations are counted: a batch has to have two for BatchNorm.
COUNTED = 2
SHOWN_OPERATORS = 15
# What the released code can follow: float32, eager mode, undivided batches, row-major feature maps.
RELEASED: dict[str, Any] = {
    "precision": "fp32",
    "compile": False,
    "channels_last": False,
    "activation_checkpointing": False,
    "micro_batch_size": None,
}


def measure(workload: Workload) -> dict[str, float]:
    """Utterances a second (median), processor seconds an utterance, peak GiB; the ceiling, in this process too."""
    step, config, device = make_step(workload)
    timed = time_steps(step, workload.repeats, device, WARM_UP_CUDA if config.compile else None)
    return {
        "utterances_per_second": workload.batch / statistics.median(timed.seconds),
        PROCESSOR: timed.processor_s / workload.batch,
        "peak_GiB": peak_memory(device),
    } | matrix_products(device, config.precision)


def count(workload: Workload) -> dict[str, float]:
    """GFLOP an utterance that our model needs: convolutions and matrix products, a multiplication and a sum are two.

    Counted on the CPU, in eager mode and in the released way of computing, decoders left out while scoring: compiled
    graphs, packed weights and Fourier transforms are not seen by the counter.
    """
    step, _, _ = make_step(replace(workload, way="plain", device="cpu", batch=COUNTED))
    with FlopCounterMode(display=False) as counter:
        step()
    return {"gflop_per_utterance": counter.get_total_flops() / COUNTED / 1e9}


def scores(workload: Workload) -> dict[str, list[float]]:
    """The scores of the workload's batch: of random weights and waveforms, the same ones in every way."""
    step, _, _ = make_step(workload)
    return {"scores": step().tolist()}


def profiled(workload: Workload) -> dict[str, Any]:
    """The operators that take the most time of their own, by the shapes of their inputs."""
    step, _, device = make_step(workload)
    time_steps(step, 1, device)
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda
    with profile(activities=activities, record_shapes=True, acc_events=True) as recorded:
        for _ in range(workload.repeats):
            step()
    # Kernels stand beside the operators that started them, to whom their time is given already.
    averages = recorded.key_averages(group_by_input_shape=True)
    found = [event for event in averages if event.device_type == DeviceType.CPU]
    times = {event: event.self_device_time_total if on_cuda else event.self_cpu_time_total for event in found}
    total, utterances = sum(times.values()), workload.repeats * workload.batch
    operators = [
        {
            "operator": event.key,
            "shapes": [shape for shape in event.input_shapes if shape][:2],
            "share": times[event] / total,
            "ms_per_utterance": times[event] / utterances / 1000,
            "calls_per_batch": event.count / workload.repeats,
        }
        for event in sorted(found, key=times.__getitem__, reverse=True)[:SHOWN_OPERATORS]
    ]
    return {"ms_per_utterance": total / utterances / 1000, "operators": operators}


def make_step(workload: Workload) -> tuple[Step, Config, torch.device]:
    """One batch of the workload as a callable, inputs and all, the same every time; its config, and its device.

    The process is made ready as the way of the workload has it.
    """
    config = load_config(CONFIGS / f"{workload.subject}.conf", list(workload.settings))
    device = resolve_device(workload.device)
    set_seed(0, config)
    if workload.way != "ours":
        # What transformers computes in is compared with ours in the same.
        kept = {"precision": config.precision} if workload.way == "transformers" else {}
        config = replace(config, **RELEASED | kept)
    else:
        if device.type == "cpu":
            keep_freed_memory()
        PRECISIONS[config.precision].allow_tf32()
    inputs = [0.1 * torch.randn(workload.batch, config.samples)]
    feature = utterance_feature(config.model_config, config.file)
    inputs += [] if feature is None else [feature(inputs[0])]
    if device.type == "cuda":
        # As the loader gives them.
        inputs = [tensor.pin_memory() for tensor in inputs]
    make = _scoring if workload.task == "score" else _training
    return make(workload, config, _model(workload, config, device), inputs, device), config, device


def _model(workload: Workload, config: Config, device: torch.device) -> nn.Module:
    if workload.way == "ours":
        with contextlib.redirect_stdout(sys.stderr):
            return build.get_model(config.model_config, device, config.channels_last)
    if workload.way == "transformers":
        return WithTransformers(find_model(config.architecture)(config.model_config)).to(device)
    if workload.way == "plain":
        return run_as_released(find_model(config.architecture)(config.model_config)).to(device)
    # Imported from the checkout, with our modules of the same names out of the way; then they are back.
    names = {path.stem for path in Path(str(workload.peer)).iterdir()}

    def take_out() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    ours = take_out()
    sys.path.insert(0, str(workload.peer))
    try:
        peer = importlib.import_module(f"models.{config.architecture}").Model
    finally:
        sys.path.remove(str(workload.peer))
        take_out()
        sys.modules.update(ours)
    found: nn.Module = peer(config.model_config).to(device)
    return found


def _scoring(
    workload: Workload, config: Config, model: nn.Module, inputs: Sequence[Tensor], device: torch.device
) -> Step:
    # The counter of operations cannot follow what wants gradients where none are recorded.
    model.eval().requires_grad_(False)
    if workload.way == "ours":
        scorer = Scorer(model, device, PRECISIONS[config.precision], config.compile)
        return lambda: scorer(*inputs)
    decode = workload.way == "plain" and workload.mode == "measure" and config.architecture == "S2pecNet"

    def plain() -> Tensor:
        with torch.no_grad(), PRECISIONS[config.precision].autocast(device):
            given = (tensor.to(device) for tensor in inputs)
            logits: Tensor = model(*given, **({"reconstruct": True} if decode else {}))[1]
        return logits[:, 1].float().cpu()

    return plain


def _training(
    workload: Workload, config: Config, model: nn.Module, inputs: Sequence[Tensor], device: torch.device
) -> Step:
    if workload.way == "ours":
        model = prepare_for_training(model, config)
    if not hasattr(model, "loss"):
        model.loss = released_loss  # type: ignore[assignment]
    schedule = {**vars(config.optim_config), "epochs": config.num_epochs, "steps_per_epoch": 1000}
    optimizer, scheduler = create_optimizer(model.parameters(), schedule)
    step = TrainingStep(model.train(), optimizer, scheduler, config, device)
    labels = torch.arange(workload.batch) % 2
    return lambda: step(inputs, labels)


def released_loss(outputs: Sequence[Tensor], inputs: Sequence[Tensor], labels: Tensor, criterion: Any) -> Tensor:
    """The released objective: cross-entropy, and a tenth of each reconstruction's error where there are any."""
    loss: Tensor = criterion(outputs[1], labels)
    if len(outputs) == 4:
        for output, target in zip(outputs[2:], inputs, strict=True):
            loss = loss + 0.1 * functional.mse_loss(output.flatten(1), target.flatten(1))
    return loss
