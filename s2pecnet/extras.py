"""Packages that only some commands need: asked for here, so that a missing one is reported in one line.

    report   matplotlib                         figures: figures.png, those in TensorBoard, predict --plot
    arena    PyYAML                             submissions to the Arena
    hub      huggingface_hub, pyarrow, PyYAML   model cards, systems and data sets of the Hugging Face Hub, Parquet
    ssl      transformers                       self-supervised front ends: XLS-R, HuBERT, WavLM, Whisper ...
    export   onnx, onnxscript, onnxruntime      models as ONNX

`pip install "s2pecnet[report]"` brings an extra; in a checkout requirements.txt is the list of what is needed.
"""

import importlib
from types import ModuleType

from s2pecnet.errors import InputError


class MissingExtra(InputError):
    """A package that is not installed would be needed."""


def require(package: str, extra: str, purpose: str) -> ModuleType:
    """Import a package that is not everybody's.

    Args:
        package: its name, as it is imported.
        extra: the extra of pyproject.toml that brings it.
        purpose: what needs it, such as "drawing figures".

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtra(
            f'{purpose} needs the package {package}: pip install "s2pecnet[{extra}]", or in a checkout '
            f'pip install ".[{extra}]"'
        ) from None
