"""Lists of trials: which utterances a split has, and what they are, whatever the corpus.

A list that stands in a file is checked once, line by line, and then read from the disk where it is needed: a list of a
million trials takes 12 MB of memory, and loader processes share it.

A trial's utterance is its name in score files, whose columns are separated by spaces. In corpora that give paths, the
path is the name: white space and "%" in it are percent-encoded (`encode_name`), so that it stays one column.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload
from urllib.parse import quote, unquote

from s2pecnet.conventions import KEYS
from s2pecnet.errors import InputError
from s2pecnet.text import clipped

LONGEST_NAME = 200  # bytes; a score file's columns may not be longer
LONGEST_LINE = 1 << 16  # bytes; what is longer is no list of trials
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
UNKNOWN_ATTACK = "unknown"

FLAC_NAMES = "flac/{}.flac"
PATH_NAMES = "{}"


class Trial(NamedTuple):
    """A trial of a countermeasure.

    Attributes:
        attack: "-" for bona fide speech.
        line: of the file that lists it, from 1; 0 where no file does.
        part: the part of the list that it belongs to, as far as there are parts; the splits of a CSV file for example.
    """

    speaker: str
    utterance: str
    attack: str
    key: str
    line: int
    part: str = ""

    @property
    def label(self) -> int:
        """1 for bona fide, 0 for spoof."""
        return int(self.key == "bonafide")


# (file, number of a line, its text) -> its trial; raises InputError.
ParseLine = Callable[[Path, int, str], Trial]
OnError = Callable[[InputError], None]


def encode_name(path: str) -> str:
    """A path as a name without white space.

    >>> encode_name("my clips/100% human.wav")
    'my%20clips/100%25%20human.wav'
    """
    return re.sub(r"[\s%\x00-\x1f\x7f]", lambda found: quote(found[0], safe=""), path)


def decode_name(name: str) -> str:
    """The inverse of `encode_name`.

    >>> decode_name("my%20clips/100%25%20human.wav")
    'my clips/100% human.wav'
    """
    return unquote(name, errors="strict")


def audio_path(folder: Path, pattern: str, utterance: str) -> Path:
    """The audio file of an utterance.

    Args:
        pattern: the file's path below `folder`, "{}" where the utterance stands; PATH_NAMES: the utterance is the path.
    """
    return folder / (decode_name(utterance) if pattern == PATH_NAMES else pattern.format(utterance))


class LackingPart(InputError):
    """A part of a list has no trials, or none of a class; the list itself may be in order."""


class Protocol(Sequence[Trial], ABC):
    """Trials of a split, in their order. Loader processes may be handed it, forked or pickled."""

    path: Path

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...

    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._trial(range(len(self))[index])

    def __iter__(self) -> Iterator[Trial]:
        return (self._trial(place) for place in range(len(self)))

    @abstractmethod
    def _trial(self, place: int) -> Trial:
        """The trial at a place, which is there."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Where a trial is listed, "file:line", for messages; empty where no file lists it."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of what says which trials these are."""


class TrialSource(ABC):
    """Where the trials of a split come from."""

    @abstractmethod
    def read(self, on_error: OnError | None = None) -> Protocol:
        """Read and check them.

        Args:
            on_error: is told of everything that is wrong, and what can be read is read; None: the first is raised.

        Raises:
            InputError: with file and line.
        """

    @abstractmethod
    def digest(self) -> str | None:
        """As `Protocol.digest`, without checking; None where there is nothing to read."""


@dataclass(frozen=True)
class LineSource(TrialSource):
    """A text file with a trial a line.

    Attributes:
        parse: makes a trial of a line.
        expected: what a line looks like, for messages.
        header: lines before the first trial.
        parts: whose trials are wanted; None: all.
        missing: told where there is no such file.
        both_classes: a list without bona fide trials, or without spoofs, is refused.
        hint: ends the message that a list lacks a class, or all trials.
    """

    path: Path
    parse: ParseLine
    expected: str
    header: int = 0
    parts: tuple[str, ...] | None = None
    missing: str = "no such file"
    both_classes: bool = True
    hint: str = ""

    def read(self, on_error: OnError | None = None) -> "LineProtocol":
        """See `TrialSource.read`. An utterance may stand in the file once, whatever the part."""
        starts, lines, names = array("q"), array("I"), array("q")
        keys: set[str] = set()
        told: list[InputError] = []

        def tell(error: InputError) -> None:
            if on_error is None:
                raise error
            told.append(error)
            on_error(error)

        try:
            for start, trial in self.trials(tell):
                names.append(hash(trial.utterance))
                if self.parts is None or trial.part in self.parts:
                    starts.append(start)
                    lines.append(trial.line)
                    keys.add(trial.key)
        except FileNotFoundError:
            raise InputError(f"{self.path}: {self.missing}") from None
        if _some_equal(names):
            self._tell_repeated(tell)
        if names or not told:
            self._tell_lacking(tell, keys, len(names))
        return LineProtocol(self, starts, lines)

    def trials(self, tell: OnError) -> Iterator[tuple[int, Trial]]:
        """All trials of the file, of whatever part, each with the place of its line in bytes; `tell` of bad lines."""
        position = 0
        with open(self.path, "rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{self.path}:{number}: a line of more than {LONGEST_LINE} bytes; not a protocol")
                if number > self.header and not line.isspace():
                    try:
                        trial = self._trial(number, line)
                    except InputError as error:
                        tell(error)
                    else:
                        yield position, trial
                position += len(line)

    def _trial(self, number: int, line: bytes) -> Trial:
        try:
            return self.parse(self.path, number, line.decode().rstrip("\r\n"))
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}:{number}: not a text file in UTF-8; expected lines {self.expected}"
            ) from None

    def digest(self) -> str | None:
        """See `TrialSource.digest`."""
        digest = hashlib.sha256()
        try:
            with open(self.path, "rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except (FileNotFoundError, IsADirectoryError):
            return None
        if self.parts is not None:
            digest.update(repr(self.parts).encode())
        return digest.hexdigest()

    def _tell_repeated(self, tell: OnError) -> None:
        """Tell of utterances that stand twice. Equal hashes only say that there may be some; names tell."""
        first_line: dict[str, int] = {}
        for _, trial in self.trials(lambda bad_line: None):
            earlier = first_line.setdefault(trial.utterance, trial.line)
            if earlier != trial.line:
                what = f"utterance {trial.utterance!r} stands already on line {earlier}"
                tell(InputError(f"{self.path}:{trial.line}: {what}"))

    def _tell_lacking(self, tell: OnError, keys: set[str], count: int) -> None:
        if not count:
            tell(InputError(f"{self.path}: the protocol is empty"))
            return
        what = f"its {' and '.join(self.parts)} part" if self.parts else "the protocol"
        kind = LackingPart if self.parts else InputError
        if not keys:
            tell(kind(f"{self.path}: {what} is empty, though it lists {count} trials{self.hint}"))
        elif self.both_classes and len(keys) < len(KEYS):
            tell(kind(f"{self.path}: {what} is all {min(keys)}; both classes are needed{self.hint}"))


def _some_equal(hashes: "array[int]") -> bool:
    """Whether a number comes twice; sorts them in place, which takes no more memory."""
    # Command lines that only print their help import this module; numpy would be half of their time.
    import numpy as np

    if not hashes:
        return False
    ordered = np.frombuffer(hashes, dtype=np.int64)
    ordered.sort()
    return bool((ordered[1:] == ordered[:-1]).any())


class LineProtocol(Protocol):
    """Trials of a checked file; of each, only the place of its line is held. Made by `LineSource.read`."""

    def __init__(self, source: LineSource, starts: "array[int]", lines: "array[int]"):
        self.path, self._source, self._starts, self._lines = source.path, source, starts, lines
        self._file = os.open(source.path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._lines)

    def _trial(self, place: int) -> Trial:
        start, text, end = self._starts[place], b"", -1
        while end < 0 and (piece := os.pread(self._file, 256, start + len(text))):
            text += piece
            end = text.find(b"\n")
        line = text if end < 0 else text[:end]
        return self._source.parse(self.path, self._lines[place], line.decode().rstrip("\r"))

    def place(self, index: int) -> str:
        """See `Protocol.place`."""
        return f"{self.path}:{self._lines[index]}"

    def digest(self) -> str:
        """See `Protocol.digest`."""
        return self._source.digest() or ""

    def __reduce__(self) -> tuple[Any, ...]:
        return LineProtocol, (self._source, self._starts, self._lines)

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


class Split(NamedTuple):
    """Where a split of a corpus lies.

    Attributes:
        protocol: the file that lists its trials, or the folder where no file does.
        audio: the folder that audio paths start from.
        asv_scores: where the layout has them, if anywhere.
        trials: reads the protocol.
        files: names of audio files, see `audio_path`.
    """

    name: str
    protocol: Path
    audio: Path
    asv_scores: Path | None
    trials: TrialSource
    files: str = FLAC_NAMES


class Corpus(NamedTuple):
    """A corpus on the disk.

    Attributes:
        title: its name in messages.
        splits: those that it has, by name.
        note: what its user should know, of how it is divided into splits for example.
    """

    title: str
    splits: dict[str, Split]
    note: str | None = None


class CorpusOptions(NamedTuple):
    """What a config says about its corpus beside where it lies; see `experiment_config.Config`."""

    track: str = "LA"
    unsplit: str = "divide"
    eval_subset: str = "eval"


def require_name(place: str, utterance: str) -> str:
    """An utterance that is a file's name, as it is.

    Raises:
        InputError: it is a path, too long, or holds control characters.
    """
    if "/" in utterance or "\\" in utterance or utterance in (".", ".."):
        raise InputError(f"{place}: utterance {clipped(utterance)!r} is to be a name, not a path")
    return require_word(place, utterance)


def require_word(place: str, word: str) -> str:
    """A word that may stand in a column of a score file, as it is.

    Raises:
        InputError: it is too long, or holds control characters.
    """
    if _CONTROL.search(word) or len(word.encode()) > LONGEST_NAME:
        raise InputError(
            f"{place}: {clipped(word)!r} is no name: it is longer than {LONGEST_NAME} bytes or holds control characters"
        )
    return word


def require_key(place: str, key: str) -> str:
    """A key of a published protocol, as it is.

    Raises:
        InputError: it is neither "bonafide" nor "spoof".
    """
    if key not in KEYS:
        raise InputError(f"{place}: key {clipped(key)!r}, expected one of {', '.join(KEYS)}")
    return key
