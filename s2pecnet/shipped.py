"""Where the systems and the configs that come with the framework are.

In a checkout `models/` and `config/` stand beside this package; in an installed copy they are `s2pecnet.models` and
`s2pecnet.configs` inside it (pyproject.toml maps the two folders).
"""

import importlib.util
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = importlib.util.find_spec("s2pecnet.models")

# The package that holds the systems, and the folders of systems and configs.
MODELS = "s2pecnet.models" if _INSTALLED else "models"
MODELS_FOLDER = Path(_INSTALLED.origin).parent if _INSTALLED and _INSTALLED.origin else _HERE.parent / "models"
CONFIGS_FOLDER = _HERE / "configs" if (_HERE / "configs").is_dir() else MODELS_FOLDER.parent / "config"
