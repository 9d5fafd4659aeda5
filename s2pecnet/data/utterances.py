"""Utterances of a split as audio files: item `index` of the trials is one file below a folder."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from s2pecnet.audio.crops import Start, first_sample
from s2pecnet.audio.decoding import BadAudio, read_audio, read_crop
from s2pecnet.corpora.trials import FLAC_NAMES, Utterances, audio_path


class AudioFolder:
    """Utterances as files below a folder: item `index` is `<base_dir>/flac/<utterances[index]>.flac`.

    Args:
        files: other names than that, see `trial_lists.audio_path`.
    """

    def __init__(self, base_dir: str | Path, utterances: Sequence[str], files: str = FLAC_NAMES):
        self.base_dir, self.utterances, self.files = Path(base_dir), utterances, files

    @property
    def folder(self) -> Path:
        """The folder that the names start in."""
        return self.base_dir / Path(self.files).parent

    def path(self, index: int) -> Path:
        """The file of an item."""
        return audio_path(self.base_dir, self.files, self.utterances[index])

    def whole(self, index: int) -> np.ndarray:
        """The whole utterance, float32 (samples,).

        Raises:
            BadAudio: as `read_audio`, with the line of the protocol where there is one.
        """
        with self._placed(index):
            return read_audio(self.path(index))

    def crop(self, index: int, samples: int, start: Start = first_sample) -> np.ndarray:
        """At most `samples` samples of the utterance, float32; see `read_crop`."""
        with self._placed(index):
            return read_crop(self.path(index), samples, start)

    @contextlib.contextmanager
    def _placed(self, index: int) -> Iterator[None]:
        try:
            yield
        except BadAudio as error:
            place = self.utterances.protocol.place(index) if isinstance(self.utterances, Utterances) else ""
            if not place:
                raise
            raise BadAudio(f"{error} ({place})") from None
