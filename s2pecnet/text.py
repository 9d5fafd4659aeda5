"""Text that came from outside: files read with care, JSON read strictly, and words for messages.

read_text, read_lines     a text file, plain or gzipped
load_json, find_keys, check_depth    JSON
first_line, clipped, quoted, listed, threshold_text   parts of messages; nearest: "did you mean"
"""

import difflib
import gzip
import io
import json
import math
import os
import re
import stat
import typing
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from s2pecnet.errors import InputError

# Objects and lists in each other, so many deep: what walks through a config calls itself at each level.
DEEPEST = 32
# What a machine can hold in a word; texts and numbers of messages are shown up to a length.
LARGEST_INTEGER = 2**64 - 1
LONGEST_SHOWN = 120
MOST_SHOWN = 20
# A score file of ten million trials has about half a GiB; a gzipped file may not unpack to more than this either.
LARGEST_TEXT = 2**31
# In a path or a name they break lines, or the system does not take them at all (NUL, half of a character).
CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
_CONTROL = re.compile(CONTROL)
# What came through pipes, by their names.
_PIPED: dict[str, bytes] = {}


def read_text(path: str | os.PathLike[str], expected: str, largest: int = LARGEST_TEXT) -> str:
    """The text of a file: gzip is unpacked, a byte order mark dropped, and lines end in \\n.

    Args:
        expected: what the file should be, for messages ("a table").
        largest: bytes that the text may have.

    Raises:
        InputError: it is larger, a damaged gzip file, or not text in UTF-8 (with its first such line).
        OSError: the file cannot be read.
    """
    origin = os.fspath(path)
    try:
        with _opened(path) as stream:
            source = gzip.GzipFile(fileobj=stream) if stream.peek(2).startswith(b"\x1f\x8b") else stream
            data = bytearray()
            while len(data) <= largest and (block := source.read(1 << 20)):
                data += block
        if len(data) > largest:
            raise InputError(f"{origin}: larger than {largest // 1024} KiB, expected {expected}")
        text = data.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{origin}: damaged gzip file ({error}), expected {expected}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{origin}:{line}: not a UTF-8 text file, expected {expected}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{origin}:{line}: not a UTF-8 text file, expected {expected}")
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n") if "\r" in text else text


def _opened(path: str | os.PathLike[str]) -> io.BufferedReader:
    """A file for reading; a pipe can be read once, and what came is kept for whoever reads it again."""
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return open(path, "rb")
    name = os.path.realpath(path)
    if name not in _PIPED:
        with open(path, "rb") as stream:
            _PIPED[name] = stream.read(LARGEST_TEXT + 1)
    return io.BufferedReader(io.BytesIO(_PIPED[name]))


