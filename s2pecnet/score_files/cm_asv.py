"""Score files: read into arrays quickly, and never wrongly; and written.

Fields are separated by spaces or tabs, empty lines carry no trial, a file may be gzipped:

    CM     `utterance attack key score`, key bonafide | spoof, e.g. `LA_E_2834763 A11 spoof -4.556`; the word `unscored`
           stands for the score of a trial whose audio could not be used: such trials are counted and left out
    ASV    `source key score`, key target | nontarget | spoof, e.g. `- target 7.981530`
    plain  `utterance score`, what the Speech Anti-Spoofing Arena exchanges; `joined` reads such files with their keys

A file in the usual form is read by complete columns (`columns`, in a third of the time of numpy.loadtxt); anything else
is left to a parser that goes line by line and either accepts it or names the line at fault. The values are float()'s,
bit for bit. Higher = bona fide (ASV: target speaker).
"""

import itertools
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from s2pecnet.conventions import KEYS, LONGEST_FIELD, UNSCORED
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.score_files.columns import (
    MARGIN,
    IrregularText,
    all_different,
    as_text,
    cut_out,
    find_keys,
    find_spans,
    parse_numbers,
)
from s2pecnet.text import listed, quoted, read_lines, read_text

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PathLike = str | os.PathLike[str]
Rows = dict[str, NDArray[Any]]

log = logging.getLogger(__name__)
_BLOCK = 1 << 18  # bytes read at a time

ASV_KEYS = ("target", "nontarget", "spoof")


@dataclass(frozen=True)
class _Layout:
    """What the fields of a line are; `keys` is empty where the lines have no key."""

    title: str
    columns: tuple[str, ...]
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"'{' '.join(self.columns)}' in each line of {self.title} score file"


_CM = _Layout("a CM", ("utterance", "attack", "key", "score"), KEYS)
_ASV = _Layout("an ASV", ("source", "key", "score"), ASV_KEYS)
_PLAIN = _Layout("an Arena", ("utterance", "score"))


@dataclass(frozen=True, eq=False)
class CMScores:
    """Countermeasure scores of n trials, in the order of the file.

    Attributes:
        utterances: (n,) utterance names.
        attacks: (n,) attack names (A07 ...), "-" for bona fide trials.
        is_bonafide: (n,) True for bona fide, False for spoofed.
        scores: (n,) float64, higher = bona fide.
        n_unscored: number of trials without a score; they are in none of the arrays.

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

    def take(self, indices: NDArray[np.intp]) -> "CMScores":
        """The trials at these indices, in their order."""
        utterances, attacks = self.utterances[indices], self.attacks[indices]
        return CMScores(utterances, attacks, self.is_bonafide[indices], self.scores[indices], self.n_unscored)

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


def read_cm_scores(path: PathLike, both_classes: bool = True) -> CMScores:
    """Read a countermeasure's score file, `utterance attack key score` a line, plain or gzipped.

    Trials whose score is the word `unscored` are counted in `n_unscored` and left out of the arrays.

    Args:
        both_classes: refuse a file whose scored trials are of one class.

    Raises:
        InputError: no text, no scored trial, a class without any (see `both_classes`), or (with file and line) a wrong
            number of fields, an unknown key, a score that is not a finite number, an utterance that came before.
        OSError: the file cannot be read.
    """
    rows, n_unscored = _read_rows(path, _CM)
    is_bonafide = rows["key"] == b"bonafide"
    check_classes(path, is_bonafide, n_unscored, both_classes)
    return CMScores(as_text(rows["utterance"]), as_text(rows["attack"]), is_bonafide, rows["score"], n_unscored)


def read_asv_scores(path: PathLike) -> ASVScores:
    """Read the organisers' speaker verification scores, `source key score` a line, plain or gzipped.

    Raises:
        InputError, OSError: as `read_cm_scores`.
    """
    rows, _ = _read_rows(path, _ASV)
    asv = ASVScores(*(rows["score"][rows["key"] == key.encode()] for key in ASV_KEYS))
    absent = [key for key in ASV_KEYS if not getattr(asv, key).size]
    if absent:
        raise InputError(
            f"{os.fspath(path)}: no trial with key {' or '.join(absent)} among its {rows['score'].size}, "
            f"expected some of each of {listed(ASV_KEYS, ' | ')}"
        )
    return asv


def read_plain_scores(path: PathLike) -> dict[str, float]:
    """Read the Arena's score file, `utterance score` a line, plain or gzipped; the scores in the order of the file.

    Raises:
        InputError, OSError: as `read_cm_scores`; `unscored` is not a score here.
    """
    rows, _ = _read_rows(path, _PLAIN)
    return dict(zip(as_text(rows["utterance"]).tolist(), rows["score"].tolist(), strict=True))


def read_unscored(path: PathLike) -> list[tuple[str, str, str]]:
    """Utterance, attack and key of a score file's trials that have the word `unscored` in the place of a score."""
    rows = (line.split() for _, line in read_lines(path, "'utterance attack key score' in each line"))
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 4 and row[2] in KEYS and row[3] == UNSCORED]


