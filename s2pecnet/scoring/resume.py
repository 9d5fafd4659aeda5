"""A table of predictions that is written row by row, and continued where a killed run left it.

Rows come in the order of the paths, and windows are scored together within a group of GROUP paths, never across two:
the score of a file depends on its group alone, to the last bit. Who continues finds the group of the last row, scores
it again, compares its rows with those that are there, and goes on behind them. So the file ends as if nobody had
interrupted it; a last row that is damaged is written again; and a table of other weights, settings or paths is refused
before anything is changed. Nothing is held in memory but the paths of a group.
"""

import contextlib
import csv
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from s2pecnet.audio.paths import Found
from s2pecnet.errors import InputError
from s2pecnet.scoring.recordings import GROUP
from s2pecnet.text import quoted

log = logging.getLogger(__name__)

FORMATS = ("csv", "jsonl")
COLUMNS = ("path", "score", "llr", "verdict", "threshold", "min", "below_threshold", "windows")
# Another machine, or another number of threads, may round a score otherwise.
SAME_SCORE = 1e-4
# A ratio is a score times a slope; what a score of six digits leaves open, and how steep calibrations are.
SAME_LLR, STEEPEST = 1e-3, 1e3

# A row as it stands in the file, and where it ends.
_Record = tuple[bytes, int]


def in_groups(found: Iterator[Found]) -> Iterator[Found]:
    """The paths, with a pause (None) behind every GROUP of them; pauses of stdin are left out, as nobody waits."""
    count = 0
    for item in found:
        if item is not None:
            yield item
            count += 1
            if count % GROUP == 0:
                yield None


