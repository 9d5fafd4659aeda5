"""The systems: one architecture a file, each exposing `Model`; what they share stands in `layers.py`.

A file `models/<name>.py` is found by the `architecture` of a config; nothing has to be registered. It may lie here, in
a folder `models/` where the command is run, or beside the config (`model_folders`). The contract:

- `Model(model_config)`: `model_config` is the config's dictionary of that name, as it stands.
- `forward(x)`: x float32 (B, samples); returns a tuple whose second element is the logits (B, 2), column 1 = bona fide.

Optional, discovered by name:

- `forward(..., Freq_aug=False)`: receives True in training when the config's `freq_aug` is on.
- `Model.utterance_feature(model_config)`, a static method: a module (samples,) -> (bins, frames), with a keyword
  `rng`, that the loader applies to the whole utterance; `forward(x, feature)` then takes it as its second input.
- `loss(outputs, inputs, labels, criterion)`: replaces `criterion(logits, labels)`; a scalar, or a dictionary of named
  terms whose sum is the loss (each is logged under its name).
"""

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from errors import InputError
from features import FixedFrames
from model_folders import model_folders
from schema import clipped, nearest

FOLDER = Path(__file__).parent
SHARED_FILES = {"__init__", "layers"}
# Here too `import models.X` finds a file, in this process and in those that load audio for it.
__path__ += [str(folder) for folder in model_folders()]


def find_model(architecture: str) -> type[nn.Module]:
    """The `Model` class of `<architecture>.py`, which is sought in this folder, then in those of `model_folders`.

    Raises:
        InputError: there is no such file (the nearest name and all choices are given), it cannot be imported, or it
            has no `Model`.
    """
    file = _file_of(architecture)
    if file is None:
        raise InputError(_unknown_architecture(architecture))
    shown = file.relative_to(FOLDER.parent) if file.parent == FOLDER else file
    try:
        module = importlib.import_module(f"models.{architecture}")
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{shown} cannot be imported: {error}") from error
    model = getattr(module, "Model", None)
    if not (inspect.isclass(model) and issubclass(model, nn.Module)):
        raise InputError(f"{shown} defines no class `Model` that is a torch.nn.Module")
    return model


def available() -> list[str]:
    """Names of all systems, in this folder and in those of `model_folders`."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.py")} - SHARED_FILES)


def _folders() -> list[Path]:
    return [FOLDER, *model_folders()]


def _file_of(architecture: str) -> Path | None:
    """The file of a system; a second one of that name is said not to be used."""
    if not re.fullmatch(r"[A-Za-z_]\w{,99}", architecture) or architecture in SHARED_FILES:
        return None
    found = [folder / f"{architecture}.py" for folder in _folders() if (folder / f"{architecture}.py").is_file()]
    if len(found) > 1 and f"models.{architecture}" not in sys.modules:
        others = ", ".join(map(str, found[1:]))
        print(f"warning: {architecture} is {found[0]}; not used: {others} (give it another name)", file=sys.stderr)
    # The folders may have been named after this package was imported.
    __path__[1:] = map(str, model_folders())
    return found[0] if found else None


def count_parameters(model: nn.Module) -> int:
    """How many numbers a system learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def utterance_feature(model_config: Mapping[str, Any]) -> FixedFrames | None:
    """The second input that the system of `model_config` asks for, or None."""
    declare = getattr(find_model(model_config["architecture"]), "utterance_feature", None)
    return declare(model_config) if declare else None


def _unknown_architecture(architecture: str) -> str:
    guess = nearest(architecture, available(), cutoff=0.6)
    hint = f"; did you mean {guess!r}?" if guess else ""
    have = ", ".join(available())
    name = clipped(repr(architecture))
    places = ", ".join(["models/", *map(str, model_folders())])
    return f"unknown architecture {name}: there is no such file in {places}{hint} (have: {have})"
