"""Score files: read into arrays quickly, and never wrongly; and written.

Score files (fields separated by spaces or tabs; also gzipped; empty lines carry no trial)
    CM   `utterance attack key score`, key bonafide | spoof, e.g. `LA_E_2834763 A11 spoof -4.556`; the word `unscored`
         stands for the score of a trial that has none (its audio could not be read): it is counted and left out
    ASV  `source key score`, key target | nontarget | spoof, e.g. `- target 7.981530`

A file of the usual form is read by whole columns (`_read_fast`, with the tools of `text_columns`); anything out of the
ordinary is left to a parser that goes line by line (`_read_by_line`), which accepts it or names the line at fault.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.score_files.columns import (
    MARGIN,
    MAX_FIELD,
    IrregularText,
    all_different,
    as_text,
    cut_out,
    find_keys,
    find_spans,
    parse_numbers,
)

Floats = NDArray[np.float64]

Bools = NDArray[np.bool_]

PathLike = str | os.PathLike[str]

_BLOCK = 1 << 18  # characters


@dataclass(frozen=True)
class _Layout:
    kind: str
    columns: tuple[str, ...]  # the last two are always key and score
    keys: tuple[bytes, ...]
    has_names: bool  # are the columns before the key read, and is the first one different in each line?
    unscored: bytes | None  # what stands for the score of a trial that has none

    def __str__(self) -> str:
        return f"'{' '.join(self.columns)}' in each line of a {self.kind} score file"


_CM_LAYOUT = _Layout("CM", ("utterance", "attack", "key", "score"), (b"bonafide", b"spoof"), True, b"unscored")

_ASV_LAYOUT = _Layout("ASV", ("source", "key", "score"), (b"target", b"nontarget", b"spoof"), False, None)


class _Table(NamedTuple):
    names: list[NDArray[np.bytes_]]  # the columns before the key; none of an ASV file
    kinds: NDArray[np.uint8]  # each line's key, by its place in the layout's
    scores: Floats
    n_unscored: int = 0  # lines that are in none of the columns


@dataclass(frozen=True, eq=False)
class CMScores:
    """Countermeasure scores of n trials, in the order of the file.

    Attributes:
        utterances: (n,) utterance names.
        attacks: (n,) attack names (A07 ...), "-" for bona fide trials.
        is_bonafide: (n,) True for bona fide, False for spoofed.
        scores: (n,) float64, higher = bona fide.
        n_unscored: number of further trials that have no score; they are in none of the arrays.

    Raises:
        InputError: the four arrays differ in length.
    """

    utterances: NDArray[np.str_]
    attacks: NDArray[np.str_]
    is_bonafide: Bools
    scores: Floats
    n_unscored: int = 0

    def __post_init__(self) -> None:
        lengths = {len(self.utterances), len(self.attacks), len(self.is_bonafide), len(self.scores)}
        if len(lengths) > 1:
            raise InputError(f"CM scores: columns of different lengths {sorted(lengths)}")

    def take(self, places: NDArray[np.intp]) -> "CMScores":
        """The trials at these places, in their order."""
        columns = self.utterances[places], self.attacks[places], self.is_bonafide[places], self.scores[places]
        return CMScores(*columns, self.n_unscored)

    @property
    def bonafide(self) -> Floats:
        """Scores of the bona fide trials."""
        return self.scores[self.is_bonafide]

    @property
    def spoof(self) -> Floats:
        """Scores of the spoofed trials."""
        return self.scores[~self.is_bonafide]


@dataclass(frozen=True, eq=False)
class ASVScores:
    """Speaker verification scores by class: one float64 array each, higher = target speaker."""

    target: Floats
    nontarget: Floats
    spoof: Floats


def read_cm_scores(path: PathLike) -> CMScores:
    """Read a countermeasure's score file, `utterance attack key score` a line, plain or gzipped.

    Trials whose score is the word `unscored` are counted in `n_unscored` and left out of the arrays.

    Raises:
        InputError: no text, no trials, a class without scored trials, or (with file and line) a wrong number of
            fields, an unknown key, a score that is no finite number, an utterance that came before.
        OSError: the file cannot be read.
    """
    table = _read_table(path, _CM_LAYOUT)
    return CMScores(
        utterances=as_text(table.names[0]),
        attacks=as_text(table.names[1]),
        is_bonafide=table.kinds == _CM_LAYOUT.keys.index(b"bonafide"),
        scores=table.scores,
        n_unscored=table.n_unscored,
    )


def read_asv_scores(path: PathLike) -> ASVScores:
    """Read the organisers' speaker verification scores, `source key score` a line, plain or gzipped.

    Raises:
        InputError, OSError: as `read_cm_scores`.
    """
    table = _read_table(path, _ASV_LAYOUT)
    target, nontarget, spoof = (table.scores[table.kinds == kind] for kind in range(len(_ASV_LAYOUT.keys)))
    return ASVScores(target=target, nontarget=nontarget, spoof=spoof)


def write_cm_scores(path: PathLike, cm: CMScores) -> None:
    """Write a countermeasure's score file, `utterance attack key score` a line, whole or not at all.

    What is read back is the same, bit for bit.

    Raises:
        OSError: the file cannot be written.
    """
    keys = np.where(cm.is_bonafide, "bonafide", "spoof").tolist()
    rows = zip(cm.utterances.tolist(), cm.attacks.tolist(), keys, cm.scores.tolist(), strict=True)
    with atomic_write(path) as stream:
        stream.writelines(f"{utterance} {attack} {key} {score!r}\n" for utterance, attack, key, score in rows)


def _read_table(path: PathLike, layout: _Layout) -> _Table:
    data = b"".join((MARGIN, _read_text(path, layout), MARGIN))
    try:
        table = _read_fast(data, layout)
    except IrregularText:
        table = _read_by_line(data[len(MARGIN) : -len(MARGIN)], layout, path)
    absent = [key.decode() for kind, key in enumerate(layout.keys) if not (table.kinds == kind).any()]
    if absent:
        others = f" with a score and {table.n_unscored} without" if table.n_unscored else ""
        raise InputError(
            f"{os.fspath(path)}: no trial with key {' or '.join(absent)} among its "
            f"{table.scores.size}{others}, expected some of each of {_listed(layout.keys)}"
        )
    return table


def _read_text(path: PathLike, layout: _Layout) -> bytes:
    """The file's text as UTF-8 bytes, lines ending in \\n, without a byte order mark."""
    data = Path(path).read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.isascii():
            data.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{os.fspath(path)}: damaged gzip file ({error}), expected {layout}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected {layout}") from error
    if b"\0" in data:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected {layout}")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise InputError(f"{os.fspath(path)}: empty, expected {layout}")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    return data if data.endswith(b"\n") else data + b"\n"


