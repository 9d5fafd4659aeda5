"""A complete training: epochs, selection on dev, averaged weights, the evaluation on eval.

    Trainer.run: (epoch, dev, keep the best) x num_epochs, then eval of the selected epoch and of SWA
    Trainer.save, restore: its state, so that a killed training resumes to the byte

The epoch is selected on dev; nothing is ever selected on eval. SWA averages the weights of all epochs that were the
best on dev when they ended, and recomputes BatchNorm's statistics (Izmailov et al., "Averaging weights leads to wider
optima", UAI 2018), as the released loop does.
"""

import contextlib
import copy
import dataclasses
import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from s2pecnet.data.loaders import SeededShuffle
from s2pecnet.data.workers import WorkerFailed
from s2pecnet.errors import InputError, Stopped
from s2pecnet.extras import MissingExtra
from s2pecnet.files import atomic_write, write_json
from s2pecnet.interruption import raise_if_stop_requested, stop_requested
from s2pecnet.metrics import calibration
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.parallel import agree_on_signals, wait
from s2pecnet.precision import PRECISIONS
from s2pecnet.reporting.board import Board
from s2pecnet.reporting.plots import board_figures
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.runtime import random_state, set_random_state
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.scoring.splits import Evaluation, Loader, ScoredSplit, headline, write_score_file, write_summary
from s2pecnet.systems.build import System
from s2pecnet.systems.losses import mean_loss
from s2pecnet.systems.weights import description, load_weights, save_weights
from s2pecnet.text import counted
from s2pecnet.training.checkpoint import prune_states, write_state
from s2pecnet.training.loop import LossMeter, recompute_batch_norm, run_epoch
from s2pecnet.training.optim import base_rates, create_optimizer, parameter_groups, set_base_rates
from s2pecnet.training.step import NonFiniteLoss, TrainingStep

log = logging.getLogger(__name__)

STATES_KEPT = 2


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch, step: the epoch under way, and how many steps of it are done.
        history: a dictionary an epoch.
        log: the lines of the log.
        best_epoch, best_dev: the selected epoch so far (-1: none yet) and its dev metrics.
        best_eval: its eval metrics, where `eval_all_best` has evaluated it already.
        nonfinite: the batches that were skipped because their loss was not finite.
        best_loss: the dev loss of the selected epoch.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: list[str] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best_dev: Metrics | None = None
    best_eval: Metrics | None = None
    nonfinite: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_loss: float | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """The inverse of `dataclasses.asdict`."""
        best = {name: state[name] and Metrics(**state[name]) for name in ("best_dev", "best_eval")}
        return cls(**{**state, **best})

    def is_best(self, dev: Metrics, loss: float | None = None) -> bool:
        """Whether an epoch with these dev metrics is selected; a tie goes to the later epoch, as released.

        Args:
            loss: the dev loss, where epochs are selected by it.
        """
        if self.best_dev is None or loss is None or self.best_loss is None:
            return self.best_dev is None or dev.eer <= self.best_dev.eer
        return loss <= self.best_loss

    def is_over(self, num_epochs: int, patience: int | None) -> bool:
        """Whether all epochs are done, or the last `patience` of them were not selected."""
        waited = self.epoch - 1 - self.best_epoch
        return self.epoch >= num_epochs or (patience is not None and self.epoch > 0 and waited >= patience)