def write_cm_scores(path: PathLike, cm: CMScores, unscored: Sequence[tuple[str, str, str]] = ()) -> None:
    """Write a countermeasure's score file, `utterance attack key score` a line, completely or not at all.

    What is read back is the same, bit for bit; but white space in a name (of a CSV file) is percent-encoded, so that
    the name stays one field.

    Args:
        unscored: utterance, attack and key of further trials, which have no score.

    Raises:
        OSError: the file cannot be written.
    """
    keys = np.where(cm.is_bonafide, *KEYS).tolist()
    scored = zip(cm.utterances.tolist(), cm.attacks.tolist(), keys, map(repr, cm.scores.tolist()), strict=True)
    rows = itertools.chain(scored, ((*trial, UNSCORED) for trial in unscored))

    def one_field(name: str) -> str:
        field = re.sub(r"\s", lambda found: quote(found[0]), name)
        if len(field.encode()) > LONGEST_FIELD:
            raise InputError(
                f"{os.fspath(path)}: {quoted(name)} has more than {LONGEST_FIELD} bytes, the most of a name"
            )
        return field

    with atomic_write(path) as stream:
        stream.writelines(f"{one_field(name)} {one_field(attack)} {key} {score}\n" for name, attack, key, score in rows)


def write_plain_scores(path: PathLike, scores: Mapping[str, float]) -> None:
    """Write `utterance score` a line with six decimals, in the order of `scores`, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        stream.writelines(f"{utterance} {score:.6f}\n" for utterance, score in scores.items())


# ---- reading -----------------------------------------------------------------------------------


def _read_rows(path: PathLike, layout: _Layout) -> tuple[Rows, int]:
    """The layout's columns by name, texts as UTF-8 bytes; and how many lines have no score."""
    text = read_text(path, str(layout))
    if not text or text.isspace():
        raise InputError(f"{os.fspath(path)}: empty, expected {layout}")
    try:
        rows, n_unscored = _read_columns(text, layout), 0
    except IrregularText:
        rows, n_unscored = _read_by_line(text, layout, path)
    return rows, n_unscored


def _read_columns(text: str, layout: _Layout) -> Rows:
    """Read a file in the usual form: fields, single spaces between them and a newline.

    Raises:
        IrregularText: any line is of another form, or malformed.
    """
    content = text.encode()
    data = b"".join((MARGIN, content, b"" if content.endswith(b"\n") else b"\n", MARGIN))
    characters, keys = np.frombuffer(data, dtype=np.uint8), np.array(layout.keys, dtype=np.bytes_)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in layout.columns if name != "source"}
    start, stop = len(MARGIN), len(data) - len(MARGIN)
    while start < stop:
        # Some complete lines at a time: the arrays made of a block stay in the processor's cache.
        end = data.find(b"\n", start + _BLOCK, stop) + 1 or stop
        spans = find_spans(characters, slice(start, end), len(layout.columns))
        for name, span in zip(layout.columns, spans, strict=True):
            if name == "score":
                parts[name].append(parse_numbers(characters, span))
            elif name == "key":
                parts[name].append(keys[find_keys(characters, span, tuple(keys.tolist()))])
            elif name != "source":
                parts[name].append(cut_out(characters, span))
        start = end
    rows = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    if not np.isfinite(rows["score"]).all():
        raise IrregularText("a score that is not finite")
    if "utterance" in rows and not all_different(rows["utterance"]):
        raise IrregularText("an utterance that comes twice")
    return rows


