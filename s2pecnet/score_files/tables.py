"""Tables in text files: trials in lines, facts about them in columns; and which line is which trial's.

Formats: fields separated by tabs, commas, semicolons or spaces, whichever of these the first line has, in this order;
fields between commas or semicolons may be quoted. Also gzipped. Empty lines do not count. The first line names the
columns, unless columns are asked for by number, from 1: then the file has no such line, or it is a line like others.
"""

import csv
import gzip
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2pecnet.errors import InputError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class NamedColumns:
    """A table of n rows.

    Attributes:
        path: where it came from, for messages.
        names: the columns' names; empty where the first line does not name them.
        columns: each column's n fields.
        lines: (n,) the line of each row in the file, from 1.
    """

    path: str
    names: list[str]
    columns: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The fields of a column, by its name or, where columns have no names, its number from 1.

        Raises:
            InputError: there is no such column, or there are two of that name.
        """
        if not self.names:
            if not 1 <= int(name) <= len(self.columns):
                raise InputError(f"{self.path}: no column {name}, the table has {len(self.columns)}")
            return self.columns[int(name) - 1]
        places = [place for place, other in enumerate(self.names) if other == name]
        if len(places) != 1:
            found = f"{len(places)} columns" if places else "no column"
            raise InputError(f"{self.path}: {found} {name!r}, the first line names {_listed(self.names)}")
        return self.columns[places[0]]

    def rows_of(self, utterances: Sequence[str]) -> list[int]:
        """Each utterance's row. The column that names the utterances is the one that holds all of them.

        Raises:
            InputError: no column holds all of them, or one of them comes twice.
        """
        wanted = set(utterances)
        held = [len(wanted & set(column)) for column in self.columns]
        best = max(range(len(held)), key=held.__getitem__)
        if held[best] < len(wanted):
            lacking = next(name for name in utterances if name not in set(self.columns[best]))
            raise InputError(
                f"{self.path}: no column holds all {len(wanted)} utterances of the scores; {self._shown(best)} holds "
                f"{held[best]} of them, and not {lacking!r}: is it the table of this data set?"
            )
        rows: dict[str, int] = {}
        for row, name in enumerate(self.columns[best]):
            if rows.setdefault(name, row) != row and name in wanted:
                again, first = self.lines[row], self.lines[rows[name]]
                raise InputError(
                    f"{self.path}:{again}: utterance {name!r} again, first in line {first}; expected each once"
                )
        return [rows[name] for name in utterances]

    def _shown(self, place: int) -> str:
        return repr(self.names[place]) if self.names else f"column {place + 1}"


def read_named_columns(path: PathLike, has_names: bool = True) -> NamedColumns:
    """Read a table.

    Args:
        has_names: the first line names the columns.

    Raises:
        InputError: no text, no rows, or (with file and line) a row with more or fewer fields than the first line.
        OSError: the file cannot be read.
    """
    shown = os.fspath(path)
    lines = _read_lines(path)
    numbers = [number for number, line in enumerate(lines, start=1) if line.strip()]
    if len(numbers) < 1 + has_names:
        raise InputError(
            f"{shown}: {'empty' if not numbers else 'no rows'}, expected a table with a line for each trial"
        )
    rows = _split([lines[number - 1] for number in numbers])
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(rows[0]):
            raise InputError(f"{shown}:{number}: {len(row)} fields, expected {len(rows[0])} as in line {numbers[0]}")
    names = rows[0] if has_names else []
    columns = [list(column) for column in zip(*rows[has_names:], strict=True)]
    return NamedColumns(shown, names, columns, numbers[has_names:])


def _read_lines(path: PathLike) -> list[str]:
    data = Path(path).read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{os.fspath(path)}: damaged gzip file ({error}), expected a table") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected a table") from error
    if "\0" in text:
        raise InputError(f"{os.fspath(path)}: not a UTF-8 text file, expected a table")
    return text.replace("\r\n", "\n").split("\n")


def _split(lines: list[str]) -> list[list[str]]:
    separator = next((separator for separator in "\t,;" if separator in lines[0]), None)
    if separator is None:
        return [line.split() for line in lines]
    return [[field.strip() for field in _fields(line, separator)] for line in lines]


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t" or '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
