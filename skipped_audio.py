"""Trials left out because of their audio (the config's `on_bad_audio: skip`): listed, and only a few of them.

The list is a file of the run's folder, "utterance<tab>reason" a line, which all loading processes share: a line is
there before the batch that lacks the utterance is handed over.
"""

import os
from pathlib import Path

from audio import BadAudio
from errors import InputError

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
