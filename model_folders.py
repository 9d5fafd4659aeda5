"""Folders beside our own `models/` in which a system may lie: where it is run, and beside its config.

    ./models/                     where the command is run
    <folder of the config>/models/
    <folder of the config>/../models/     as config/ and models/ lie side by side in a checkout

They are searched in this order, after the framework's own: a published name always means the published system.
Processes that load audio have to find the same files, so what `search_beside` adds is kept in the environment, in
S2PEC_MODELS, a list of folders as PATH is one; users may set it too.

No torch here.
"""

import os
from pathlib import Path

VARIABLE = "S2PEC_MODELS"
OWN = Path(__file__).resolve().parent / "models"


def search_beside(config: str | os.PathLike[str]) -> None:
    """Search for systems beside this config too, from now on, in this process and in those it starts."""
    folder = Path(config).resolve().parent
    listed = _listed()
    added = [place for place in (folder / "models", folder.parent / "models") if place.is_dir() and place not in listed]
    if added:
        os.environ[VARIABLE] = os.pathsep.join(map(str, [*listed, *added]))


def model_folders() -> list[Path]:
    """The folders that exist, in the order of the search, each once, without the framework's own."""
    folders = dict.fromkeys(folder.resolve() for folder in [Path("models"), *_listed()] if folder.is_dir())
    return [folder for folder in folders if folder != OWN]


def _listed() -> list[Path]:
    return [Path(word) for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
