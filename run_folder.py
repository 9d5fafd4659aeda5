"""The folder of a run: where its files lie, and what it says about itself.

    exp_result/LA_<config>_ep<E>_bs<B>[_<comment>]/
        config.conf          the config as used, overrides included
        weights/             best.pth, swa.pth, epoch_<epoch>_<dev EER>.pth
        metrics/             dev scores, figures of each evaluation
        metric_log.txt       a line an epoch
        t-DCF_EER.txt        figures on eval
        results.json         everything above for machines, and what is needed to run it again
        events.out.*         TensorBoard

Nothing that is there already is lost: a training that finds its folder taken moves the old one aside
(`<folder>.1`, `.2`, ...), an evaluation does so with the single files it is about to write.
"""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiment_config import Config
from files import write_json

CODE = Path(__file__).resolve().parent


class RunFolder:
    """Paths of a run and the log it writes."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.weights = self.path / "weights"
        self.metrics = self.path / "metrics"

    @classmethod
    def for_training(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """A new folder; one that is there already is moved aside.

        Raises:
            OSError: it cannot be written.
        """
        folder = cls(path)
        moved = keep_earlier(folder.path)
        if moved:
            print(f"note: kept the earlier run as {moved}")
        folder._make()
        return folder

    @classmethod
    def for_evaluation(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """A folder to put the results of an evaluation into, beside what is there.

        Raises:
            OSError: it cannot be written.
        """
        folder = cls(path)
        folder._make()
        return folder

    def _make(self) -> None:
        self.weights.mkdir(parents=True, exist_ok=True)
        self.metrics.mkdir(exist_ok=True)

    def log(self, line: str) -> None:
        """Append a line to metric_log.txt."""
        with open(self.path / "metric_log.txt", "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")

    def write_config(self, config: Config) -> None:
        """Write the config as it was used."""
        write_json(self.path / "config.conf", config.raw)


def run_name(config: Config, comment: str | None = None) -> str:
    """Name of a run's folder: <track>_<config>_ep<E>_bs<B>[_<comment>]."""
    name = f"{config.track}_{config.name}_ep{config.num_epochs}_bs{config.batch_size}"
    return f"{name}_{comment}" if comment else name


def keep_earlier(path: Path) -> Path | None:
    """Move an existing file or folder aside, to the first free of <name>.1<ending>, <name>.2<ending>, ...

    Returns:
        where it went, None where there was nothing (or an empty folder).
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    stem, ending = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    number = 1
    while (kept := path.with_name(f"{stem}.{number}{ending}")).exists():
        number += 1
    path.rename(kept)
    return kept


def describe_run(config: Config, seed: int, device: str) -> dict[str, Any]:
    """What is needed to run it again: config, seed, versions, commit, command."""
    return {
        "system": config.architecture,
        "seed": seed,
        "device": device,
        "command": [sys.executable, *sys.argv],
        "working_directory": os.getcwd(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit(),
        "versions": versions(),
        "config_file": config.source,
        "config": config.raw,
    }


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    import numpy
    import soundfile
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "numpy": numpy.__version__,
        "soundfile": soundfile.__version__,
    }


def commit() -> str | None:
    """The commit of this code, "-dirty" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(CODE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
