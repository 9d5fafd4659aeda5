"""The folder of a run: the one place that knows what its files are called.

    exp_result/LA_<config>_ep<E>_bs<B>[_<comment>]/
        config.conf              the config as used, overrides included
        weights/                 best.pth, swa.pth, epoch_<epoch>_<dev EER>.pth
        dev_scores.txt           dev scores of the selected epoch, or of `--eval --split dev`
        <eval_output>            eval scores of the selected epoch; <eval_output>_swa of the averaged weights
        metrics/                 dev metrics of each epoch
        t-DCF_EER[_dev|_swa].txt metrics as text
        calibration.json         scores to log-likelihood ratios, of `--eval --split dev`
        state/                   what an unfinished training resumes from
        metric_log.txt           a line an epoch
        figures.png, report.html plots, and the report
        results.json             the run record: everything above for machines, and what is needed to run it again
        skipped_audio_*.txt, nonfinite_batches.json, events.out.* (TensorBoard)

Nothing that is there already is lost: a training that finds its folder taken moves the old one to `<folder>.1`, `.2`,
...; an evaluation does so with the single files that it is about to write, and leaves the folder of a training alone:
it goes to `<folder>_scored_eval`. The names are in `conventions.RUN_FILES`, so that a config cannot take one of them
for its scores.
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.config.experiment import Config
from s2pecnet.conventions import RUN_FILES
from s2pecnet.files import atomic_write, write_json, writes

log = logging.getLogger(__name__)


class RunFolder:
    """The paths of a run's files, and what is written to them as it goes."""

    def __init__(self, path: str | os.PathLike[str], config: Config):
        self.path, self.config = Path(path), config

    def file(self, name: str) -> Path:
        """A file by its name in `conventions.RUN_FILES`."""
        return self.path / RUN_FILES[name]

    @property
    def states(self) -> Path:
        """The folder of training states."""
        return self.file("states")

    @property
    def holds_training(self) -> bool:
        """Whether a training, finished or not, is in the folder."""
        return self.states.is_dir() or any(self.file("weights").glob("*.*"))

    @property
    def results(self) -> Path:
        """The run record."""
        return self.file("results")

    def scores(self, evaluation: str) -> Path:
        """The score file of an evaluation: "dev", "eval" or "eval_swa"."""
        names = {
            "dev": RUN_FILES["dev_scores"],
            "eval": self.config.eval_output,
            "eval_swa": self.config.eval_output_swa,
        }
        return self.path / names[evaluation]

    def summary(self, evaluation: str) -> Path:
        """The metrics of an evaluation as text."""
        return self.file(f"{evaluation}_summary")

    def dev_summary(self, epoch: int) -> Path:
        """The dev metrics of an epoch as text."""
        return self.file("metrics") / f"dev_t-DCF_EER_{epoch}epo.txt"

    def weights(self, name: str) -> Path:
        """A checkpoint: "best" or "swa"."""
        return self.file("weights") / f"{name}.{self.config.weights_format}"

    def epoch_weights(self, epoch: int, eer: float) -> Path:
        """The checkpoint of an epoch with its dev EER, a fraction."""
        return self.weights(f"epoch_{epoch}_{100 * eer:.3f}")

    def skip_list(self, split: str) -> Path | None:
        """Where to list audio that is skipped; None: the config does not skip any."""
        return self.file(f"skipped_{split}") if self.config.on_bad_audio == "skip" else None

    def make(self, resume: bool = False) -> None:
        """Make the folder of a training; one that is there already is backed up, unless the training resumes in it.

        Raises:
            OSError: it cannot be written.
        """
        if not writes():
            return
        moved = None if resume else back_up(self.path)
        if moved:
            unfinished = (
                " (unfinished: --resume would have resumed it)" if (moved / RUN_FILES["states"]).is_dir() else ""
            )
            log.info("the earlier run is now %s%s", moved, unfinished)
        self.file("weights").mkdir(parents=True, exist_ok=True)
        self.file("metrics").mkdir(exist_ok=True)

    def remove_states(self) -> None:
        """Remove the states of a training that is finished."""
        if writes() and self.states.is_dir():
            shutil.rmtree(self.states)

    def write_log(self, lines: Sequence[str]) -> None:
        """Write the log, a line an entry."""
        with atomic_write(self.file("log")) as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def write_config(self) -> None:
        """Write the config as it is used."""
        write_json(self.file("config"), self.config.raw)

    def prune_epoch_weights(self, keep: int) -> None:
        """Delete all epoch checkpoints but those of the latest `keep` epochs."""

        def epoch(path: Path) -> int:
            found = re.match(r"epoch_(\d+)_", path.name)
            return int(found[1]) if found else -1

        found = sorted(self.file("weights").glob("epoch_*_*"), key=epoch)
        for path in found[:-keep] if writes() else []:
            path.unlink(missing_ok=True)


def run_name(config: Config, comment: str | None = None) -> str:
    """Name of a run's folder: <track>_<config>_ep<E>_bs<B>[_<comment>]."""
    name = f"{config.track}_{config.name}_ep{config.num_epochs}_bs{config.batch_size}"
    return f"{name}_{comment}" if comment else name


def back_up(path: Path) -> Path | None:
    """Move an existing file or folder to the first free of <name>.1<ending>, <name>.2<ending>, ...

    Returns:
        where it is now, None where there was nothing (or an empty folder).
    """
    if not writes() or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    stem, ending = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    number = 1
    while (moved := path.with_name(f"{stem}.{number}{ending}")).exists():
        number += 1
    path.rename(moved)
    return moved
