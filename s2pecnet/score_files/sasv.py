"""Score files of spoofing-robust speaker verification: CM, ASV and SASV scores of the same trials.

The file (of the organisers of ASVspoof 5, track 2): a table (see `named_columns`) whose first line names the columns,
and then a trial a line. Columns, in any order, `-` and `_` alike, others are ignored:

    spk         the speaker that is claimed; with `filename` it names the trial, without it `filename` alone does
    filename    the utterance, also called utterance or trial
    key         target | nontarget | spoof, also called asv-label; or it comes from a second file with spk and filename
    cm-score    higher = bona fide                           \\
    asv-score   higher = the speaker that is claimed          > at least one of them; `-` in all lines is as if the
    sasv-score  higher = that speaker, and bona fide         /  column were not there

e.g.  spk     filename       cm-score  asv-score  sasv-score  key
      E_0101  E_0000000001   4.7628    -1.0224    1.8701      spoof
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import ASVScores, Floats
from s2pecnet.score_files.tables import NamedColumns, PathLike, read_named_columns

KEYS = ("target", "nontarget", "spoof")
SCORES = ("cm-score", "asv-score", "sasv-score")
_FILENAME = ("filename", "utterance", "trial", "trial-anon")
_SPEAKER = ("spk", "speaker", "tar-spk-anon")
_KEY = ("key", "asv-label")


@dataclass(frozen=True, eq=False)
class SASVScores:
    """Scores of n trials.

    Attributes:
        keys: (n,) each trial's class, by its place in `KEYS`.
        cm, asv, sasv: (n,) scores, None where the file has none.
    """

    keys: NDArray[np.uint8]
    cm: Floats | None
    asv: Floats | None
    sasv: Floats | None

    def by_class(self, scores: Floats) -> ASVScores:
        """Some scores of these trials by class."""
        return ASVScores(*(scores[self.keys == kind] for kind in range(len(KEYS))))


def read_sasv_scores(path: PathLike, keys_path: PathLike | None = None) -> SASVScores:
    """Read a track-2 score file.

    Args:
        keys_path: a second table with the trials' keys; None takes them from the column of the score file.

    Raises:
        InputError: a column is missing, the files name different trials, a class has no trials, or (with file and
            line) a key is unknown, a score is no finite number, a trial comes twice.
        OSError: a file cannot be read.
    """
    table = read_named_columns(path)
    if _find(table, _FILENAME) is not None:
        _trials(table, by_speaker=_find(table, _SPEAKER) is not None)
    keys = _read_keys(table) if keys_path is None else _join_keys(table, read_named_columns(keys_path))
    kinds = np.array([KEYS.index(key) for key in keys], dtype=np.uint8)
    absent = [key for kind, key in enumerate(KEYS) if not (kinds == kind).any()]
    if absent:
        raise InputError(
            f"{table.path}: no trial with key {' or '.join(absent)}, expected some of each of {_listed(KEYS)}"
        )
    cm, asv, sasv = (_read_scores(table, name) for name in SCORES)
    if cm is None and asv is None and sasv is None:
        raise InputError(f"{table.path}: no scores, expected at least one of the columns {_listed(SCORES)}")
    return SASVScores(kinds, cm, asv, sasv)


def _find(table: NamedColumns, names: Sequence[str]) -> list[str] | None:
    """The column that has one of these names; None where there is none."""
    for shown in table.names:
        if shown.lower().replace("_", "-") in names:
            return table.column(shown)
    return None


def _require(table: NamedColumns, names: Sequence[str]) -> list[str]:
    column = _find(table, names)
    if column is None:
        raise InputError(f"{table.path}: no column {_listed(names)}, the first line names {', '.join(table.names)}")
    return column


def _read_keys(table: NamedColumns) -> list[str]:
    if _find(table, _KEY) is None:
        raise InputError(
            f"{table.path}: no column {_listed(_KEY)}, the first line names {', '.join(table.names)}; give the file "
            "that has the keys with --keys"
        )
    keys = _require(table, _KEY)
    for line, key in zip(table.lines, keys, strict=True):
        if key not in KEYS:
            raise InputError(f"{table.path}:{line}: key {key!r}, expected {_listed(KEYS)}")
    return keys


def _join_keys(table: NamedColumns, key_table: NamedColumns) -> list[str]:
    """Each trial's key, from another table."""
    by_speaker = _find(table, _SPEAKER) is not None and _find(key_table, _SPEAKER) is not None
    trials, keyed = _trials(table, by_speaker), _trials(key_table, by_speaker)
    keys = dict(zip(keyed, _read_keys(key_table), strict=True))
    lacking = [place for place, trial in enumerate(trials) if trial not in keys]
    if lacking or len(keys) > len(trials):
        where = f"{table.path}:{table.lines[lacking[0]]}" if lacking else table.path
        further = len(keys) - len(trials) + len(lacking)
        raise InputError(
            f"{where}: {len(lacking)} trials without a key in {key_table.path}, and {further} of its trials without a "
            "score; expected the same trials in both"
        )
    return [keys[trial] for trial in trials]


def _trials(table: NamedColumns, by_speaker: bool) -> list[tuple[str, ...]]:
    columns = [_require(table, _SPEAKER)] if by_speaker else []
    trials = list(zip(*columns, _require(table, _FILENAME), strict=True))
    first: dict[tuple[str, ...], int] = {}
    for line, trial in zip(table.lines, trials, strict=True):
        if first.setdefault(trial, line) != line:
            raise InputError(f"{table.path}:{line}: trial {' '.join(trial)!r} again, first in line {first[trial]}")
    return trials


def _read_scores(table: NamedColumns, name: str) -> Floats | None:
    column = _find(table, (name,))
    if column is None or set(column) == {"-"}:
        return None
    try:
        scores = np.array(column, dtype=np.float64)
    except ValueError:
        scores = np.array([_number(field) for field in column])
    finite = np.isfinite(scores)
    if not finite.all():
        place = int(np.argmin(finite))
        raise InputError(f"{table.path}:{table.lines[place]}: {name} {column[place]!r}, expected a finite number")
    return scores


def _number(field: str) -> float:
    """NaN for what is no number."""
    try:
        return float(field)
    except ValueError:
        return float("nan")


def _listed(names: Sequence[str]) -> str:
    return " | ".join(names)
