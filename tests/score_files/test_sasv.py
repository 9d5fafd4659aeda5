"""Track-2 score files are read as written, and none that is faulty gets through."""

from pathlib import Path

import numpy as np
import pytest

from s2pecnet.errors import InputError
from s2pecnet.score_files.sasv import read_sasv_scores

TEXT = """\
spk\tfilename\tcm-score\tasv-score\tsasv-score\tkey
E_1\tu1\t4.5\t-1.0\t1.5\tspoof
E_1\tu2\t2.5\t3.0\t2.0\ttarget
E_2\tu2\t2.5\t-3.0\t-1\tnontarget
E_2\tu3\t0.5\t1e0\t0.5\ttarget
"""


@pytest.fixture
def sasv_file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.tsv"
    path.write_text(TEXT)
    return path


def test_scores_by_class(sasv_file: Path) -> None:
    scores = read_sasv_scores(sasv_file)
    assert scores.keys.tolist() == [2, 0, 1, 0]
    assert scores.cm is not None
    assert scores.asv is not None
    assert scores.sasv is not None
    assert (scores.cm.tolist(), scores.asv.tolist()) == ([4.5, 2.5, 2.5, 0.5], [-1.0, 3.0, -3.0, 1.0])
    by_class = scores.by_class(scores.sasv)
    assert by_class.target.tolist() == [2.0, 0.5]
    assert (by_class.nontarget.tolist(), by_class.spoof.tolist()) == ([-1.0], [1.5])


def test_keys_from_a_second_file_are_joined_by_speaker_and_utterance(sasv_file: Path, tmp_path: Path) -> None:
    wanted = read_sasv_scores(sasv_file).keys
    rows = [line.split("\t") for line in TEXT.splitlines()]
    sasv_file.write_text("".join("\t".join(row[:5]) + "\n" for row in rows))
    keys = tmp_path / "keys.tsv"
    keys.write_text("spk filename cm-label asv-label\n" + "".join(f"{r[0]} {r[1]} x {r[5]}\n" for r in rows[:0:-1]))
    assert np.array_equal(read_sasv_scores(sasv_file, keys).keys, wanted)
    keys.write_text(keys.read_text().replace("asv-label", "asv_label").replace("filename", "Utterance"))
    assert np.array_equal(read_sasv_scores(sasv_file, keys).keys, wanted)
    with pytest.raises(InputError, match=r"scores.tsv: no column key \| asv-label, .* --keys"):
        read_sasv_scores(sasv_file)
    complete = keys.read_text()
    keys.write_text(complete.replace("E_1 u1 x spoof\n", "E_1 u4 x spoof\n"))
    with pytest.raises(
        InputError,
        match=r"scores.tsv and .*keys.tsv cover different trials: 1 have no key, 1 have no score, e.g. 'E_1 u1'",
    ):
        read_sasv_scores(sasv_file, keys)
    keys.write_text(f"{complete}E_1 u4 x spoof\n")
    with pytest.raises(InputError, match=r"0 have no key, 1 have no score, e.g. 'E_1 u4'"):
        read_sasv_scores(sasv_file, keys)
    keys.write_text(f"{complete}E_1 u1 x spoof\n")
    with pytest.raises(InputError, match=r"keys.tsv:6: trial 'E_1 u1' again, first in line 5"):
        read_sasv_scores(sasv_file, keys)
    keys.write_text(complete.replace("x spoof", "x bonafide"))
    with pytest.raises(InputError, match=r"keys.tsv:5: key 'bonafide', expected target \| nontarget \| spoof"):
        read_sasv_scores(sasv_file, keys)


def test_columns_of_dashes_are_not_there(sasv_file: Path) -> None:
    sasv_file.write_text("sasv-score key\n1.0 target\n0.5 nontarget\n0.1 spoof\n")
    scores = read_sasv_scores(sasv_file)
    assert (scores.cm, scores.asv) == (None, None)
    sasv_file.write_text("cm-score sasv_score key\n- 1.0 target\n- 0.5 nontarget\n- 0.1 spoof\n")
    scores = read_sasv_scores(sasv_file)
    assert scores.cm is None
    assert scores.sasv is not None
    assert scores.sasv.tolist() == [1.0, 0.5, 0.1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\tspoof", "\tbonafide", r":2: key 'bonafide', expected target \| nontarget \| spoof"),
        ("-3.0", "1_5", r":4: asv-score '1_5', expected a finite number"),
        ("-3.0", "-", r":4: asv-score '-', expected a finite number"),
        ("1e0", "nan", r":5: asv-score 'nan'"),
        ("1.5", "x", r":2: sasv-score 'x'"),
        ("E_2\tu2", "E_1\tu2", r":4: trial 'E_1 u2' again, first in line 3"),
        ("nontarget", "target", r": no trial with key nontarget, expected some of each"),
        ("\t0.5\ttarget", "\ttarget", r":5: 5 fields, expected 6"),
        ("-score", "-points", r": no scores, expected at least one of the columns cm-score \| asv-score \| sasv-score"),
    ],
)
def test_malformed_files(old: str, new: str, message: str, sasv_file: Path) -> None:
    sasv_file.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_sasv_scores(sasv_file)
    assert str(caught.value).startswith(str(sasv_file))
    assert "\n" not in str(caught.value)
