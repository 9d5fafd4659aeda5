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

import os
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.config.experiment import Config
from s2pecnet.files import whole_file, write_json


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
