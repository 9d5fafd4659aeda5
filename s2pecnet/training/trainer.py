"""A whole training: epochs, selection, averaged weights, the final report; from the start or from where it was left.

Selection is honest: the best epoch and the epochs that enter the averaged weights (SWA) are decided on dev alone, from
the first epoch on. Eval is scored for the selected checkpoint and for SWA, and never minimised over.

A training can be killed at any instant. Its state is saved between steps, after the steps of an epoch and after the
epoch; everything that it does after a saved state is a function of that state, so going on from there gives the weights
and scores, to the bit, of a training that was never interrupted.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from s2pecnet.config.experiment import Config
from s2pecnet.data.loaders import SeededShuffle
from s2pecnet.errors import Stopped
from s2pecnet.extras import MissingExtra
from s2pecnet.files import write_json
from s2pecnet.interruption import asked_to_leave, leave_if_asked
from s2pecnet.metrics import calibration
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.reporting.plots import board_figures
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import without_time_and_place
from s2pecnet.runtime import random_state, set_random_state
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores
from s2pecnet.scoring.splits import Loader, ScoredSplit, headline, write_summary
from s2pecnet.systems.scorer import Scorer
from s2pecnet.systems.weights import load_weights, save_weights
from s2pecnet.training.checkpoint import prune_states, write_state
from s2pecnet.training.loop import LossMeter, recompute_batch_norm, run_epoch
from s2pecnet.training.step import NonFiniteLoss, TrainingStep

STATES_KEPT = 2


@dataclasses.dataclass
class Progress:
    """How far a training has come, and what it has found.

    Attributes:
        epoch, step: the next step to take; `step` may be the number of steps of an epoch, then dev is to be scored.
        history: what results.json tells of each epoch.
        log: lines of metric_log.txt.
        nonfinite: batches without a finite loss that were passed over: epoch, step, utterances.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: list[str] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best_dev: Metrics | None = None
    best_eval: Metrics | None = None
    nonfinite: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def as_state(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """The inverse of `as_state`."""
        best = {name: state[name] and Metrics(**state[name]) for name in ("best_dev", "best_eval")}
        return cls(**{**state, **best})


class Fit:
    """A training: what it needs, and how far it has come."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        train_loader: Loader,
        dev: ScoredSplit,
        eval_split: ScoredSplit,
        config: Config,
        device: torch.device,
        folder: RunFolder,
        about: Mapping[str, Any],
    ):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.train_loader, self.dev, self.eval = train_loader, dev, eval_split
        self.config, self.device, self.folder, self.about = config, device, folder, dict(about)
        self.progress = Progress()
        self.averaged = AveragedModel(model)
        self.meter = LossMeter()
        self.taking_step = TrainingStep(model, optimizer, scheduler, config, device)
        self._loader_state = self._generator.get_state()
        self._saved = time.monotonic()

    # ---- the story -----------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Train what is left of the epochs, report the selected checkpoint and SWA on eval.

        Returns:
            what results.json is to say.

        Raises:
            InputError: the loss is not finite any more, or the data cannot be used.
            Stopped: a signal asked the run to leave; its state is saved.
        """
        try:
            if not self.progress.step and not self.progress.epoch:
                self.save()
            with SummaryWriter(str(self.folder.path), purge_step=self.progress.epoch or None) as board:
                while self.progress.epoch < self.config.num_epochs:
                    self._take_steps()
                    self._end_epoch(board)
                return self._report(board)
        except Stopped as stopped:
            raise Stopped(
                f"{stopped}; the training's state is saved, --resume goes on with it", stopped.status
            ) from None

    def _take_steps(self) -> None:
        """The steps of the epoch that are left."""
        progress = self.progress
        if progress.step == len(self.train_loader):
            return
        self._sampler.go_to(progress.epoch, skip=progress.step * self.config.batch_size)
        self._loader_state = self._generator.get_state()
        try:
            run_epoch(self.train_loader, self.taking_step, self.meter, self._after_step)
        except NonFiniteLoss as error:
            path = self._write_nonfinite(self._batch(progress.step - error.steps_ago))
            raise NonFiniteLoss(f"{error}; the utterances of that batch are in {path}") from None
        self._loader_state = self._generator.get_state()
        self.save()

    def _after_step(self) -> None:
        progress = self.progress
        if self.taking_step.passed_over > len(progress.nonfinite):
            progress.nonfinite.append(self._batch(progress.step))
            path = self._write_nonfinite()
            print(f"warning: passed over a batch without a finite loss (its utterances: {path})", file=sys.stderr)
        progress.step += 1
        minutes, every = self.config.save_every_minutes, self.config.save_every_steps
        due = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        if due or (every is not None and progress.step % every == 0) or asked_to_leave():
            self.taking_step.check()
            self.save()
        leave_if_asked(f"after step {progress.step} of epoch {progress.epoch}")

    def _end_epoch(self, board: SummaryWriter) -> None:
        """Score dev, keep what is best (with its calibration to log-likelihood ratios), go to the next epoch."""
        epoch = self.progress.epoch
        dev = self.dev.evaluate(self._scorer(), self._dev_scores)
        write_summary(self.folder.metrics / f"dev_t-DCF_EER_{epoch}epo.txt", dev)
        self._tell(epoch, dev, board)
        if self._is_best(dev):
            self._keep_best(epoch, dev, board)
        self.progress.epoch, self.progress.step, self.meter = epoch + 1, 0, LossMeter()
        self.save()

    def _tell(self, epoch: int, dev: Metrics, board: SummaryWriter) -> None:
        loss, terms, throughput = self.meter.loss(), self.meter.means(), self.meter.throughput()
        rate = self.optimizer.param_groups[0]["lr"]
        self.progress.history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "terms": terms,
                "learning_rate": rate,
                "utterances_per_second": throughput,
                "dev": dev.as_dict(),
            }
        )
        figures = {"loss/total": loss, "learning_rate": rate, "throughput/train": throughput}
        figures |= {f"loss/{name}": value for name, value in terms.items()} | _board_figures("dev", dev)
        _write_board(board, figures, epoch)
        self._log(f"epoch {epoch:3d}  loss {loss:.5f}  dev {headline(dev)}", f"  {throughput:.1f} utt/s")

    def _is_best(self, dev: Metrics) -> bool:
        # A tie goes to the later epoch, as in the released loop.
        return self.progress.best_dev is None or dev.eer <= self.progress.best_dev.eer

    def _keep_best(self, epoch: int, dev: Metrics, board: SummaryWriter) -> None:
        progress = self.progress
        progress.best_epoch, progress.best_dev, progress.best_eval = epoch, dev, None
        calibrated = calibration.fit(read_cm_scores(self._dev_scores)).as_dict()
        about = without_time_and_place(self.about) | {"epoch": epoch, "dev": dev.as_dict(), "calibration": calibrated}
        save_weights(self.model, self._weights(f"epoch_{epoch}_{100 * dev.eer:.3f}"), about)
        save_weights(self.model, self._weights("best"), about)
        self.averaged.update_parameters(self.model)
        if self.config.eval_all_best:
            progress.best_eval = self._evaluate(self.folder.path / self.config.eval_output)
            progress.history[-1]["eval"] = progress.best_eval.as_dict()
            _write_board(board, _board_figures("eval", progress.best_eval), epoch)
            self._log(f"epoch {epoch:3d}  new best on dev, eval {headline(progress.best_eval)}")

    def _report(self, board: SummaryWriter) -> dict[str, Any]:
        progress, dev = self.progress, self.progress.best_dev
        assert dev is not None
        load_weights(self.model, self._weights("best"))
        best = progress.best_eval or self._evaluate(self.folder.path / self.config.eval_output)
        write_summary(self.folder.path / "t-DCF_EER.txt", best)
        if not self.config.eval_all_best:
            _write_board(board, _board_figures("eval", best), progress.best_epoch)
        # Where there is nothing to draw with, main.py says so.
        with contextlib.suppress(MissingExtra):
            board_figures(board, "eval", progress.best_epoch, self._eval_scores(), best, self.eval.asv)
        swa, count = self._evaluate_swa(), int(self.averaged.n_averaged)
        _write_board(board, _board_figures("eval_swa", swa), self.config.num_epochs - 1)
        self._log(f"selected epoch {progress.best_epoch} on dev: {headline(dev)}")
        self._log(f"eval, selected epoch: {headline(best)}")
        self._log(f"eval, SWA of {count} epochs: {headline(swa)}")
        return {
            "selected_epoch": progress.best_epoch,
            "swa_epochs": count,
            "metrics": {"dev": dev.as_dict(), "eval": best.as_dict(), "eval_swa": swa.as_dict()},
            "batches_passed_over": len(progress.nonfinite),
            "history": progress.history,
        }

    def _evaluate_swa(self) -> Metrics:
        """Load the averaged weights into the model, recompute its BatchNorm statistics, save and score it."""
        self.model.load_state_dict(self.averaged.module.state_dict())
        self._sampler.go_to(self.config.num_epochs)
        recompute_batch_norm(self.model, self.train_loader, self.device, self.config.freq_aug, self.config.precision)
        about = without_time_and_place(self.about) | {"swa_epochs": int(self.averaged.n_averaged)}
        save_weights(self.model, self._weights("swa"), about)
        swa = self._evaluate(self.folder.path / self.config.eval_output_swa)
        write_summary(self.folder.path / "t-DCF_EER_swa.txt", swa)
        return swa

    # ---- the state -----------------------------------------------------------------------------

    def save(self) -> None:
        """Save the state of the training as it is now."""
        progress = self.progress
        state = {
            "experiment": self.about["experiment"],
            "progress": progress.as_state(),
            "meter": self.meter.as_state(),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.taking_step.scaler.state_dict(),
            "loader": self._loader_state,
            "random": random_state(),
        }
        write_state(self.folder.states / f"{progress.epoch:05d}_{progress.step:08d}.state", state)
        prune_states(self.folder.states, keep=STATES_KEPT)
        self._saved = time.monotonic()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        self.progress = Progress.from_state(state["progress"])
        self.meter = LossMeter(state["meter"])
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.taking_step.scaler.load_state_dict(state["scaler"])
        self.taking_step.passed_over = len(self.progress.nonfinite)
        self._generator.set_state(state["loader"])
        set_random_state(state["random"])
        self.folder.write_log(self.progress.log)

    # ---- small things --------------------------------------------------------------------------

    @property
    def _sampler(self) -> SeededShuffle:
        sampler = self.train_loader.sampler
        assert isinstance(sampler, SeededShuffle)
        return sampler

    @property
    def _generator(self) -> torch.Generator:
        assert isinstance(self.train_loader.generator, torch.Generator)
        return self.train_loader.generator

    def _scorer(self) -> Scorer:
        return Scorer(self.model, self.device, self.config.precision, self.config.compile)

    def _evaluate(self, score_file: Path) -> Metrics:
        return self.eval.evaluate(self._scorer(), score_file)

    def _eval_scores(self) -> CMScores:
        return read_cm_scores(self.folder.path / self.config.eval_output)

    @property
    def _dev_scores(self) -> Path:
        return self.folder.metrics / "dev_score.txt"

    def _weights(self, name: str) -> Path:
        return self.folder.weights / f"{name}.{self.config.weights_format}"

    def _log(self, line: str, aside: str = "") -> None:
        """Print a line and keep it in the log; `aside`, which no two runs share, is printed alone."""
        self.progress.log.append(line)
        self.folder.write_log(self.progress.log)
        print(f"{line}{aside}", flush=True)

    def _batch(self, step: int) -> dict[str, Any]:
        """Which utterances the batch of a step of this epoch has."""
        size = self.config.batch_size
        items = self._sampler.order(self.progress.epoch)[step * size : (step + 1) * size]
        names = self.train_loader.dataset.list_IDs  # type: ignore[attr-defined]
        return {"epoch": self.progress.epoch, "step": step, "utterances": [names[int(item)] for item in items]}

    def _write_nonfinite(self, *more: dict[str, Any]) -> Path:
        path = self.folder.path / "nonfinite_batches.json"
        write_json(path, [*self.progress.nonfinite, *more])
        return path


def _board_figures(name: str, metrics: Metrics) -> dict[str, float]:
    figures = {f"EER_percent/{name}": 100 * metrics.eer}
    if metrics.min_tdcf is not None:
        figures[f"min_tDCF/{name}"] = metrics.min_tdcf
    return figures


def _write_board(board: SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    for name, value in figures.items():
        board.add_scalar(name, value, epoch)
    board.flush()
