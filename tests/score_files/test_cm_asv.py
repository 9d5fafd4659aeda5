"""Score files are read as written, and no malformed one gets through."""

import dataclasses
import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s2pecnet.errors import InputError
from s2pecnet.score_files import cm_asv
from tests.helpers.samples import ASV_TEXT, CM_TEXT


def test_cm_scores_are_read_in_order(cm_file: Path) -> None:
    cm = cm_asv.read_cm_scores(cm_file)
    assert cm.utterances.tolist() == ["LA_1", "LA_2", "LA_3", "LA_4"]
    assert cm.attacks.tolist() == ["-", "A07", "A08", "-"]
    assert cm.is_bonafide.tolist() == [True, False, False, True]
    assert cm.scores.tolist() == [2.5, -1.25, 4.0, 3.0]
    assert (cm.bonafide.tolist(), cm.spoof.tolist()) == ([2.5, 3.0], [-1.25, 4.0])
    assert cm.scores.dtype == np.float64


def test_trials_are_taken_in_the_order_asked_for(cm_file: Path) -> None:
    taken = cm_asv.read_cm_scores(cm_file).take(np.array([3, 1]))
    assert taken.utterances.tolist() == ["LA_4", "LA_2"]
    assert taken.attacks.tolist() == ["-", "A07"]
    assert taken.is_bonafide.tolist() == [True, False]
    assert taken.scores.tolist() == [3.0, -1.25]


def test_asv_scores_are_read_by_class(asv_file: Path) -> None:
    asv = cm_asv.read_asv_scores(asv_file)
    assert asv.target.tolist() == [2.0, 3.0]
    assert asv.nontarget.tolist() == [0.0, 1.0]
    assert asv.spoof.tolist() == [5.0, -1.0]


