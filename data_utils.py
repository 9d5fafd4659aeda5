"""Datasets and loaders: crops of utterances with their labels, batch by batch.

Conventions: waveforms are float32, mono, 16 kHz, in [-1, 1]; label 1 = bona fide, 0 = spoof. An item is
(waveform[, feature], label) in training and (waveform[, feature], utterance) otherwise, where the feature is the second
input that some systems ask for, computed on the whole utterance before the waveform is cropped.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from audio import AudioFolder, BadAudio, cropped
from audio_cache import AudioCache, read_headers, require_audio
from errors import InputError
from features import FixedFrames
from protocols import Protocol, Split, Utterances, read_protocol
from skipped_audio import LARGEST_SHARE, SkippedAudio
from utils import seed_worker

CROP = 64600


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


def pad(x: np.ndarray, max_len: int = CROP) -> np.ndarray:
    """The first `max_len` samples of (samples,), tiled where it is shorter.

    >>> pad(np.arange(3), 7)
    array([0, 1, 2, 0, 1, 2, 0])
    """
    if len(x) >= max_len:
        return x[:max_len]
    return np.tile(x, math.ceil(max_len / len(x)))[:max_len]


def pad_random(x: np.ndarray, max_len: int = CROP, rng: np.random.Generator | None = None) -> np.ndarray:
    """A random crop of `max_len` samples of (samples,), tiled where it is shorter.

    Args:
        rng: draws the start; without it numpy's global generator does.
    """
    spare = len(x) - max_len
    if spare <= 0:
        return pad(x, max_len)
    start = int(rng.integers(spare + 1)) if rng is not None else np.random.randint(spare + 1)
    return x[start : start + max_len]


class Draw(NamedTuple):
    """An index with the seed of its random crop, so that a crop does not depend on which worker makes it."""

    item: int
    seed: tuple[int, ...]


class SeededShuffle(Sampler[Draw]):
    """A new permutation an epoch, each item with the seed of its own draws; all of it a function of (seed, epoch)."""

    def __init__(self, data: Sized, seed: int):
        self.size, self.seed = len(data), seed
        self.go_to(0)

    def go_to(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of `epoch` without its first `skip` items; the passes after it are whole."""
        self.epoch, self.skip = epoch, skip

    def order(self, epoch: int) -> np.ndarray:
        """Items of an epoch, (n,), in their order."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        epoch, skip = self.epoch, self.skip
        self.go_to(epoch + 1)
        for index in self.order(epoch)[skip:].tolist():
            yield Draw(index, (self.seed, epoch, index))


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


def usable_cores() -> int:
    """Cores that this process may run on, which a scheduler may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_loader(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    cut: int = CROP,
    feature: FixedFrames | None = None,
    num_workers: int | None = None,
    prefetch: int = 2,
    cache_dir: Path | None = None,
    audio_cache: bool = False,
    skip_list: Path | None = None,
) -> DataLoader[Any]:
    """The loader of a split: random crops in a new order every epoch for train, first samples in order otherwise.

    What it gives depends on `seed` and the epoch alone, not on the number of workers, nor on a cache.

    Args:
        num_workers: None: as many as cores, at most 8, where there is a CUDA device to feed; none otherwise.
        prefetch: batches that each worker has ready ahead.
        cache_dir: where what is known of the audio is kept for the next run; None: nowhere.
        audio_cache: keep the decoded samples there too.
        skip_list: where to list files that cannot be used, which are then left out; None: they are errors.

    Raises:
        InputError: the protocol is malformed, audio is missing, or train has less than one batch.
    """
    protocol = split.trials.read()
    utterances = Utterances(protocol)
    audio = AudioFolder(split.audio, utterances, split.files)
    headers = read_headers(audio, protocol, cache_dir)
    skipped = None if skip_list is None else SkippedAudio(skip_list, len(protocol))
    require_audio(audio, protocol, headers, tolerated=0.0 if skipped is None else LARGEST_SHARE)
    if split.name == "train" and len(protocol) < batch_size:
        raise InputError(f"{split.protocol}: {len(protocol)} trials are less than one batch (batch_size {batch_size})")
    if audio_cache and cache_dir is not None:
        audio = AudioCache.of(audio, protocol, headers, cache_dir)
    options = _loader_options(batch_size, seed, num_workers, prefetch)
    if split.name != "train":
        return DataLoader(
            Dataset_ASVspoof2019_devNeval(utterances, split.audio, cut, feature, audio, skipped), **options
        )
    labels = {trial.utterance: trial.label for trial in protocol}
    data = Dataset_ASVspoof2019_train(utterances, labels, split.audio, cut, feature, audio, skipped)
    return DataLoader(data, sampler=SeededShuffle(data, seed), drop_last=True, **options)


def trials_of(loader: DataLoader[Any]) -> Protocol:
    """The trials that a loader of `make_loader` goes through."""
    utterances = loader.dataset.list_IDs  # type: ignore[attr-defined]
    assert isinstance(utterances, Utterances)
    return utterances.protocol


def _loader_options(batch_size: int, seed: int, num_workers: int | None, prefetch: int) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    workers = num_workers if num_workers is not None else min(8, usable_cores()) if cuda else 0
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "prefetch_factor": prefetch if workers else None,
        "pin_memory": cuda,
        "persistent_workers": workers > 0,
        "worker_init_fn": seed_worker,
        # The loader draws a seed for its workers every epoch; not from the generator that the model draws from.
        "generator": torch.Generator().manual_seed(seed),
    }
