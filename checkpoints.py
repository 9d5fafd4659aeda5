"""Weights on disk: plain state dicts, written whole, read without executing anything.

A file written here is an ordinary state dict that `torch.load(path, weights_only=True)` and any other AASIST-style code
reads. Beside its tensors it carries what made it: `description(path)` gives the config, seed, versions and command.
"""

import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from errors import InputError
from files import whole_file

# Prefixes that other frameworks put before every key.
FOREIGN_PREFIXES = ("module.", "model.", "_orig_mod.")


def save_weights(model: nn.Module, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
    """Write the model's state dict (tensors on the CPU), with `about` (JSON-like values) as its description."""
    state = OrderedDict((name, tensor.detach().cpu().contiguous()) for name, tensor in model.state_dict().items())
    # An attribute of the dictionary, not a key of it: `load_state_dict` sees only the tensors.
    state.about = dict(about or {})  # type: ignore[attr-defined]
    with whole_file(path, "wb") as stream:
        torch.save(state, stream)


def read_weights(path: str | os.PathLike[str]) -> "OrderedDict[str, Tensor]":
    """The state dict of a checkpoint, on the CPU.

    Raises:
        InputError: the file is missing, damaged, would have to execute code, or is no state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; give one by model_path or --eval_model_weights")
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it then refuses; the refusal is enough.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {_why_refused(error)}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: not a readable checkpoint, it is damaged or of another kind ({first_line})"
        ) from None
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no state dict (names to tensors); save `model.state_dict()`")
    return content  # type: ignore[return-value]


def description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What made a checkpoint of ours: config, seed, versions, command; empty for foreign ones."""
    return dict(getattr(read_weights(path), "about", {}))


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint strictly into `model`.

    Raises:
        InputError: as `read_weights`, or the checkpoint is of another architecture or other widths; the first
            differing keys are named.
    """
    state = read_weights(path)
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise InputError(f"{path}: {_key_mismatch(own, state, missing, unexpected)}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"{path}: the same architecture with other widths: {name} is {tuple(state[name].shape)} there and "
                f"{tuple(tensor.shape)} by model_config"
            )
    model.load_state_dict(state)


def _key_mismatch(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], missing: list[str], unexpected: list[str]
) -> str:
    for prefix in FOREIGN_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return f"every key begins with {prefix!r}, as another framework saves it; strip the prefix and save again"
    parts = [f"weights of another architecture ({len(state)} tensors there, {len(own)} by model_config)"]
    if missing:
        parts.append(f"lacks {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
    if unexpected:
        parts.append(f"has unexpected {', '.join(unexpected[:3])}{', ...' if len(unexpected) > 3 else ''}")
    return "; ".join(parts)


def _why_refused(error: pickle.UnpicklingError) -> str:
    text = str(error)
    if "Unsupported global" in text or "Unsupported class" in text:
        return (
            "refused: it is a pickle that would execute code on loading (a whole model, or something worse); "
            "ask its author for `model.state_dict()`"
        )
    return "not a readable checkpoint, it is damaged or of another kind"
