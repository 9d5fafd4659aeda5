"""Score files of spoofing-robust speaker verification: CM, ASV and SASV scores of the same trials.

The file (of the organisers of ASVspoof 5, track 2): a table (see `tables`) whose first line names the columns, and then
a trial a line. Columns, in any order, `-` and `_` alike, others are ignored:

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
from s2pecnet.score_files.cm_asv import ASV_KEYS, ASVScores, Floats, finite_score
from s2pecnet.score_files.tables import PathLike, Table, read_named_columns
from s2pecnet.text import listed, quoted

SCORES = ("cm-score", "asv-score", "sasv-score")
_FILENAME = ("filename", "utterance", "trial", "trial-anon")
_SPEAKER = ("spk", "speaker", "tar-spk-anon")
_KEY = ("key", "asv-label")


@dataclass(frozen=True, eq=False)
class SASVScores:
    """Scores of n trials.

    Attributes:
        keys: (n,) each trial's class, as index into `ASV_KEYS`.
        cm, asv, sasv: (n,) scores, None where the file has none.
    """

    keys: NDArray[np.uint8]
    cm: Floats | None
    asv: Floats | None
    sasv: Floats | None

    def by_class(self, scores: Floats) -> ASVScores:
        """Some scores of these trials by class."""
        return ASVScores(*(scores[self.keys == index] for index in range(len(ASV_KEYS))))


def read_sasv_scores(path: PathLike, keys_path: PathLike | None = None) -> SASVScores:
    """Read a track-2 score file.

    Args:
        keys_path: a second table with the trials' keys; None takes them from the column of the score file.

    Raises:
        InputError: a column is missing, the files name different trials, a class has no trials, or (with file and
            line) a key is unknown, a score is not a finite number, a trial comes twice.
        OSError: a file cannot be read.
    """
    table = read_named_columns(path)
    if _find(table, _FILENAME) is not None:
        _trials(table, by_speaker=_find(table, _SPEAKER) is not None)
    keys = _read_keys(table) if keys_path is None else _join_keys(table, read_named_columns(keys_path))
    indices = np.array([ASV_KEYS.index(key) for key in keys], dtype=np.uint8)
    absent = [key for index, key in enumerate(ASV_KEYS) if not (indices == index).any()]
    if absent:
        raise InputError(
            f"{table.path}: no trial with key {' or '.join(absent)}, expected some of each of {listed(ASV_KEYS, ' | ')}"
        )
    cm, asv, sasv = (_read_scores(table, name) for name in SCORES)
    if cm is None and asv is None and sasv is None:
        raise InputError(f"{table.path}: no scores, expected at least one of the columns {listed(SCORES, ' | ')}")
    return SASVScores(indices, cm, asv, sasv)


def _find(table: Table, names: Sequence[str]) -> list[str] | None:
    """The column that has one of these names; None where there is none."""
    for name in table.names:
        if name.lower().replace("_", "-") in names:
            return table.column(name)
    return None


def _require(table: Table, names: Sequence[str], hint: str = "") -> list[str]:
    column = _find(table, names)
    if column is None:
        raise InputError(f"{table.path}: no column {listed(names, ' | ')}, the columns are {listed(table.names)}{hint}")
    return column


def _read_keys(table: Table) -> list[str]:
    keys = _require(table, _KEY, "; give the file that has the keys with --keys")
    for line, key in zip(table.lines, keys, strict=True):
        if key not in ASV_KEYS:
            raise InputError(f"{table.path}:{line}: key {quoted(key)}, expected {listed(ASV_KEYS, ' | ')}")
    return keys


def _join_keys(table: Table, key_table: Table) -> list[str]:
    """Each trial's key, from another table."""
    by_speaker = _find(table, _SPEAKER) is not None and _find(key_table, _SPEAKER) is not None
    trials, keyed = _trials(table, by_speaker), _trials(key_table, by_speaker)
    keys = dict(zip(keyed, _read_keys(key_table), strict=True))
    missing, extra = [trial for trial in trials if trial not in keys], sorted(keys.keys() - set(trials))
    if missing or extra:
        raise InputError(
            f"{table.path} and {key_table.path} cover different trials: {len(missing)} have no key, {len(extra)} have "
            f"no score, e.g. {quoted(' '.join((missing + extra)[0]))}"
        )
    return [keys[trial] for trial in trials]


def _trials(table: Table, by_speaker: bool) -> list[tuple[str, ...]]:
    columns = [_require(table, _SPEAKER)] if by_speaker else []
    trials = list(zip(*columns, _require(table, _FILENAME), strict=True))
    first: dict[tuple[str, ...], int] = {}
    for line, trial in zip(table.lines, trials, strict=True):
        if first.setdefault(trial, line) != line:
            raise InputError(
                f"{table.path}:{line}: trial {quoted(' '.join(trial))} again, first in line {first[trial]}"
            )
    return trials


def _read_scores(table: Table, name: str) -> Floats | None:
    column = _find(table, (name,))
    if column is None or set(column) == {"-"}:
        return None
    scores = []
    for line, field in zip(table.lines, column, strict=True):
        try:
            scores.append(finite_score(field))
        except InputError:
            raise InputError(f"{table.path}:{line}: {name} {quoted(field)}, expected a finite number") from None
    return np.array(scores)
