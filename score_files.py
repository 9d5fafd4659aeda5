"""Score files: read into arrays quickly, and never wrongly.

Score files (fields separated by spaces or tabs; also gzipped; empty lines carry no trial)
    CM   `utterance attack key score`, key bonafide | spoof, e.g. `LA_E_2834763 A11 spoof -4.556`
    ASV  `source key score`, key target | nontarget | spoof, e.g. `- target 7.981530`

A file of the usual form is read by whole columns (`_read_fast`); anything out of the ordinary is left to a parser that
goes line by line (`_read_by_line`), which accepts it or names the line at fault.
"""

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PathLike = str | os.PathLike[str]

_POWERS_OF_TEN = np.array([float(10**power) for power in range(16)])
_MAX_FIELD = 200  # characters; a longer field is no name and would make the columns huge


@dataclass(frozen=True)
class _Layout:
    kind: str
    columns: tuple[str, ...]  # the last two are always key and score
    keys: tuple[bytes, ...]
    unique_names: bool  # may the first column hold the same name twice?

    def __str__(self) -> str:
        return f"'{' '.join(self.columns)}' in each line of a {self.kind} score file"


_CM_LAYOUT = _Layout("CM", ("utterance", "attack", "key", "score"), (b"bonafide", b"spoof"), True)
_ASV_LAYOUT = _Layout("ASV", ("source", "key", "score"), (b"target", b"nontarget", b"spoof"), False)


class _Table(NamedTuple):
    fields: list[NDArray[np.bytes_]]  # one array of bytes a column, the score's left out
    scores: Floats

    @property
    def keys(self) -> NDArray[np.bytes_]:
        return self.fields[-1]


@dataclass(frozen=True, eq=False)
class CMScores:
    """Countermeasure scores of n trials, in the order of the file.

    Attributes:
        utterances: (n,) utterance names.
        attacks: (n,) attack names (A07 ...), "-" for bona fide trials.
        is_bonafide: (n,) True for bona fide, False for spoofed.
        scores: (n,) float64, higher = bona fide.

    Raises:
        InputError: the four differ in length.
    """

    utterances: NDArray[np.str_]
    attacks: NDArray[np.str_]
    is_bonafide: Bools
    scores: Floats

    def __post_init__(self) -> None:
        lengths = {len(self.utterances), len(self.attacks), len(self.is_bonafide), len(self.scores)}
        if len(lengths) > 1:
            raise InputError(f"CM scores: columns of different lengths {sorted(lengths)}")

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

    Raises:
        InputError: no text, no trials, a class without trials, or (with file and line) a wrong number of
            fields, an unknown key, a score that is no finite number, an utterance that came before.
        OSError: the file cannot be read.
    """
    table = _read_table(path, _CM_LAYOUT)
    return CMScores(
        utterances=_as_text(table.fields[0]),
        attacks=_as_text(table.fields[1]),
        is_bonafide=table.keys == b"bonafide",
        scores=table.scores,
    )


def read_asv_scores(path: PathLike) -> ASVScores:
    """Read the organisers' speaker verification scores, `source key score` a line, plain or gzipped.

    Raises:
        InputError, OSError: as `read_cm_scores`.
    """
    table = _read_table(path, _ASV_LAYOUT)
    target, nontarget, spoof = (table.scores[table.keys == key] for key in _ASV_LAYOUT.keys)
    return ASVScores(target=target, nontarget=nontarget, spoof=spoof)


def _read_table(path: PathLike, layout: _Layout) -> _Table:
    data = _read_text(path, layout)
    table = _read_fast(data, layout) or _read_by_line(data, layout, path)
    absent = [key.decode() for key in layout.keys if not (table.keys == key).any()]
    if absent:
        raise InputError(
            f"{os.fspath(path)}: no trial with key {' or '.join(absent)} among its "
            f"{table.scores.size}, expected some of each of {_listed(layout.keys)}"
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


def _read_fast(data: bytes, layout: _Layout) -> _Table | None:
    """Read a file whose every line is fields, single spaces and a newline; None where anything is amiss."""
    spans = _field_spans(data, len(layout.columns))
    if spans is None:
        return None
    padded = data + bytes(_MAX_FIELD)
    columns = [_column(padded, starts, lengths) for starts, lengths in spans]
    *fields, score_texts = columns
    try:
        scores = _parse_numbers(score_texts)
    except ValueError:
        return None
    valid_key = np.logical_or.reduce([fields[-1] == key for key in layout.keys])
    # float() reads "1_5" as 15; in a score file an underscore is a slip.
    sound = valid_key.all() and np.isfinite(scores).all() and b"_" not in score_texts.tobytes()
    if sound and layout.unique_names:
        sound = _all_different(fields[0])
    return _Table(fields, scores) if sound else None


def _field_spans(data: bytes, n_columns: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]] | None:
    """Starts and lengths of each column's fields; None unless the separators of every line are right."""
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text <= ord(" "))
    separators = np.frombuffer(b" " * (n_columns - 1) + b"\n", dtype=np.uint8)
    if ends.size % n_columns or (text[ends].reshape(-1, n_columns) != separators).any():
        return None
    starts = np.concatenate((np.zeros(1, dtype=ends.dtype), ends[:-1] + 1))
    lengths = ends - starts
    if lengths.min() < 1 or lengths.max() > _MAX_FIELD:
        return None
    return [(starts[column::n_columns], lengths[column::n_columns]) for column in range(n_columns)]


