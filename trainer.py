"""Training and scoring: an epoch, a score file, and the whole of a fit.

Selection is honest: the best epoch and the epochs that enter the averaged weights (SWA) are decided on dev alone, from
the first epoch on. Eval is scored for the selected checkpoint and for SWA, and never minimised over.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import evaluation
from checkpoints import load_weights, save_weights
from data_utils import Split, read_protocol
from errors import InputError
from evaluation import ASVScores, Metrics
from experiment_config import Config, as_config
from files import whole_file
from run_folder import RunFolder
from scorer import Scorer, forward

Loader = DataLoader[Any]

# The bar shows the loss about so often; reading it off a GPU more often would keep the GPU waiting.
SECONDS_BETWEEN_READINGS = 1.0


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


def class_weighted_cross_entropy(config: Config, device: torch.device) -> nn.Module:
    """The released loss: cross-entropy with weights for spoof and bona fide."""
    return nn.CrossEntropyLoss(weight=torch.tensor(config.loss_weights, device=device))


def loss_terms(
    model: nn.Module, inputs: Sequence[Tensor], labels: Tensor, criterion: nn.Module, freq_aug: bool
) -> dict[str, Tensor]:
    """Run the model on a batch and give the terms of its loss; the loss is their sum."""
    outputs = forward(model, inputs, freq_aug)
    own_loss = getattr(model, "loss", None)
    if own_loss is None:
        return {"classification": criterion(outputs[1], labels)}
    terms = own_loss(outputs, inputs, labels, criterion)
    return dict(terms) if isinstance(terms, Mapping) else {"loss": terms}


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`; from pinned memory the copy runs beside the computation."""
    return [tensor.to(device, non_blocking=True) for tensor in tensors]


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
    criterion = class_weighted_cross_entropy(config, device)
    model.train()
    with _bar(trn_loader, "train") as bar:
        for *inputs, labels in trn_loader:
            inputs, labels = to_device(inputs, device), labels.to(device, non_blocking=True)
            terms = loss_terms(model, inputs, labels, criterion, config.freq_aug)
            optim.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optim.step()
            if scheduler is not None:
                scheduler.step()
            meter.add(terms, len(labels))
            _show(bar, len(labels), meter)
    loss = meter.loss()
    if not math.isfinite(loss):
        raise InputError(f"the loss became {loss}; try a lower optim_config.base_lr, and look for broken audio")
    return loss


def score_batches(
    data_loader: Loader, model: nn.Module, device: torch.device
) -> Iterator[tuple[list[str], list[float]]]:
    """Score a loader's batches (waveforms[, features], utterances), in its order.

    Yields:
        utterances and scores of a batch; a score is the logit of bona fide as it stands: higher = bona fide.
    """
    scorer = Scorer(model, device)
    with _bar(data_loader, "score") as bar:
        for *inputs, utterances in data_loader:
            yield list(utterances), scorer(*inputs).tolist()
            bar.update(len(utterances))


def produce_evaluation_file(
    data_loader: Loader, model: nn.Module, device: torch.device, save_path: str | Path, trial_path: str | Path
) -> None:
    """Score every trial of a protocol and write the score file, "utterance attack key score" a line.

    The file appears when the last trial is scored, in the order of the loader.

    Raises:
        InputError: the loader and the protocol name different utterances, or a score is not finite.
    """
    trials = {trial.utterance: trial for trial in read_protocol(trial_path)}
    written = 0
    with whole_file(save_path) as stream:
        for utterances, scores in score_batches(data_loader, model, device):
            for utterance, score in zip(utterances, scores, strict=True):
                trial = trials.get(utterance)
                if trial is None:
                    raise InputError(
                        f"{trial_path}: has no utterance {utterance!r}; is it the protocol of another split?"
                    )
                if not math.isfinite(score):
                    raise InputError(f"the score of {utterance} is {score}; the weights or the audio are broken")
                # Nine digits give a float32 back exactly.
                stream.write(f"{utterance} {trial.attack} {trial.key} {score:.9g}\n")
                written += 1
        if written != len(trials):
            raise InputError(
                f"{trial_path}: names {len(trials)} trials, {written} were scored; is it of another split?"
            )


