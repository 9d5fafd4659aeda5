"""Splits to scores: every trial scored in the protocol's order, in memory and as a score file.

A score file has "utterance attack key score" a line; a score is the logit of bona fide: higher = bona fide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from s2pecnet.conventions import KEYS, UNSCORED
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import Trials
from s2pecnet.data.workers import batches
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.interruption import raise_if_stop_requested
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.parallel import gathered
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, Floats
from s2pecnet.systems.scorer import Scorer, mean_logits
from s2pecnet.text import listed

Loader = DataLoader[Any]


class Evaluation(NamedTuple):
    """Scores of a split, and their metrics.

    Attributes:
        values: a score a trial of the split, NaN where its audio could not be used; empty if read from a file.
        loss: what the given loss makes of the split; None: none was given.
    """

    scores: CMScores
    metrics: Metrics
    values: Floats = np.zeros(0)
    loss: float | None = None


@dataclass(frozen=True)
class ScoredSplit:
    """A split to be scored: its trials, their loader and ASV scores (None: no t-DCF).

    Attributes:
        corpora: of a split of several corpora, their names.
    """

    name: str
    trials: Trials
    loader: Loader
    asv: ASVScores | None
    corpora: tuple[str, ...] = ()

    def evaluate(
        self,
        scorer: Scorer,
        score_file: Path | None = None,
        loss: Callable[[Tensor, Tensor], float] | None = None,
    ) -> Evaluation:
        """Score the split and compute its metrics.

        Args:
            score_file: where to write the scores; None: nowhere.
            loss: logits (n, 2) and labels (n,) to the mean loss; None: it is not computed.
        """
        logits: list[Tensor] | None = None if loss is None else []
        scores = score_split(self.loader, scorer, self.trials, logits)
        if score_file is not None:
            write_score_file(score_file, self.trials, scores)
        cm = as_cm_scores(self.trials, scores)
        mean_loss = None
        if loss is not None and logits is not None:
            scored = torch.from_numpy(~np.isnan(scores))
            labels = torch.from_numpy(self.trials.is_bonafide.astype(np.int64))
            mean_loss = loss(torch.cat(logits)[scored], labels[scored])
        return Evaluation(cm, evaluate(cm, self.asv, corpora=self.corpora), scores, mean_loss)


def produce_evaluation_file(
    data_loader: Loader,
    model: nn.Module | Scorer,
    device: torch.device,
    save_path: str | Path,
    trial_path: str | Path | Trials,
) -> None:
    """Score every trial of a protocol and write the score file.

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
    trials = trial_path if isinstance(trial_path, Trials) else read_protocol(trial_path)
    write_score_file(save_path, trials, score_split(data_loader, scorer, trials))


def score_split(loader: Loader, scorer: Scorer, trials: Trials, logits: list[Tensor] | None = None) -> Floats:
    """Scores (n,) of a protocol's trials, in their order; NaN where the audio could not be used.

    The score of an utterance that the loader gives as windows is the mean of theirs. Scores have the nine digits of a
    score file, which give a float32 back exactly.

    Args:
        logits: takes the logits (B, 2) of each batch; None: they are not kept.

    Raises:
        InputError: the loader and the protocol name different utterances, or a score is not finite.
    """
    # Of several processes each scores a part of the batches.
    own = getattr(getattr(loader, "sampler", None), "positions", None)
    scores, count = np.full(len(trials), np.nan), 0
    with progress_bar(loader, "score") as bar:
        for *inputs, names in batches(loader):
            utterances, found, usable = mean_logits(scorer, inputs, names, getattr(loader, "batch_size", None))
            if logits is not None:
                logits.append(found.float())
            for utterance, score, is_usable in zip(utterances, found[:, 1].tolist(), usable.tolist(), strict=True):
                index = count if own is None else int(own[count])
                _check_trial(trials, index, utterance)
                if is_usable and not math.isfinite(score):
                    raise InputError(f"the score of {utterance} is {score}; the weights or the audio are broken")
                scores[index] = float(f"{score:.9g}") if is_usable else math.nan
                count += 1
            raise_if_stop_requested("scoring was not finished")
            bar.update(len(utterances))
    if own is not None:
        mine = torch.cat([torch.empty(0, 2), *(logits or [])])
        ordered = torch.empty(len(trials), 2)
        for positions, values, rows in gathered((own, scores[own], mine)):
            scores[positions] = values
            if logits is not None:
                ordered[torch.from_numpy(positions)] = rows
        if logits is not None:
            logits[:] = [ordered]
        return scores
    if count < len(trials):
        raise InputError(
            f"{trials.location(count) or trials.path}: {trials.utterance[count]!r} was not scored; is it the protocol "
            "of another split?"
        )
    return scores


