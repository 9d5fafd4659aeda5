"""Tables are read whatever separates their fields, and a faulty one is named with its line."""

import gzip
from pathlib import Path

import pytest

from s2pecnet.errors import InputError
from s2pecnet.score_files.tables import read_named_columns, read_numbered_columns

ROWS = [["utt", "codec", "note"], ["u1", "mp3", "a b"], ["u2", "opus", ""]]


def text_of(separator: str) -> str:
    return "".join(separator.join(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    "data",
    [
        text_of("\t").encode(),
        text_of(",").encode(),
        text_of(" , ").encode(),
        text_of(";").encode(),
        text_of(",").replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + text_of(",").replace("\n", "\n\n").encode(),
        text_of(",").replace("a b", '"a b"').encode(),
        gzip.compress(text_of("\t").encode(), mtime=0),
    ],
    ids=["tabs", "commas", "commas and spaces", "semicolons", "CRLF", "mark and empty lines", "quotes", "gzip"],
)
def test_separators(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(data)
    table = read_named_columns(path)
    assert table.names == ROWS[0]
    assert [table.column(name) for name in table.names] == [["u1", "u2"], ["mp3", "opus"], ["a b", ""]]
    assert table.lines == ([3, 5] if b"\n\n" in data else [2, 3])


def test_spaces_and_quoted_separators(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("utt   codec\nu1 mp3\n  u2   opus \n")
    assert read_named_columns(path).column("codec") == ["mp3", "opus"]
    path.write_text('utt,note\nu1,"a, ""b"""\n')
    assert read_named_columns(path).column("note") == ['a, "b"']


def test_columns_by_number(tmp_path: Path) -> None:
    path = tmp_path / "protocol.txt"
    path.write_text("LA_1 u1 - A07 spoof\nLA_2 u2 - - bonafide\n")
    table = read_numbered_columns(path)
    assert table.column("4") == ["A07", "-"]
    assert table.rows_of(["u2", "u1"]) == [1, 0]
    for number in ("0", "6"):
        with pytest.raises(InputError, match=f"protocol.txt: no column '{number}', the columns are 1, 2, 3, 4, 5"):
            table.column(number)


def test_rows_are_joined_by_the_column_that_holds_all_utterances(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("spk\tfile\tcodec\nu2\tu1\tmp3\nu1\tu2\topus\nu9\tu3\tmp3\n")
    table = read_named_columns(path)
    assert table.rows_of(["u3", "u1"]) == [2, 0]
    with pytest.raises(
        InputError, match=r"no column of .*table.tsv holds all 3 utterances .* \(the best, 'file', holds 2\)"
    ):
        table.rows_of(["u1", "u7", "u3"])
    path.write_text("file\tcodec\nu1\tmp3\nu2\tmp3\nu2\topus\nu3\tmp3\n")
    table = read_named_columns(path)
    with pytest.raises(InputError, match=r"table.tsv:4: utterance 'u2' again, first in line 3"):
        table.rows_of(["u1", "u2"])
    assert table.rows_of(["u3"]) == [3]  # what is not asked for may come twice
    # Numbers of the rows hold numbers, too.
    path.write_text("row,utt,codec\n1,3,mp3\n2,1,opus\n3,2,mp3\n")
    with pytest.raises(InputError, match=r"the utterances are in column 'row', and in other rows in column 'utt'"):
        read_named_columns(path).rows_of(["1", "2", "3"])
    # A column that has one of them twice is not theirs.
    path.write_text("speaker,utt\n1,1\n1,2\n2,3\n")
    assert read_named_columns(path).rows_of(["2", "1"]) == [1, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "table: empty, expected a table"),
        (b" \n\n", "table: empty"),
        (b"utt,codec\n", "table: no rows"),
        (b"utt,codec\nu1,mp3,x\n", "table:2: 3 fields, expected 2 as in line 1"),
        (b"\n\nutt codec\nu1 mp3\n\nu2\n", "table:6: 1 fields, expected 2 as in line 3"),
        (b"utt,codec\nu1,\xff\n", "table:2: not a UTF-8 text file"),
        (b"utt,codec\nu1,\0\n", "table:2: not a UTF-8 text file"),
        (b'utt,codec\nu1,"mp3"\ru2,"opus"\n', "table:2: new-line character.*; expected lines that end in LF or CRLF"),
        (b'utt,codec\nu1,"' + b"x" * 200_000 + b'"\n', "table:2: field larger than field limit"),
        (gzip.compress(b"utt,codec\n", mtime=0)[:-6], "table: damaged gzip file"),
    ],
)
def test_tables_that_cannot_be_read(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_named_columns(path)
    assert "\n" not in str(caught.value)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("utt,codec,codec," + ",".join(f"c{place}" for place in range(30)) + "\n" + "," * 32 + "\n")
    table = read_named_columns(path)
    with pytest.raises(InputError, match=r"no column 'attack', the columns are utt, codec, .*c16 and 13 more"):
        table.column("attack")
    with pytest.raises(InputError, match="2 columns 'codec'"):
        table.column("codec")