def _column(padded: bytes, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.bytes_]:
    """The fields of one column as an array of bytes as wide as the longest."""
    width = int(lengths.max())
    # Overlapping windows, one from each byte on; the zeros behind the text give the last ones room.
    windows: NDArray[np.bytes_] = np.ndarray(len(padded) - width, f"S{width}", padded, strides=(1,))
    fields = windows[starts]
    # A window runs on behind a shorter field: blank what is not the field's.
    fields.view(np.uint8).reshape(-1, width)[np.arange(width) >= lengths[:, None]] = 0
    return fields


def _all_different(names: NDArray[np.bytes_]) -> bool:
    """Whether no name comes twice; False may be a mere collision of hashes: the line parser settles it."""
    n_words = -(-names.itemsize // 8)
    words = names.astype(f"S{8 * n_words}").view(np.uint64).reshape(names.size, n_words)
    hashes = np.zeros(names.size, dtype=np.uint64)
    for column in range(n_words):
        hashes = (hashes ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)  # odd: no bit is lost
    hashes.sort()
    return bool((hashes[1:] != hashes[:-1]).all())


def _parse_numbers(texts: NDArray[np.bytes_]) -> Floats:
    """What float() gives for each text; ValueError where one is no number.

    Up to 15 digits and a point are an integer below 2**53 over a power of ten, both exact, and IEEE division
    rounds their quotient to the nearest double: what float() does, for whole columns at once.
    """
    if texts.itemsize > len("-") + 15 + len("."):
        return texts.astype(np.float64)
    characters = np.ascontiguousarray(texts.view(np.uint8).reshape(texts.size, -1).T)
    digits = characters - np.uint8(ord("0"))  # wraps around below "0"
    is_digit, is_point = digits < 10, characters == ord(".")
    is_minus = characters[0] == ord("-")
    n_digits, n_points = is_digit.sum(axis=0, dtype=np.uint8), is_point.sum(axis=0, dtype=np.uint8)
    length = (characters != 0).sum(axis=0, dtype=np.uint8)
    plain = (n_digits >= 1) & (n_digits <= 15) & (n_points <= 1) & (n_digits + n_points + is_minus == length)
    if not plain.all():
        return texts.astype(np.float64)
    integers = np.zeros(texts.size)
    for digit, counts in zip(digits, is_digit, strict=True):
        integers *= np.where(counts, 10.0, 1.0)
        integers += np.where(counts, digit, 0)
    decimals = np.where(n_points, length - 1 - is_point.argmax(axis=0), 0)
    numbers: Floats = np.where(is_minus, -integers, integers) / _POWERS_OF_TEN[decimals]
    return numbers


def _read_by_line(data: bytes, layout: _Layout, path: PathLike) -> _Table:
    rows: list[list[bytes]] = []
    scores: list[float] = []
    first_line: dict[bytes, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        row = line.split()
        if not row:
            continue
        try:
            scores.append(_checked_row(row, layout))
            if layout.unique_names and first_line.setdefault(row[0], number) != number:
                raise InputError(
                    f"utterance {_shown(row[0])} again, first in line {first_line[row[0]]}; expected each once"
                )
        except InputError as error:
            raise InputError(f"{os.fspath(path)}:{number}: {error}") from None
        rows.append(row[:-1])
    return _Table([np.array(column) for column in zip(*rows, strict=True)], np.array(scores))


def _checked_row(row: list[bytes], layout: _Layout) -> float:
    """The score of a line's fields, after all of them have been checked."""
    if len(row) != len(layout.columns):
        raise InputError(f"{len(row)} fields, expected {len(layout.columns)}: {layout}")
    for field, name in zip(row, layout.columns, strict=True):
        if len(field) > _MAX_FIELD:
            raise InputError(f"{name} of {len(field)} bytes, expected at most {_MAX_FIELD}")
    key, text = row[-2:]
    if key not in layout.keys:
        raise InputError(f"key {_shown(key)}, expected {_listed(layout.keys)}")
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


def _as_text(fields: NDArray[np.bytes_]) -> NDArray[np.str_]:
    codes = np.ascontiguousarray(fields).view(np.uint8)
    if codes.max() > 127:
        return np.char.decode(fields, "utf-8")
    # ASCII codes are code points: widened from 1 to 4 bytes they are numpy's text, and no decoder is as fast.
    return codes.astype(np.uint32).view(f"U{fields.itemsize}")
