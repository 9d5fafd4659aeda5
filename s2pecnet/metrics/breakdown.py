"""Metrics of groups of trials: of each attack, each codec, or each value of any column of a table.

    CMScores, values of a column --break_down--> Breakdown: a Group for each value

Which bona fide trials a group's spoofs are set against depends on the column:
    all of them     where the column does not divide bona fide speech, as with `attack`: all bona fide trials have one
                    value, which is a placeholder ("-", "bonafide" ...) or not the value of any spoof
    the group's     where bona fide trials have different values, as with a codec or a speaker
A group without trials of one class has no metrics; it stays in the breakdown, with the reason.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2pecnet.conventions import KEYS
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import against_all_bonafide
from s2pecnet.metrics.dcf import normalised_dcf
from s2pecnet.metrics.det import checked_scores, equal_error, rank_names, sort_trials, sweep
from s2pecnet.metrics.fixed_threshold import FixedThreshold
from s2pecnet.score_files.cm_asv import CMScores
from s2pecnet.score_files.tables import Table
from s2pecnet.text import listed, quoted

ATTACK, CORPUS = "attack", "corpus"
_PLACEHOLDERS = {"-", "", "bonafide", "bona-fide", "bona_fide", "bona fide", "none", "na", "n/a", "nan"}
MOST_GROUPS = 1000


@dataclass(frozen=True)
class Group:
    """Metrics of one group of trials.

    Attributes:
        name: the value of the column that these trials share.
        n_bonafide, n_spoof: number of trials.
        eer, min_dcf: as in `countermeasure.Metrics`; None where a class has no trials.
        reason: why there are no metrics; empty where there are.
    """

    name: str
    n_bonafide: int
    n_spoof: int
    eer: float | None = None
    min_dcf: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Breakdown:
    """Metrics by the values of a column.

    Attributes:
        column: its name.
        all_bonafide: each group's spoofs are set against all bona fide trials, not the group's alone.
        groups: sorted by name.
    """

    column: str
    all_bonafide: bool
    groups: list[Group]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def break_down(cm: CMScores, values: NDArray[np.str_], column: str = ATTACK) -> Breakdown:
    """EER and minDCF of each group of trials that share a value.

    Args:
        cm: scores of n trials.
        values: (n,) each trial's value.
        column: what the values are, for the reader and for messages.

    Raises:
        InputError: a class has no trials, a score is not finite, or there are over 1000 different values.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "A07", "A08", "-"]),
    ...     is_bonafide=np.array([True, False, False, True]), scores=np.array([2.0, -1.0, 4.0, 3.0]))
    >>> for group in break_down(cm, np.array(["mp3", "mp3", "opus", "mp3"]), "codec").groups:
    ...     print(group.name, group.n_bonafide, group.n_spoof, group.eer, group.reason or "-")
    mp3 2 1 0.0 -
    opus 0 1 None no bona fide trials
    """
    bonafide = checked_scores(cm.bonafide, "bona fide CM scores")
    spoof = checked_scores(cm.spoof, "spoofed CM scores")
    _, order = sort_trials(bonafide, spoof)
    of_bonafide, of_spoof = values[cm.is_bonafide], values[~cm.is_bonafide]
    first = str(of_bonafide[0])
    all_bonafide = bool((of_bonafide == first).all()) and (
        first.lower() in _PLACEHOLDERS or not (of_spoof == first).any()
    )
    names, ranks = rank_names(of_spoof if all_bonafide else np.concatenate((of_bonafide, of_spoof)))
    _check_number(len(names), column)
    if all_bonafide:
        parts = against_all_bonafide(ranks, len(names), order)
    else:
        # A part of a sorted list is sorted.
        ranks, in_order = ranks[order], order < bonafide.size
        parts = (in_order[ranks == group] for group in range(len(names)))
    groups = []
    for name, is_bonafide in zip(names, parts, strict=True):
        n_bonafide = int(is_bonafide.sum())
        n_spoof = is_bonafide.size - n_bonafide
        if n_bonafide and n_spoof:
            frr, far = sweep(is_bonafide)
            eer, min_dcf = equal_error(frr, far)[0], float(normalised_dcf(frr, far).min())
            groups.append(Group(name, n_bonafide, n_spoof, eer, min_dcf))
        else:
            absent = "spoofed" if n_bonafide else "bona fide"
            groups.append(Group(name, n_bonafide, n_spoof, reason=f"no {absent} trials"))
    return Breakdown(column, all_bonafide, groups)


def of_score_file(cm: CMScores, column: str) -> NDArray[np.str_]:
    """Each trial's attack, or its corpus where the utterances are of several ("LA/LA_E_1000147"), (n,).

    Raises:
        InputError: an utterance names no corpus.
    """
    if column == ATTACK:
        return cm.attacks
    parts = np.char.partition(cm.utterances, "/")
    without = np.flatnonzero(parts[:, 1] == "")
    if without.size:
        raise InputError(
            f"--by {CORPUS}: {quoted(str(cm.utterances[without[0]]))} names no corpus; expected utterances such as "
            "LA/LA_E_1000147, which runs with several corpora write"
        )
    return np.asarray(parts[:, 0])


def rates_by_value(cm: CMScores, values: NDArray[np.str_], threshold: float, column: str) -> dict[str, FixedThreshold]:
    """The rates at a threshold of each group of trials that share a value of (n,), sorted by name.

    Raises:
        InputError: a score is not finite, or there are over 1000 different values.
    """
    names = np.unique(values)
    _check_number(names.size, column)
    groups = (np.flatnonzero(values == name) for name in names)
    return {str(name): FixedThreshold.of(cm.take(rows), threshold) for name, rows in zip(names, groups, strict=True)}


def _check_number(count: int, column: str) -> None:
    if count > MOST_GROUPS:
        raise InputError(
            f"column {column!r} has {count} different values, expected one that groups the trials into at most "
            f"{MOST_GROUPS}"
        )


def join_values(table: Table, column: str, cm: CMScores) -> NDArray[np.str_]:
    """Each trial's value in a column of a table, (n,), joined by the name of the utterance.

    Raises:
        InputError: no such column (its columns may have numbers instead of names), or not every utterance is in the
            table, once.
    """
    if column not in table.names and not {*cm.utterances.tolist(), *KEYS}.isdisjoint(table.names):
        numbered = listed([f"{number} {field}" for number, field in enumerate(table.names, 1)])
        raise InputError(
            f"{table.path}: no column {quoted(column)}: its first line is a trial, so that its columns go by number, "
            f"as in --by 3; the first line: {numbered}"
        )
    fields = table.column(column)
    return np.array([fields[row] for row in table.rows_of(cm.utterances.tolist())], dtype=np.str_)