def _read_by_line(text: str, layout: _Layout, path: PathLike) -> tuple[Rows, int]:
    rows: list[tuple[bytes | float, ...]] = []
    n_unscored = 0
    first_line: dict[bytes, int] = {}
    # As bytes, whose split() and float() know the blanks and digits of ASCII alone.
    for number, line in enumerate(text.encode().split(b"\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            score = _checked_score(fields, layout)
            if layout.columns[0] == "utterance" and first_line.setdefault(fields[0], number) != number:
                first = first_line[fields[0]]
                raise InputError(f"utterance {quoted(fields[0].decode())} again, first in line {first}")
        except InputError as error:
            raise InputError(f"{os.fspath(path)}:{number}: {error}") from None
        if score is None:
            n_unscored += 1
        else:
            rows.append((*fields[:-1], score))
    columns = list(zip(*rows, strict=True)) or [()] * len(layout.columns)
    types = [np.float64 if name == "score" else np.bytes_ for name in layout.columns]
    arrays = [np.array(column, dtype) for column, dtype in zip(columns, types, strict=True)]
    return dict(zip(layout.columns, arrays, strict=True)), n_unscored


def _checked_score(fields: list[bytes], layout: _Layout) -> float | None:
    """The score of a line, after all of its fields have been checked; None where the trial has none."""
    if len(fields) != len(layout.columns):
        how = ""
        if layout is _CM:
            how = "; keys in a file of their own go by --keys FILE, a protocol or table (fuse: --apply-keys too)"
        raise InputError(f"{len(fields)} fields, expected {len(layout.columns)}: {layout}{how}")
    for name, field in zip(layout.columns, fields, strict=True):
        if len(field) > LONGEST_FIELD:
            raise InputError(f"{name} of {len(field)} bytes, expected at most {LONGEST_FIELD}")
    key, text = (field.decode() for field in fields[-2:])
    if layout.keys and key not in layout.keys:
        raise InputError(f"key {quoted(key)}, expected {listed(layout.keys, ' | ')}")
    if layout is _CM and text == UNSCORED:
        return None
    return finite_score(text)


def finite_score(text: str) -> float:
    """The number that a field of a score file holds.

    Raises:
        InputError: it holds none, or one that is not finite.
    """
    try:
        # float() would let underscores stand between digits, and digits of other scripts.
        score = float(text.encode().replace(b"_", b"?"))
    except ValueError:
        raise InputError(f"score {quoted(text)}, expected a number") from None
    if not math.isfinite(score):
        raise InputError(f"score {quoted(text)}, expected a finite number (did the training diverge?)")
    return score


def check_classes(path: PathLike, is_bonafide: Bools, n_unscored: int, both_classes: bool) -> None:
    """Refuse scored trials, (n,), of which there are none, or (see `both_classes`) none of a class.

    Raises:
        InputError: with the numbers that there are.
    """
    absent = [key for key, there in zip(KEYS, (is_bonafide.any(), not is_bonafide.all()), strict=True) if not there]
    if absent and (both_classes or not is_bonafide.size):
        others = f" with a score and {n_unscored} without" if n_unscored else ""
        alone = "; of one class there are only rates: s2pecnet evaluate --threshold NUMBER" if is_bonafide.size else ""
        raise InputError(
            f"{os.fspath(path)}: no trial with key {' or '.join(absent)} among its {is_bonafide.size}{others}, "
            f"expected some of each of {listed(KEYS, ' | ')}{alone}"
        )


# ---- several systems ---------------------------------------------------------------------------


def common_trials(systems: Sequence[CMScores], names: Sequence[str], both_classes: bool = True) -> list[CMScores]:
    """The systems with those trials alone that all of them have scored; a warning counts the others.

    Systems that share no trials are left as they are: `align_trials` refuses them.

    Args:
        names: what the warning calls them.
        both_classes: so are those that share no trials of a class.
    """
    scored = [set(system.utterances.tolist()) for system in systems]
    common, union = set.intersection(*scored), set.union(*scored)
    kept = []
    for system in systems:
        rows = np.flatnonzero([name in common for name in system.utterances.tolist()])
        taken = system.take(rows)
        kept.append(replace(taken, n_unscored=system.n_unscored + system.scores.size - rows.size))
    one_class = any(one.is_bonafide.all() or not one.is_bonafide.any() for one in kept)
    if common == union or not common or (both_classes and one_class):
        return list(systems)
    lacking = [f"{name} lacks {len(union) - len(one)}" for name, one in zip(names, scored, strict=True)]
    log.warning(
        "%d of %d trials are left out of all systems, as not every one has a score for them (%s), e.g. %s",
        *(len(union) - len(common), len(union), listed(lacking), quoted(min(union - common))),
    )
    return kept


def align_trials(systems: Sequence[CMScores], names: Sequence[str] = ()) -> list[CMScores]:
    """The systems with their trials in order of utterance.

    Args:
        systems: at least one.
        names: what messages call them; without names they are system 1, system 2 ...

    Raises:
        InputError: they cover different trials, or an utterance comes twice.
    """
    shown = list(names) or [f"system {number}" for number in range(1, len(systems) + 1)]
    aligned = []
    for name, system in zip(shown, systems, strict=True):
        ordered = system.take(np.argsort(system.utterances))
        again = np.flatnonzero(ordered.utterances[1:] == ordered.utterances[:-1])
        if again.size:
            raise InputError(f"{name}: utterance {quoted(str(ordered.utterances[again[0]]))} comes more than once")
        aligned.append(ordered)
        first = aligned[0]
        if not np.array_equal(first.utterances, ordered.utterances):
            trials, others = set(first.utterances.tolist()), set(ordered.utterances.tolist())
            missing, extra = sorted(trials - others), sorted(others - trials)
            raise InputError(
                f"{shown[0]} and {name} cover different trials: {len(missing)} missing from {name}, {len(extra)} only "
                f"in {name}, e.g. {quoted((missing + extra)[0])}"
            )
        for what, where in (
            ("keys", first.is_bonafide != ordered.is_bonafide),
            ("attacks", first.attacks != ordered.attacks),
        ):
            differing = np.flatnonzero(where)
            if differing.size:
                raise InputError(
                    f"{shown[0]} and {name} give {differing.size} trials different {what}, e.g. "
                    f"{quoted(str(first.utterances[differing[0]]))}: are the scores of one protocol?"
                )
    return aligned
