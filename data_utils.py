"""Protocols, audio and datasets in the layout of ASVspoof2019.

    <database>/ASVspoof2019_<track>_cm_protocols/ASVspoof2019.<track>.cm.{train.trn,dev.trl,eval.trl}.txt
    <database>/ASVspoof2019_<track>_{train,dev,eval}/flac/<utterance>.flac
    <database>/ASVspoof2019_<track>_asv_scores/ASVspoof2019.<track>.asv.{dev,eval}.gi.trl.scores.txt

Conventions: waveforms are float32, mono, 16 kHz, in [-1, 1]; label 1 = bona fide, 0 = spoof. An item is
(waveform[, feature], label) in training and (waveform[, feature], utterance) otherwise, where the feature is the second
input that some systems ask for, computed on the whole utterance before the waveform is cropped.
"""

import math
import os
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from errors import InputError
from features import SAMPLE_RATE, FixedFrames
from utils import seed_worker

SPLITS = ("train", "dev", "eval")
KEYS = ("bonafide", "spoof")
CROP = 64600


class Trial(NamedTuple):
    """One line of a countermeasure protocol; `attack` is "-" for bona fide speech."""

    speaker: str
    utterance: str
    attack: str
    key: str
    line: int

    @property
    def label(self) -> int:
        """1 for bona fide, 0 for spoof."""
        return int(self.key == "bonafide")


class Split(NamedTuple):
    """Where a split of a corpus lies."""

    name: str
    protocol: Path
    audio: Path
    asv_scores: Path


def find_split(database_path: str | Path, track: str, name: str) -> Split:
    """Paths of a split ("train", "dev" or "eval") of a corpus in the ASVspoof2019 layout."""
    root = Path(database_path)
    protocol = f"ASVspoof2019.{track}.cm.{name}.{'trn' if name == 'train' else 'trl'}.txt"
    return Split(
        name=name,
        protocol=root / f"ASVspoof2019_{track}_cm_protocols" / protocol,
        audio=root / f"ASVspoof2019_{track}_{name}",
        asv_scores=root / f"ASVspoof2019_{track}_asv_scores" / f"ASVspoof2019.{track}.asv.{name}.gi.trl.scores.txt",
    )