def read_lines(path: str | os.PathLike[str], expected: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number, from 1.

    Raises:
        InputError: as `read_text`; there are none.
        OSError: the file cannot be read.
    """
    lines = [(n, line) for n, line in enumerate(read_text(path, expected).split("\n"), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{os.fspath(path)}: empty, expected {expected}")
    return lines


def nearest(word: str, known: typing.Iterable[str], cutoff: float = 0.75) -> str | None:
    """The known word that `word` is probably a slip of, or None.

    >>> nearest("batchsize", ["batch_size", "loss"])
    'batch_size'
    """
    known = list(known)
    by_plain_form = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_plain_form, n=1, cutoff=cutoff)
    return by_plain_form[found[0]] if found else None


def load_json_object(text: str, origin: str) -> dict[str, Any]:
    """Parse a JSON object; what `load_json` refuses is refused with its line.

    Raises:
        InputError: with "origin:line: ...".
    """
    content = load_json(text, origin)
    if not isinstance(content, dict):
        raise InputError(f"{origin}: expected a JSON object {{...}}, got {type(content).__name__}")
    return content


def find_keys(text: str) -> Iterator[tuple[int, str, int]]:
    """The keys of a JSON text in their order: the number of their object, the dotted key, and its line, from 1.

    An object in a list counts as a key too: "steps[0]", and "steps[0].name" in it.
    """
    around: list[list[Any]] = []  # of each object or list that is open: its number, the key it is under, items so far
    opened, key, name, start = 0, "", "", 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', text):
        mark = token[0]
        if mark.startswith('"'):
            name, start = mark, token.start()
        elif mark == ":" and around:
            number, parent, _ = around[-1]
            key = f"{parent}.{json.loads(name)}" if parent else json.loads(name)
            yield number, key, text.count("\n", 0, start) + 1
        elif mark in "{[":
            opened += 1
            if not key and around:
                number, parent, items = around[-1]
                key = f"{parent}[{items}]"
                if mark == "{":
                    yield number, key, text.count("\n", 0, token.start()) + 1
            around.append([opened, key, 0])
            key = ""
        else:
            key = ""
            if mark == "," and around:
                around[-1][2] += 1
            elif around:
                around.pop()


def load_json(text: str, origin: str) -> Any:
    """Parse JSON; duplicate keys, NaN, numbers that no machine holds and syntax errors are refused.

    Raises:
        InputError: with "origin: ..." or, for the syntax, "origin:line: ...".
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            seen = set()
            for number, key, line in find_keys(text):
                if (number, key) in seen:
                    raise InputError(f"{origin}:{line}: key {quoted(key)} stands twice in one object; keep one")
                seen.add((number, key))
        return content

    def refuse(constant: str) -> Any:
        raise InputError(f"{origin}: {constant} is not a number that JSON knows")

    def integer(digits: str) -> int:
        # Python refuses to read thousands of digits, by an error of its own.
        if len(digits) > 20 or abs(int(digits)) > LARGEST_INTEGER:
            raise InputError(f"{origin}: the number {clipped(digits)} is too large")
        return int(digits)

    def number(digits: str) -> float:
        if math.isinf(float(digits)):
            raise InputError(f"{origin}: the number {clipped(digits)} is too large")
        return float(digits)

    try:
        content = json.loads(
            text, object_pairs_hook=unique, parse_constant=refuse, parse_int=integer, parse_float=number
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise InputError(_too_deep(origin)) from None
    return content


def check_depth(content: Any, origin: str) -> None:
    """Refuse what is nested more than DEEPEST deep.

    Raises:
        InputError: it is.
    """
    level = [content]
    for _ in range(DEEPEST):
        level = [item for value in level for item in _items(value)]
        if not level:
            return
    raise InputError(_too_deep(origin))


def is_plain(text: str) -> bool:
    """Whether a text can be a name or a path: no control characters, no bytes that are no text.

    >>> is_plain("LA/flac"), is_plain("LA\\n"), is_plain("M\\udcfcller")
    (True, False, False)
    """
    return not _CONTROL.search(text)


def _items(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []


def shown(value: Any) -> str:
    """A value for a message: as JSON, of a readable length.

    >>> shown([1, None, "a"])
    '[1, null, "a"]'
    """
    try:
        return clipped(json.dumps(value, default=str))
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def _too_deep(origin: str) -> str:
    return f"{origin}: nested too deeply to be a config"


def threshold_text(threshold: float, form: Literal["g", "f"] = "g") -> str:
    """A threshold with six digits ("g") or decimals; just below 1, where probabilities crowd, with six of what lacks.

    >>> threshold_text(-1.23456789), threshold_text(0.9999999039), threshold_text(1), threshold_text(2.5, "f")
    ('-1.23457', '0.9999999039', '1', '2.500000')
    """
    missing = 1 - abs(threshold)
    digits = 6 - math.floor(math.log10(missing)) if 0 < missing < 0.1 else 6
    return f"{threshold:.{min(digits, 17)}{form}}"


def clipped(text: str) -> str:
    """A text for a message, cut to a readable length."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def first_line(error: Exception) -> str:
    """What a library's error says in its first line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def quoted(value: Any) -> str:
    """A value for a message, in quotes if it is text, cut to a readable length."""
    return clipped(repr(value))


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Names for a message, the first twenty of them.

    >>> listed(["target", "spoof"], " | "), listed([f"u{number}" for number in range(22)])[-16:]
    ('target | spoof', ', u19 and 2 more')
    """
    more = len(names) - MOST_SHOWN
    return separator.join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "epoch"), counted(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """A text for a terminal: what came from outside must not move its cursor; line breaks stay."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
