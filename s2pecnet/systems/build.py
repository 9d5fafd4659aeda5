"""From a config to a model, and from a model and its weights to a scorer."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2pecnet.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from s2pecnet.config.experiment import Config
    from s2pecnet.systems.scorer import Scorer
from s2pecnet.conventions import DEFAULT_SEED


def get_model(
    model_config: Mapping[str, Any],
    device: "torch.device | str",
    channels_last: bool = True,
    config_file: "str | Path | None" = None,
) -> "nn.Module":
    """Build the system that `model_config["architecture"]` names, on `device`.

    Args:
        channels_last: keep maps with the channels last in memory; convolutions run up to twice as fast, on CPUs and
            GPUs alike.
        config_file: where `model_config` came from; systems are sought beside it too.

    Raises:
        InputError: no such system, or it cannot be built from this `model_config`.
    """
    import torch

    from s2pecnet.systems.registry import count_parameters, find_model

    if "architecture" not in model_config:
        raise InputError("model_config: key 'architecture' is missing; expected the name of a file of models/")
    architecture = model_config["architecture"]
    try:
        model: nn.Module = find_model(architecture, config_file)(dict(model_config))
    except KeyError as error:
        raise InputError(f"model_config: {architecture} needs the key {error}") from error
    print(f"{architecture}: {count_parameters(model):,} parameters")
    order = torch.channels_last if channels_last else torch.preserve_format
    return model.to(device).to(memory_format=order)  # type: ignore[call-overload]


def _trained_model(config: "Config", weights: str | Path | None, device: "torch.device") -> "tuple[nn.Module, str]":
    """The system with its weights loaded, and where they came from."""
    from s2pecnet.systems.weights import load_weights

    path = weights or config.model_path
    if not path:
        raise InputError(f"{config.source}: no weights to score with; give --eval_model_weights or the key model_path")
    model = get_model(config.model_config, device, config.channels_last, config.file)
    load_weights(model, path)
    return model, str(path)


def load_scorer(
    config: "Config | Mapping[str, Any] | str | Path", weights: str | Path | None = None, device: str = "auto"
) -> "Scorer":
    """A trained system as a callable: float32 waveforms (B, samples) at 16 kHz -> scores (B,), higher = bona fide.

    What `--eval` scores with. A system that wants a feature of the whole utterance takes it as a second argument;
    without it, it computes the feature from the waveforms given.

    Args:
        config: a path, a dictionary or a `Config`.
        weights: a checkpoint; the config's `model_path` without it.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: no weights, or they do not fit.
    """
    from s2pecnet.config.experiment import as_config
    from s2pecnet.systems.scorer import Scorer

    config = as_config(config)
    place = _prepare(device, DEFAULT_SEED if config.seed is None else config.seed, config)
    return Scorer(_trained_model(config, weights, place)[0], place, config.precision, config.compile)


def _prepare(device_name: str, seed: int, config: "Config") -> "torch.device":
    from s2pecnet.precision import allow_tf32
    from s2pecnet.runtime import keep_freed_memory, resolve_device, set_seed

    device = resolve_device(device_name)
    if device_name == "auto" and device.type == "cpu":
        print("note: no CUDA device here, computing on the CPU")
    if device.type == "cpu":
        keep_freed_memory()
    allow_tf32(config.precision)
    set_seed(seed, config)
    return device