@pytest.mark.parametrize(
    "variant",
    [
        CM_TEXT.rstrip("\n").encode(),
        CM_TEXT.replace("\n", "\r\n").encode(),
        CM_TEXT.replace(" ", "\t").encode(),
        CM_TEXT.replace(" ", "   ").encode(),
        CM_TEXT.replace("\n", " \n\n").encode(),
        b"\xef\xbb\xbf" + CM_TEXT.encode(),
        gzip.compress(CM_TEXT.encode(), mtime=0),
    ],
    ids=["no last newline", "CRLF", "tabs", "many spaces", "empty lines", "byte order mark", "gzip"],
)
def test_harmless_variants_read_the_same(variant: bytes, cm_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "variant.txt"
    other.write_bytes(variant)
    usual = dataclasses.astuple(cm_asv.read_cm_scores(cm_file))
    for ours, theirs in zip(usual, dataclasses.astuple(cm_asv.read_cm_scores(other)), strict=True):
        assert np.array_equal(ours, theirs)


def test_trials_without_a_score_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_text("LA_0 A09 spoof unscored\n" + CM_TEXT.replace("LA_3", "LA_9 - bonafide unscored\nLA_3"))
    cm = cm_asv.read_cm_scores(path)
    assert cm.n_unscored == 2
    assert cm.utterances.tolist() == ["LA_1", "LA_2", "LA_3", "LA_4"]
    assert (cm.bonafide.tolist(), cm.spoof.tolist()) == ([2.5, 3.0], [-1.25, 4.0])


def test_names_beyond_ascii(tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_text(CM_TEXT.replace("LA_1", "één_試"), encoding="utf-8")
    assert cm_asv.read_cm_scores(path).utterances[0] == "één_試"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A07 spoof", "spoof", r":2: 3 fields, expected 4: 'utterance attack key score'"),
        ("A07 spoof", "A07 spoof x", r":2: 5 fields, expected 4"),
        ("LA_2 A07 spoof -1.25\nLA_3", "LA_2 A07 spoof\n-1.25 LA_3", r":2: 3 fields, expected 4"),
        ("A08 spoof", "A08 fake", r":3: key 'fake', expected bonafide \| spoof"),
        ("A08 spoof", "A08 target", r":3: key 'target', expected bonafide \| spoof"),
        ("4.0", "four", r":3: score 'four', expected a number"),
        ("4.0", "1_0", r":3: score '1_0', expected a number"),
        ("4.0", "nan", r":3: score 'nan', expected a finite number"),
        ("4.0", "-inf", r":3: score '-inf', expected a finite number"),
        ("4.0", "1e999", r":3: score '1e999', expected a finite number"),
        ("4.0", "Unscored", r":3: score 'Unscored', expected a number"),
        ("A08 spoof 4.0", "A08 fake unscored", r":3: key 'fake'"),
        ("A08 spoof 4.0", "spoof unscored", r":3: 3 fields, expected 4"),
        ("LA_4 - bonafide 3e0", "LA_1 - bonafide unscored", r":4: utterance 'LA_1' again"),
        (
            "spoof -1.25\nLA_3 A08 spoof 4.0",
            "spoof unscored\nLA_3 A08 spoof unscored",
            r"no trial .* spoof among its 2 with a",
        ),
        ("LA_4", "LA_1", r":4: utterance 'LA_1' again, first in line 1"),
        ("LA_4", "x" * 500, r":4: utterance of 500 bytes, expected at most 200"),
        ("4.0", "4" * 500, r":3: score of 500 bytes"),
        ("\n", "\0\n", r"not a UTF-8 text file"),
        ("spoof", "bonafide", r"no trial with key spoof among its 4"),
        ("bonafide", "spoof", r"no trial with key bonafide among its 4"),
    ],
)
def test_malformed_cm_files(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_text(CM_TEXT.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        cm_asv.read_cm_scores(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, expected 'utterance attack key score'"),
        (b" \n\n", "empty, expected"),
        (b"\xef\xbb\xbf", "empty, expected"),
        (bytes(range(256)) * 4, "not a UTF-8 text file"),
        (CM_TEXT.encode("utf-16"), "not a UTF-8 text file"),
        (gzip.compress(CM_TEXT.encode(), mtime=0)[:-20], "damaged gzip file"),
        (b"\x1f\x8bnonsense", "damaged gzip file"),
        (gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_what_is_no_score_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        cm_asv.read_cm_scores(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- nontarget", "nontarget", r":3: 2 fields, expected 3: 'source key score'"),
        ("nontarget", "bonafide", r":3: key 'bonafide', expected target \| nontarget \| spoof"),
        ("spoof", "target", r"no trial with key spoof among its 6"),
        ("5.0", "", r":5: 2 fields"),
        ("5.0", "unscored", r":5: score 'unscored', expected a number"),
    ],
)
def test_malformed_asv_files(old: str, new: str, message: str, asv_file: Path) -> None:
    asv_file.write_text(ASV_TEXT.replace(old, new))
    with pytest.raises(InputError, match=message):
        cm_asv.read_asv_scores(asv_file)


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
Row = tuple[str, str, str, float]


def oracle_rows(data: bytes) -> tuple[list[Row], int] | None:
    """A CM score file's scored rows by its description, and how many others it has; None where it is malformed."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    rows: list[Row] = []
    names: list[str] = []
    for line in re.sub("^\ufeff", "", text).split("\n"):
        fields = [field for field in re.split("[ \t\r\v\f]", line) if field]
        if not fields:
            continue
        if len(fields) != 4 or fields[2] not in ("bonafide", "spoof"):
            return None
        names.append(fields[0])
        if fields[3] != "unscored":
            if not NUMBER.fullmatch(fields[3]):
                return None
            rows.append((fields[0], fields[1], fields[2], float(fields[3])))
    usable = (
        "\0" not in text
        and all(math.isfinite(row[3]) for row in rows)
        and len(set(names)) == len(names)
        and len({row[2] for row in rows}) == 2
    )
    return (rows, len(names) - len(rows)) if usable else None


PIECES = [
    b"",
    b" ",
    b"  ",
    b"\n",
    b"\n\n",
    b"\t",
    b"\r",
    b"\r\n",
    b"\v",
    b"\x1c",
    b"\0",
    b"\xff",
    "é".encode(),
    b"\xc2\xa0",
    b"_",
    b".",
    b"-",
    b"+",
    b"e5",
    b"7",
    b"nan",
    b" x",
    b"u1",
    b"spoof ",
]


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A sound score file, in which up to three places were cut, overwritten or written into."""
    number = st.one_of(st.floats(-1e3, 1e3).map(repr), st.decimals(-99, 99, places=4).map(str), st.just("unscored"))
    row = st.tuples(st.sampled_from(["- bonafide", "A07 spoof", "A19 spoof"]), number)
    rows = draw(st.lists(row, min_size=2, max_size=6))
    data = b"".join(f"u{place} {kind} {score}\n".encode() for place, (kind, score) in enumerate(rows))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.sampled_from(PIECES)) + data[start + draw(st.integers(0, 2)) :]
    return data


@given(data=damaged_files())
@example(data=b"a - bonafide 1\nb A07 spoof\n0.5 c A07 spoof 2\n")  # 3 and 5 fields make 8
@example(data=b"a  bonafide 1\nb A07 spoof 2\n")  # an empty field between two spaces
@example(data=b"a - bonafide 1\n A07 spoof 2\n")
@example(data=b"a - bonafide 1\rb A07 spoof 2\n")
@example(data=b"a - bonafide 1\nb A07 spoof \xd9\xa1\n")  # an Arabic digit
def test_no_malformed_file_gets_through(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.txt"
    path.write_bytes(data)
    expected = oracle_rows(data)
    if expected is None:
        with pytest.raises(InputError):
            cm_asv.read_cm_scores(path)
        return
    cm = cm_asv.read_cm_scores(path)
    keys = ["bonafide" if bonafide else "spoof" for bonafide in cm.is_bonafide]
    read = list(zip(cm.utterances.tolist(), cm.attacks.tolist(), keys, cm.scores.tolist(), strict=True))
    assert (read, cm.n_unscored) == expected


def careful(data: bytes) -> bytes:
    """The same file in a form that numpy's reader may not see: a carriage return among the blanks at its end."""
    return data.rstrip(b"\n") + b" \r \n"


@given(data=damaged_files())
def test_both_readers_agree(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    found: list[list[object]] = []
    for text in (data, careful(data)):
        path = tmp_path_factory.getbasetemp() / "one.txt"
        path.write_bytes(text)
        try:
            cm = cm_asv.read_cm_scores(path)
        except InputError as error:
            found.append([str(error)])
        else:
            columns = (cm.utterances, cm.attacks, cm.is_bonafide, cm.scores)
            found.append([cm.n_unscored, *((column.dtype, column.tobytes()) for column in columns)])
    assert found[0] == found[1]


texts_of_numbers = st.one_of(
    st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,25}(e[+-]?[0-9]{1,3})?", fullmatch=True).filter(bool),
    st.floats().map(repr),
    st.floats(0, 1, width=32).map(repr),
    st.sampled_from(["nan", "-inf", "infinity", "1_5", "--1", "-", ".", "e-06", "1e-0x", "0x10", "bonafide", "1d5"]),
)


@given(text=texts_of_numbers)
@example(text="94.93194499049777")
@example(text="9007199254740993")  # halfway between two float64
@example(text="4.9e-324")
@example(text="1e400")
@example(text="\x1c1")
@example(text="1#2")
@example(text='"1"')
@example(text="1j")
def test_numbers_are_what_float_gives(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "number.txt"
    path.write_text(f"a - bonafide {text}\nb A07 spoof 1\n")
    if not NUMBER.fullmatch(text) or math.isinf(float(text)):
        with pytest.raises(InputError, match=r":1: (score|\d fields)"):
            cm_asv.read_cm_scores(path)
        return
    assert cm_asv.read_cm_scores(path).scores[:1].tobytes() == np.array([float(text)]).tobytes()


def test_many_numbers_are_what_float_gives(tmp_path: Path) -> None:
    """All digits of doubles near 1, and of single precision ones; in one file, as the reader meets them."""
    doubles = np.random.default_rng(11).normal(scale=3, size=5_000)
    fields = [*map(repr, doubles.tolist()), *map(repr, doubles.astype(np.float32).astype(float).tolist())]
    fields += [f"{value:.6f}" for value in doubles] + [f"{value:.18e}" for value in doubles]
    keys = ("- bonafide", "A07 spoof")
    path = tmp_path / "cm.txt"
    path.write_text("".join(f"u{row} {keys[row % 2]} {field}\n" for row, field in enumerate(fields)))
    assert cm_asv.read_cm_scores(path).scores.tobytes() == np.array([float(field) for field in fields]).tobytes()


@pytest.mark.parametrize("name", ["a#b", '"a"', "'a", "a,b", "%23", "u" * 199, "0", "nan"])
def test_names_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_text(f"{name} - bonafide 1\n#b #A07 spoof 2\n")
    cm = cm_asv.read_cm_scores(path)
    assert (cm.utterances.tolist(), cm.attacks.tolist()) == ([name, "#b"], ["-", "#A07"])


def test_a_file_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cm.txt"
    path.write_text("a - bonafide 1")
    with pytest.raises(InputError, match="no trial with key spoof among its 1"):
        cm_asv.read_cm_scores(path)
    path.write_text("a 1")
    assert cm_asv.read_plain_scores(path) == {"a": 1.0}


def test_regular_files_are_read_by_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which is what makes it fast: a reader that changes the values is seen in the result."""
    read = cm_asv.parse_numbers
    monkeypatch.setattr(cm_asv, "parse_numbers", lambda text, span: read(text, span) + 1)
    rows = [f"LA_E_{number} {'- bonafide' if number % 9 else 'A07 spoof'} {number}\n" for number in range(3000)]
    path = tmp_path / "cm.txt"
    path.write_text("".join(rows))
    assert cm_asv.read_cm_scores(path).scores.tolist() == [number + 1 for number in range(3000)]


# ---- the Arena's files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LA_1 1.0\nLA_2 unscored\n", ":2: score 'unscored', expected a number"),
        ("LA_1 1.0\nLA_1 2.0\n", ":2: utterance 'LA_1' again, first in line 1"),
        ("LA_1 nan\n", ":1: score 'nan', expected a finite number"),
        ("LA_1 1_0\n", ":1: score '1_0', expected a number"),
        ("LA_1 - bonafide 1.0\n", ":1: 4 fields, expected 2: 'utterance score'"),
        (" \n\n", ": empty, expected 'utterance score' in each line"),
    ],
)
def test_malformed_plain_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scores.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        cm_asv.read_plain_scores(path)


def test_plain_files_have_six_decimals(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    cm_asv.write_plain_scores(path, {"b": 1 / 3, "a": -2.0})
    assert path.read_text() == "b 0.333333\na -2.000000\n"
    assert list(cm_asv.read_plain_scores(path).items()) == [("b", 0.333333), ("a", -2.0)]


@pytest.mark.parametrize(("old", "new"), [("A07", "Z9"), ("LA_4 -", "LA_4 x")])
def test_systems_with_other_attacks_are_not_compared(tmp_path: Path, old: str, new: str) -> None:
    text = "LA_1 - bonafide 2.5\nLA_2 A07 spoof -1.25\nLA_3 A08 spoof 4.0\nLA_4 - bonafide 3e0\n"
    for name, content in (("a", text), ("b", text.replace(old, new))):
        (tmp_path / name).write_text(content)
    systems = [cm_asv.read_cm_scores(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(InputError, match=r"a and b give 1 trials different attacks, e\.g\. .LA_"):
        cm_asv.align_trials(systems, ["a", "b"])
