"""From a config to a system: the model, what its inputs are, and the scorer that it becomes.

Config --System.build--> System with random weights
Config and weights --System.load--> System --scorer()--> waveforms (B, samples) to scores (B,)
"""

import contextlib
import inspect
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.config.options import read_options, walk
from s2pecnet.conventions import DEFAULT_SEED
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.precision import PRECISIONS
from s2pecnet.runtime import prepare
from s2pecnet.systems.front_end import finished_model_config
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.losses import add_loss_head, other_alpha, other_loss
from s2pecnet.systems.published import find_weights, remark_of
from s2pecnet.systems.registry import count_parameters, find_model, options_of, utterance_feature
from s2pecnet.systems.scorer import Scorer
from s2pecnet.systems.weights import load_weights, read_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class System:
    """A model with its inputs: what an experiment's config describes.

    Attributes:
        inputs: makes the model's inputs of a waveform.
        weights: where trained weights came from; None: they are random.
    """

    config: Config
    model: nn.Module
    inputs: Inputs
    device: torch.device
    weights: str | None = None

    @classmethod
    def build(cls, config: Config, device: torch.device, model_config: Mapping[str, Any] | None = None) -> "System":
        """The system of a config, with random weights; those of a pre-trained front end are what they are.

        Args:
            model_config: in the place of the config's; one that opens no pre-trained model, for example.

        Raises:
            InputError: there is no such system, or it cannot be built from this `model_config`.
        """
        model = get_model(model_config or config.model_config, device, config.channels_last, config.file)
        inputs = inputs_of(config)
        return cls(config, add_loss_head(model, config, inputs), inputs, device)

    @classmethod
    def load(cls, config: Config, weights: str | PathLike[str] | None, device: torch.device) -> "System":
        """The system of a config with trained weights.

        Args:
            weights: a checkpoint, or the name of published weights; None: the config's `model_path`.

        Raises:
            InputError: as `build`, or there are no weights, or they do not fit.
        """
        path = find_weights(weights, config)
        state, model_config = None, config.model_config
        if "front_end" in model_config:
            # The trained weights hold those of the pre-trained model too; it is not opened.
            state = read_weights(path)
            model_config = finished_model_config(model_config, getattr(state, "about", {}), state)
        system = cls.build(config, device, model_config)
        try:
            state = read_weights(path) if state is None else state
            load_weights(system.model, path, state)
        except InputError as error:
            other = other_loss(path, config)
            raise InputError(f"{path}: {other}" if other else f"{error}{remark_of(path)}") from None
        other = other_alpha(getattr(state, "about", None), config)
        if other:
            raise InputError(f"{path}: {other}")
        for difference in _other_model_config(getattr(state, "about", None), config):
            log.warning("%s: trained with another %s; the scores are of another system", path, difference)
        return cls(config, system.model, system.inputs, device, str(path))

    @property
    def source_sha256(self) -> str | None:
        """SHA-256 of the system's own source file; None where it has none."""
        file = inspect.getsourcefile(type(self.model))
        return sha256_of(file) if file and os.path.isfile(file) else None

    def scorer(self) -> Scorer:
        """The model as it is now, made ready for scoring."""
        return Scorer(self.model, self.device, PRECISIONS[self.config.precision], self.config.compile)


def _other_model_config(about: Any, config: Config) -> list[str]:
    """What `model_config` says otherwise than the checkpoint's description, as "key: then -> now"; all shapes may fit.

    What --set says is meant so. A front end's weights, and how they were trained, are in the checkpoint.
    """
    trained = about.get("config") if isinstance(about, Mapping) else None
    trained = trained.get("model_config") if isinstance(trained, Mapping) else None
    if not isinstance(trained, Mapping) or trained.get("architecture") != config.architecture:
        return []
    options = options_of(config.architecture)
    # Without options what either leaves out is not known; with them it has its default.
    common = trained.keys() & config.model_config.keys()
    both = [{key: one[key] for key in common} for one in (trained, config.model_config)]
    if options is not None:
        with contextlib.suppress(InputError):
            both = [asdict(read_options(options, one)[0]) for one in (trained, config.model_config)]
    then, now = (dict(walk(one, "model_config.")) for one in both)
    apart = *(f"model_config.front_end.{key}" for key in ("model", "trainable", "settings")), *config.overrides
    return [
        f"{key}: {then.get(key)!r} -> {now.get(key)!r}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key) and not key.startswith(apart)
    ]


def inputs_of(config: Config) -> Inputs:
    """What the system of a config takes."""
    return Inputs(config.samples, utterance_feature(config.model_config, config.file))


def get_model(
    model_config: Mapping[str, Any],
    device: torch.device | str,
    channels_last: bool = True,
    config_file: str | Path | None = None,
) -> nn.Module:
    """Build the model that `model_config["architecture"]` names, on `device`.

    Args:
        channels_last: keep feature maps with the channels last in memory; convolutions run up to twice as fast, on
            CPUs and GPUs alike.
        config_file: where `model_config` came from; systems are sought beside it too.

    Raises:
        InputError: no such system, or it cannot be built from this `model_config`.
    """
    if "architecture" not in model_config:
        raise InputError("model_config: key 'architecture' is missing; expected the name of a file of models/")
    architecture = model_config["architecture"]
    try:
        model: nn.Module = find_model(architecture, config_file)(dict(model_config))
    except KeyError as error:
        raise InputError(f"model_config: {architecture} needs the key {error}") from error
    log.debug("%s: %s parameters", architecture, f"{count_parameters(model):,}")
    order = torch.channels_last if channels_last else torch.preserve_format
    return model.to(device).to(memory_format=order)  # type: ignore[call-overload]


def load_system(
    config: Config | Mapping[str, Any] | str | PathLike[str],
    weights: str | PathLike[str] | None = None,
    device: str = "auto",
) -> System:
    """A trained system, in a process that is made ready for it (device, seeds, threads).

    Args:
        config: a path, the name of a config that came with the framework, a dictionary or a `Config`.
        weights: a checkpoint, or the name of published weights; the config's `model_path` without it.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: no weights, or they do not fit.
    """
    config = as_config(config)
    return System.load(config, weights, prepare(device, DEFAULT_SEED if config.seed is None else config.seed, config))