@dataclass(frozen=True)
class ScoredSplit:
    """A split to be scored: its loader, its protocol and its ASV scores (None: EER only)."""

    split: Split
    loader: Loader
    asv: ASVScores | None

    def evaluate(self, model: nn.Module, device: torch.device, score_file: Path) -> Metrics:
        """Score the split into `score_file` and compute the figures from that file."""
        produce_evaluation_file(self.loader, model, device, score_file, self.split.protocol)
        return evaluation.evaluate(evaluation.read_cm_scores(score_file), self.asv)


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
        with SummaryWriter(str(self.folder.path)) as board:
            for epoch in range(self.config.num_epochs):
                self._train_one(epoch, board)
                if self._is_best(self.history[-1]["dev"]):
                    self._keep_best(epoch, averaged, board)
            return self._report(averaged, board)

    def _train_one(self, epoch: int, board: SummaryWriter) -> None:
        meter = LossMeter()
        loss = train_epoch(
            self.train_loader, self.model, self.optimizer, self.device, self.scheduler, self.config, meter
        )
        throughput = meter.throughput()
        dev = self.dev.evaluate(self.model, self.device, self.folder.metrics / "dev_score.txt")
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
        recompute_batch_norm(self.model, self.train_loader, self.device, self.config.freq_aug)
        about = self.about | {"swa_epochs": int(averaged.n_averaged)}
        save_weights(self.model, self.folder.weights / "swa.pth", about)
        output = Path(self.config.eval_output)
        swa = self._evaluate(self.folder.path / f"{output.stem}_swa{output.suffix}")
        write_summary(self.folder.path / "t-DCF_EER_swa.txt", swa)
        return swa

    def _evaluate(self, score_file: Path) -> Metrics:
        return self.eval.evaluate(self.model, self.device, score_file)


class _TakesBatch(nn.Module):
    """`update_bn` hands over one object a batch; this one hands it on as the model's arguments."""

    def __init__(self, model: nn.Module, freq_aug: bool):
        super().__init__()
        self.model, self.freq_aug = model, freq_aug

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return forward(self.model, inputs, self.freq_aug)


def recompute_batch_norm(model: nn.Module, train_loader: Loader, device: torch.device, freq_aug: bool) -> None:
    """Recompute BatchNorm statistics in one pass over the inputs that the model trains on."""
    batches = ([to_device(inputs, device)] for *inputs, _ in train_loader)
    update_bn(batches, _TakesBatch(model, freq_aug))


def write_summary(path: Path, metrics: Metrics) -> None:
    """Write the figures as text."""
    with whole_file(path) as stream:
        stream.write(f"{metrics.summary()}\n")


def headline(metrics: Metrics) -> str:
    """EER and min t-DCF in a few words."""
    tdcf = "n/a" if metrics.min_tdcf is None else f"{metrics.min_tdcf:.5f}"
    return f"EER {100 * metrics.eer:.3f} %, min t-DCF {tdcf}"


def _board_figures(name: str, metrics: Metrics) -> dict[str, float]:
    figures = {f"EER_percent/{name}": 100 * metrics.eer}
    if metrics.min_tdcf is not None:
        figures[f"min_tDCF/{name}"] = metrics.min_tdcf
    return figures


def _write_board(board: SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    for name, value in figures.items():
        board.add_scalar(name, value, epoch)
    board.flush()


def _bar(loader: Loader, what: str) -> "tqdm[Any]":
    """A progress bar in utterances; silent where stderr is not a terminal."""
    total = len(loader.dataset)  # type: ignore[arg-type]
    return tqdm(total=total, desc=what, unit="utt", leave=False, disable=None, mininterval=0.5)


def _show(bar: "tqdm[Any]", utterances: int, meter: LossMeter) -> None:
    bar.update(utterances)
    now = time.monotonic()
    if not bar.disable and now - getattr(bar, "last_reading", 0.0) > SECONDS_BETWEEN_READINGS:
        bar.last_reading = now
        bar.set_postfix_str(f"loss {meter.loss():.4f}", refresh=False)
