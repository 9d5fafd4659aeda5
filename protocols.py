"""Protocols: which utterances a split has, and what they are.

    <database>/ASVspoof2019_<track>_cm_protocols/ASVspoof2019.<track>.cm.{train.trn,dev.trl,eval.trl}.txt
    <database>/ASVspoof2019_<track>_{train,dev,eval}/flac/<utterance>.flac
    <database>/ASVspoof2019_<track>_asv_scores/ASVspoof2019.<track>.asv.{dev,eval}.gi.trl.scores.txt

A protocol is checked once, line by line, and then read from the disk where it is needed: a list of a million trials
takes 12 MB of memory, and loader processes share it.
"""

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from errors import InputError

SPLITS = ("train", "dev", "eval")
KEYS = ("bonafide", "spoof")
# Bytes of a line, and of a name: what is longer is no protocol, and no name that a score file takes.
LONGEST_LINE = 1 << 16
LONGEST_NAME = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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


class Protocol(Sequence[Trial]):
    """Trials of a checked protocol file in its order; of each, only the place of its line is held.

    Made by `read_protocol`. Loader processes may be handed it: forked or pickled, it reads the same file.
    """

    def __init__(self, path: Path, starts: "array[int]", lines: "array[int]"):
        self.path, self._starts, self._lines = path, starts, lines
        self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...

    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = self._starts[place : place + 2]
        text = os.pread(self._file, end - start, start)
        return _parse_trial(self.path, self._lines[place], text.decode().partition("\n")[0])

    def __iter__(self) -> Iterator[Trial]:
        return (self[place] for place in range(len(self)))

    def place(self, index: int) -> str:
        """Where a trial stands, "file:line", for messages."""
        return f"{self.path}:{self._lines[index]}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Protocol, (self.path, self._starts, self._lines)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


class Utterances(Sequence[str]):
    """Names of a protocol's utterances, for those who want no more of it."""

    def __init__(self, protocol: Protocol):
        self.protocol = protocol

    def __len__(self) -> int:
        return len(self.protocol)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [trial.utterance for trial in self.protocol[index]]
        return self.protocol[index].utterance


def read_protocol(path: str | Path) -> Protocol:
    """Check a protocol file, "speaker utterance environment attack key" a line.

    Raises:
        InputError: the file is missing, empty or not text, or a line has another number of columns, an unknown key, a
            name that no file has, or an utterance that an earlier line has; with file and line.
    """
    path = Path(path)
    starts, lines, names = array("q"), array("I"), array("q")
    position = 0
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{path}:{number}: a line of more than {LONGEST_LINE} bytes; not a protocol")
                if not line.isspace():
                    names.append(hash(_parse_trial(path, number, line.decode()).utterance))
                    starts.append(position)
                    lines.append(number)
                position += len(line)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such protocol; database_path is to be the folder that holds ASVspoof2019_<track>_cm_protocols"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected lines 'speaker utterance - attack key'") from None
    if not lines:
        raise InputError(f"{path}: the protocol is empty")
    starts.append(position)
    protocol = Protocol(path, starts, lines)
    _refuse_repeated(protocol, names)
    return protocol


def _refuse_repeated(protocol: Protocol, name_hashes: "array[int]") -> None:
    """Refuse an utterance that stands twice. Hashes say that there is none; only where two are equal names are read."""
    if len(set(name_hashes)) == len(name_hashes):
        return
    first_line: dict[str, int] = {}
    for trial in protocol:
        earlier = first_line.setdefault(trial.utterance, trial.line)
        if earlier != trial.line:
            raise InputError(
                f"{protocol.path}:{trial.line}: utterance {trial.utterance!r} stands already on line {earlier}"
            )


def _parse_trial(path: Path, number: int, line: str) -> Trial:
    columns = line.split()
    if len(columns) != 5:
        raise InputError(
            f"{path}:{number}: got {len(columns)} columns, expected 5: 'speaker utterance environment attack key'"
        )
    speaker, utterance, _, attack, key = columns
    if key not in KEYS:
        raise InputError(f"{path}:{number}: key {_clipped(key)!r}, expected one of {', '.join(KEYS)}")
    if "/" in utterance or "\\" in utterance or utterance in (".", ".."):
        raise InputError(f"{path}:{number}: utterance {_clipped(utterance)!r} is to be a name, not a path")
    for name in (utterance, attack):
        if _CONTROL.search(name) or len(name.encode()) > LONGEST_NAME:
            raise InputError(
                f"{path}:{number}: {_clipped(name)!r} is no name: it is longer than {LONGEST_NAME} bytes or holds "
                "control characters"
            )
    return Trial(speaker, utterance, attack, key, number)


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