def _read_fast(data: bytes, layout: _Layout) -> _Table:
    """Read lines, with a margin before and behind, that are all fields, single spaces and a newline.

    Raises:
        IrregularText: anything is amiss.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    tables = [_read_block(text, lines, layout) for lines in _blocks_of_lines(data)]
    names = [np.concatenate(columns) for columns in zip(*(table.names for table in tables), strict=True)]
    if layout.has_names and not all_different(names[0]):
        raise IrregularText("a name that comes twice")
    kinds = np.concatenate([table.kinds for table in tables])
    return _Table(names, kinds, np.concatenate([table.scores for table in tables]))


def _blocks_of_lines(data: bytes) -> Iterator[slice]:
    """Some whole lines at a time: the arrays made of a block stay in the processor's cache."""
    start, stop = len(MARGIN), len(data) - len(MARGIN)
    while start < stop:
        end = data.find(b"\n", start + _BLOCK, stop) + 1 or stop
        yield slice(start, end)
        start = end


def _read_block(text: NDArray[np.uint8], lines: slice, layout: _Layout) -> _Table:
    *name_spans, key_span, score_span = find_spans(text, lines, len(layout.columns))
    kinds = find_keys(text, key_span, layout.keys)
    scores = parse_numbers(text, score_span)
    if not np.isfinite(scores).all():
        raise IrregularText("a score that is not finite")
    names = [cut_out(text, span) for span in name_spans] if layout.has_names else []
    return _Table(names, kinds, scores)


