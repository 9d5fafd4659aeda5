"""Text files are read whatever wrote them, and what is not text is refused with its line."""

import gzip
from pathlib import Path

import pytest

from s2pecnet.errors import InputError
from s2pecnet.text import LONGEST_SHOWN, listed, quoted, read_lines, read_text


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb\n",
        b"\xef\xbb\xbfa\nb\n",
        b"a\r\nb\r\n",
        gzip.compress(b"a\nb\n", mtime=0),
        gzip.compress(b"a\n", mtime=0) + gzip.compress(b"b\n", mtime=0),
    ],
    ids=["plain", "byte order mark", "CRLF", "gzip", "gzip of two members"],
)
def test_the_same_text(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    assert read_text(path, "a text") == "a\nb\n"
    assert read_lines(path, "a text") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\xff\n", ":2: not a UTF-8 text file, expected a table"),
        (b"a\n\nb\0\n", ":3: not a UTF-8 text file, expected a table"),
        (gzip.compress(b"a\n" * 99, mtime=0)[:-9], ": damaged gzip file"),
        (b"a" * 2049, ": larger than 2 KiB, expected a table"),
        # A small file that unpacks to a large one is not unpacked to its end.
        (gzip.compress(bytes(10**7), mtime=0), ": larger than 2 KiB"),
    ],
)
def test_what_is_not_text(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_text(path, "a table", largest=2048)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_lines_that_are_blank_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("\n a \n\t\nb")
    assert read_lines(path, "a table") == [(2, " a "), (4, "b")]
    path.write_text(" \n\n")
    with pytest.raises(InputError, match="text: empty, expected a table"):
        read_lines(path, "a table")


def test_parts_of_messages_are_short() -> None:
    assert quoted("a\nb") == r"'a\nb'"
    assert len(quoted("x" * 999)) == LONGEST_SHOWN
    assert listed(["a", "b"], " | ") == "a | b"
    assert listed([str(number) for number in range(25)]).endswith(", 19 and 5 more")
