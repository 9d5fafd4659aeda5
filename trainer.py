"""Training: an epoch, and the whole of a fit.

Selection is honest: the best epoch and the epochs that enter the averaged weights (SWA) are decided on dev alone, from
the first epoch on. Eval is scored for the selected checkpoint and for SWA, and never minimised over.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from checkpoints import load_weights, save_weights
from errors import InputError
from evaluation import Metrics
from experiment_config import Config, as_config
from models.layers import recompute_blocks
from precision import autocast
from run_folder import RunFolder
from scorer import Scorer, forward
from scoring import Loader, ScoredSplit, headline, progress_bar, write_summary
from training_step import TrainingStep, to_device

# The bar shows the loss about so often; reading it off a GPU more often would keep the GPU waiting.
SECONDS_BETWEEN_READINGS = 1.0


def prepare_for_training(model: nn.Module, config: Config) -> nn.Module:
    """Compile the model, or let its blocks compute their maps again, as the config says; returns it.

    Raises:
        InputError: the system has no such blocks.
    """
    if config.activation_checkpointing and not recompute_blocks(model):
        raise InputError(
            f"{config.source}: activation_checkpointing: {config.architecture} has no block that is a "
            "models.layers.Recomputable; switch it off, or use micro_batch_size to save memory"
        )
    if config.compile:
        model.compile()
    return model


class LossMeter:
    """Mean loss of an epoch and of each of its terms, kept on the device so that no step waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.utterances = 0
        self.started = time.monotonic()

    def add(self, terms: Mapping[str, Tensor], utterances: int) -> None:
        """Take in the terms of one batch."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach() * utterances
        self.utterances += utterances

    def means(self) -> dict[str, float]:
        """Mean of each term over the utterances so far."""
        return {name: float(total) / max(1, self.utterances) for name, total in self.sums.items()}

    def loss(self) -> float:
        """Mean loss over the utterances so far: the sum of its terms."""
        return sum(self.means().values())

    def throughput(self) -> float:
        """Utterances a second."""
        return self.utterances / max(1e-9, time.monotonic() - self.started)


def train_epoch(
    trn_loader: Loader,
    model: nn.Module,
    optim: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None,
    config: Config | Mapping[str, Any],
    meter: LossMeter | None = None,
) -> float:
    """Train for one pass over `trn_loader`, whose batches are (waveforms[, features], labels).

    Args:
        scheduler: stepped after every batch.
        meter: takes the terms of the loss, for a caller that wants more than the mean.

    Returns:
        the mean loss.

    Raises:
        InputError: the loss is not finite any more.
    """
    config = as_config(config)
    meter = meter or LossMeter()
    step = TrainingStep(model, optim, scheduler, config, device)
    run_epoch(trn_loader, step, meter)
    return meter.loss()


def run_epoch(loader: Loader, step: TrainingStep, meter: LossMeter) -> None:
    """Take a step on every batch of `loader`.

    Raises:
        InputError: the loss is not finite any more.
    """
    step.model.train()
    with progress_bar(loader, "train") as bar:
        for *inputs, labels in loader:
            meter.add(step(inputs, labels), len(labels))
            _show(bar, len(labels), meter)
    loss = meter.loss()
    if not math.isfinite(loss):
        raise InputError(f"the loss became {loss}; try a lower optim_config.base_lr, and look for broken audio")


@dataclass
class Fit:
    """A training: what it needs, and what it has found so far."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    train_loader: Loader
    dev: ScoredSplit
    eval: ScoredSplit
    config: Config
    device: torch.device
    folder: RunFolder
    about: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    best_dev: Metrics | None = None
    best_epoch: int = -1
    best_eval: Metrics | None = None

    def run(self) -> dict[str, Any]:
        """Train all epochs, report the selected checkpoint and SWA on eval; returns what results.json is to say."""
        averaged = AveragedModel(self.model)
        step = TrainingStep(self.model, self.optimizer, self.scheduler, self.config, self.device)
        with SummaryWriter(str(self.folder.path)) as board:
            for epoch in range(self.config.num_epochs):
                self._train_one(epoch, step, board)
                if self._is_best(self.history[-1]["dev"]):
                    self._keep_best(epoch, averaged, board)
            return self._report(averaged, board)

    def _train_one(self, epoch: int, step: TrainingStep, board: SummaryWriter) -> None:
        meter = LossMeter()
        run_epoch(self.train_loader, step, meter)
        loss, throughput = meter.loss(), meter.throughput()
        dev = self.dev.evaluate(self._scorer(), self.folder.metrics / "dev_score.txt")
        write_summary(self.folder.metrics / f"dev_t-DCF_EER_{epoch}epo.txt", dev)
        rate = self.optimizer.param_groups[0]["lr"]
        terms = meter.means()
        self.history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "terms": terms,
                "learning_rate": rate,
                "utterances_per_second": throughput,
                "dev": dev,
            }
        )
        figures = {"loss/total": loss, "learning_rate": rate, "throughput/train": throughput}
        figures |= {f"loss/{name}": value for name, value in terms.items()} | _board_figures("dev", dev)
        _write_board(board, figures, epoch)
        line = f"epoch {epoch:3d}  loss {loss:.5f}  dev {headline(dev)}  {throughput:.1f} utt/s"
        self.folder.log(line)
        print(line, flush=True)

    def _is_best(self, dev: Metrics) -> bool:
        # A tie goes to the later epoch, as in the released loop.
        return self.best_dev is None or dev.eer <= self.best_dev.eer

    def _keep_best(self, epoch: int, averaged: AveragedModel, board: SummaryWriter) -> None:
        dev = self.best_dev = self.history[-1]["dev"]
        self.best_epoch, self.best_eval = epoch, None
        about = self.about | {"epoch": epoch, "dev": dev.as_dict()}
        save_weights(self.model, self.folder.weights / f"epoch_{epoch}_{100 * dev.eer:.3f}.pth", about)
        save_weights(self.model, self.folder.weights / "best.pth", about)
        averaged.update_parameters(self.model)
        if self.config.eval_all_best:
            self.best_eval = self._evaluate(self.folder.path / self.config.eval_output)
            self.history[-1]["eval"] = self.best_eval
            _write_board(board, _board_figures("eval", self.best_eval), epoch)
            self.folder.log(f"epoch {epoch:3d}  new best on dev, eval {headline(self.best_eval)}")

    def _report(self, averaged: AveragedModel, board: SummaryWriter) -> dict[str, Any]:
        load_weights(self.model, self.folder.weights / "best.pth")
        best = self.best_eval or self._evaluate(self.folder.path / self.config.eval_output)
        write_summary(self.folder.path / "t-DCF_EER.txt", best)
        swa = self._evaluate_swa(averaged)
        last = self.config.num_epochs - 1
        if not self.config.eval_all_best:
            _write_board(board, _board_figures("eval", best), self.best_epoch)
        _write_board(board, _board_figures("eval_swa", swa), last)
        dev = self.best_dev
        assert dev is not None
        count = int(averaged.n_averaged)
        for line in (
            f"selected epoch {self.best_epoch} on dev: {headline(dev)}",
            f"eval, selected epoch: {headline(best)}",
            f"eval, SWA of {count} epochs: {headline(swa)}",
        ):
            self.folder.log(line)
            print(line)
        return {
            "selected_epoch": self.best_epoch,
            "swa_epochs": count,
            "metrics": {"dev": dev.as_dict(), "eval": best.as_dict(), "eval_swa": swa.as_dict()},
            "history": [
                {key: value.as_dict() if isinstance(value, Metrics) else value for key, value in row.items()}
                for row in self.history
            ],
        }

    def _evaluate_swa(self, averaged: AveragedModel) -> Metrics:
        """Load the averaged weights into the model, recompute its BatchNorm statistics, save and score it."""
        self.model.load_state_dict(averaged.module.state_dict())
        recompute_batch_norm(self.model, self.train_loader, self.device, self.config.freq_aug, self.config.precision)
        about = self.about | {"swa_epochs": int(averaged.n_averaged)}
        save_weights(self.model, self.folder.weights / "swa.pth", about)
        output = Path(self.config.eval_output)
        swa = self._evaluate(self.folder.path / f"{output.stem}_swa{output.suffix}")
        write_summary(self.folder.path / "t-DCF_EER_swa.txt", swa)
        return swa

    def _evaluate(self, score_file: Path) -> Metrics:
        return self.eval.evaluate(self._scorer(), score_file)

    def _scorer(self) -> Scorer:
        return Scorer(self.model, self.device, self.config.precision, self.config.compile)


