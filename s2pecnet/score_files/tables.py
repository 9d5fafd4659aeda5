"""Tables in text files: trials in lines, facts about them in columns; and which line is which trial's.

    read_named_columns       a table whose first line names its columns
    read_numbered_columns    one without such a line (a protocol): its columns are called "1", "2" ...
    Table.rows_of            the row of each utterance, found in the column that holds all of them

Fields are separated by tabs, commas, semicolons or spaces, whichever of these the first line has, in this order; fields
between commas or semicolons may be quoted. The file may be gzipped. Empty lines do not count.
"""

import csv
import os
from collections.abc import Callable, Sequence, Set
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
        best, rows = self.held_by(wanted, range(len(self.columns)))
        if len(rows) < len(wanted):
            raise InputError(
                f"no column of {self.path} holds all {len(wanted):,} utterances of the scores (the best, "
                f"{quoted(self.names[best])}, holds {len(rows):,}): is it a table of another data set?"
            )
        return [rows[name] for name in utterances]

    def held_by(
        self, wanted: Set[str], columns: Sequence[int], spelling: Callable[[str], str] = str
    ) -> tuple[int, dict[str, int]]:
        """The column, of some, that holds most of the utterances that are wanted, and the row of each of those in it.

        Args:
            spelling: brings fields to the spelling of `wanted`.

        Raises:
            InputError: it holds one of them twice, or another column holds as many in other rows.
        """
        spelt = {index: list(map(spelling, self.columns[index])) for index in columns}
        counts = {index: len(wanted & set(fields)) for index, fields in spelt.items()}
        most = max(counts.values())
        found: dict[int, dict[str, int]] = {}
        again = None
        for index in (one for one, count in counts.items() if count == most):
            rows: dict[str, int] = {}
            twice = next((row for row, name in enumerate(spelt[index])
                          if name in wanted and rows.setdefault(name, row) != row), None)  # fmt: skip
            if twice is None:
                found[index] = rows
            elif again is None:
                name = spelt[index][twice]
                again = f"{self.lines[twice]}: utterance {quoted(name)} again, first in line {self.lines[rows[name]]}"
        if not found:
            raise InputError(f"{self.path}:{again}")
        (best, rows), *others = found.items()
        other = next((index for index, ranked in others if ranked != rows), None)
        if other is not None:
            raise InputError(
                f"{self.path}: the utterances are in column {quoted(self.names[best])}, and in other rows in column "
                f"{quoted(self.names[other])}; leave out the one that is not their name"
            )
        return best, rows


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
        try:
            fields = next(csv.reader([line], delimiter=str(separator))) if quotes else line.split(separator)
        except csv.Error as error:
            raise InputError(f"{os.fspath(path)}:{number}: {error}; expected lines that end in LF or CRLF") from None
        rows.append([field.strip() for field in fields])
        if len(fields) != len(rows[0]):
            raise InputError(
                f"{os.fspath(path)}:{number}: {len(fields)} fields, expected {len(rows[0])} as in line {numbers[0]}"
            )
    return list(numbers), rows