class Table:
    """The file that rows are written to.

    Args:
        format: "csv" or "jsonl".
        resume: go on behind the rows that are there.

    Raises:
        InputError: it is there and not to be continued, it is no table of this format, or another process writes it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, format: str, resume: bool):
        self.path, self.format = Path(path), format
        regular = not self.path.exists() or stat.S_ISREG(self.path.stat().st_mode)
        if resume and not regular:
            raise InputError(f"--resume --output {path}: no regular file, there is nothing to continue")
        if regular and not resume and self.path.exists() and self.path.stat().st_size:
            raise InputError(f"--output {path}: it is there already; --resume continues it, or choose another name")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT if regular else os.O_WRONLY, 0o666)
        self.stream: IO[bytes] = os.fdopen(descriptor, "r+b" if regular else "wb", buffering=0)
        # Where the whole rows end that were there before; up to here rows are compared, and nothing is written.
        self.valid, self.warned = 0, False
        try:
            if regular:
                self._lock()
            if resume:
                self.valid = self._end_of_rows()
                if not self.valid:
                    self.stream.truncate(0)
        except BaseException:
            self.stream.close()
            raise
        self._there = self._records() if self.valid else iter(())

    def write(self, line: str) -> None:
        """Write a row; where one is there already, make sure that it is the same.

        Raises:
            InputError: it is another one; the file is left as it was.
            OSError: the disk is full.
        """
        data = f"{line}\n".encode(errors="surrogateescape")
        if not self.valid:
            left = memoryview(data)
            while left:
                left = left[self.stream.write(left) :]
            return
        before, end = next(self._there)
        if before != data and not self._alike(before, data):
            was, now = before.decode(errors="replace").strip(), line.encode(errors="replace").decode()
            raise InputError(
                f"{self.path}: holds {quoted(was)} where this command gives {quoted(now)}; was it written with other "
                "weights, options or files? Nothing was changed"
            )
        if before != data and not self.warned:
            self.warned = True
            log.warning("%s: scores differ in the last digits from those that are there, which are kept", self.path)
        if end == self.valid:
            # What stands behind the last whole row is damaged.
            self.stream.seek(end)
            self.stream.truncate()
            self.valid = 0

    def remaining(self, found: Iterator[Found], tally: "Counter[str | None]") -> Iterator[Found]:
        """The paths that are to be scored, in groups: those of the last row's group, and all behind it.

        Args:
            tally: takes the verdicts of the rows before them, and as "bad" the number of files that have none.

        Raises:
            InputError: the rows are not of these paths in this order.
        """
        if not self.valid:
            yield from in_groups(found)
            return
        records = self._records()
        if self.format == "csv":
            next(records)
        group: list[Found] = []
        # Where the rows of the group begin, and the tally of those before.
        begin, position, before, counts, count = 0, 0, Counter[str | None](), Counter[str | None](), 0
        path, verdict, end = self._row(next(records, None))
        for item in found if path is not None else ():
            if item is None:
                continue
            if count % GROUP == 0:
                group, begin, before = [], position, counts.copy()
            group.append(item)
            count += 1
            if isinstance(item, str) and plain(item, self.format) == path:
                counts[verdict] += 1
                position = end
                path, verdict, end = self._row(next(records, None))
                if path is None:
                    break
            else:
                counts["bad"] += 1
        if path is not None:
            raise InputError(
                f"{self.path}: its row of {quoted(path)} is of none of the paths given, in their order; is it the "
                "table of another list? Nothing was changed"
            )
        if group:
            tally.update(before)
            self._there = self._records(begin)
            if self.format == "csv" and not begin:
                next(self._there)
            log.info("%s: %d files are done; going on behind the %d before", self.path, count, count - len(group))
        yield from in_groups(_chained(group, found))

    def close(self) -> None:
        """Close the file.

        Raises:
            InputError: rows that were there did not come again.
        """
        self.stream.close()
        if self.valid:
            before, _ = next(self._there)
            row = quoted(before.decode(errors="replace").strip())
            raise InputError(f"{self.path}: its row {row} did not come again; have files changed? It is left as it was")

    def _lock(self) -> None:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self.stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"--output {self.path}: another process is writing it; wait for it") from None

    def _end_of_rows(self) -> int:
        """Where the last whole row ends; 0 where not even the first is there."""
        end, number, broken = 0, 0, 0
        wrong = f"is no row of a {self.format} table of s2pecnet predict; is it another file? Nothing was changed"
        for record, stop in self._records(limit=None):
            number += 1
            if broken or (number == 1 and not self._is_row(record, number)):
                raise InputError(f"{self.path}: row {broken or 1} {wrong}")
            if self._is_row(record, number):
                end = stop
            else:
                broken = number
        with open(self.path, "rb") as stream:
            # Behind a power cut there may be zeros.
            head = stream.read(8).rstrip(b"\0")
        start = b"path,sco" if self.format == "csv" else b'{"path":'
        if not number and head != start[: len(head)]:
            raise InputError(f"{self.path}: row 1 {wrong}")
        return end

    def _is_row(self, record: bytes, number: int) -> bool:
        try:
            fields = self._fields(record)
            if self.format == "csv":
                return tuple(fields) == COLUMNS if number == 1 else len(fields) == len(COLUMNS) and bool(_score(fields))
            return bool(fields["path"]) and bool(_score(fields))
        except (ValueError, KeyError, IndexError, TypeError, csv.Error):
            return False

    def _alike(self, before: bytes, now: bytes) -> bool:
        """Whether two rows say the same but for rounding."""
        try:
            one, other = self._fields(before), self._fields(now)
            first, second = float(_score(one)), float(_score(other))
        except (ValueError, LookupError, TypeError):
            return False  # headers
        fixed = (0, 4, 7) if self.format == "csv" else ("path", "threshold")
        same = all(one[key] == other[key] for key in fixed)
        if self.format == "jsonl":
            same = same and [part["start"] for part in one["windows"]] == [part["start"] for part in other["windows"]]
        llrs = [row[2] if self.format == "csv" else row["llr"] for row in (one, other)]
        # Of another calibration, or of none.
        if any(llr in ("", None) for llr in llrs):
            same = same and llrs[0] == llrs[1]
        else:
            before_llr, now_llr = map(float, llrs)
            slack = SAME_LLR * max(1.0, abs(before_llr)) + STEEPEST * abs(first - second)
            same = same and abs(before_llr - now_llr) <= slack
        return same and abs(first - second) <= SAME_SCORE * max(1.0, abs(first))

    def _row(self, record: _Record | None) -> tuple[str | None, str | None, int]:
        """The path, the verdict and the end of a row; None, None, 0 where there is none."""
        if record is None:
            return None, None, 0
        fields = self._fields(record[0])
        path, verdict = (fields[0], fields[3]) if self.format == "csv" else (fields["path"], fields["verdict"])
        return path, verdict or None, record[1]

    def _fields(self, record: bytes) -> Any:
        text = record.decode(errors="surrogateescape")
        return json.loads(text) if self.format == "jsonl" else next(csv.reader([text.removesuffix("\n")], strict=True))

    def _records(self, begin: int = 0, limit: int | None = 0) -> Iterator[_Record]:
        """Whole rows from a position on; a row of CSV ends with the line in which its quotes are closed.

        Args:
            limit: 0: as far as `valid`; None: to the end of the file.
        """
        with open(self.path, "rb") as stream:
            stream.seek(begin)
            held, position = b"", begin
            for line in stream:
                held += line
                position += len(line)
                if limit is not None and position > self.valid:
                    return
                if line.endswith(b"\n") and (self.format == "jsonl" or held.count(b'"') % 2 == 0):
                    yield held, position
                    held = b""


def plain(path: str, format: str) -> str:
    """A path as a row has it: in CSV, what a spreadsheet would take for a formula has "./" in front.

    >>> plain("-1.wav", "csv"), plain("-1.wav", "jsonl")
    ('./-1.wav', '-1.wav')
    """
    return f"./{path}" if format == "csv" and path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def _score(fields: Any) -> str:
    """A row's score as text; raises ValueError where it is no number."""
    value = fields["score"] if isinstance(fields, dict) else fields[1]
    float(value)
    return str(value)


def _chained(first: list[Found], rest: Iterator[Found]) -> Iterator[Found]:
    """The paths of the list, then the rest."""
    yield from first
    first.clear()
    yield from rest