class _TakesBatch(nn.Module):
    """`update_bn` hands over one object a batch; this one hands it on as the model's arguments."""

    def __init__(self, model: nn.Module, freq_aug: bool, precision: str):
        super().__init__()
        self.model, self.freq_aug, self.precision = model, freq_aug, precision

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with autocast(self.precision, inputs[0].device):
            return forward(self.model, inputs, self.freq_aug)


def recompute_batch_norm(
    model: nn.Module, train_loader: Loader, device: torch.device, freq_aug: bool, precision: str = "fp32"
) -> None:
    """Recompute BatchNorm statistics in one pass over the inputs that the model trains on."""
    batches = ([to_device(inputs, device)] for *inputs, _ in train_loader)
    update_bn(batches, _TakesBatch(model, freq_aug, precision))


def _board_figures(name: str, metrics: Metrics) -> dict[str, float]:
    figures = {f"EER_percent/{name}": 100 * metrics.eer}
    if metrics.min_tdcf is not None:
        figures[f"min_tDCF/{name}"] = metrics.min_tdcf
    return figures


def _write_board(board: SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    for name, value in figures.items():
        board.add_scalar(name, value, epoch)
    board.flush()


def _show(bar: "tqdm[Any]", utterances: int, meter: LossMeter) -> None:
    bar.update(utterances)
    now = time.monotonic()
    if not bar.disable and now - getattr(bar, "last_reading", 0.0) > SECONDS_BETWEEN_READINGS:
        bar.last_reading = now
        bar.set_postfix_str(f"loss {meter.loss():.4f}", refresh=False)
