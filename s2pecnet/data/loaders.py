"""Loaders: batches of a split, in an order that is a function of the seed and the epoch alone."""

import os
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from s2pecnet.augment.chain import Augmentation
from s2pecnet.corpora.trials import Split
from s2pecnet.data.cache import AudioCache, check_headers, read_headers
from s2pecnet.data.datasets import (
    CROP_OF_AASIST,
    LARGEST_SHARE,
    Dataset_ASVspoof2019_devNeval,
    Dataset_ASVspoof2019_train,
    Draw,
    SkipList,
)
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.data.workers import PATIENCE, end_with_python, start_worker, workers_that_fit
from s2pecnet.errors import InputError
from s2pecnet.parallel import check_divisible, processes
from s2pecnet.runtime import usable_cores
from s2pecnet.systems.inputs import Inputs


class SeededShuffle(Sampler[Draw]):
    """A new permutation an epoch, each item with the seed of its own draws; all of it a function of (seed, epoch).

    Args:
        batch_size, micro_batch_size: where several processes share a batch, each takes its part of every micro-batch.
    """

    def __init__(self, data: Sized, seed: int, batch_size: int = 1, micro_batch_size: int | None = None):
        self.size, self.seed = len(data), seed
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size or batch_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of `epoch` without its first `skip` items; the passes after it are complete."""
        self.epoch, self.skip = epoch, skip

    def order(self, epoch: int) -> np.ndarray:
        """Items of an epoch, (n,), in their order."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)

    def pending(self) -> np.ndarray:
        """The items of the next pass that this process takes, in their order."""
        items, group = self.order(self.epoch)[self.skip :], processes()
        if group.size == 1:
            return items
        batches = items[: len(items) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)
        parts = np.split(batches, range(self.micro_batch_size, self.batch_size, self.micro_batch_size), axis=1)
        return np.concatenate([part[:, group.share(part.shape[1])] for part in parts], axis=1).ravel()

    def __len__(self) -> int:
        size = processes().size
        return self.size if size == 1 else self.size // self.batch_size * (self.batch_size // size)

    def __iter__(self) -> Iterator[Draw]:
        epoch, items = self.epoch, self.pending()
        self.set_epoch(epoch + 1)
        for index in items.tolist():
            yield Draw(index, (self.seed, epoch, index))


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
) -> DataLoader[Any]:
    """The loader of a split: random crops in a new order every epoch for train, first samples in order otherwise.

    Its batches depend on `seed` and the epoch alone, not on the number of workers, nor on a cache. Where several
    processes share a training, each has its part of every batch of train, and every so manieth batch of dev and eval.

    Args:
        inputs: makes the model's inputs of a waveform.
        num_workers: None: as many as cores, at most 8, where there is a CUDA device to feed; none otherwise.
        prefetch: batches that each worker has ready ahead.
        cache_dir: where headers of the audio are kept for the next run; None: nowhere.
        audio_cache: keep the decoded samples there too.
        skip_list: where to list files that cannot be used, which are then left out; None: they are errors.
        augmentation, random_crop: what training hears of an utterance; of train alone.
        micro_batch_size: what processes that share a batch share at once.

    Raises:
        InputError: the protocol is malformed, audio is missing, train has less than one batch, or the shared memory is
            too small for the loading processes.
    """
    trials, audio = split.trials, AudioFolder.of(split)
    headers = read_headers(audio, trials, cache_dir)
    skipped = None if skip_list is None else SkipList(skip_list, len(trials))
    check_headers(audio, trials, headers, tolerated=0.0 if skipped is None else LARGEST_SHARE)
    if split.name == "train" and len(trials) < batch_size:
        raise InputError(f"{split.protocol}: {len(trials)} trials are less than one batch (batch_size {batch_size})")
    if audio_cache and cache_dir is not None:
        audio = AudioCache(audio, trials, headers, cache_dir)
    audio.headers = headers
    cuda = torch.cuda.is_available()
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = num_workers if num_workers is not None else min(8, max(1, cores)) if cuda else 0
    if workers:
        of_one = sum(tensor.nbytes for tensor in inputs(np.ones(inputs.samples, dtype=np.float32)))
        end_with_python()
        workers = workers_that_fit(workers, prefetch, batch_size * of_one, chosen=num_workers is not None)
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
        scored = Dataset_ASVspoof2019_devNeval(names, split.audio, inputs, audio, skipped)
        return DataLoader(scored, sampler=None if size == 1 else OwnBatches(scored, batch_size), **options)
    check_divisible(batch_size, micro_batch_size)
    data = Dataset_ASVspoof2019_train(
        names, trials.is_bonafide, split.audio, inputs, audio, skipped, augmentation, random_crop
    )
    sampler = SeededShuffle(data, seed, batch_size, micro_batch_size)
    return DataLoader(data, sampler=sampler, drop_last=True, **options | {"batch_size": batch_size // size})
