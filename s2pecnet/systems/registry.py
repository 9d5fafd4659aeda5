"""Systems by name: which file an `architecture` is, and how a model is called.

A system is a file `<architecture>.py` with a class `Model`; `models/__init__.py` states the contract. It is sought in

    the framework's own models/        a published name always means the published system
    ./models/                          where the command is run
    <folder of the config>/models/
    <folder of the config>/../models/  as config/ and models/ lie side by side in a checkout

and in the folders of the environment variable S2PEC_MODELS, a list as PATH is one. A folder that a system was found in
is added there, so that processes which load audio find the same file.
"""

import dataclasses
import importlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.features import FixedFrames
from s2pecnet.precision import is_exporting
from s2pecnet.shipped import MODELS, MODELS_FOLDER
from s2pecnet.text import clipped, nearest

log = logging.getLogger(__name__)

VARIABLE = "S2PEC_MODELS"


def find_model(architecture: str, config_file: str | os.PathLike[str] | None = None) -> type[nn.Module]:
    """The `Model` class of `<architecture>.py`, sought in the folders named at the top of this module.

    Args:
        config_file: the config that names the system; `models/` beside it is searched too.

    Raises:
        InputError: there is no such file (the nearest name and all choices are given), it cannot be imported, or it
            has no `Model`.
    """
    folders = _folders(config_file)
    file = _file_of(architecture, folders)
    if file is None:
        have = available(config_file)
        guess = nearest(architecture, have, cutoff=0.6)
        hint = f"; did you mean {guess!r}?" if guess else ""
        searched = ", ".join(["models/", *map(str, folders[1:])])
        name = clipped(repr(architecture))
        raise InputError(
            f"unknown architecture {name}: there is no such file in {searched}{hint} (have: {', '.join(have)})"
        )
    shown = f"models/{file.name}" if file.parent == MODELS_FOLDER else file
    # For this process and those it starts; before other folders, which may hold a system of the same name.
    package, folder = importlib.import_module(MODELS), str(file.parent)
    if file.parent != MODELS_FOLDER and package.__path__[1:2] != [folder]:
        package.__path__[1:] = [folder, *(other for other in package.__path__[1:] if other != folder)]
        os.environ[VARIABLE] = os.pathsep.join([folder, *(other for other in _listed() if other != folder)])
    try:
        module = importlib.import_module(f"{MODELS}.{architecture}")
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{shown} cannot be imported: {error}") from error
    imported = module.__file__
    if imported is None or not os.path.samefile(imported, file):
        raise InputError(f"{shown}: another system of this name is loaded already, {imported}; rename one of them")
    model = getattr(module, "Model", None)
    if not (inspect.isclass(model) and issubclass(model, nn.Module)):
        raise InputError(f"{shown} defines no class `Model` that is a torch.nn.Module")
    return model


def options_of(architecture: str) -> type | None:
    """The options class of a system that can be imported: the one whose `architecture` it is; None: it has none."""
    members = vars(importlib.import_module(f"{MODELS}.{architecture}")).values()
    classes = (one for one in members if isinstance(one, type) and dataclasses.is_dataclass(one))
    return next((one for one in classes if getattr(one, "architecture", None) == architecture), None)


def available(config_file: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of all systems that `find_model` finds."""
    return sorted({path.stem for folder in _folders(config_file) for path in folder.glob("*.py")} - {"__init__"})


def utterance_feature(
    model_config: Mapping[str, Any], config_file: str | os.PathLike[str] | None = None
) -> FixedFrames | None:
    """The second input that the system of `model_config` asks for, or None."""
    declare = getattr(find_model(model_config["architecture"], config_file), "utterance_feature", None)
    return declare(model_config) if declare else None


def count_parameters(model: nn.Module) -> int:
    """How many numbers a system learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward(model: nn.Module, inputs: Sequence[Tensor], freq_aug: bool = False) -> tuple[Tensor, ...]:
    """Call the model; `Freq_aug` is passed only when it is on, so that systems without it work.

    Raises:
        InputError: what comes back is not a tuple with logits (B, 2) in second place.
    """
    outputs = model(*inputs, Freq_aug=True) if freq_aug else model(*inputs)
    logits: Any = outputs[1] if isinstance(outputs, (tuple, list)) and len(outputs) > 1 else None
    is_right = isinstance(logits, Tensor) and logits.shape[1:] == (2,)
    # While exporting, the size of a batch is a symbol, which a comparison would fix.
    if not is_right or not (is_exporting() or len(logits) == len(inputs[0])):
        wanted = f"logits (B, 2), here ({len(inputs[0])}, 2)"
        raise InputError(
            f"the model's forward is to return a tuple whose second element is {wanted}; it is {kind_of(logits)}"
        )
    return tuple(outputs)


def kind_of(value: Any) -> str:
    """What a system has returned, for messages: a tensor's shape, or a type's name."""
    return f"a Tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _folders(config_file: str | os.PathLike[str] | None) -> list[Path]:
    """The folders that exist, in the order of the search, each once."""
    beside = Path(config_file).resolve().parent if config_file else None
    near = [beside / "models", beside.parent / "models"] if beside else []
    folders = [MODELS_FOLDER, Path("models"), *near, *map(Path, _listed())]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def _listed() -> list[str]:
    return [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]


def _file_of(architecture: str, folders: Sequence[Path]) -> Path | None:
    """The file of a system; a second one of that name is reported as not used."""
    if not re.fullmatch(r"[A-Za-z_]\w{,99}", architecture) or architecture == "__init__":
        return None
    found = [folder / f"{architecture}.py" for folder in folders if (folder / f"{architecture}.py").is_file()]
    if len(found) > 1 and f"{MODELS}.{architecture}" not in sys.modules:
        others = ", ".join(map(str, found[1:]))
        log.warning("%s is %s; not used: %s (give it another name)", architecture, found[0], others)
    return found[0] if found else None
