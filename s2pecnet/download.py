"""A file from a web server: with resume, a bar, and a bound; a dropped connection or a second run continues.

What the server sends is not trusted, neither the lengths that it announces nor its words.
"""

import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tqdm import tqdm

from s2pecnet.errors import InputError
from s2pecnet.files import write_json
from s2pecnet.text import printable

BLOCK = 1 << 20  # bytes read at a time
ATTEMPTS = 6  # in a row without a new byte; the pauses between them add up to half a minute
LONGEST_PAUSE = 60.0  # seconds
TIMEOUT = 60.0  # seconds without a byte
LEAST_RATE = 1000  # bytes a second, over a minute
MOST_CONTINUES = 10
RETRIED_STATUS = (408, 429)  # beside every 5xx
_LENGTH = "[0-9]{1,18}"  # what a server announces; python does not read numbers of thousands of digits


class Remote(NamedTuple):
    """What is known of the file that a `.part` is a part of."""

    url: str
    validator: str | None  # a strong ETag or a Last-Modified date
    length: int | None  # bytes


class Dropped(Exception):
    """The connection or the server failed in a way that another attempt may mend."""


class _Response(http.client.HTTPResponse):
    """An answer that is preceded by a few "100 Continue" at most; http.client would read them for ever."""

    def _read_status(self) -> Any:
        self.statuses = getattr(self, "statuses", 0) + 1
        if self.statuses > MOST_CONTINUES:
            raise InputError("the server answers '100 Continue' without end; check the address")
        return super()._read_status()  # type: ignore[misc]


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_SecureConnection, request)


