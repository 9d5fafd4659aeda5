"""What a run says about itself: config, seed, protocols, versions, commit, command."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2pecnet.config.experiment import Config
from s2pecnet.corpora.trials import Split
from s2pecnet.errors import InputError

CODE = Path(__file__).resolve().parent


def describe_run(config: Config, seed: int, device: str, splits: Sequence[Split] = ()) -> dict[str, Any]:
    """What is needed to run it again: config, seed, protocols, versions, commit, command."""
    return {
        "system": config.architecture,
        "seed": seed,
        "device": device,
        "command": [sys.executable, *(word for word in sys.argv if word != "--resume")],
        "working_directory": os.getcwd(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit(),
        "versions": versions(),
        "config_file": config.source,
        "config": config.raw,
        "protocols": {split.name: split.trials.digest() for split in splits},
    }


def without_time_and_place(about: Mapping[str, Any]) -> dict[str, Any]:
    """A run's description for its weights: two runs of an experiment give files that are equal to the byte."""
    kept = {name: value for name, value in about.items() if name not in ("started", "working_directory", "experiment")}
    words = list(about["command"])
    for option in ("--output_dir", "--cache_dir"):
        while option in words:
            place = words.index(option)
            del words[place : place + 2]
    return kept | {"command": words}


def experiment(config: Config, about: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about a run's results, by name; a run goes on from the state of one that has the same."""
    protocols = {f"protocol of {name}": digest for name, digest in about["protocols"].items()}
    return config.identity() | {"seed": about["seed"], "device": about["device"].partition(":")[0]} | protocols


def require_same_experiment(own: Mapping[str, Any], other: Mapping[str, Any], folder: Path) -> None:
    """Make sure that what lies in `folder` is of this experiment.

    Raises:
        InputError: naming the first differences.
    """
    names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
    if names:
        first = "; ".join(f"{name} is {other.get(name)!r} there and {own.get(name)!r} here" for name in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{folder}: holds the state of another experiment ({first}{more}); give this one a --comment or another "
            "--output_dir, or leave out --resume to keep that one aside"
        )


def finished_results(folder: Path, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """The results.json of a finished training of the same experiment in `folder`, or None."""
    try:
        results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return results if results.get("mode") == "train" and results.get("experiment") == own else None


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    import numpy
    import soundfile
    import torch

    from s2pecnet import __version__

    return {
        "s2pecnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "numpy": numpy.__version__,
        "soundfile": soundfile.__version__,
    }


def commit() -> str | None:
    """The commit of this code, "-dirty" behind it where files differ from it; None outside a git checkout."""
    # An installed copy may lie in the checkout of something else, whose commit says nothing about it.
    if _git("ls-files", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*words: str) -> str | None:
    """What git says of the folder of this code; None where it says nothing."""
    try:
        answer = subprocess.run(["git", "-C", str(CODE), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
