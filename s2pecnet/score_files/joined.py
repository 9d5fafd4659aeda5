"""Score files as they are exchanged: scores in one file, the keys of the trials in another.

    scores    `utterance score` a line, with or without a line of names (`filename cm-score`); the score is the last
              field, so that an utterance may hold spaces; or a table between tabs, commas or semicolons. A table that
              has a column of keys too needs no other file
    keys      any list with an utterance and a key in each line: a protocol of ASVspoof2019, trial_metadata.txt of 2021,
              a list of ASVspoof5, a table whose first line names its columns (`UTTERANCES`, `KEY_COLUMNS`, `ATTACKS`)

In a list without names the key is the last column whose fields are keys, the attack stands before it, and the
utterances are the column that holds those of the scores. Files may be gzipped, begin with a byte order mark, and end
lines in CRLF.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from s2pecnet.conventions import AUDIO_ENDINGS, KEYS, LABELS, SUBSETS, UNSCORED
from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import CMScores, PathLike, check_classes, finite_score, read_cm_scores
from s2pecnet.score_files.tables import Table, read_named_columns, read_numbered_columns
from s2pecnet.text import counted, listed, quoted, read_lines, read_text

UTTERANCES = (
    *("filename", "file", "utterance", "utterance-id", "utt", "utt-id", "path", "filepath", "file-path", "file-name"),
    *("trial", "trial-id", "id", "name", "audio", "wav"),
)
SCORES = ("cm-score", "score", "scores", "llr", "logit")
KEY_COLUMNS = ("cm-label", "cm-key", "key", "label", "class")
ATTACKS = ("attack", "attack-label", "attack-id", "attack-type", "system-id")
_EXPECTED = "'utterance score' in each line, or a list of keys"
_EXPECTED_KEYS = "bonafide | spoof (or real | fake, genuine | deepfake ...)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class KeyList:
    """The keys of the trials of a list.

    Attributes:
        table: the list, of n rows.
        is_bonafide: (n,) True for bona fide.
        attacks: (n,) "-" for bona fide trials, "unknown" for spoofs of a list without attacks.
        inside: (n,) whether each is of the subset that is evaluated.
        subset: its name; None where the list has no subsets, or all of them count.
    """

    table: Table
    is_bonafide: list[bool]
    attacks: list[str]
    inside: list[bool]
    subset: str | None

    def join(self, path: PathLike, scores: Mapping[str, float | None], both_classes: bool = True) -> CMScores:
        """The scores with their keys, in their order; a trial of the list without a score counts as unscored.

        Utterances are joined as they are spelt or, where none is found, without folders and endings (`flac/x.flac`).

        Args:
            path: where the scores came from, for messages.
            scores: by utterance; None: unscored.
            both_classes: as in `read_cm_scores`.

        Raises:
            InputError: a scored utterance has no key, an utterance is listed twice, none is of the subset, a class has
                no scored trials.
        """
        rows, names = self.rows_of(path, list(scores))
        kept = [(name, score, row) for (name, score), row in zip(scores.items(), rows, strict=True) if self.inside[row]]
        if not kept:
            raise InputError(
                f"{os.fspath(path)}: none of its {len(scores)} trials is of the subset {self.subset} of "
                f"{self.table.path}; choose another with --subset {' | '.join((*SUBSETS, 'all'))}"
            )
        scored = [(name, score, row) for name, score, row in kept if score is not None]
        unscored = [names[row] for row in self._inside_without({row for *_, row in scored})]
        n_unscored = len(unscored)
        is_bonafide = np.array([self.is_bonafide[row] for *_, row in scored], dtype=bool)
        check_classes(path, is_bonafide, n_unscored, both_classes)
        if unscored:
            some = listed([quoted(name) for name in unscored[:3]])
            log.warning("%s: %s, e.g. %s", path, _without_score(n_unscored), some)
        utterances = np.array([name for name, *_ in scored], dtype=np.str_)
        attacks = np.array([self.attacks[row] for *_, row in scored], dtype=np.str_)
        return CMScores(utterances, attacks, is_bonafide, np.array([score for _, score, _ in scored]), n_unscored)

    def unscored(self, path: PathLike, scored: Sequence[str]) -> list[tuple[str, str, str]]:
        """Utterance, attack and key of the trials of the list that are not among those with a score.

        Raises:
            InputError: as `join`.
        """
        rows, names = self.rows_of(path, scored)
        rest = self._inside_without(set(rows))
        return [(names[row], self.attacks[row], KEYS[0] if self.is_bonafide[row] else KEYS[1]) for row in rest]

    def _inside_without(self, rows: Set[int]) -> list[int]:
        """The rows of the subset that are none of these."""
        return [row for row, inside in enumerate(self.inside) if inside and row not in rows]

    def rows_of(self, path: PathLike, names: Sequence[str]) -> tuple[list[int], list[str]]:
        """The row of each scored utterance, (n,); and the utterances of all rows, as the list spells them.

        Raises:
            InputError: as `join`.
        """
        columns = _named(self.table, UTTERANCES) or range(len(self.table.columns))
        for shorten in (str, _plain_name):
            wanted = set(map(shorten, names))
            index, rows = self.table.held_by(wanted, columns, shorten)
            if rows:
                break
        held = self.table.columns[index]
        missing = sorted(wanted.difference(rows))
        if missing:
            if not rows:
                held = max((self.table.columns[one] for one in columns), key=lambda column: len(set(column)))
            some = listed([quoted(name) for name in missing[:3]])
            raise InputError(
                f"{os.fspath(path)}: {len(missing)} of {len(names)} scored utterances have no key in "
                f"{self.table.path}, e.g. {some} (it has {held[0]!r} ...): are the keys of another split?"
            )
        if len(wanted) < len(names):
            raise InputError(f"{os.fspath(path)}: its utterances are not all different without folders and endings")
        return [rows[shorten(name)] for name in names], held


def read_keys(path: PathLike, subset: str | None = None) -> KeyList:
    """Read a list of keys.

    Args:
        subset: which trials of a list with subsets (ASVspoof2021) are evaluated, one of `SUBSETS`, or "all"; None:
            those of "eval", where it has subsets.

    Raises:
        InputError: no column of keys, an unknown key (with file and line), no trial of the subset, or as
            `read_named_columns`.
        OSError: the file cannot be read.
    """
    named = any(name in KEY_COLUMNS for name in _header(_first_line(path)))
    return _keys_of(read_named_columns(path) if named else read_numbered_columns(path), subset)


def read_scores(
    path: PathLike, keys: KeyList | None = None, *, both_classes: bool = True, llr: bool = False
) -> CMScores:
    """Read a countermeasure's scores with their keys, and warn of trials without a score.

    Args:
        path: the scores; without `keys` it has the keys too: `utterance attack key score` a line, or a table. With
            `keys` such a file's own keys have to agree with them.
        both_classes: as in `read_cm_scores`.
        llr: log-likelihood ratios are wanted: of a table with scores and ratios, the latter.

    Raises:
        InputError: as `read_cm_scores` and `KeyList.join`.
        OSError: a file cannot be read.
    """
    first = _first_line(path)
    names, scores, own = _header(first), None, None
    if any(name in SCORES for name in names) and (len(names) > 2 or _separator(first)):
        table = read_named_columns(path)
        scores = _scores_of(table, llr)
        if _named(table, KEY_COLUMNS):
            own = _keys_of(table, "all").join(path, scores, both_classes and keys is None)
    elif len(fields := first.split()) == 4 and fields[2] in KEYS:
        own = read_cm_scores(path, both_classes and keys is None)
        if own.n_unscored and keys is None:
            log.warning("%s: %s", path, _without_score(own.n_unscored))
    if keys is None:
        return read_cm_scores(path, both_classes) if own is None else own
    if own is None:
        return keys.join(path, scores or _read_pairs(path), both_classes)
    cm = keys.join(path, scores or dict(zip(own.utterances.tolist(), own.scores.tolist(), strict=True)), both_classes)
    known = dict(zip(own.utterances.tolist(), own.is_bonafide.tolist(), strict=True))
    others = [name for name, real in zip(cm.utterances.tolist(), cm.is_bonafide.tolist(), strict=True)
              if known[name] != real]  # fmt: skip
    if others:
        raise InputError(
            f"{os.fspath(path)}: {len(others)} trials have another key in {keys.table.path}, e.g. "
            f"{quoted(others[0])}: leave out --keys, or give the right ones"
        )
    return cm


def _without_score(count: int) -> str:
    return f"{counted(count, 'trial')} without a score, not in the metrics"


# ---- scores ------------------------------------------------------------------------------------


def _scores_of(table: Table, llr: bool) -> dict[str, float | None]:
    """The scores of a table that names its columns."""
    found = _named(table, ("llr", *SCORES) if llr else SCORES)
    if len(set(found)) > 1:
        log.info("%s: of its columns of scores, %s is read", table.path, table.names[found[0]])
    indices = (_utterances_of(table), found[0] if found else _one_of(table, SCORES))
    columns = [table.column(table.names[index]) for index in indices]
    return _by_utterance(table.path, table.lines, *columns)


def _read_pairs(path: PathLike) -> dict[str, float | None]:
    """The scores of a file of `utterance score`."""
    lines = read_lines(path, "'utterance score' in each line")
    separator = _separator(lines[0][1])
    numbers, utterances, texts = list[int](), list[str](), list[str]()
    for number, line in lines[1:] if _header(lines[0][1]) else lines:
        fields = [field.strip() for field in line.split(separator)]
        if separator is None:
            fields = line.strip().rsplit(None, 1)
        if len(fields) != 2:
            raise InputError(f"{os.fspath(path)}:{number}: {len(fields)} fields, expected 2: 'utterance score'")
        for column, value in zip((utterances, texts), fields, strict=True):
            column.append(value)
        numbers.append(number)
    return _by_utterance(os.fspath(path), numbers, utterances, texts)


def _by_utterance(
    path: str, numbers: Sequence[int], utterances: Sequence[str], texts: Sequence[str]
) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    lines: dict[str, int] = {}
    for line, utterance, text in zip(numbers, utterances, texts, strict=True):
        if lines.setdefault(utterance, line) != line:
            raise InputError(f"{path}:{line}: utterance {quoted(utterance)} again, first in line {lines[utterance]}")
        try:
            scores[utterance] = None if text == UNSCORED else finite_score(text)
        except InputError as error:
            raise InputError(f"{path}:{line}: {error}") from None
    return scores


# ---- keys --------------------------------------------------------------------------------------


def _keys_of(table: Table, subset: str | None) -> KeyList:
    index = _key_column(table)
    meanings = {word: LABELS.get(_plain_word(word)) for word in set(table.columns[index])}
    words = [meanings[word] for word in table.columns[index]]
    if None in words:
        row = words.index(None)
        word = table.columns[index][row]
        number = "; a number means one class here and the other there" if word.isdecimal() else ""
        raise InputError(f"{table.path}:{table.lines[row]}: key {quoted(word)}, expected {_EXPECTED_KEYS}{number}")
    is_bonafide = [word == "bonafide" for word in words]
    named = not table.names[0].isdecimal()
    attacks = _attacks_of(table, index, is_bonafide, named)
    parts = [
        column
        for name, column in zip(table.names, table.columns, strict=True)
        if (_plain_word(name) == "subset" if named else set(column) <= {*SUBSETS, "all"})
    ]
    if not parts and subset not in (None, "all"):
        raise InputError(f"{table.path}: the list has no subsets; leave out --subset {subset}")
    if not parts or subset == "all":
        return KeyList(table, is_bonafide, attacks, [True] * len(words), None)
    subset = subset or "eval"
    inside = [word == subset for word in parts[-1]]
    if not any(inside):
        found = listed(sorted(set(parts[-1])))
        raise InputError(f"{table.path}: no trial of subset {subset}, only of {found}; choose one with --subset")
    log.info("%s: the subset %s, %d of %d trials (--subset all: all)", table.path, subset, sum(inside), len(inside))
    return KeyList(table, is_bonafide, attacks, inside, subset)


def _attacks_of(table: Table, key: int, is_bonafide: Sequence[bool], named: bool) -> list[str]:
    """Each trial's attack: of a column with such a name, or of the one before the keys where it can be no other."""
    column = [""] * len(is_bonafide)
    if named:
        column = next((table.columns[index] for index in _named(table, ATTACKS)), column)
    elif key:
        of_bonafide = {word for word, real in zip(table.columns[key - 1], is_bonafide, strict=True) if real}
        if of_bonafide <= {"-", "bonafide"} and key > (1 if of_bonafide else 2):
            column = table.columns[key - 1]
    return [
        "-" if real else word if word not in ("", "-") else "unknown"
        for real, word in zip(is_bonafide, column, strict=True)
    ]


