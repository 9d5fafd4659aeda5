"""A group's metrics are those of its trials alone, and no group is lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.metrics.breakdown import break_down, join_values
from s2pecnet.metrics.dcf import compute_min_dcf
from s2pecnet.metrics.det import compute_eer
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores
from s2pecnet.score_files.tables import read_named_columns, read_numbered_columns


def scores_of(is_bonafide: list[bool], scores: list[float]) -> CMScores:
    kinds = np.array(is_bonafide)
    names = np.array([f"u{place}" for place in range(kinds.size)])
    return CMScores(names, np.where(kinds, "-", "A07"), kinds, np.array(scores))


trials = st.lists(
    st.tuples(st.booleans(), st.integers(-4, 4).map(float), st.sampled_from(["mp3", "opus", "amr"])), max_size=20
)


@given(trials, st.booleans())
def test_groups_are_made_of_their_own_trials(rows: list[tuple[bool, float, str]], placeholder: bool) -> None:
    rows = [(True, 0.5, "mp3"), (True, 0.5, "opus"), (False, 0.5, "mp3"), *rows]
    kinds, scores, codecs = (np.array(column) for column in zip(*rows, strict=True))
    values = np.where(kinds & placeholder, "-", codecs)
    breakdown = break_down(scores_of(kinds.tolist(), scores.tolist()), values, "codec")
    assert breakdown.all_bonafide is placeholder
    names = [group.name for group in breakdown.groups]
    assert names == sorted({str(value) for value in (values[~kinds] if placeholder else values)})
    for group in breakdown.groups:
        bonafide = scores[kinds & (placeholder | (values == group.name))]
        spoof = scores[~kinds & (values == group.name)]
        assert (group.n_bonafide, group.n_spoof) == (bonafide.size, spoof.size)
        if bonafide.size and spoof.size:
            assert group.eer == compute_eer(bonafide, spoof)[0]
            assert group.min_dcf == compute_min_dcf(bonafide, spoof)[0]
            assert group.reason == ""
        else:
            assert (group.eer, group.min_dcf) == (None, None)
            assert group.reason == ("no spoofed trials" if bonafide.size else "no bona fide trials")


@pytest.mark.parametrize(
    ("bonafide", "spoof", "all_bonafide"),
    [
        (["-", "-"], ["A07", "A08"], True),
        (["-", "-"], ["-", "A08"], True),  # some spoofs are of no named attack: against all bona fide speech too
        (["bonafide", "bonafide"], ["A07", "A08"], True),
        (["human", "human"], ["A07", "A08"], True),  # no spoof has it
        (["mp3", "mp3"], ["mp3", "opus"], False),
        (["mp3", "opus"], ["mp3", "opus"], False),
        (["s1", "s2"], ["s3", "s4"], False),
        (["eval", "eval"], ["eval", "eval"], False),
    ],
)
def test_which_bona_fide_trials(bonafide: list[str], spoof: list[str], all_bonafide: bool) -> None:
    cm = scores_of([True, True, False, False], [2.0, 3.0, 0.0, 2.5])
    breakdown = break_down(cm, np.array(bonafide + spoof), "column")
    assert breakdown.all_bonafide is all_bonafide
    shown = {group.name for group in breakdown.groups}
    assert shown == set(spoof) if all_bonafide else shown == {*bonafide, *spoof}


def test_public_system_by_attack(shared: Path, expected: dict[str, Any]) -> None:
    cm = read_cm_scores(shared / "reference" / "evaluation" / "cm_S2pecNet.txt.gz")
    breakdown = break_down(cm, cm.attacks)
    percent = {group.name: 100 * group.eer for group in breakdown.groups if group.eer is not None}
    assert percent == pytest.approx(expected["cm_S2pecNet"]["per_attack_eer_percent"], abs=1e-9)


def test_values_are_joined_by_utterance(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("codec,file\nopus,u1\nmp3,u0\nmp3,u9\n")
    cm = scores_of([True, False], [1.0, 0.0])
    assert join_values(read_named_columns(path), "codec", cm).tolist() == ["mp3", "opus"]
    assert join_values(read_numbered_columns(path), "1", cm).tolist() == ["mp3", "opus"]
    path.write_text("codec,file\nopus,u1\n")
    with pytest.raises(InputError, match=r"no column of .* holds all 2 utterances"):
        join_values(read_named_columns(path), "codec", cm)


def test_a_column_that_groups_nothing() -> None:
    size = 2002
    kinds = [place % 2 == 0 for place in range(size)]
    values = np.array([f"v{place}" for place in range(size)])
    with pytest.raises(InputError, match=r"column 'file' has 2002 different values, expected .* at most 1000"):
        break_down(scores_of(kinds, [0.0] * size), values, "file")


def test_a_missing_class() -> None:
    with pytest.raises(InputError, match="bona fide CM scores: no scores"):
        break_down(scores_of([False], [1.0]), np.array(["A07"]))
