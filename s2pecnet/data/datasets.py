"""Datasets: crops of utterances with their labels.

Conventions: waveforms are float32, mono, 16 kHz, in [-1, 1]; label 1 = bona fide, 0 = spoof. An item is
(waveform[, feature], label) in training and (waveform[, feature], utterance) otherwise, where the feature is the second
input that some systems ask for, computed on the complete utterance before the waveform is cropped. Training may augment
the complete utterance before either; scoring never does. With `feature_cache` the kept outputs of a frozen front end
stand in the waveform's place.

Scoring takes the first samples of an utterance, or windows over all of it. A batch of windows has a row a window, and
the utterance's name as often as it has windows.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from s2pecnet.audio.crops import first_sample
from s2pecnet.audio.decoding import BadAudio
from s2pecnet.augment.chain import Augmentation
from s2pecnet.corpora.published import read_protocol
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError
from s2pecnet.systems.inputs import Inputs
from s2pecnet.text import printable

if TYPE_CHECKING:
    from s2pecnet.data.outputs import FrontEndOutputs

# A corpus with more bad files than this needs repair, not skipping.
LARGEST_SHARE = 0.01
CROP_OF_AASIST = Inputs()


def genSpoof_list(dir_meta: str | Path, is_train: bool = False, is_eval: bool = False) -> Any:
    """Labels and utterances of a protocol.

    Returns:
        (labels by utterance, utterances) for training and development; the utterances alone when `is_eval`.
    """
    trials = read_protocol(dir_meta)
    utterances = list(trials.utterance)
    if is_eval and not is_train:
        return utterances
    return dict(zip(utterances, trials.is_bonafide.astype(int).tolist(), strict=True)), utterances


class Draw(NamedTuple):
    """An index with the seed of its random crop, so that a crop does not depend on which worker makes it."""

    item: int
    seed: tuple[int, ...]


class SkipList:
    """The file that lists trials whose audio cannot be used (`on_bad_audio: skip`): "utterance<tab>reason" a line.

    All loader processes share it; a line is there before the batch that lacks the utterance is handed over.

    Args:
        path: the file; it appears with the first such trial.
        trials: how many trials the split has.
    """

    def __init__(self, path: Path, trials: int):
        self.path, self.trials = path, trials

    def add(self, utterance: str, why: BadAudio) -> None:
        """List a trial.

        Raises:
            InputError: more than one in a hundred are listed.
        """
        listed = self._listed()
        if utterance in listed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write of one line at the file's end: processes that do so at once do not mix their lines.
        with open(self.path, "ab", buffering=0) as stream:
            # A name may hold line breaks; the line of a trial is one.
            reason = printable(str(why).replace("\n", "\\n").replace("\t", "\\t"))
            stream.write(f"{utterance}\t{reason}\n".encode(errors="backslashreplace"))
        count = len(self._listed())
        if count > LARGEST_SHARE * self.trials:
            raise InputError(
                f"{self.path}: {count} of {self.trials} files cannot be used, more than {LARGEST_SHARE:.0%}; repair "
                f"the corpus (the last: {why})"
            )

    def _listed(self) -> set[str]:
        if not self.path.is_file():
            return set()
        # Not splitlines: a name may hold what Unicode calls a line's end.
        return {line.partition("\t")[0] for line in self.path.read_text(encoding="utf-8").split("\n") if line}


class _Utterances(Dataset[tuple[Any, ...]]):
    """What both datasets share: where the waveforms come from, and what happens where one is bad."""

    def __init__(
        self,
        list_IDs: Sequence[str],
        base_dir: str | Path,
        inputs: Inputs = CROP_OF_AASIST,
        audio: AudioFolder | None = None,
        skip_list: SkipList | None = None,
        windows: bool = False,
    ):
        self.list_IDs, self.base_dir, self.inputs, self.windows = list_IDs, Path(base_dir), inputs, windows
        self.audio = audio or AudioFolder(base_dir, list_IDs)
        self.skip_list = skip_list
        # The kept outputs of a front end, which are then given in the waveforms' place.
        self.outputs: FrontEndOutputs | None = None

    def __len__(self) -> int:
        return len(self.list_IDs)

    def _inputs_of(
        self, index: int, rng: np.random.Generator | None, augment: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Sequence[Tensor] | None:
        """The model's inputs, or those of all windows; None where the audio is bad and may be skipped."""
        outputs = None if self.outputs is None else self.outputs(index)
        if outputs is not None:
            return (outputs,)
        try:
            if self.outputs is not None:
                # Says what is wrong with it.
                self.audio.crop(index, self.inputs.samples)
                raise BadAudio(f"{self.list_IDs[index]}: was bad audio when {self.outputs.path} was made; remove that")
            if self.inputs.feature is None and augment is None and not self.windows:
                # Nothing but the crop is decoded.
                start = first_sample if rng is None else lambda spare: int(rng.integers(spare + 1))
                return self.inputs(self.audio.crop(index, self.inputs.samples, start))
            waveform = self.audio.complete(index)
        except BadAudio as why:
            if self.skip_list is None:
                raise
            self.skip_list.add(self.list_IDs[index], why)
            return None
        if self.windows:
            return self.inputs.windows(waveform)
        return self.inputs(waveform if augment is None else augment(waveform), rng)

    def _unusable(self) -> tuple[Tensor, ...]:
        """What stands in place of audio that cannot be used: all NaN."""
        if self.outputs is None:
            return self.inputs.unusable()
        return (torch.from_numpy(np.full(self.outputs.shape, np.nan, self.outputs.dtype)),)


