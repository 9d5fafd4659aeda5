"""Where the systems and the configs that come with the framework are.

In a checkout `models/` and `config/` stand beside this package; in an installed copy they are `s2pecnet.models` and
`s2pecnet.configs` inside it (pyproject.toml maps the two folders).
"""

import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = "s2pecnet.models"


def _package_of_models() -> tuple[str, Path]:
    """Name and folder of the package that holds the systems."""
    installed = importlib.util.find_spec(_INSTALLED)
    if installed is not None and installed.origin:
        return _INSTALLED, Path(installed.origin).parent
    init = _HERE.parent / "models" / "__init__.py"
    found = importlib.util.find_spec("models")
    if found is not None and found.origin and Path(found.origin).resolve() == init:
        return "models", init.parent
    # The checkout is on the path behind a project with a package `models` of its own.
    spec = importlib.util.spec_from_file_location(_INSTALLED, init, submodule_search_locations=[str(init.parent)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{init}: the systems are missing; install s2pecnet again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_INSTALLED] = module
    spec.loader.exec_module(module)
    return _INSTALLED, init.parent


# The package that holds the systems, and the folders of systems and configs.
MODELS, MODELS_FOLDER = _package_of_models()
CONFIGS_FOLDER = _HERE / "configs" if (_HERE / "configs").is_dir() else MODELS_FOLDER.parent / "config"
