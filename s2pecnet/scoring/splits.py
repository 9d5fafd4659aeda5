"""Score files: every trial of a split scored in the protocol's order, a line each, and the figures of such a file.

A split is streamed: neither its protocol nor its scores are held in memory while it is scored.
"""

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from s2pecnet.conventions import UNSCORED
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import Protocol, Split, Trial
from s2pecnet.data.loaders import trials_of
from s2pecnet.errors import InputError
from s2pecnet.files import whole_file
from s2pecnet.interruption import leave_if_asked
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.score_files.cm_asv import ASVScores, read_cm_scores
from s2pecnet.systems.scorer import Scorer

Loader = DataLoader[Any]


def score_batches(data_loader: Loader, scorer: Scorer) -> Iterator[tuple[list[str], list[float]]]:
    """Score a loader's batches (waveforms[, features], utterances), in its order.

    Yields:
        utterances and scores of a batch; a score is the logit of bona fide as it stands: higher = bona fide.
    """
    with progress_bar(data_loader, "score") as bar:
        for *inputs, utterances in data_loader:
            yield list(utterances), scorer(*inputs).tolist()
            leave_if_asked("scoring was not finished")
            bar.update(len(utterances))


def produce_evaluation_file(
    data_loader: Loader,
    model: nn.Module | Scorer,
    device: torch.device,
    save_path: str | Path,
    trial_path: str | Path | Protocol,
) -> None:
    """Score every trial of a protocol and write the score file, "utterance attack key score" a line.

    The file appears when the last trial is scored. A trial whose audio could not be used (`on_bad_audio: skip`) has
    the word "unscored" for its score.

    Args:
        data_loader: gives the trials in the order of the protocol.
        model: the system, or a `Scorer` of it (then `device` is that one's).
        trial_path: the protocol, read or as a file in the layout of ASVspoof2019.

    Raises:
        InputError: the loader and the protocol name different utterances, or a score is not finite.
    """
    scorer = model if isinstance(model, Scorer) else Scorer(model, device)
    protocol = trial_path if isinstance(trial_path, Protocol) else read_protocol(trial_path)
    trials, skipped = iter(protocol), getattr(data_loader.dataset, "skipped", None) or ()
    with whole_file(save_path) as stream:
        for utterances, scores in score_batches(data_loader, scorer):
            for utterance, score in zip(utterances, scores, strict=True):
                trial = _require_trial(utterance, next(trials, None), protocol.path)
                stream.write(f"{utterance} {trial.attack} {trial.key} {_score_text(utterance, score, skipped)}\n")
        forgotten = next(trials, None)
        if forgotten is not None:
            raise InputError(
                f"{protocol.path}:{forgotten.line}: {forgotten.utterance!r} was not scored; is it the protocol of "
                "another split?"
            )


def _require_trial(utterance: str, trial: Trial | None, trial_path: Path) -> Trial:
    if trial is None or trial.utterance != utterance:
        named = f":{trial.line}: names {trial.utterance!r}" if trial else ": has no more trials"
        raise InputError(
            f"{trial_path}{named} where {utterance!r} was scored; is it the protocol of another split, or is the "
            "loader not in its order?"
        )
    return trial


def _score_text(utterance: str, score: float, skipped: Container[str]) -> str:
    if math.isfinite(score):
        # Nine digits give a float32 back exactly.
        return f"{score:.9g}"
    if utterance in skipped:
        return UNSCORED
    raise InputError(f"the score of {utterance} is {score}; the weights or the audio are broken")


@dataclass(frozen=True)
class ScoredSplit:
    """A split to be scored: its loader, its protocol and its ASV scores (None: EER only)."""

    split: Split
    loader: Loader
    asv: ASVScores | None

    def evaluate(self, scorer: Scorer, score_file: Path) -> Metrics:
        """Score the split into `score_file` and compute the figures from that file."""
        produce_evaluation_file(self.loader, scorer, scorer.device, score_file, trials_of(self.loader))
        return evaluate(read_cm_scores(score_file), self.asv)


def write_summary(path: Path, metrics: Metrics) -> None:
    """Write the figures as text."""
    with whole_file(path) as stream:
        stream.write(f"{metrics.summary()}\n")


def headline(metrics: Metrics) -> str:
    """EER and min t-DCF in a few words."""
    tdcf = "n/a" if metrics.min_tdcf is None else f"{metrics.min_tdcf:.5f}"
    return f"EER {100 * metrics.eer:.3f} %, min t-DCF {tdcf}"


def progress_bar(loader: Loader, what: str) -> "tqdm[Any]":
    """A progress bar in utterances; silent where stderr is not a terminal."""
    total = len(loader.dataset)  # type: ignore[arg-type]
    return tqdm(total=total, desc=what, unit="utt", leave=False, disable=None, mininterval=0.5)
