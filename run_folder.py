"""The folder of a run: where its files lie, and what it says about itself.

    exp_result/.LA_<config>_ep<E>_bs<B>[_<comment>].lock, .pid
                             held by the run that writes there
    exp_result/LA_<config>_ep<E>_bs<B>[_<comment>]/
        config.conf          the config as used, overrides included
        weights/             best.pth, swa.pth, epoch_<epoch>_<dev EER>.pth
        metrics/             dev scores, figures of each evaluation
        state/               what an unfinished training goes on from
        metric_log.txt       a line an epoch
        t-DCF_EER.txt        figures on eval
        results.json         everything above for machines, and what is needed to run it again
        events.out.*         TensorBoard

Nothing that is there already is lost: a training that finds its folder taken moves the old one aside
(`<folder>.1`, `.2`, ...), an evaluation does so with the single files it is about to write.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from errors import InputError
from experiment_config import Config
from files import whole_file, write_json
from protocols import Split

SECONDS_UNTIL_ORPHANS_LEAVE = 20.0

CODE = Path(__file__).resolve().parent


class RunFolder:
    """Paths of a run and the log it writes."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.weights = self.path / "weights"
        self.metrics = self.path / "metrics"
        self.states = self.path / "state"

    @classmethod
    def for_training(cls, path: str | os.PathLike[str], go_on: bool = False) -> "RunFolder":
        """A new folder; one that is there already is moved aside.

        Args:
            go_on: use the one that is there.

        Raises:
            OSError: it cannot be written.
        """
        folder = cls(path)
        moved = None if go_on else keep_earlier(folder.path)
        if moved:
            unfinished = " (unfinished: --resume would have gone on with it)" if (moved / "state").is_dir() else ""
            print(f"note: kept the earlier run as {moved}{unfinished}")
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

    def write_log(self, lines: Sequence[str]) -> None:
        """Write metric_log.txt, a line an entry."""
        with whole_file(self.path / "metric_log.txt") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def write_config(self, config: Config) -> None:
        """Write the config as it was used."""
        write_json(self.path / "config.conf", config.raw)


def run_name(config: Config, comment: str | None = None) -> str:
    """Name of a run's folder: <track>_<config>_ep<E>_bs<B>[_<comment>]."""
    name = f"{config.track}_{config.name}_ep{config.num_epochs}_bs{config.batch_size}"
    return f"{name}_{comment}" if comment else name


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the right to write a run's folder. A process that died, however it died, holds nobody up.

    Raises:
        InputError: another process holds it; with its pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.pid")
    try:
        # Loading processes share the lock of the run that made them, and outlive it by a few seconds when it is killed.
        lock.acquire(timeout=0 if _is_running(holder) else SECONDS_UNTIL_ORPHANS_LEAVE)
    except Timeout:
        who = holder.read_text().strip() if holder.is_file() else "unknown"
        raise InputError(
            f"{path}: another run (pid {who}) is writing there; wait for it, or give this one a --comment or another "
            "--output_dir"
        ) from None
    try:
        with whole_file(holder) as stream:
            stream.write(f"{os.getpid()} on {platform.node()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _is_running(holder: Path) -> bool:
    """Whether the process that a .pid file names runs, as far as can be told from this machine."""
    try:
        pid, _, host = holder.read_text().split()
        if host == platform.node():
            os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return True


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