def _read_by_line(data: bytes, layout: _Layout, path: PathLike) -> _Table:
    rows: list[list[bytes]] = []
    scores: list[float] = []
    n_unscored = 0
    first_line: dict[bytes, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        row = line.split()
        if not row:
            continue
        try:
            score = _checked_row(row, layout)
            if layout.has_names and first_line.setdefault(row[0], number) != number:
                raise InputError(
                    f"utterance {_shown(row[0])} again, first in line {first_line[row[0]]}; expected each once"
                )
        except InputError as error:
            raise InputError(f"{os.fspath(path)}:{number}: {error}") from None
        if score is None:
            n_unscored += 1
        else:
            rows.append(row[:-1])
            scores.append(score)
    return _as_table(rows, scores, n_unscored, layout)


def _as_table(rows: list[list[bytes]], scores: list[float], n_unscored: int, layout: _Layout) -> _Table:
    n_names = len(layout.columns) - 2 if layout.has_names else 0
    names = [np.array([row[column] for row in rows], dtype=np.bytes_) for column in range(n_names)]
    kinds = np.array([layout.keys.index(row[-1]) for row in rows], dtype=np.uint8)
    return _Table(names, kinds, np.array(scores, dtype=np.float64), n_unscored)


def _checked_row(row: list[bytes], layout: _Layout) -> float | None:
    """The score of a line's fields, after all of them have been checked; None where the trial has none."""
    if len(row) != len(layout.columns):
        raise InputError(f"{len(row)} fields, expected {len(layout.columns)}: {layout}")
    for field, name in zip(row, layout.columns, strict=True):
        if len(field) > MAX_FIELD:
            raise InputError(f"{name} of {len(field)} bytes, expected at most {MAX_FIELD}")
    key, text = row[-2:]
    if key not in layout.keys:
        raise InputError(f"key {_shown(key)}, expected {_listed(layout.keys)}")
    return None if text == layout.unscored else _checked_score(text)


def _checked_score(text: bytes) -> float:
    try:
        score = float(text.replace(b"_", b"?"))
    except ValueError:
        raise InputError(f"score {_shown(text)}, expected a number") from None
    if not math.isfinite(score):
        raise InputError(f"score {_shown(text)}, expected a finite number (did the training diverge?)")
    return score


def _shown(field: bytes) -> str:
    text = field.decode("utf-8")
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _listed(keys: tuple[bytes, ...]) -> str:
    return " | ".join(key.decode() for key in keys)


def align_trials(systems: Sequence[CMScores], names: Sequence[str] = ()) -> list[CMScores]:
    """The systems with their trials in order of utterance.

    Args:
        systems: at least one.
        names: what messages call them; without names they are system 1, system 2 ...

    Raises:
        InputError: they did not score the same trials, or an utterance comes twice.
    """
    shown = list(names) or [f"system {number}" for number in range(1, len(systems) + 1)]
    aligned = [_by_name(system) for system in systems]
    for name, system in zip(shown[1:], aligned[1:], strict=True):
        _check_same_trials(aligned[0], system, shown[0], name)
    return aligned


def _by_name(system: CMScores) -> CMScores:
    ordered = system.take(np.argsort(system.utterances))
    again = np.flatnonzero(ordered.utterances[1:] == ordered.utterances[:-1])
    if again.size:
        raise InputError(f"utterance {str(ordered.utterances[again[0]])!r} comes more than once, expected each once")
    return ordered


def _check_same_trials(first: CMScores, other: CMScores, first_name: str, name: str) -> None:
    if not np.array_equal(first.utterances, other.utterances):
        names, others = set(first.utterances.tolist()), set(other.utterances.tolist())
        lacking, further = sorted(names - others), sorted(others - names)
        raise InputError(
            f"{name} scored other trials than {first_name}: {len(lacking)} are lacking and {len(further)} are "
            f"further ones, e.g. {(lacking + further)[0]!r}; expected scores of the same trials"
        )
    differing = np.flatnonzero(first.is_bonafide != other.is_bonafide)
    if differing.size:
        raise InputError(
            f"{name}: {differing.size} trials have another key than in {first_name}, e.g. "
            f"{str(first.utterances[differing[0]])!r}; do the scores belong to one protocol?"
        )