class Dataset_ASVspoof2019_train(_Utterances):
    """Random crops for training: items (waveform (samples,)[, feature (bins, frames)], label).

    Args:
        list_IDs: utterances.
        labels: label by utterance, or one for each of them in their order.
        base_dir: folder that holds flac/.
        inputs: makes the model's inputs of a waveform.
        audio: gives the waveforms of `list_IDs`; None: the files of `base_dir`.
        skip_list: lists bad audio, in whose place the next utterance is taken; None: bad audio is an error.
        augmentation: changes complete utterances before they are cropped.
        random_crop: crops start anywhere; else at the first sample, as in scoring.
    """

    def __init__(
        self,
        list_IDs: Sequence[str],
        labels: Mapping[str, int] | np.ndarray,
        base_dir: str | Path,
        inputs: Inputs = CROP_OF_AASIST,
        audio: AudioFolder | None = None,
        skip_list: SkipList | None = None,
        augmentation: Augmentation | None = None,
        random_crop: bool = True,
    ):
        super().__init__(list_IDs, base_dir, inputs, audio, skip_list)
        self.labels, self.augmentation, self.random_crop = labels, augmentation, random_crop

    def __getitem__(self, draw: int | Draw) -> tuple[Any, ...]:
        index, seed = draw if isinstance(draw, Draw) else (draw, (np.random.randint(2**31),))
        augmentation = self.augmentation
        augment = None if augmentation is None else lambda waveform: augmentation(waveform, seed)
        inputs = self._inputs_of(index, np.random.default_rng(seed) if self.random_crop else None, augment)
        if inputs is None:
            return self[Draw((index + 1) % len(self), seed)]
        label = self.labels[self.list_IDs[index]] if isinstance(self.labels, Mapping) else int(self.labels[index])
        return *inputs, label


class Dataset_ASVspoof2019_devNeval(_Utterances):
    """First samples of each utterance for scoring: items (waveform (samples,)[, feature (bins, frames)], utterance).

    Args:
        skip_list: lists bad audio, in whose place stands NaN, so that its score is NaN; None: bad audio is an error.
        windows: items are all windows of an utterance, every half window, (waveforms (W, samples)[, features (W, bins,
            frames)], utterance); `joined_windows` makes a batch of them.
    """

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        inputs = self._inputs_of(index, None)
        if inputs is None:
            inputs = [tensor[None] if self.windows else tensor for tensor in self._unusable()]
        return *inputs, self.list_IDs[index]


def joined_windows(items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """A batch of utterances' windows: a row a window, with the name of its utterance."""
    *columns, names = zip(*items, strict=True)
    rows = [len(waveforms) for waveforms in columns[0]]
    return [*map(torch.cat, columns), [name for name, count in zip(names, rows, strict=True) for _ in range(count)]]
