"""The training loader: utterances a second from files to batches.

The corpus is made here: coloured noise in 16-bit FLAC of 1.4 to 5.4 s, 3.4 s on average as in LA, which compresses to
about 60 % as speech does. Its files are in the system's page cache when they are read: what is measured is decoding and
cropping, not the disk.
"""

import os
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.runs import CONFIGS, INPUTS, PROCESSOR, Workload
from benchmarks.timing import time_steps
from s2pecnet.audio.crops import pad_random
from s2pecnet.config.experiment import load_config
from s2pecnet.conventions import CROP, SAMPLE_RATE
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import Split
from s2pecnet.data.loaders import make_loader
from s2pecnet.features import FixedFrames
from s2pecnet.files import atomic_write
from s2pecnet.systems.build import inputs_of
from s2pecnet.systems.inputs import Inputs

SHORTEST_S, LONGEST_S = 1.4, 5.4
SEED = 2019


def measure(workload: Workload) -> dict[str, float]:
    """Utterances a second of an epoch (median), after a first one that starts the workers.

    Returns:
        that; `opening_s`, seconds to make the loader, in which the first of several processes makes the cache; and
        without workers, whose time is not seen here, processor time.
    """
    split = find_or_make_split(Path(workload.folder), "train", workload.trials, SHORTEST_S, LONGEST_S)
    inputs = Inputs(feature=inputs_of(load_config(CONFIGS / f"{INPUTS[workload.subject]}.conf")).feature)
    started = time.perf_counter()
    loader = make_training_loader(workload, split, inputs)
    opening = time.perf_counter() - started
    # A deque of length 0 goes through an epoch and keeps nothing.
    timed = time_steps(lambda: deque(loader, maxlen=0), workload.repeats, torch.device("cpu"))
    utterances = len(loader) * workload.batch
    figures = {"utterances_per_second": utterances / statistics.median(timed.seconds), "opening_s": opening}
    return figures if workload.workers else figures | {PROCESSOR: timed.processor_s / utterances}


def make_training_loader(workload: Workload, split: Split, inputs: Inputs) -> "DataLoader[Any]":
    """The loader of a way: ours, ours from a cache (cached), or files decoded completely (plain)."""
    if workload.way == "plain":
        return DataLoader(
            WholeFiles(split, inputs.feature),
            batch_size=workload.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workload.workers,
            persistent_workers=workload.workers > 0,
        )
    return make_loader(
        split,
        batch_size=workload.batch,
        seed=0,
        inputs=inputs,
        num_workers=workload.workers,
        cache_dir=Path(workload.folder) / "cache",
        audio_cache=workload.way == "cached",
    )


class WholeFiles(Dataset[tuple[Any, ...]]):
    """The straightforward dataset: every file decoded completely to float64, then a random crop of it."""

    def __init__(self, split: Split, feature: FixedFrames | None):
        self.folder, self.feature = split.audio / "flac", feature
        self.trials = [(trial.utterance, trial.label) for trial in read_protocol(split.protocol)]

    def __len__(self) -> int:
        return len(self.trials)

    @torch.no_grad()
    def __getitem__(self, index: int) -> tuple[Any, ...]:
        utterance, label = self.trials[index]
        samples, _ = soundfile.read(str(self.folder / f"{utterance}.flac"))
        crop = torch.Tensor(pad_random(samples, CROP))
        if self.feature is None:
            return crop, label
        feature: Tensor = self.feature(torch.Tensor(samples), rng=np.random.default_rng(index))
        return crop, feature, label


def find_or_make_split(
    folder: Path, subset: str, utterances: int, shortest_s: float, longest_s: float, links: int = 1
) -> Split:
    """A split of files of coloured noise, 16 kHz, 16-bit FLAC, made by the first who asks; its protocol comes last.

    Args:
        links: names of one file; where there are several, hard links.
    """
    split = find_split(folder / f"{subset}-{utterances}", "LA", subset, corpus="asvspoof2019")
    if split.protocol.is_file():
        return split
    rng, flac = np.random.default_rng(SEED), split.audio / "flac"
    flac.mkdir(parents=True, exist_ok=True)
    with atomic_write(split.protocol) as stream:
        for number in range(utterances):
            first = number - number % links
            source, name = (f"LA_{subset[0].upper()}_{one:07d}" for one in (first, number))
            path = flac / f"{name}.flac"
            if first < number:
                os.link(flac / f"{source}.flac", path)
            else:
                samples = int(rng.uniform(shortest_s, longest_s) * SAMPLE_RATE)
                noise = np.convolve(rng.normal(size=samples + 7), np.hanning(8), mode="valid")
                soundfile.write(path, 0.02 * noise, SAMPLE_RATE, subtype="PCM_16")
            stream.write(f"LA_0001 {name} - {'- bonafide' if number % 10 == 0 else 'A01 spoof'}\n")
    return split