def read_protocol(path: str | Path) -> list[Trial]:
    """Trials of a protocol file, "speaker utterance environment attack key" a line.

    Raises:
        InputError: the file is missing, empty or not text, or a line has another number of columns, an unknown key or
            an utterance that an earlier line has; with file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such protocol; database_path is to be the folder that holds ASVspoof2019_<track>_cm_protocols"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected lines 'speaker utterance - attack key'") from None
    trials = [_parse_trial(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not trials:
        raise InputError(f"{path}: the protocol is empty")
    first_line: dict[str, int] = {}
    for trial in trials:
        earlier = first_line.setdefault(trial.utterance, trial.line)
        if earlier != trial.line:
            raise InputError(f"{path}:{trial.line}: utterance {trial.utterance!r} stands already on line {earlier}")
    return trials


def _parse_trial(path: Path, number: int, line: str) -> Trial:
    columns = line.split()
    if len(columns) != 5:
        raise InputError(
            f"{path}:{number}: got {len(columns)} columns, expected 5: 'speaker utterance environment attack key'"
        )
    speaker, utterance, _, attack, key = columns
    if key not in KEYS:
        raise InputError(f"{path}:{number}: key {key!r}, expected one of {', '.join(KEYS)}")
    if "/" in utterance or "\\" in utterance or utterance in (".", ".."):
        raise InputError(f"{path}:{number}: utterance {utterance!r} is to be a name, not a path")
    return Trial(speaker, utterance, attack, key, number)


def genSpoof_list(dir_meta: str | Path, is_train: bool = False, is_eval: bool = False) -> Any:
    """Labels and utterances of a protocol.

    Returns:
        (labels by utterance, utterances) for training and development; the utterances alone when `is_eval`.
    """
    trials = read_protocol(dir_meta)
    utterances = [trial.utterance for trial in trials]
    if is_eval and not is_train:
        return utterances
    return {trial.utterance: trial.label for trial in trials}, utterances


def require_audio(split: Split, trials: Sequence[Trial]) -> None:
    """Make sure that every trial has its file, before anything long starts.

    Raises:
        InputError: naming the folder, or the first missing files with their protocol lines.
    """
    folder = split.audio / "flac"
    try:
        present = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: no such folder, though {split.protocol} names {len(trials)} files in it") from None
    missing = [trial for trial in trials if f"{trial.utterance}.flac" not in present]
    if missing:
        first = ", ".join(f"{trial.utterance}.flac (line {trial.line})" for trial in missing[:3])
        more = ", ..." if len(missing) > 3 else ""
        raise InputError(
            f"{folder}: {len(missing)} of {len(trials)} files that {split.protocol} names are missing: {first}{more}"
        )


def read_audio(path: str | Path) -> np.ndarray:
    """Decode a file to float32 (samples,), mono (mean of the channels), 16 kHz.

    Raises:
        InputError: the file is missing, empty, corrupt, or holds NaN or infinity.
    """
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: {_why_unreadable(Path(path), error)}") from None
    if not len(samples):
        raise InputError(f"{path}: the file holds no samples")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise InputError(f"{path}: the file holds NaN or infinite samples")
    return mono if rate == SAMPLE_RATE else _resample(mono, rate)


def _why_unreadable(path: Path, error: Exception) -> str:
    if not path.exists():
        return "no such audio file"
    if path.is_file() and path.stat().st_size == 0:
        return "the audio file is empty"
    return f"cannot be decoded, it is corrupt or cut short ({str(error).rstrip('.')})"


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    # Imported here: corpora at 16 kHz, the usual case, start faster without it.
    from torchaudio.functional import resample

    return np.asarray(resample(torch.from_numpy(np.ascontiguousarray(samples)), rate, SAMPLE_RATE).numpy())


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
        self.size, self.seed, self.epoch = len(data), seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for index in np.random.default_rng([self.seed, epoch]).permutation(self.size).tolist():
            yield Draw(index, (self.seed, epoch, index))


class Dataset_ASVspoof2019_train(Dataset[tuple[Any, ...]]):
    """Random crops for training: items (waveform (cut,)[, feature (bins, frames)], label).

    Args:
        list_IDs: utterances.
        labels: label by utterance.
        base_dir: folder that holds flac/.
        cut: samples of a crop.
        feature: computes the second input from the whole utterance; its crop is drawn independently.
    """

    def __init__(
        self,
        list_IDs: Sequence[str],
        labels: dict[str, int],
        base_dir: str | Path,
        cut: int = CROP,
        feature: FixedFrames | None = None,
    ):
        self.list_IDs, self.labels, self.base_dir = list_IDs, labels, Path(base_dir)
        self.cut, self.feature = cut, feature

    def __len__(self) -> int:
        return len(self.list_IDs)

    def __getitem__(self, draw: int | Draw) -> tuple[Any, ...]:
        index, seed = draw if isinstance(draw, Draw) else (draw, (np.random.randint(2**31),))
        rng = np.random.default_rng(seed)
        utterance = self.list_IDs[index]
        waveform = read_audio(self.base_dir / "flac" / f"{utterance}.flac")
        crop = torch.from_numpy(np.ascontiguousarray(pad_random(waveform, self.cut, rng)))
        label = self.labels[utterance]
        if self.feature is None:
            return crop, label
        return crop, _whole_utterance(self.feature, waveform, rng), label


class Dataset_ASVspoof2019_devNeval(Dataset[tuple[Any, ...]]):
    """First samples of each utterance for scoring: items (waveform (cut,)[, feature (bins, frames)], utterance)."""

    def __init__(
        self, list_IDs: Sequence[str], base_dir: str | Path, cut: int = CROP, feature: FixedFrames | None = None
    ):
        self.list_IDs, self.base_dir = list_IDs, Path(base_dir)
        self.cut, self.feature = cut, feature

    def __len__(self) -> int:
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        utterance = self.list_IDs[index]
        waveform = read_audio(self.base_dir / "flac" / f"{utterance}.flac")
        crop = torch.from_numpy(np.ascontiguousarray(pad(waveform, self.cut)))
        if self.feature is None:
            return crop, utterance
        return crop, _whole_utterance(self.feature, waveform), utterance


@torch.no_grad()
def _whole_utterance(feature: FixedFrames, waveform: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
    computed: Tensor = feature(torch.from_numpy(waveform), rng=rng)
    return computed


def _usable_cores() -> int:
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
) -> DataLoader[Any]:
    """The loader of a split: random crops in a new order every epoch for train, first samples in order otherwise.

    What it gives depends on `seed` and the epoch alone, not on the number of workers.

    Args:
        num_workers: None: as many as cores, at most 8, where there is a CUDA device to feed; none otherwise.

    Raises:
        InputError: the protocol is malformed, audio is missing, or train has less than one batch.
    """
    trials = read_protocol(split.protocol)
    require_audio(split, trials)
    utterances = [trial.utterance for trial in trials]
    cuda = torch.cuda.is_available()
    workers = num_workers if num_workers is not None else min(8, _usable_cores()) if cuda else 0
    common: dict[str, Any] = {
        "batch_size": batch_size,
        "num_workers": workers,
        "pin_memory": cuda,
        "persistent_workers": workers > 0,
        "worker_init_fn": seed_worker,
        # The loader draws a seed for its workers every epoch; not from the generator that the model draws from.
        "generator": torch.Generator().manual_seed(seed),
    }
    if split.name != "train":
        return DataLoader(Dataset_ASVspoof2019_devNeval(utterances, split.audio, cut, feature), **common)
    if len(trials) < batch_size:
        raise InputError(f"{split.protocol}: {len(trials)} trials are less than one batch (batch_size {batch_size})")
    labels = {trial.utterance: trial.label for trial in trials}
    data = Dataset_ASVspoof2019_train(utterances, labels, split.audio, cut, feature)
    return DataLoader(data, sampler=SeededShuffle(data, seed), drop_last=True, **common)