class _StaysSecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to anything else."""

    def redirect_request(self, request: urllib.request.Request, *more: Any) -> Any:
        address = str(more[-1])
        if request.type == "https" and not address.lower().startswith("https:"):
            raise InputError(f"redirects to {printable(address)}, which is not https; not followed")
        return super().redirect_request(request, *more)


_OPENER = urllib.request.build_opener(_Http, _Https, _StaysSecure)


def download(url: str, target: Path, sleep: Callable[[float], None] = time.sleep, largest: int | None = None) -> None:
    """Fetch `url` to `target`, resuming from `<target>.part` where an earlier attempt stopped.

    The server is asked for the rest of the very file that the part came from (If-Range with its ETag
    or date); where the file has changed, or the server cannot send ranges, the download starts again.
    A server that gives neither ETag nor date is held to the file's length alone.

    Args:
        url: http or https.
        target: appears when its last byte is there.
        sleep: takes seconds; called between attempts, for twice as long each time.
        largest: bytes that the file may have; None: what the disk takes.

    Raises:
        InputError: the server refuses (4xx) or sends more than `largest`, ATTEMPTS attempts in a row brought no new
            byte, or the disk is too small.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures, furthest = 0, size_of(part)
    while True:
        try:
            _fetch_rest(url, part, largest)
            break
        except Dropped as error:
            # Progress is a byte that no attempt had before: a server that always starts again and
            # always fails at the same place must not keep us for ever.
            failures = 1 if size_of(part) > furthest else failures + 1
            furthest = max(furthest, size_of(part))
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{url}: {error}; gave up after {ATTEMPTS} attempts without progress, run again to resume"
                ) from None
            pause = min(2.0 ** (failures - 1), LONGEST_PAUSE)
            print(f"{target.name}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
            sleep(pause)
    os.replace(part, target)
    _notes_path(part).unlink(missing_ok=True)


def _fetch_rest(url: str, part: Path, largest: int | None) -> None:
    """One attempt: ask for what is missing and append it to `part`."""
    known = _read_notes(part, url)
    have = size_of(part) if known else 0
    if known and known.length is not None and have >= known.length:
        if have == known.length:
            return
        have = 0  # more than there ever was: not to be trusted
    with _open_url(url, part, have, known) as response:
        start, remote = _range_of(response, url, part, have, known)
        if start == 0:
            part.write_bytes(b"")  # before the notes: new notes on old bytes would splice two files
        write_json(_notes_path(part), remote._asdict())
        check_disk_space(part.parent, (remote.length or 0) - start, f"for the rest of {url}")
        have, began, had = start, time.monotonic(), start
        with naming(part), part.open("ab") as stream, progress_bar(remote.length, start, "downloading") as bar:
            while True:
                # Only the reading is guarded: an error of the disk is not mended by another attempt.
                try:
                    block = response.read1(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise Dropped(_words_of(error)) from None
                have += len(block)
                if largest is not None and max(have, remote.length or 0) > largest:
                    _forget(part)
                    raise InputError(f"{url}: sends more than {largest:,} bytes, which is not the file")
                if not block:
                    break
                stream.write(block)
                bar.update(len(block))
                if time.monotonic() - began > TIMEOUT:
                    if have - had < LEAST_RATE * TIMEOUT:
                        raise Dropped(f"less than {LEAST_RATE} bytes a second")
                    began, had = time.monotonic(), have
    if remote.length is not None and have != remote.length:
        raise Dropped(f"the connection ended at byte {have:,} of {remote.length:,}")


def _open_url(url: str, part: Path, have: int, known: Remote | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": "s2pecnet"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known and known.validator:
            headers["If-Range"] = known.validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = _OPENER.open(request, timeout=TIMEOUT)
    except InputError as error:
        raise InputError(f"{url}: {error}") from None
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            _start_again(part)
        if error.code >= 500 or error.code in RETRIED_STATUS:
            raise Dropped(f"the server answered {error.code} {one_line(error.reason)}") from None
        raise InputError(
            f"{url}: the server answered {error.code} {one_line(error.reason)}; check the address"
        ) from None
    except (OSError, http.client.RemoteDisconnected, http.client.BadStatusLine) as error:
        raise Dropped(_words_of(error)) from None
    except (ValueError, http.client.HTTPException) as error:
        raise InputError(f"{url}: not an address that can be fetched ({error})") from None
    return response


def _range_of(
    response: http.client.HTTPResponse, url: str, part: Path, have: int, known: Remote | None
) -> tuple[int, Remote]:
    """Where in the file the answer's bytes belong, and what the answer says about the file."""
    headers = response.headers
    # What If-Range may carry: an ETag unless it is weak, else the date of the last change.
    etag = headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if response.status == 200:
        length = headers.get("Content-Length", "")
        return 0, Remote(url, validator, int(length) if re.fullmatch(_LENGTH, length) else None)
    place = re.fullmatch(rf"bytes ({_LENGTH})-\d+/({_LENGTH}|\*)", headers.get("Content-Range", ""))
    if response.status != 206 or not place or known is None:
        raise InputError(f"{url}: the server answered {response.status}, which is not the file or a part of it")
    length = place[2] if place[2] != "*" else str(known.length or "")
    same_file = known.length in (None, int(length or -1)) and known.validator in (
        None,
        validator or known.validator,
    )
    if int(place[1]) != have or not same_file:
        _start_again(part)
    return have, Remote(url, known.validator, int(length) if length else None)


def _start_again(part: Path) -> NoReturn:
    _forget(part)
    raise Dropped("the file at the server has changed, starting again")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes_path(part).unlink(missing_ok=True)


def _notes_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path, url: str) -> Remote | None:
    """What is known of the file that `part` was cut from; None where it cannot be continued."""
    try:
        notes = Remote(**json.loads(_notes_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    trusted = isinstance(notes.length, int | None) and isinstance(notes.validator, str | None)
    return notes if trusted and notes.url == url else None


def _words_of(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return f"the connection failed ({one_line(reason) or type(reason).__name__})"


def one_line(words: object) -> str:
    """A server's words for a message: they may hold anything."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(words)).strip()[:200]


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a full disk say which file it could not take."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def check_disk_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises InputError where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{folder}: the disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed {purpose}")


def progress_bar(total: int | None, start: int, title: str) -> "tqdm[NoReturn]":
    """A bar in bytes on stderr, silent where that is not a terminal."""
    return tqdm(total=total, initial=start, desc=title, unit="B", unit_scale=True, disable=None)
