"""Several systems' scores of the same trials, brought into one order."""

from collections.abc import Sequence

import numpy as np

from errors import InputError
from score_files import CMScores


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