class Trainer:
    """A training: what it needs, and how far it has come.

    Args:
        system: the model at its start.
        train_loader, dev, evaluation: batches to train on, the split to select on, and the split to report on.
        folder: where its files go.
        record: describes the run; `run` completes it.
    """

    def __init__(
        self,
        system: System,
        train_loader: Loader,
        dev: ScoredSplit,
        evaluation: ScoredSplit,
        folder: RunFolder,
        record: RunRecord,
    ):
        self.system, self.model, self.config, self.device = system, system.model, system.config, system.device
        self.train_loader, self.dev, self.eval = train_loader, dev, evaluation
        self.folder, self.record = folder, record
        assert isinstance(train_loader.sampler, SeededShuffle)
        assert isinstance(train_loader.generator, torch.Generator)
        self._sampler, self._generator = train_loader.sampler, train_loader.generator
        length = {"epochs": self.config.num_epochs, "steps_per_epoch": len(train_loader)}
        schedule = dataclasses.asdict(self.config.optim_config) | length
        parameters = parameter_groups(self.model, self.config.optim_config, self.config.source)
        self.optimizer, self.scheduler = create_optimizer(parameters, schedule)
        self.progress = Progress()
        self.averaged = AveragedModel(self.model)
        self.meter = LossMeter()
        self.step = TrainingStep(self.model, self.optimizer, self.scheduler, self.config, self.device)
        # What is saved of them is their own `state_dict`.
        self._parts: dict[str, Any] = {
            "model": self.model,
            "averaged": self.averaged,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.step.scaler,
        }
        # Evaluations of the selected epoch, "dev" and "eval", as far as this process has made them.
        self._evaluations: dict[str, Evaluation] = {}
        self._loader_state = self._generator.get_state()
        self._saved = time.monotonic()

    # ---- the story -----------------------------------------------------------------------------

    def run(self) -> dict[str, Evaluation]:
        """Train the remaining epochs, evaluate the selected checkpoint and SWA on eval, complete the record.

        Returns:
            scores and metrics of "dev", "eval" and "eval_swa".

        Raises:
            InputError: the loss is not finite, or the data cannot be used.
            Stopped: a signal asked the run to stop; its state is saved.
        """
        try:
            if not self.progress.step and not self.progress.epoch:
                self.save()
            with Board(self.folder.path, purge_step=self.progress.epoch or None) as board:
                while not self.progress.is_over(self.config.num_epochs, self.config.patience):
                    self._train_epoch()
                    self._end_epoch(board)
                return self._final_evaluation(board)
        except Stopped as stopped:
            raise Stopped(f"{stopped}; the training's state is saved, --resume continues it", stopped.status) from None
        except WorkerFailed as error:
            raise WorkerFailed(f"{error}; the training's state is saved, --resume continues it") from None

    def _train_epoch(self) -> None:
        """The remaining steps of the epoch."""
        progress = self.progress
        if progress.step == len(self.train_loader):
            return
        self._sampler.set_epoch(progress.epoch, skip=progress.step * self.config.batch_size)
        self._loader_state = self._generator.get_state()
        try:
            try:
                run_epoch(self.train_loader, self.step, self.meter, self._after_step)
            except WorkerFailed:
                # The steps so far are complete ones.
                self.step.check()
                self.save()
                raise
        except NonFiniteLoss as error:
            path = self._write_nonfinite(progress.step - error.steps_ago)
            raise NonFiniteLoss(f"{error}; the utterances of that batch are in {path}") from None
        self._loader_state = self._generator.get_state()
        self.save()

    def _after_step(self) -> None:
        progress = self.progress
        if self.step.skipped > len(progress.nonfinite):
            path = self._write_nonfinite(progress.step)
            log.warning("skipped a batch without a finite loss and gradient (its utterances: %s)", path)
        progress.step += 1
        agree_on_signals()
        minutes, every = self.config.save_every_minutes, self.config.save_every_steps
        due = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        if due or (every is not None and progress.step % every == 0) or stop_requested():
            self.step.check()
            self.save()
        raise_if_stop_requested(f"after step {progress.step} of epoch {progress.epoch}")

    def _end_epoch(self, board: Board) -> None:
        """Score dev, log the epoch, keep the weights if they are the best, go to the next epoch."""
        epoch = self.progress.epoch
        dev = self.dev.evaluate(self.system.scorer(), loss=partial(mean_loss, self.config))
        rates = [group["lr"] for group in self.optimizer.param_groups]
        write_summary(self.folder.dev_summary(epoch), dev.metrics)
        entry = {
            "epoch": epoch,
            "loss": self.meter.loss(),
            "terms": self.meter.means(),
            "dev_loss": dev.loss,
            "learning_rate": rates[0],
            "utterances_per_second": self.meter.throughput(),
            "dev": dev.metrics.as_dict(),
        }
        if len(rates) > 1:
            entry["front_end_learning_rate"] = rates[1]
        self.progress.history.append(entry)
        scalars = {f"loss/{name}": value for name, value in entry["terms"].items()}
        scalars |= {"loss/total": entry["loss"], "loss/dev": entry["dev_loss"]}
        scalars |= {name: entry[name] for name in ("learning_rate", "front_end_learning_rate") if name in entry}
        scalars["throughput/train"] = entry["utterances_per_second"]
        _write_board(board, "dev", dev.metrics, epoch, scalars)
        throughput = f"  {entry['utterances_per_second']:.1f} utt/s"
        losses = f"loss {entry['loss']:.5f}  dev loss {dev.loss:.5f}"
        self._log(f"epoch {epoch:3d}  {losses}  dev {headline(dev.metrics)}", throughput)
        if self.progress.is_best(dev.metrics, dev.loss if self.config.select_by == "loss" else None):
            self._keep_best(epoch, dev, board)
        self.progress.epoch, self.progress.step, self.meter = epoch + 1, 0, LossMeter()
        self.save()
        # Not before: a state from before this epoch needs the weights of the epoch that it has selected.
        self.folder.prune_epoch_weights(self.config.keep_checkpoints)

    def _keep_best(self, epoch: int, dev: Evaluation, board: Board) -> None:
        """Save the weights, with the calibration to log-likelihood ratios that dev gives; evaluate them if wanted."""
        progress = self.progress
        progress.best_epoch, progress.best_dev, progress.best_eval = epoch, dev.metrics, None
        progress.best_loss = dev.loss
        self._evaluations = {"dev": dev}
        write_score_file(self.folder.scores("dev"), self.dev.trials, dev.values)
        fitted = dataclasses.replace(calibration.fit(dev.scores), eval_crop=self.config.eval_crop).as_dict()
        about = self.record.for_weights() | {"epoch": epoch, "dev": dev.metrics.as_dict(), "calibration": fitted}
        save_weights(self.model, self.folder.epoch_weights(epoch, dev.metrics.eer), about)
        save_weights(self.model, self.folder.weights("best"), about)
        self.averaged.update_parameters(self.model)
        if self.config.eval_all_best:
            found = self.eval.evaluate(self.system.scorer(), self.folder.scores("eval"))
            progress.best_eval, self._evaluations["eval"] = found.metrics, found
            progress.history[-1]["eval"] = found.metrics.as_dict()
            _write_board(board, "eval", found.metrics, epoch)
            self._log(f"epoch {epoch:3d}  new best on dev, eval {headline(found.metrics)}")

    def _final_evaluation(self, board: Board) -> dict[str, Evaluation]:
        progress, record = self.progress, self.record
        assert progress.best_dev is not None
        self._check_best()
        load_weights(self.model, self.folder.weights("best"))
        dev = self._best(self.dev, progress.best_dev)
        if progress.best_eval is None:
            best = self.eval.evaluate(self.system.scorer(), self.folder.scores("eval"))
            _write_board(board, "eval", best.metrics, progress.best_epoch)
        else:
            best = self._best(self.eval, progress.best_eval)
        # Without a package to draw with, the story says so.
        with contextlib.suppress(MissingExtra):
            board_figures(board, "eval", progress.best_epoch, best.scores, best.metrics, self.eval.asv)
        # The averaged weights take the model's place, with BatchNorm statistics of their own.
        self.model.load_state_dict(self.averaged.module.state_dict())
        self._sampler.set_epoch(self.config.num_epochs)
        precision = PRECISIONS[self.config.precision]
        recompute_batch_norm(self.model, self.train_loader, self.device, self.config.freq_aug, precision)
        count = int(self.averaged.n_averaged)
        save_weights(self.model, self.folder.weights("swa"), record.for_weights() | {"swa_epochs": count})
        swa = self.eval.evaluate(self.system.scorer(), self.folder.scores("eval_swa"))
        _write_board(board, "eval_swa", swa.metrics, self.config.num_epochs - 1)
        if progress.epoch < self.config.num_epochs:
            waited = counted(progress.epoch - 1 - progress.best_epoch, "epoch")
            self._log(f"ended after epoch {progress.epoch - 1}: none was selected on dev for {waited} (patience)")
        self._log(f"selected epoch {progress.best_epoch} on dev: {headline(dev.metrics)}")
        self._log(f"eval, selected epoch: {headline(best.metrics)}")
        self._log(f"eval, SWA of {counted(count, 'epoch')}: {headline(swa.metrics)}")
        evaluations = {"dev": dev, "eval": best, "eval_swa": swa}
        for name in ("eval", "eval_swa"):
            write_summary(self.folder.summary(name), evaluations[name].metrics)
        record.metrics = {name: found.metrics for name, found in evaluations.items()}
        record.selected_epoch, record.swa_epochs = progress.best_epoch, count
        record.skipped_batches, record.history = len(progress.nonfinite), progress.history
        return evaluations

    def _check_best(self) -> None:
        """Make sure that the file of the best weights is that of the selected epoch; a lost one has a twin.

        Raises:
            InputError: it is lost, damaged or another epoch's, and so is that of the epoch.
        """
        best, epoch, dev = self.folder.weights("best"), self.progress.best_epoch, self.progress.best_dev
        # Where several processes train: the one that writes is done, then all have looked, then it repairs.
        wait()
        is_right = dev is None or _epoch_of(best) == epoch
        wait()
        if dev is not None and not is_right:
            twin = self.folder.epoch_weights(epoch, dev.eer)
            # The training may have begun with the other `weights_format`.
            twins = [twin, *(path.with_suffix(one) for path in (best, twin) for one in (".pth", ".safetensors"))]
            found = next((path for path in twins if _epoch_of(path) == epoch), None)
            if found is None:
                raise InputError(
                    f"{best}: not the weights of the selected epoch {epoch} (lost, damaged or replaced), and "
                    f"{twin.name} is not there either; without --resume the training starts again"
                )
            if found.stem != best.stem:
                log.warning("%s: lost, damaged or replaced; taken from %s, the same weights", best, found.name)
            if found.suffix == best.suffix:
                with atomic_write(best, "wb") as stream:
                    stream.write(found.read_bytes())
            else:
                kept = copy.deepcopy(self.model)
                load_weights(kept, found)
                save_weights(kept, best, description(found))
        wait()

    def _best(self, split: ScoredSplit, metrics: Metrics) -> Evaluation:
        """The evaluation of the selected epoch, whose weights the model has; of an earlier process, its score file.

        A file that is lost, or does not give these metrics any more, is scored again.
        """
        if split.name in self._evaluations:
            return self._evaluations[split.name]
        path = self.folder.scores(split.name)
        try:
            found = read_cm_scores(path)
            if evaluate(found, split.asv, corpora=split.corpora).as_dict() == metrics.as_dict():
                return Evaluation(found, metrics)
            reason = "not the scores of the selected epoch"
        except (InputError, OSError) as error:
            reason = str(error)
        log.warning("%s: lost or damaged (%s); scored again", path, reason)
        return split.evaluate(self.system.scorer(), path)

    # ---- the state -----------------------------------------------------------------------------

    def save(self) -> None:
        """Save the state of the training as it is now.

        Raises:
            NonFiniteLoss: a weight or a statistic is not finite; the states before stay.
        """
        progress = self.progress
        numbers = [one.detach() for one in (*self.model.parameters(), *self.model.buffers()) if one.is_floating_point()]
        if not torch.isfinite(torch.nn.utils.get_total_norm(numbers)):
            raise NonFiniteLoss(
                f"the weights are not finite after step {progress.step} of epoch {progress.epoch}; the last state is "
                "kept: --resume with a lower optim_config.base_lr, or with optim_config.clip_grad_norm"
            )
        state = {
            "experiment": self.record.experiment,
            "sessions": self.record.sessions,
            "progress": dataclasses.asdict(progress),
            "meter": self.meter.as_state(),
            **{name: None if part is None else part.state_dict() for name, part in self._parts.items()},
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
        rates = base_rates(self.optimizer)
        for name, part in self._parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        set_base_rates(self.optimizer, self.scheduler, rates)
        self.step.skipped = len(self.progress.nonfinite)
        self._generator.set_state(state["loader"])
        set_random_state(state["random"])
        self.folder.write_log(self.progress.log)
        self._check_best()

    # ---- small things --------------------------------------------------------------------------

    def _log(self, line: str, aside: str = "") -> None:
        """Print a line and keep it in the log; `aside`, which no two runs share, is printed alone."""
        self.progress.log.append(line)
        self.folder.write_log(self.progress.log)
        print(f"{line}{aside}", flush=True)

    def _write_nonfinite(self, step: int) -> Path:
        """Note which utterances the batch of a step of this epoch has; gives the file where they stand."""
        epoch, size = self.progress.epoch, self.config.batch_size
        items = self._sampler.order(epoch)[step * size : (step + 1) * size].tolist()
        names = self.train_loader.dataset.list_IDs  # type: ignore[attr-defined]
        self.progress.nonfinite.append({"epoch": epoch, "step": step, "utterances": [names[item] for item in items]})
        write_json(self.folder.file("nonfinite"), self.progress.nonfinite)
        return self.folder.file("nonfinite")


def _epoch_of(weights: Path) -> int | None:
    """The epoch that a checkpoint says it is of; None where there is no readable one."""
    try:
        return description(weights).get("epoch")
    except (InputError, OSError):
        return None


def _write_board(
    board: Board, name: str, metrics: Metrics, epoch: int, more: Mapping[str, float] | None = None
) -> None:
    scalars = {f"EER_percent/{name}": 100 * metrics.eer, **(more or {})}
    of_corpora = metrics.per_corpus_eer.items()
    scalars |= {f"EER_percent/{name} of {corpus}": 100 * eer for corpus, eer in of_corpora if eer is not None}
    if metrics.min_tdcf is not None:
        scalars[f"min_tDCF/{name}"] = metrics.min_tdcf
    for tag, value in scalars.items():
        board.add_scalar(tag, value, epoch)
    board.flush()
