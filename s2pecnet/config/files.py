"""Config files: found by path or name, read as JSON with the line of each key, completed by what they extend."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2pecnet.errors import InputError
from s2pecnet.shipped import CONFIGS_FOLDER
from s2pecnet.text import clipped, find_keys, load_json_object, nearest

log = logging.getLogger(__name__)

# Larger than any config by far; a corpus or an endless device given in its place is not read into the memory.
MOST_BYTES = 1 << 18
EXTENDS = "extends"
MOST_EXTENDED = 10


@dataclass(frozen=True)
class ConfigText:
    """What config files say.

    Attributes:
        content: the keys, without "extends", merged with those of the config that is extended.
        lines: file and line of each dotted key.
    """

    content: dict[str, Any]
    lines: dict[str, tuple[Path, int]]

    def location(self, key: str, path: Path) -> str:
        """Where a dotted key, or the object that lacks it, stands: "file:line: "; `path` where it stands nowhere."""
        parent = key.rpartition(".")[0]
        found = next((self.lines[one] for one in (key, parent, key.partition("[")[0]) if one in self.lines), None)
        return f"{found[0]}:{found[1]}: " if found else f"{path}: "


def read_config(path: Path, extended_by: tuple[Path, ...] = ()) -> ConfigText:
    """Read a config file and the files that it extends: `"extends": "S2pecNet.conf"`, relative to its own folder.

    Dictionaries are merged key by key, other values replaced.

    Raises:
        InputError: a file is missing or not JSON, or files extend each other.
    """
    text = _read_text(path)
    content = load_json_object(text, str(path))
    lines = {key: (path, line) for _, key, line in reversed(list(find_keys(text)))}
    slip = nearest(EXTENDS, [key for key in content if key != EXTENDS])
    if slip is not None:
        raise InputError(f"{path}:{lines[slip][1]}: unknown key {clipped(repr(slip))}; did you mean {EXTENDS!r}?")
    if EXTENDS not in content:
        return ConfigText(content, lines)
    parent, where = content.pop(EXTENDS), f"{path}:{lines[EXTENDS][1]}: {EXTENDS}"
    if not isinstance(parent, str) or not parent:
        raise InputError(f"{where}: expected the name of a config file")
    found = path.parent / parent
    # os.path, for a name that is too long is no file to it, and an error to Path.
    if not os.path.isfile(found) and Path(parent).parent == Path():
        found = CONFIGS_FOLDER / (parent if parent.endswith(".conf") else f"{parent}.conf")
    if not os.path.isfile(found):
        raise InputError(f"{where}: there is no file {clipped(str(path.parent / parent))}")
    chain = (*extended_by, path)
    if any(found.resolve() == other.resolve() for other in chain) or len(chain) > MOST_EXTENDED:
        raise InputError(f"{where}: these configs extend each other: {', '.join(map(str, chain))}")
    base = read_config(found, chain)
    del lines[EXTENDS]
    return ConfigText(_merged(base.content, content), base.lines | lines)


def find_config(given: str | os.PathLike[str]) -> Path:
    """The file that a path or a name stands for; what is found by its name is logged.

    A path that names a file is that file. Else `NAME` and `NAME.conf` are sought among the framework's own, then in
    ./config/, and `config/NAME` the other way round; what is nowhere comes back as it was given.
    """
    path = Path(given)
    by_name = path.parent in (Path(), Path("config"))
    # A folder of that name is no config.
    if not by_name or (path.exists() and not path.is_dir()):
        return path
    name = path.name if path.suffix == ".conf" else f"{path.name}.conf"
    # The framework's own first: a folder of somebody else's must not change what AASIST means, and which code runs.
    folders = [CONFIGS_FOLDER, Path("config")] if path.parent == Path() else [Path("config"), CONFIGS_FOLDER]
    for folder in folders:
        if (folder / name).is_file():
            log.debug("config %s is %s", given, folder / name)
            return folder / name
    return path


def shipped_configs() -> list[str]:
    """Names of the configs that came with the framework."""
    return sorted(path.stem for path in CONFIGS_FOLDER.glob("*.conf"))


def _merged(base: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in content.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        # Some editors put a byte order mark before the text.
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such config{_near_config(path)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a JSON config") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: larger than {MOST_BYTES // 1024} KiB; expected a JSON config")
    return text


def _near_config(path: Path) -> str:
    by_name = path.parent in (Path(), Path("config"))
    folders = [folder for folder in (path.parent, Path("config"), *([CONFIGS_FOLDER] if by_name else []))
               if folder.is_dir()]  # fmt: skip
    name = path.name.removesuffix(".conf") + ".conf"
    for folder in folders:
        guess = nearest(name, sorted(item.name for item in folder.glob("*.conf")))
        if guess:
            return f"; did you mean {folder / guess}?"
    return f" (the framework's own: {', '.join(shipped_configs())})" if by_name else ""
