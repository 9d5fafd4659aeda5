"""Trials: which utterances a split has, and what they are, whatever the corpus.

    a file or folders --TrialList.part, read_folders--> Trials --> Split --> Corpus

`Trials` are columns (numpy arrays, about 24 bytes a trial), which loader processes share when they are forked.

A trial's utterance is its name in score files, whose columns are separated by spaces. In corpora that give paths, the
path is the name: white space and "%" in it are percent-encoded (`encode_name`), so that it stays one column.
"""

import hashlib
import re
import unicodedata
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, overload
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from s2pecnet.audio.containers.content import AudioBytes
from s2pecnet.conventions import KEYS
from s2pecnet.errors import InputError

LONGEST_NAME = 200  # bytes; a score file's columns may not be longer
LONGEST_LINE = 1 << 16  # bytes; a file with longer lines is no list of trials
_AT_ONCE = 1 << 12
UNKNOWN_ATTACK = "unknown"

FLAC_NAMES = "flac/{}.flac"
PATH_NAMES = "{}"


class Trial(NamedTuple):
    """A trial of a countermeasure.

    Attributes:
        attack: "-" for bona fide speech.
        line: of the file that lists it, from 1; 0 where no file does.
        part: the part of the list that it belongs to, if it has parts; the splits of a CSV file for example.
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


Item = TypeVar("Item")
# (file, number of a line, its text) -> its trial; raises InputError.
ParseLine = Callable[[Path, int, str], Trial]
OnError = Callable[[InputError], None]


class MissingClassError(InputError):
    """A part of a list has no trials, or none of a class; the list itself may be in order."""


class OneClassError(InputError):
    """All trials of a complete list, or of a folder, are of one class: they can be scored, not trained on."""


class OneClassPartError(MissingClassError, OneClassError):
    """The same of a part of a list."""


def report(problem: InputError, on_error: OnError | None) -> None:
    """Hand a problem to `on_error`; raise it where that is None."""
    if on_error is None:
        raise problem
    on_error(problem)


class _Column(Sequence[Item]):
    """A sequence whose slices are lists."""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._at(row) for row in range(*index.indices(len(self)))]
        return self._at(index)

    @abstractmethod
    def _at(self, index: int) -> Item: ...


@dataclass(frozen=True, eq=False)
class Categories(_Column[str]):
    """A column (n,) of few different words."""

    words: tuple[str, ...]
    codes: NDArray[np.unsignedinteger]

    def _at(self, index: int) -> str:
        return self.words[self.codes[index]]

    def __len__(self) -> int:
        return len(self.codes)

    def present(self) -> list[str]:
        """The words that occur, sorted."""
        return sorted(self.words[code] for code in np.unique(self.codes))


@dataclass(frozen=True, eq=False)
class Names(_Column[str]):
    """A column (n,) of different names, held as UTF-8."""

    encoded: NDArray[np.bytes_]

    def _at(self, index: int) -> str:
        return bytes(self.encoded[index]).decode()

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), _AT_ONCE):
            yield from (name.decode() for name in self.encoded[begin : begin + _AT_ONCE].tolist())

    def __len__(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True, eq=False)
class Trials(_Column[Trial]):
    """Trials of a split, in their order: a sequence of `Trial`s, held as columns (n,).

    Attributes:
        path: the file that lists them, or the folder where no file does.
        line: of the file, from 1; 0 where no file lists the trial.
        digest: SHA-256 of what defines these trials.
    """

    path: Path
    utterance: Names
    is_bonafide: NDArray[np.bool_]
    attack: Categories
    speaker: Categories
    part: Categories
    line: NDArray[np.uint32]
    digest: str

    def __len__(self) -> int:
        return len(self.line)

    def _at(self, index: int) -> Trial:
        return Trial(
            self.speaker[index],
            self.utterance[index],
            self.attack[index],
            KEYS[0] if self.is_bonafide[index] else KEYS[1],
            int(self.line[index]),
            self.part[index],
        )

    def keys(self) -> list[str]:
        """The keys that occur, sorted."""
        return [key for key in KEYS if (self.is_bonafide == (key == KEYS[0])).any()]

    def location(self, index: int) -> str:
        """Where a trial is listed, "file:line", for messages; empty where no file lists it."""
        return f"{self.path}:{self.line[index]}" if self.line[index] else ""

    def select(self, rows: NDArray[np.bool_], digest: str) -> "Trials":
        """The trials of these rows (n,), in their order."""
        if rows.all():
            return replace(self, digest=digest)
        kept: dict[str, Any] = {
            name: Categories(column.words, column.codes[rows])
            for name, column in (("attack", self.attack), ("speaker", self.speaker), ("part", self.part))
        }
        names = Names(self.utterance.encoded[rows])
        line, bonafide = self.line[rows], self.is_bonafide[rows]
        return replace(self, utterance=names, is_bonafide=bonafide, line=line, digest=digest, **kept)


def as_columns(path: Path, trials: Iterable[Trial], digest: str = "") -> Trials:
    """Trials as columns, taken one by one."""
    names: list[bytes] = []
    encoded = [np.zeros(0, dtype="S1")]
    bonafide, lines = bytearray(), array("I")
    words: tuple[dict[str, int], ...] = ({}, {}, {})
    codes = (array("I"), array("I"), array("H"))
    for trial in trials:
        names.append(trial.utterance.encode())
        if len(names) == _AT_ONCE:
            # Python's own objects take four times as much memory.
            encoded.append(np.array(names, dtype=np.bytes_))
            names.clear()
        bonafide.append(trial.key == KEYS[0])
        lines.append(trial.line)
        for known, column, word in zip(words, codes, (trial.attack, trial.speaker, trial.part), strict=True):
            column.append(known.setdefault(word, len(known)))
    attack, speaker, part = map(Categories, map(tuple, words), map(np.array, codes))
    encoded.append(np.array(names or [b""], dtype=np.bytes_)[: len(names)])
    utterance, is_bonafide = Names(np.concatenate(encoded)), np.frombuffer(bytes(bonafide), dtype=np.bool_)
    return Trials(path, utterance, is_bonafide, attack, speaker, part, np.array(lines, dtype=np.uint32), digest)


@dataclass(eq=False)
class TrialList:
    """A text file with a trial a line, read and hashed once, whatever parts of it are asked for.

    Attributes:
        parse: makes a trial of a line.
        expected: what a line looks like, for messages.
        header: lines before the first trial.
        missing: the message where there is no such file.
    """

    path: Path
    parse: ParseLine
    expected: str
    header: int = 0
    missing: str = "no such file"

    def part(
        self,
        parts: tuple[str, ...] | None = None,
        on_error: OnError | None = None,
        *,
        both_classes: bool = True,
        hint: str = "",
    ) -> Trials:
        """Trials of some parts of the file. An utterance may stand in the file once, whatever the part.

        Args:
            parts: whose trials are wanted; None: all.
            on_error: gets every problem, and what can be read is read; None: the first problem is raised.
            both_classes: trials without bona fide speech, or without spoofs, are a problem.
            hint: ends the message that a class, or all trials, are missing.

        Raises:
            InputError: with file and line.
        """
        everything, digest, problems = self._read
        rows = np.ones(len(everything), dtype=bool)
        if parts is not None:
            digest = digest.copy()
            digest.update(repr(parts).encode())
            wanted = [code for code, word in enumerate(everything.part.words) if word in parts]
            rows = np.isin(everything.part.codes, wanted)
        trials = everything.select(rows, digest.hexdigest())
        keys, found = trials.keys(), list(problems)
        what = f"its {' and '.join(parts)} part" if parts else "the protocol"
        missing, one_class = (MissingClassError, OneClassPartError) if parts else (InputError, OneClassError)
        if not len(everything):
            found += [] if problems else [InputError(f"{self.path}: the protocol is empty")]
        elif not keys:
            found.append(missing(f"{self.path}: {what} is empty, though it lists {len(everything)} trials{hint}"))
        elif both_classes and len(keys) < len(KEYS):
            found.append(one_class(f"{self.path}: {what} is all {keys[0]}; both classes are needed{hint}"))
        for problem in found:
            report(problem, on_error)
        return trials

    @cached_property
    def _read(self) -> "tuple[Trials, hashlib._Hash, list[InputError]]":
        """All trials of the file, its SHA-256, and what is wrong with it."""
        digest, problems = hashlib.sha256(), list[InputError]()
        trials = as_columns(self.path, self._trials(digest, problems))
        names = trials.utterance.encoded
        ordered = np.sort(names)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        first: dict[str, int] = {}
        for row in np.flatnonzero(np.isin(names, twice)).tolist():
            name, line = trials.utterance[row], int(trials.line[row])
            if first.setdefault(name, line) != line:
                what = f"utterance {name!r} already stands on line {first[name]}"
                problems.append(InputError(f"{self.path}:{line}: {what}"))
        return trials, digest, problems

    def _trials(self, digest: "hashlib._Hash", problems: list[InputError]) -> Iterator[Trial]:
        if not self.path.exists():
            raise InputError(f"{self.path}: {self.missing}")
        with open(self.path, "rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), start=1):
                digest.update(line)
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{self.path}:{number}: a line of more than {LONGEST_LINE} bytes; not a protocol")
                if number > self.header and not line.isspace():
                    try:
                        yield self.parse(self.path, number, line.decode().rstrip("\r\n"))
                    except UnicodeDecodeError:
                        what = f"not a text file in UTF-8; expected lines {self.expected}"
                        problems.append(InputError(f"{self.path}:{number}: {what}"))
                    except InputError as error:
                        problems.append(error)


class AudioStore(Protocol):
    """Audio files inside of others, by their rows from 0."""

    def audio(self, row: int) -> AudioBytes:
        """The audio file of a row; raises InputError."""

    def status(self, row: int) -> tuple[int, int, int]:
        """Size and times (modification, change; ns) of what holds it; raises OSError."""

    def without_audio(self) -> int:
        """How many rows are known to have none."""


@dataclass(eq=False)
class Split:
    """A split of a corpus.

    Attributes:
        protocol: the file that lists its trials, or the folder where no file does.
        audio: the folder that audio paths start from.
        asv_scores: where the layout has them, if anywhere.
        read: reads the trials; its argument gets every problem (None: the first problem is raised).
        files: names of audio files, see `audio_path`.
        store: where the audio lies that is in no files of its own; a trial's `line` is its row there, from 1.
        parts: where several corpora have the split together (`several`), what each has, in the order of the trials.
    """

    name: str
    protocol: Path
    audio: Path
    asv_scores: Path | None
    read: Callable[[OnError | None], Trials]
    files: str = FLAC_NAMES
    store: "AudioStore | None" = None
    parts: "tuple[Part, ...]" = ()

    @cached_property
    def trials(self) -> Trials:
        """Its trials, read once.

        Raises:
            InputError: the protocol is missing or malformed; with file and line.
        """
        return self.read(None)

    def row_of(self, utterance: str) -> int:
        """The row of an utterance in the store, from 0.

        Raises:
            InputError: the split has no such trial.
        """
        trials = self.of_any_class().trials
        found = np.flatnonzero(trials.utterance.encoded == utterance.encode())
        if not found.size:
            raise InputError(f"{self.protocol}: its {self.name} part has no trial {utterance!r}")
        return int(trials.line[found[0]]) - 1

    def filled(self) -> "list[Part]":
        """Its parts that have trials."""
        return [part for part in self.parts if len(part.split.trials)]

    def find(self, utterance: str) -> "tuple[Split, str]":
        """The split of a single corpus that has an utterance, and what it is called there."""
        for part in self.parts:
            if utterance.startswith(f"{part.name}/"):
                return part.split, utterance.removeprefix(f"{part.name}/")
        return self, utterance

    def of_any_class(self) -> "Split":
        """The same split, whose trials may all be of one class: such trials are scored, not trained on."""

        def read(on_error: OnError | None) -> Trials:
            def tolerate(problem: InputError) -> None:
                if not isinstance(problem, OneClassError):
                    report(problem, on_error)

            return self.read(tolerate)

        return replace(self, read=read)

    def without_attacks(self, attacks: Sequence[str]) -> "Split":
        """The same split without the spoofs of these attacks.

        Its trials raise InputError where an attack is not among them, or none is left.
        """
        if not attacks:
            return self

        def read(on_error: OnError | None) -> Trials:
            trials = self.read(on_error)
            codes = trials.attack.codes
            present = {trials.attack.words[code]: code for code in np.unique(codes[~trials.is_bonafide])}
            unknown = [attack for attack in attacks if attack not in present]
            kept = trials.is_bonafide | ~np.isin(codes, [present[attack] for attack in attacks if attack in present])
            digest = hashlib.sha256(f"{trials.digest} without {sorted(attacks)}".encode())
            trials = trials.select(kept, digest.hexdigest())
            key = f"{self.protocol}: leave_out.{self.name}"
            if unknown:
                has = ", ".join(sorted(present)) or "none"
                what = f"names the attack {unknown[0]!r}, which {self.name} lacks; it has {has}"
                report(InputError(f"{key} {what}"), on_error)
            elif len(trials.keys()) < len(KEYS):
                report(OneClassError(f"{key} leaves no spoofs of {self.name}; both classes are needed"), on_error)
            return trials

        return replace(self, read=read)


class Part(NamedTuple):
    """What one of several corpora has of a split.

    Attributes:
        name: what the corpus is called.
        weight: how often an epoch takes each of its training utterances.
    """

    name: str
    split: Split
    weight: float = 1.0


@dataclass(eq=False)
class Corpus:
    """A corpus on the disk; `corpus["eval"]` is a split.

    Attributes:
        title: its name in messages.
        splits: those that it has, by name.
        note: what its user should know, how it is divided into splits for example.
        root: where it lies.
        unused: files and folders with audio, below the root, that belong to no split.
    """

    title: str
    splits: dict[str, Split]
    note: str | None = None
    root: Path = Path()
    unused: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Split:
        """The split `name`: "train", "dev" or "eval".

        Raises:
            InputError: the corpus has no such split.
        """
        if name not in self.splits:
            score = "; it can be scored (--eval), not trained on" if "eval" in self.splits else ""
            has = " and ".join(self.splits)
            raise InputError(f"{self.root}: this corpus ({self.title}) has no {name} split, only {has}{score}")
        return self.splits[name]

    def asv_file(self, name: str, given: str | None) -> Path | None:
        """The ASV scores of a split: `given`, relative to the corpus, or those of the layout."""
        if given is None:
            return self[name].asv_scores
        return (self.root.parent if self.root.is_file() else self.root) / given


class LeftOut(NamedTuple):
    """The attacks that are left out of each split."""

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    eval: tuple[str, ...] = ()


class CorpusOptions(NamedTuple):
    """What a config says about its corpus beside where it lies; see `config.experiment.Config`."""

    track: str = "LA"
    split_policy: str = "divide"
    eval_subset: str = "eval"
    left_out: LeftOut = LeftOut()


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

    Accented letters have two spellings in Unicode, and disks and lists need not have the same one: where the name as it
    is listed is not there, the other spelling is taken.

    Args:
        pattern: the file's path below `folder`, "{}" where the utterance stands; PATH_NAMES: the utterance is the path.
    """
    name = decode_name(utterance) if pattern == PATH_NAMES else pattern.format(utterance)
    if not name.isascii() and not (folder / name).exists():
        spellings = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        name = next((spelling for spelling in spellings if (folder / spelling).exists()), name)
    return folder / name
