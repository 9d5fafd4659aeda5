"""The framework as an installed package: its version, and where its modules are.

In a checkout the modules (`main`, `evaluation`, `models` ...) lie at the top, and are imported by these names. A wheel
puts the same files into the one folder `s2pecnet/framework/`, so that nothing else in site-packages can collide with
them. The command `s2pecnet`, or `python -m s2pecnet`, runs them; from Python

    import s2pecnet

    s2pecnet.activate()
    import main

    scorer = main.load_scorer("AASIST", "AASIST.pth")
"""

import sys
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["FRAMEWORK", "__version__", "activate"]

_HERE = Path(__file__).resolve().parent
# The folder of the modules: inside of this package where it is installed, around it in a checkout.
FRAMEWORK = _HERE / "framework" if (_HERE / "framework").is_dir() else _HERE.parent


def activate() -> Path:
    """Make the framework's modules importable by their own names, before all others; returns their folder.

    Processes that this one starts through `multiprocessing` inherit it, also those that are spawned.
    """
    folder = str(FRAMEWORK)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return FRAMEWORK
