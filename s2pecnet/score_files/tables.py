"""Tables in text files: trials in lines, facts about them in columns; and which line is which trial's.

    read_named_columns       a table whose first line names its columns
    read_numbered_columns    one without such a line (a protocol): its columns are called "1", "2" ...
    Table.rows_of            the row of each utterance, found in the column that holds all of them

Fields are separated by tabs, commas, semicolons or spaces, whichever of these the first line has, in this order; fields
between commas or semicolons may be quoted. The file may be gzipped. Empty lines do not count.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

from s2pecnet.errors import InputError
from s2pecnet.text import listed, quoted, read_lines

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Table:
    """A table of n rows.

    Attributes:
        path: where it came from, for messages.
        names: the columns' names; their numbers from 1 where the file does not name them.
        columns: each column's n fields.
        lines: (n,) the line of each row in the file, from 1.
    """

    path: str
    names: list[str]
    columns: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The fields of a column.

        Raises:
            InputError: there is no such column, or there are two of that name.
        """
        count = self.names.count(name)
        if count != 1:
            found = f"{count} columns" if count else "no column"
            raise InputError(f"{self.path}: {found} {quoted(name)}, the columns are {listed(self.names)}")
        return self.columns[self.names.index(name)]

    def rows_of(self, utterances: Sequence[str]) -> list[int]:
        """Each utterance's row. The column that names the utterances is the one that holds all of them.

        Raises:
            InputError: no column holds all of them, or one of them comes twice.
        """
        wanted = set(utterances)
        held = [len(wanted & set(column)) for column in self.columns]
        best = max(range(len(held)), key=held.__getitem__)
        if held[best] < len(wanted):
            raise InputError(
                f"no column of {self.path} holds all {len(wanted):,} utterances of the scores (the best, "
                f"{quoted(self.names[best])}, holds {held[best]:,}): is it a table of another data set?"
            )
        rows: dict[str, int] = {}
        for row, name in enumerate(self.columns[best]):
            if rows.setdefault(name, row) != row and name in wanted:
                first = self.lines[rows[name]]
                raise InputError(
                    f"{self.path}:{self.lines[row]}: utterance {quoted(name)} again, first in line {first}"
                )
        return [rows[name] for name in utterances]


def read_named_columns(path: PathLike) -> Table:
    """Read a table whose first line names its columns.

    Raises:
        InputError: no text, no rows, or (with file and line) a row with more or fewer fields than the first line.
        OSError: the file cannot be read.
    """
    lines, (names, *rows) = _read_rows(path)
    if not rows:
        raise InputError(f"{os.fspath(path)}: no rows, expected a table with a line for each trial")
    return Table(os.fspath(path), names, [list(column) for column in zip(*rows, strict=True)], lines[1:])


def read_numbered_columns(path: PathLike) -> Table:
    """Read a table without a line of names; its columns are "1", "2" ...

    Raises:
        InputError, OSError: as `read_named_columns`.
    """
    lines, rows = _read_rows(path)
    names = [str(number) for number in range(1, len(rows[0]) + 1)]
    return Table(os.fspath(path), names, [list(column) for column in zip(*rows, strict=True)], lines)


def _read_rows(path: PathLike) -> tuple[list[int], list[list[str]]]:
    """The numbers of the lines that are not blank, and their fields, as many in each."""
    numbers, lines = zip(*read_lines(path, "a table with a line for each trial"), strict=True)
    separator = next((separator for separator in "\t,;" if separator in lines[0]), None)
    rows: list[list[str]] = []
    for number, line in zip(numbers, lines, strict=True):
        quotes = separator in (",", ";") and '"' in line
        fields = next(csv.reader([line], delimiter=str(separator))) if quotes else line.split(separator)
        rows.append([field.strip() for field in fields])
        if len(fields) != len(rows[0]):
            raise InputError(
                f"{os.fspath(path)}:{number}: {len(fields)} fields, expected {len(rows[0])} as in line {numbers[0]}"
            )
    return list(numbers), rows
