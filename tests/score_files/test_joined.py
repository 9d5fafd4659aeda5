"""Scores find their keys, whatever published list has them, and what is missing or surplus is counted."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from s2pecnet.errors import InputError
from s2pecnet.score_files import joined
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores, write_cm_scores

# Utterance, attack, key.
TRIALS = [("u1", "-", "bonafide"), ("u2", "A07", "spoof"), ("u3", "A08", "spoof"), ("u4", "-", "bonafide")]
SCORES = "u1 2.5\nu2 -1.25\nu3 4e-1\nu4 3.0\n"


def read(tmp_path: Path, scores: str | bytes, keys: str | bytes | None, subset: str | None = None) -> CMScores:
    paths = tmp_path / "scores.txt", tmp_path / "keys.txt"
    for path, content in zip(paths, (scores, keys), strict=True):
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return joined.read_scores(paths[0], None if keys is None else joined.read_keys(paths[1], subset))


def keys_of(form: str) -> str:
    """The trials as a list of some form; "{a}" is the attack, "{A}" the same but bonafide for bona fide trials."""
    return "".join(
        form.format(
            u=utt, a=attack, A="bonafide" if attack == "-" else attack, k=key, s=f"S{place}", real=key == "spoof"
        )
        + "\n"
        for place, (utt, attack, key) in enumerate(TRIALS)
    )


FORMS = {
    "ASVspoof2019": keys_of("{s} {u} - {a} {k}"),
    "ASVspoof2021 LA": keys_of("{s} {u} gsm loc_tx {A} {k} notrim eval"),
    "ASVspoof2021 DF": keys_of("{s} {u} nocodec asvspoof {A} {k} notrim eval traditional_vocoder - - - -"),
    "ASVspoof5": keys_of("{s} {u} F C01 - - AC1 {A} {k} -"),
    "ASVspoof5, tabs": keys_of("{s}\t{u}\tF\tC01\t-\t-\tAC1\t{A}\t{k}\t-"),
    "challenge phase": keys_of("{s} {u} F - {A} {k}"),
    "score file": keys_of("{u} {a} {k} 1.5"),
    "table": "filename\tcm-label\tattack_label\n" + keys_of("{u}\t{k}\t{A}"),
    "CSV": "Speaker,File,Label,attack\r\n" + keys_of("{s},{u},{k},{a}").replace("\n", "\r\n"),
    "quoted CSV": '"file";"key";"attack"\n' + keys_of('"{u}";"{k}";"{a}"'),
    "paths": "path,label,attack\n" + keys_of("audio/{u}.flac,{k},{a}"),
}


@pytest.mark.parametrize("keys", FORMS.values(), ids=FORMS)
def test_lists_of_keys(keys: str, tmp_path: Path) -> None:
    cm = read(tmp_path, SCORES, keys)
    assert cm.utterances.tolist() == [utt for utt, *_ in TRIALS]
    assert cm.attacks.tolist() == [attack for _, attack, _ in TRIALS]
    assert cm.is_bonafide.tolist() == [key == "bonafide" for *_, key in TRIALS]
    assert (cm.scores.tolist(), cm.n_unscored) == ([2.5, -1.25, 0.4, 3.0], 0)


@pytest.mark.parametrize(
    "keys",
    [
        keys_of("{u} {k}"),
        keys_of("{s} {u} {k}"),
        "utterance label\n" + keys_of("{u} {k}"),
        "file,speaker,label\n" + keys_of("{u}.wav,{s},{k}").replace("bonafide", "bona-fide"),
        "utt_id,label\n" + keys_of("{u},{k}").replace("bonafide", "Real").replace("spoof", "FAKE"),
        keys_of("{u}.wav {k}").replace("bonafide", "genuine").replace("spoof", "fake"),
    ],
)
def test_lists_without_attacks(keys: str, tmp_path: Path) -> None:
    cm = read(tmp_path, SCORES, keys)
    assert cm.attacks.tolist() == ["-", "unknown", "unknown", "-"]
    assert cm.is_bonafide.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "scores",
    [
        SCORES.replace(" ", "\t"),
        SCORES.replace(" ", ","),
        SCORES.replace("\n", "\r\n"),
        "\ufeff" + SCORES,
        "filename cm-score\n" + SCORES,
        "\n \nfilename\tcm-score\n" + SCORES.replace(" ", "\t"),
        "score,file,model\n2.5,u1,a\n-1.25,u2,a\n.4,u3,a\n3,u4,a\n",
        "file,logits\n" + SCORES.replace(" ", ","),
        "u1 - bonafide 2.5\nu2 A07 spoof -1.25\nu3 A08 spoof 0.4\nu4 - bonafide 3\n",
        "".join(f"flac/{line}\n" for line in SCORES.replace(" ", ".flac ").splitlines()),
        gzip.compress(SCORES.encode(), mtime=0),
        SCORES + "\n",
        SCORES.replace("2.5", "+2.50E+00"),
    ],
)
def test_forms_of_scores(scores: str | bytes, tmp_path: Path) -> None:
    cm = read(tmp_path, scores, FORMS["ASVspoof2019"])
    assert cm.scores.tolist() == [2.5, -1.25, 0.4, 3.0]
    assert cm.is_bonafide.tolist() == [True, False, False, True]


def test_a_table_of_scores_may_have_the_keys_too(tmp_path: Path) -> None:
    cm = read(tmp_path, "file,label,score,attack\nx y,real,1.5,\nz,fake,0.5,A1\n", None)
    assert cm.utterances.tolist() == ["x y", "z"]
    assert (cm.attacks.tolist(), cm.scores.tolist()) == (["-", "A1"], [1.5, 0.5])


def test_names_with_spaces(tmp_path: Path) -> None:
    keys = "file,label\nmy talk 1.wav,real\nmy talk 2.wav,fake\n"
    for scores in ("my talk 1.wav 2.0\nmy talk 2.wav -1\n", "file,score\nmy talk 1.wav,2.0\nmy talk 2.wav,-1\n"):
        cm = read(tmp_path, scores, keys)
        assert cm.utterances.tolist() == ["my talk 1.wav", "my talk 2.wav"]
        assert cm.scores.tolist() == [2.0, -1.0]
    write_cm_scores(tmp_path / "written.txt", cm)
    assert read_cm_scores(tmp_path / "written.txt").utterances.tolist() == ["my%20talk%201.wav", "my%20talk%202.wav"]


def test_trials_without_a_score_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cm = read(tmp_path, SCORES.replace("u3 4e-1\n", "").replace("3.0", "unscored"), FORMS["ASVspoof5"])
    assert (cm.utterances.tolist(), cm.n_unscored) == (["u1", "u2"], 2)
    assert caplog.messages == [
        f"{tmp_path / 'scores.txt'}: 2 trials without a score, not in the metrics, e.g. 'u3', 'u4'"
    ]


def test_subsets_of_2021(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "s2pecnet")
    keys = FORMS["ASVspoof2021 LA"].replace("u4 gsm loc_tx bonafide bonafide notrim eval",
                                            "u4 gsm loc_tx bonafide bonafide notrim progress")  # fmt: skip
    assert read(tmp_path, SCORES, keys).utterances.tolist() == ["u1", "u2", "u3"]
    assert caplog.messages == [f"{tmp_path / 'keys.txt'}: the subset eval, 3 of 4 trials (--subset all: all)"]
    assert read(tmp_path, SCORES, keys, "all").utterances.size == 4
    with pytest.raises(
        InputError, match=r"no trial of subset hidden, only of eval, progress; choose one with --subset"
    ):
        read(tmp_path, SCORES, keys, "hidden")
    with pytest.raises(InputError, match=r"none of its 1 trials is of the subset eval of .*keys.txt; .*--subset eval"):
        read(tmp_path, "u4 1.0\n", keys)


def test_a_column_called_subset_counts_whatever_its_words(tmp_path: Path) -> None:
    keys = "file,label,subset\nu1,real,eval\nu2,fake,eval\nu3,fake,dev\nu4,real,dev\n"
    assert read(tmp_path, SCORES, keys).utterances.tolist() == ["u1", "u2"]
    assert read(tmp_path, SCORES, keys, "all").utterances.size == 4
    with pytest.raises(InputError, match="no trial of subset hidden, only of dev, eval"):
        read(tmp_path, SCORES, keys, "hidden")
    with pytest.raises(InputError, match=r"keys.txt: the list has no subsets; leave out --subset eval"):
        read(tmp_path, SCORES, PROTOCOL, "eval")
    assert read(tmp_path, SCORES, PROTOCOL, "all").utterances.size == 4


PROTOCOL = FORMS["ASVspoof2019"]


def test_numbers_of_rows_are_no_utterances(tmp_path: Path) -> None:
    """As pandas writes a table with its index, called id; sorted otherwise in either file."""
    scores = "id,audio,score\n0,u1,2.5\n1,u2,-1.25\n2,u3,0.4\n3,u4,3.0\n"
    keys = "id,audio,label\n0,u4,real\n1,u3,fake\n2,u2,fake\n3,u1,real\n"
    cm = read(tmp_path, scores, keys)
    assert dict(zip(cm.utterances.tolist(), cm.is_bonafide.tolist(), strict=True)) == {
        "u1": True, "u2": False, "u3": False, "u4": True,
    }  # fmt: skip
    # Where the utterances are numbers too, nobody can know.
    with pytest.raises(
        InputError, match=r"keys.txt: the utterances are in column '1', and in other rows in column '2'"
    ):
        read(tmp_path, "1 2.5\n2 -1\n3 0.5\n", "1 3 bonafide\n2 1 bonafide\n3 2 spoof\n")
    cm = read(tmp_path, "1 2.5\n2 -1\n3 0.5\n", "1 1 bonafide\n2 2 bonafide\n3 3 spoof\n")
    assert cm.is_bonafide.tolist() == [True, True, False]


def test_the_keys_of_a_table_have_to_agree_with_the_list(tmp_path: Path) -> None:
    table = "file,label,score\nu1,real,2.5\nu2,real,-1.25\nu3,fake,0.4\nu4,real,3.0\n"
    with pytest.raises(InputError, match=r"1 trials have another key in .*keys.txt, e.g. 'u2': leave out --keys"):
        read(tmp_path, table, PROTOCOL)
    cm = read(tmp_path, table.replace("u2,real", "u2,fake").replace("0.4", "unscored"), PROTOCOL)
    assert (cm.utterances.tolist(), cm.n_unscored) == (["u1", "u2", "u4"], 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    for name, content in (("scores", SCORES), ("keys", PROTOCOL), ("four", keys_of("{u} {a} {k} 1.5"))):
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_text, args=[content]).start()
    cm = joined.read_scores(tmp_path / "scores", joined.read_keys(tmp_path / "keys"))
    assert cm.scores.tolist() == [2.5, -1.25, 0.4, 3.0]
    assert joined.read_scores(tmp_path / "four").scores.tolist() == [1.5] * 4


@pytest.mark.parametrize(
    ("scores", "keys", "message"),
    [
        (SCORES + "u5 1\nu6 2\n", None, r": 2 of 6 scored utterances have no key in .*keys.txt, e.g. 'u5', 'u6' \(it"),
        ("x1 1\nx2 2\n", None, r": 2 of 2 scored .*, e.g. 'x1', 'x2' \(it has '.*' ...\): are the keys of"),
        ("u1 - bonafide 1\nu2 - bonafide 2\n", None, r": 1 trials have another key in .*keys.txt, e.g. 'u2': leave"),
        (SCORES + "u4 1\n", None, r"scores.txt:5: utterance 'u4' again, first in line 4"),
        (SCORES.replace("2.5", "nan"), None, r"scores.txt:1: score 'nan', expected a finite number"),
        (SCORES.replace("2.5", "high"), None, r"scores.txt:1: score 'high', expected a number"),
        (SCORES.replace(" ", ";").replace("2.5", "2,5"), None, r"scores.txt:1: score '2,5', expected a number"),
        (SCORES.replace(" ", ",").replace("2.5", "2.5,x"), None, r"txt:1: 3 fields, expected 2: 'utterance score'"),
        ("filename,score\n", None, r"scores.txt: no rows"),
        ("", None, r"scores.txt: empty"),
        ("u1 1\nu4 2\n", None, r"no trial with key spoof among its 2 with a score and 2 without"),
        (SCORES, PROTOCOL + "S9 u1 - - bonafide\n", r"keys.txt:5: utterance 'u1' again, first in line 1"),
        (SCORES, PROTOCOL.replace("A08 spoof", "A08 spof"), r"keys.txt:3: key 'spof', expected bonafide"),
        (SCORES, "file,label\nu1,0\nu2,1\n", r"keys.txt:2: key '0', .*; a number means one class here"),
        (SCORES, "u1 0\nu2 1\n", r"keys.txt: no column of keys, expected one that is called"),
        (SCORES, "", r"keys.txt: empty"),
        ("a/u1 1\nb/u1 2\nu2 3\n", keys_of("{u}.wav {k}"), r"its utterances are not all different without folders"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined(scores: str, keys: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, scores, PROTOCOL if keys is None else keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["audio", "file", "score", "key", "1"])
def test_a_first_trial_is_not_taken_for_names(name: str, tmp_path: Path) -> None:
    cm = read(tmp_path, SCORES.replace("u1", name), FORMS["ASVspoof2019"].replace("u1", name))
    assert cm.utterances.tolist() == [name, "u2", "u3", "u4"]