def _key_column(table: Table) -> int:
    """The column of keys: by its name, else the last one of which most fields are keys."""
    named = _named(table, KEY_COLUMNS)
    if named:
        return named[0]
    counts = [
        sum(count for word, count in Counter(column).items() if _plain_word(word) in LABELS) for column in table.columns
    ]
    best = max(range(len(counts)), key=lambda index: (counts[index], index))
    if 2 * counts[best] <= len(table.lines):
        raise InputError(
            f"{table.path}: no column of keys, expected one that is called {listed(KEY_COLUMNS, ' | ')} in the first "
            f"line, or whose fields are {_EXPECTED_KEYS}"
        )
    return best


def _named(table: Table, names: Sequence[str]) -> list[int]:
    """The columns with one of these names, the first name first."""
    plain = [_plain_word(name) for name in table.names]
    return [plain.index(name) for name in names if name in plain]


def _one_of(table: Table, names: Sequence[str]) -> int:
    found = _named(table, names)
    if not found:
        raise InputError(f"{table.path}: no column {listed(names, ' | ')}, the columns are {listed(table.names)}")
    return found[0]


def _utterances_of(table: Table) -> int:
    """The column of utterances; one that numbers the rows is it only where there is no other."""
    found = _named(table, UTTERANCES)
    texts = [index for index in found if not all(field.isdecimal() for field in table.columns[index])]
    return texts[0] if texts else _one_of(table, UTTERANCES)


def _first_line(path: PathLike) -> str:
    return read_text(path, _EXPECTED).lstrip().partition("\n")[0]


def _separator(line: str) -> str | None:
    return next((separator for separator in "\t;," if separator in line), None)


def _header(line: str) -> list[str]:
    """The names of columns in a first line; none where it is a trial's."""
    fields = [field.strip(' "') for field in line.split(_separator(line))]
    names = [_plain_word(field) for field in fields]
    known = any(name in (*UTTERANCES, *SCORES, *KEY_COLUMNS) for name in names)
    of_a_trial = any(name in LABELS or re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", name) for name in names)
    return names if known and not of_a_trial else []


def _plain_word(word: str) -> str:
    return re.sub("[_ ]", "-", word.lower())


def _plain_name(name: str) -> str:
    """`flac/LA_E_1.flac` as LA_E_1."""
    stem, ending = os.path.splitext(re.split(r"[/\\]", name)[-1])
    return stem if ending.lower() in AUDIO_ENDINGS else stem + ending
