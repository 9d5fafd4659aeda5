"""Utterances as audio files: item `index` is one file below a folder."""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from s2pecnet.audio.containers.content import AudioBytes
from s2pecnet.audio.crops import Start, first_sample
from s2pecnet.audio.decoding import BadAudio, read_audio, read_crop
from s2pecnet.corpora.trials import FLAC_NAMES, PATH_NAMES, AudioStore, Split, Trials, audio_path
from s2pecnet.errors import InputError


class AudioFolder:
    """Utterances as files below a folder: item `index` is `<base_dir>/flac/<utterances[index]>.flac`.

    Args:
        files: other names than that, see `corpora.trials.audio_path`.
        trials: those of the utterances, so that messages can name their lines.
        store: where they lie, in the rows that `trials` names, if not in files of their own.

    Attributes:
        headers: those of the files, as `data.cache.read_headers` gives them; None: they were not read.
        parts: of several corpora, the utterances of each; empty of one.
    """

    headers: np.ndarray | None = None
    parts: "tuple[AudioFolder, ...]" = ()

    def __init__(
        self,
        base_dir: str | Path,
        utterances: Sequence[str],
        files: str = FLAC_NAMES,
        trials: Trials | None = None,
        store: AudioStore | None = None,
    ):
        self.base_dir, self.utterances, self.files, self.trials = Path(base_dir), utterances, files, trials
        self.store = store

    @classmethod
    def of(cls, split: Split) -> "AudioFolder":
        """The utterances of a split."""
        if split.parts:
            return JoinedAudio([cls.of(part.split) for part in split.parts], split.trials)
        return cls(split.audio, split.trials.utterance, split.files, split.trials, split.store)

    @property
    def folder(self) -> Path:
        """The folder that the names start in."""
        return self.base_dir / Path(self.files).parent

    def path(self, index: int) -> Path:
        """The file of an item."""
        return audio_path(self.base_dir, self.files, self.utterances[index])

    def source(self, index: int) -> Path | AudioBytes:
        """The file of an item, or its bytes.

        Raises:
            BadAudio: the store has none.
        """
        if self.store is None or self.trials is None:
            return self.path(index)
        try:
            return self.store.audio(int(self.trials.line[index]) - 1)
        except InputError as error:
            raise BadAudio(str(error)) from None

    def status(self, index: int) -> tuple[int, int, int]:
        """Size and times (modification, change; ns) of an item's file, or of what holds it.

        Raises:
            OSError: there is none.
        """
        if self.store is None or self.trials is None:
            status = os.stat(self.path(index))
            return status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return self.store.status(int(self.trials.line[index]) - 1)

    def complete(self, index: int) -> np.ndarray:
        """The complete utterance, float32 (samples,).

        Raises:
            BadAudio: as `read_audio`, with the line of the protocol where there is one.
        """
        return self._read(index, read_audio)

    def crop(self, index: int, samples: int, start: Start = first_sample) -> np.ndarray:
        """At most `samples` samples of the utterance, float32; see `read_crop`."""
        return self._read(index, read_crop, samples, start)

    def _read(self, index: int, read: Callable[..., np.ndarray], *more: Any) -> np.ndarray:
        try:
            return read(self.source(index), *more)
        except BadAudio as error:
            # A row of a store is named already.
            location = self.trials.location(index) if self.trials is not None and self.store is None else ""
            if not location:
                raise
            raise BadAudio(f"{error} ({location})") from None


class JoinedAudio(AudioFolder):
    """The utterances of several corpora, one corpus after the other, each read as its own corpus reads it."""

    def __init__(self, parts: Sequence[AudioFolder], trials: Trials):
        super().__init__(trials.path, trials.utterance, PATH_NAMES, trials)
        self.parts = tuple(parts)
        self.starts = [0, *accumulate(len(part.utterances) for part in parts)]

    def path(self, index: int) -> Path:
        """The file of an item."""
        part, own = self._find(index)
        return part.path(own)

    def source(self, index: int) -> Path | AudioBytes:
        """The file of an item, or its bytes; see `AudioFolder.source`."""
        part, own = self._find(index)
        return part.source(own)

    def status(self, index: int) -> tuple[int, int, int]:
        """Size and times of an item's file; see `AudioFolder.status`."""
        part, own = self._find(index)
        return part.status(own)

    def complete(self, index: int) -> np.ndarray:
        """The complete utterance, float32 (samples,); see `AudioFolder.complete`."""
        part, own = self._find(index)
        return part.complete(own)

    def crop(self, index: int, samples: int, start: Start = first_sample) -> np.ndarray:
        """At most `samples` samples of the utterance, float32; see `read_crop`."""
        part, own = self._find(index)
        return part.crop(own, samples, start)

    def _find(self, index: int) -> tuple[AudioFolder, int]:
        """The corpus that an item is of, and its index there."""
        part = bisect_right(self.starts, index) - 1
        return self.parts[part], index - self.starts[part]
