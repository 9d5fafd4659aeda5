"""Systems are brought into one order, or the message names how they differ."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import CMScores, align_trials

SYSTEM = CMScores(
    np.array(["u2", "u0", "u1"]), np.array(["A07", "-", "-"]), np.array([False, True, True]), np.array([2.0, 0.0, 1.0])
)


def test_trials_come_in_order_of_name() -> None:
    for system in align_trials([SYSTEM, SYSTEM.take(np.array([1, 2, 0]))]):
        assert system.utterances.tolist() == ["u0", "u1", "u2"]
        assert system.scores.tolist() == [0.0, 1.0, 2.0]
        assert system.is_bonafide.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"utterances": np.array(["u2", "u0", "u3"])},
            "A and B cover different trials: 1 missing from B, 1 only in B, e.g. 'u1'",
        ),
        ({"utterances": np.array(["u2", "u0", "u0"])}, "utterance 'u0' comes more than once"),
        ({"is_bonafide": np.array([False, False, True])}, "A and B give 1 trials different keys, e.g. 'u0'"),
    ],
)
def test_other_trials(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        align_trials([SYSTEM, dataclasses.replace(SYSTEM, **changes)], ["A", "B"])