def write_score_file(path: str | Path, trials: Trials, scores: Floats) -> None:
    """Write the scores (n,) of trials; NaN becomes "unscored".

    Raises:
        OSError: the file cannot be written.
    """
    rows = zip(trials.utterance, trials.attack, trials.is_bonafide, scores, strict=True)
    with atomic_write(path) as stream:
        for utterance, attack, is_bonafide, score in rows:
            text = UNSCORED if math.isnan(score) else f"{score:.9g}"
            stream.write(f"{utterance} {attack} {KEYS[0] if is_bonafide else KEYS[1]} {text}\n")


def as_cm_scores(trials: Trials, scores: Floats, both_classes: bool = True) -> CMScores:
    """The scored trials, as `read_cm_scores` reads them from the file.

    Args:
        both_classes: as in `read_cm_scores`.

    Raises:
        InputError: no trial has a score, or none of a class (see `both_classes`).
    """
    scored = ~np.isnan(scores)
    if not scored.any():
        raise InputError(f"{trials.path}: no trial has a score")
    for key, rows in zip(KEYS, (trials.is_bonafide, ~trials.is_bonafide), strict=True):
        if both_classes and not (scored & rows).any():
            raise InputError(f"{trials.path}: no {key} trial has a score; metrics need both classes")
    return CMScores(
        utterances=np.char.decode(trials.utterance.encoded[scored], "utf-8"),
        attacks=np.array(trials.attack.words)[trials.attack.codes[scored]],
        is_bonafide=trials.is_bonafide[scored],
        scores=scores[scored],
        n_unscored=int(np.count_nonzero(~scored)),
    )


def write_summary(path: Path, metrics: Metrics) -> None:
    """Write the metrics as text."""
    with atomic_write(path) as stream:
        stream.write(f"{metrics.summary()}\n")


def headline(metrics: Metrics) -> str:
    """EER, also of each of several corpora, and min t-DCF in a few words."""
    tdcf = "n/a" if metrics.min_tdcf is None else f"{metrics.min_tdcf:.5f}"
    eers = [f"{name} {'n/a' if eer is None else f'{100 * eer:.3f}'}" for name, eer in metrics.per_corpus_eer.items()]
    return f"EER {100 * metrics.eer:.3f} %{f' ({listed(eers)})' if eers else ''}, min t-DCF {tdcf}"


def progress_bar(loader: Loader, what: str) -> "tqdm[Any]":
    """A progress bar in utterances; silent where stderr is not a terminal."""
    # An epoch of several corpora may take some utterances twice, and leave others out.
    total = getattr(getattr(loader, "sampler", None), "total", None) or len(loader.dataset)  # type: ignore[arg-type]
    return tqdm(total=total, desc=what, unit="utt", leave=False, disable=None, mininterval=0.5)


def _check_trial(trials: Trials, index: int, utterance: str) -> None:
    if index < len(trials) and trials.utterance[index] == utterance:
        return
    named = (
        f":{trials.line[index]}: names {trials.utterance[index]!r}" if index < len(trials) else ": has no more trials"
    )
    raise InputError(
        f"{trials.path}{named} where {utterance!r} was scored; is it the protocol of another split, or is the loader "
        "not in its order?"
    )
