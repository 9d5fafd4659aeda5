"""Loaders: batches of a split, in an order that is a function of the seed and the epoch alone."""

import logging
import os
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from s2pecnet.augment.chain import Augmentation
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.corpora.trials import Split
from s2pecnet.data.cache import check_headers, read_headers, with_cache
from s2pecnet.data.datasets import (
    CROP_OF_AASIST,
    LARGEST_SHARE,
    Dataset_ASVspoof2019_devNeval,
    Dataset_ASVspoof2019_train,
    Draw,
    SkipList,
    joined_windows,
)
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.data.workers import PATIENCE, end_with_python, start_worker, workers_that_fit
from s2pecnet.errors import InputError
from s2pecnet.parallel import check_divisible, processes
from s2pecnet.runtime import usable_cores
from s2pecnet.systems.inputs import Inputs

log = logging.getLogger(__name__)


class SeededShuffle(Sampler[Draw]):
    """A new permutation an epoch, each item with the seed of its own draws; all of it a function of (seed, epoch).

    Args:
        batch_size, micro_batch_size: where several processes share a batch, each takes its part of every micro-batch.
        weights: (number of items, weight) of each corpus in the order of the items. Weight 2 takes each of them twice
            an epoch, 0.5 a random half of them, 2.5 both; without weights each is taken once.

    Attributes:
        total: items of an epoch, of all processes.
    """

    def __init__(
        self,
        data: Sized,
        seed: int,
        batch_size: int = 1,
        micro_batch_size: int | None = None,
        weights: Sequence[tuple[int, float]] = (),
    ):
        self.items, self.seed = len(data), seed
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size or batch_size
        self.weights = weights or ((self.items, 1.0),)
        self.total = sum(taken(count, weight) for count, weight in self.weights)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of `epoch` without its first `skip` items; the passes after it are complete."""
        self.epoch, self.skip = epoch, skip

    def order(self, epoch: int) -> np.ndarray:
        """Items of an epoch, (n,), in their order."""
        return self._draws(epoch) % self.items

    def pending(self) -> np.ndarray:
        """The items of the next pass that this process takes, in their order."""
        return self._pending() % self.items

    def _draws(self, epoch: int) -> np.ndarray:
        """The same with how often each was taken before: item + items * times."""
        rng, begin, draws = np.random.default_rng([self.seed, epoch]), 0, list[np.ndarray]()
        for count, weight in self.weights:
            own, times = np.arange(begin, begin + count), int(weight)
            draws += [own + self.items * time for time in range(times)]
            rest = taken(count, weight) - times * count
            if rest:
                draws.append(rng.permutation(own)[:rest] + self.items * times)
            begin += count
        # Where each is taken once, this is the permutation of a single corpus.
        return rng.permutation(np.concatenate(draws))

    def _pending(self) -> np.ndarray:
        items, group = self._draws(self.epoch)[self.skip :], processes()
        if group.size == 1:
            return items
        batches = items[: len(items) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)
        parts = np.split(batches, range(self.micro_batch_size, self.batch_size, self.micro_batch_size), axis=1)
        return np.concatenate([part[:, group.share(part.shape[1])] for part in parts], axis=1).ravel()

    def __len__(self) -> int:
        size = processes().size
        return self.total if size == 1 else self.total // self.batch_size * (self.batch_size // size)

    def __iter__(self) -> Iterator[Draw]:
        epoch, draws = self.epoch, self._pending()
        self.set_epoch(epoch + 1)
        for draw in draws.tolist():
            times, index = divmod(draw, self.items)
            # Taken again it is cropped and augmented in another way; the 0 is no number of a step of `augment`.
            yield Draw(index, (self.seed, epoch, index, *((0, times) if times else ())))


def taken(count: int, weight: float) -> int:
    """How many utterances an epoch takes of a corpus that has `count` of them.

    >>> taken(10, 1), taken(10, 2.5), taken(10, 0.25)
    (10, 25, 2)
    """
    return int(weight) * count + round((weight - int(weight)) * count)


class OwnBatches(Sampler[int]):
    """Of the batches of a split in its order, every one of which this process scores: the first, W-th, 2 W-th ..."""

    def __init__(self, data: Sized, batch_size: int):
        starts = range(processes().rank * batch_size, len(data), processes().size * batch_size)
        blocks = [np.arange(start, min(start + batch_size, len(data))) for start in starts]
        self.positions = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int64)

    def pending(self) -> np.ndarray:
        """The items of a pass, in their order."""
        return self.positions

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions.tolist())


def make_loader(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    inputs: Inputs = CROP_OF_AASIST,
    num_workers: int | None = None,
    prefetch: int = 2,
    cache_dir: Path | None = None,
    audio_cache: bool = False,
    skip_list: Path | None = None,
    augmentation: Augmentation | None = None,
    random_crop: bool = True,
    micro_batch_size: int | None = None,
    windows: bool = False,
) -> DataLoader[Any]:
    """The loader of a split: random crops in a new order every epoch for train; first samples in order otherwise.

    Its batches depend on `seed` and the epoch alone, not on the number of workers, nor on a cache. Where several
    processes share a training, each has its part of every batch of train, and every n-th batch of dev and eval.

    Args:
        inputs: makes the model's inputs of a waveform.
        num_workers: None: as many as cores, at most 8, where there is a CUDA device to feed; none otherwise.
        prefetch: batches that each worker has ready ahead.
        cache_dir: where headers of the audio are kept for the next run; None: nowhere.
        audio_cache: keep the decoded samples there too.
        skip_list: where to list files that cannot be used, which are then left out; None: they are errors.
        augmentation, random_crop: what training hears of an utterance; of train alone.
        micro_batch_size: what processes that share a batch share at once.
        windows: dev and eval give windows of complete utterances, see `Dataset_ASVspoof2019_devNeval`.

    Raises:
        InputError: the protocol is malformed, audio is missing, train has less than one batch, or the shared memory is
            too small for the loading processes.
    """
    trials, audio = split.trials, AudioFolder.of(split)
    headers = read_headers(audio, trials, cache_dir)
    skipped = None if skip_list is None else SkipList(skip_list, len(trials))
    check_headers(audio, trials, headers, tolerated=0.0 if skipped is None else LARGEST_SHARE)
    weights = _weights(split)
    count = sum(taken(*one) for one in weights) if weights else len(trials)
    if split.name == "train" and count < batch_size:
        raise InputError(f"{split.protocol}: {count} trials are less than one batch (batch_size {batch_size})")
    if audio_cache and cache_dir is not None:
        audio = with_cache(audio, trials, headers, cache_dir)
    audio.headers = headers
    cuda = torch.cuda.is_available()
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = num_workers if num_workers is not None else min(8, max(1, cores)) if cuda else 0
    if workers:
        of_one = sum(tensor.nbytes for tensor in inputs(np.ones(inputs.samples, dtype=np.float32)))
        rows = _most_windows(headers, batch_size, inputs) if windows and split.name != "train" else batch_size
        end_with_python()
        workers = workers_that_fit(workers, prefetch, rows * of_one, chosen=num_workers is not None)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "num_workers": workers,
        "prefetch_factor": prefetch if workers else None,
        "pin_memory": cuda,
        "persistent_workers": workers > 0,
        "worker_init_fn": start_worker,
        "timeout": PATIENCE if workers else 0,
        # The loader draws a seed for its workers every epoch; not from the generator that the model draws from.
        "generator": torch.Generator().manual_seed(seed),
    }
    names, size = trials.utterance, processes().size
    if split.name != "train":
        scored = Dataset_ASVspoof2019_devNeval(names, split.audio, inputs, audio, skipped, windows)
        options["collate_fn"] = joined_windows if windows else None
        return DataLoader(scored, sampler=None if size == 1 else OwnBatches(scored, batch_size), **options)
    check_divisible(batch_size, micro_batch_size)
    data = Dataset_ASVspoof2019_train(
        names, trials.is_bonafide, split.audio, inputs, audio, skipped, augmentation, random_crop
    )
    sampler = SeededShuffle(data, seed, batch_size, micro_batch_size, weights)
    return DataLoader(data, sampler=sampler, drop_last=True, **options | {"batch_size": batch_size // size})


def _most_windows(headers: np.ndarray, batch_size: int, inputs: Inputs) -> int:
    """How many windows the largest batch of a split has."""
    lengths = headers["frames"] * (SAMPLE_RATE / np.maximum(1, headers["rate"]))
    counts = 1 + np.ceil(np.maximum(0, lengths - inputs.samples) / inputs.hop)
    return int(max(counts[start : start + batch_size].sum() for start in range(0, len(counts), batch_size)))


def _weights(split: Split) -> list[tuple[int, float]]:
    """Of several corpora how many trials each has, and its weight, which counts in training alone; logged.

    Raises:
        InputError: a weight is so small that none would be taken.
    """
    parts, words = split.filled(), []
    for name, own, weight in parts:
        count, often = len(own.trials), 1.0 if split.name != "train" else weight
        if not taken(count, often):
            raise InputError(f"database_path: weight {weight:g} of {name} takes none of its {count} training trials")
        words.append(f"{'' if often == 1 else f'{taken(count, often):,} an epoch of '}{count:,} of {name}")
    if parts:
        log.info("%s: %s", split.name, ", ".join(words))
    return [(len(own.trials), weight) for _, own, weight in parts] if split.name == "train" else []
