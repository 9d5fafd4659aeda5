"""Datasets and loaders: crops of utterances with their labels, batch by batch.

Conventions: waveforms are float32, mono, 16 kHz, in [-1, 1]; label 1 = bona fide, 0 = spoof. An item is
(waveform[, feature], label) in training and (waveform[, feature], utterance) otherwise, where the feature is the second
input that some systems ask for, computed on the whole utterance before the waveform is cropped.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from s2pecnet.audio.crops import cropped, pad
from s2pecnet.audio.decoding import BadAudio
from s2pecnet.conventions import CROP
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import Utterances
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError
from s2pecnet.features import FixedFrames


def genSpoof_list(dir_meta: str | Path, is_train: bool = False, is_eval: bool = False) -> Any:
    """Labels and utterances of a protocol.

    Returns:
        (labels by utterance, utterances) for training and development; the utterances alone when `is_eval`.
    """
    protocol = read_protocol(dir_meta)
    if is_eval and not is_train:
        return list(Utterances(protocol))
    labels = {trial.utterance: trial.label for trial in protocol}
    return labels, list(labels)


class Draw(NamedTuple):
    """An index with the seed of its random crop, so that a crop does not depend on which worker makes it."""

    item: int
    seed: tuple[int, ...]


# A corpus with more bad files than this needs mending, not skipping.
LARGEST_SHARE = 0.01


class SkippedAudio:
    """The list of a split's trials whose audio cannot be used.

    Args:
        path: the file; it appears with the first such trial.
        trials: how many trials the split has.
    """

    def __init__(self, path: Path, trials: int):
        self.path, self.trials = path, trials

    def add(self, utterance: str, why: BadAudio) -> None:
        """Note a trial.

        Raises:
            InputError: more than one in a hundred have been noted.
        """
        if utterance in self:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write of one line at the file's end: processes that do so at once do not mix their lines.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{utterance}\t{why}\n".encode())
        finally:
            os.close(descriptor)
        count = len(self._names())
        if count > LARGEST_SHARE * self.trials:
            raise InputError(
                f"{self.path}: {count} of {self.trials} files cannot be used, more than {LARGEST_SHARE:.0%}; mend the "
                f"corpus (the last: {why})"
            )

    def __contains__(self, utterance: str) -> bool:
        return utterance in self._names()

    def _names(self) -> set[str]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return set()
        return {line.partition("\t")[0] for line in lines}


class _Utterances(Dataset[tuple[Any, ...]]):
    """What both datasets share: where the waveforms come from, and what happens where one is bad."""

    def __init__(
        self,
        list_IDs: Sequence[str],
        base_dir: str | Path,
        cut: int,
        feature: FixedFrames | None,
        audio: AudioFolder | None,
        skipped: SkippedAudio | None,
    ):
        self.list_IDs, self.base_dir = list_IDs, Path(base_dir)
        self.cut, self.feature = cut, feature
        self.audio = audio or AudioFolder(base_dir, list_IDs)
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.list_IDs)

    def _note_bad(self, index: int, why: BadAudio) -> None:
        """List a trial whose audio cannot be used, or raise what is wrong with it."""
        if self.skipped is None:
            raise why
        self.skipped.add(self.list_IDs[index], why)

    def _inputs(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """(waveform (cut,)[, feature (bins, frames)]): random crops with `rng`, the first samples without."""

        def start(spare: int) -> int:
            return 0 if rng is None else int(rng.integers(spare + 1))

        if self.feature is None:
            return (_as_tensor(pad(self.audio.crop(index, self.cut, start), self.cut)),)
        waveform = self.audio.whole(index)
        crop = _as_tensor(pad(cropped(waveform, self.cut, start), self.cut))
        return crop, _whole_utterance(self.feature, waveform, rng)


class Dataset_ASVspoof2019_train(_Utterances):
    """Random crops for training: items (waveform (cut,)[, feature (bins, frames)], label).

    Args:
        list_IDs: utterances.
        labels: label by utterance.
        base_dir: folder that holds flac/.
        cut: samples of a crop.
        feature: computes the second input from the whole utterance; its crop is drawn independently.
        audio: gives the waveforms of `list_IDs`; None: the files of `base_dir`.
        skipped: lists bad audio, whose place the next utterance takes; None: bad audio is an error.
    """

    def __init__(
        self,
        list_IDs: Sequence[str],
        labels: Mapping[str, int],
        base_dir: str | Path,
        cut: int = CROP,
        feature: FixedFrames | None = None,
        audio: AudioFolder | None = None,
        skipped: SkippedAudio | None = None,
    ):
        super().__init__(list_IDs, base_dir, cut, feature, audio, skipped)
        self.labels = labels

    def __getitem__(self, draw: int | Draw) -> tuple[Any, ...]:
        index, seed = draw if isinstance(draw, Draw) else (draw, (np.random.randint(2**31),))
        try:
            return *self._inputs(index, np.random.default_rng(seed)), self.labels[self.list_IDs[index]]
        except BadAudio as why:
            self._note_bad(index, why)
        return self[Draw((index + 1) % len(self), seed)]


class Dataset_ASVspoof2019_devNeval(_Utterances):
    """First samples of each utterance for scoring: items (waveform (cut,)[, feature (bins, frames)], utterance).

    Args:
        skipped: lists bad audio, in whose place stands NaN, so that its score is NaN too; None: bad audio is an error.
    """

    def __init__(
        self,
        list_IDs: Sequence[str],
        base_dir: str | Path,
        cut: int = CROP,
        feature: FixedFrames | None = None,
        audio: AudioFolder | None = None,
        skipped: SkippedAudio | None = None,
    ):
        super().__init__(list_IDs, base_dir, cut, feature, audio, skipped)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            return *self._inputs(index, None), self.list_IDs[index]
        except BadAudio as why:
            self._note_bad(index, why)
        nothing = torch.full((self.cut,), math.nan)
        if self.feature is None:
            return nothing, self.list_IDs[index]
        return nothing, torch.full((self.feature.bins, self.feature.frames), math.nan), self.list_IDs[index]


def _as_tensor(waveform: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(waveform))


@torch.no_grad()
def _whole_utterance(feature: FixedFrames, waveform: np.ndarray, rng: np.random.Generator | None) -> Tensor:
    computed: Tensor = feature(torch.from_numpy(np.ascontiguousarray(waveform)), rng=rng)
    return computed
