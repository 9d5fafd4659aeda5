"""One timed workload in a process of its own; prints a line of JSON. Started by `python -m benchmarks`.

A workload is a system, a task (score, train) and a way:

    ours    as main.py runs it
    plain   our model, run as the released code runs its own: row-major maps, BatchNorms that take no part computed,
            decoders run while scoring, whole batches, the C library's and OpenMP's own settings
    peer    the model file of a checkout of the released code, imported from there as it is, run as in `plain`
"""

import argparse
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run one workload."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--task", choices=["score", "train", "ceiling"], required=True)
    parser.add_argument("--way", choices=["ours", "plain", "peer"], default="ours")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.way == "ours":
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(json.dumps(ceiling(arguments.device) if arguments.task == "ceiling" else measure(arguments)))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Utterances a second (median over the repeats, after one warm-up) and the peak memory of this process."""
    import torch

    sys.path.insert(0, str(ROOT))
    from experiment_config import load_config

    config = load_config(ROOT / "config" / f"{arguments.config}.conf")
    torch.manual_seed(0)
    inputs = _inputs(config, arguments.batch)
    step = _scoring(arguments, config, inputs) if arguments.task == "score" else _training(arguments, config, inputs)
    synchronise: Callable[[], Any] = torch.cuda.synchronize if arguments.device.startswith("cuda") else lambda: None
    seconds = []
    for _ in range(arguments.repeats + 1):
        started = time.perf_counter()
        step()
        synchronise()
        seconds.append(time.perf_counter() - started)
    median = sorted(seconds[1:])[(len(seconds) - 1) // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if arguments.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {"utterances_per_second": arguments.batch / median, "peak_GiB": peak}


def ceiling(device: str) -> dict[str, float]:
    """Rate of float32 matrix products, GFLOP/s: what no convolution here can exceed by much."""
    import torch

    size = 2048
    a, b = torch.randn(2, size, size, device=device).unbind()
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return {"gflops": best}


def _inputs(config: Any, batch: int) -> list[Any]:
    import torch

    from models import utterance_feature

    waveforms = 0.1 * torch.randn(batch, config.samples)
    feature = utterance_feature(config.model_config)
    return [waveforms] if feature is None else [waveforms, feature(waveforms)]


def _model(arguments: argparse.Namespace, config: Any) -> Any:
    import contextlib

    if arguments.way == "peer":
        for name in [name for name in sys.modules if name == "models" or name.startswith("models.")]:
            del sys.modules[name]
        sys.path.insert(0, str(arguments.peer))
        return importlib.import_module(f"models.{config.architecture}").Model(config.model_config).to(arguments.device)
    if arguments.way == "plain":
        from benchmarks.released import run_as_released
        from models import find_model

        return run_as_released(find_model(config.architecture)(config.model_config)).to(arguments.device)
    import main as command
    from utils import keep_freed_memory

    if arguments.device == "cpu":
        keep_freed_memory()
    with contextlib.redirect_stdout(sys.stderr):
        return command.get_model(config.model_config, arguments.device)


def _scoring(arguments: argparse.Namespace, config: Any, inputs: list[Any]) -> Callable[[], Any]:
    import torch

    model = _model(arguments, config).eval()
    if arguments.way == "ours":
        from scorer import Scorer

        scorer = Scorer(model, torch.device(arguments.device))
        return lambda: scorer(*inputs)
    decoders = {"reconstruct": True} if arguments.way == "plain" and config.architecture == "S2pecNet" else {}

    def plain() -> Any:
        with torch.no_grad():
            return model(*(tensor.to(arguments.device) for tensor in inputs), **decoders)[1].cpu()

    return plain


def _training(arguments: argparse.Namespace, config: Any, inputs: list[Any]) -> Callable[[], Any]:
    import torch

    model = _model(arguments, config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    labels = (torch.arange(arguments.batch) % 2).to(arguments.device)
    criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor([0.1, 0.9], device=arguments.device))
    placed = [tensor.to(arguments.device) for tensor in inputs]

    def step() -> None:
        outputs = model(*placed)
        loss = criterion(outputs[1], labels)
        if len(outputs) == 4:
            loss = loss + 0.1 * (outputs[2] - placed[0]).square().mean()
            loss = loss + 0.1 * (outputs[3].flatten(1) - placed[1].flatten(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
