"""The corpus on disk: downloaded, unpacked, checked, or made up for a trial run.

    fetch     LA.zip, with resume: a dropped connection or a second run continues where the first stopped
    checksum  SHA-256, as given or as recorded at the first download
    unpack    into a folder beside the target, which takes its name only when it is complete
    check     a folder against its protocols, or any other corpus that main.py reads (corpus_check.py)
    demo      a small synthetic corpus (corpus_demo.py) in the same layout

What the server sends is not trusted: neither the lengths it announces nor the names in the archive.
Bad input, a refusing server and a full disk each end in one line and exit status 2.
"""

import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from s2pecnet.corpora.archive import (
    BLOCK,
    check_disk_space,
    check_sha256,
    naming,
    one_line,
    progress_bar,
    size_of,
    unpack,
    verify_checksum,
)
from s2pecnet.corpora.check import check_tree
from s2pecnet.errors import InputError
from s2pecnet.files import write_json

LA_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3336/LA.zip"

ATTEMPTS = 6  # in a row without a new byte; the pauses between them add up to half a minute
LONGEST_PAUSE = 60.0  # seconds
TIMEOUT = 60.0  # seconds without a byte
RETRIED_STATUS = (408, 429)  # beside every 5xx
_LENGTH = "[0-9]{1,18}"  # what a server announces; python does not read numbers of thousands of digits


# --------------------------------------------------------------------------------- the download


class Remote(NamedTuple):
    """What is known of the file that a `.part` is a part of."""

    url: str
    validator: str | None  # a strong ETag or a Last-Modified date
    length: int | None  # bytes


class Dropped(Exception):
    """The connection or the server failed in a way that another attempt may mend."""


def download(url: str, archive: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Fetch `url` to `archive`, going on from `<archive>.part` where an earlier attempt stopped.

    The server is asked for the rest of the very file that the part came from (If-Range with its ETag
    or date); where the file has changed, or the server cannot send ranges, the download starts again.
    A server that gives neither ETag nor date is held to the file's length alone.

    Args:
        url: http or https.
        archive: appears when its last byte is there.
        sleep: takes seconds; called between attempts, for twice as long each time.

    Raises:
        InputError: the server refuses (4xx), ATTEMPTS attempts in a row brought no new byte, or the
            disk is too small.
    """
    part = archive.with_name(f"{archive.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures, furthest = 0, size_of(part)
    while True:
        try:
            _fetch_rest(url, part)
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
            print(f"{archive.name}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
            sleep(pause)
    os.replace(part, archive)
    _notes_path(part).unlink(missing_ok=True)


def _fetch_rest(url: str, part: Path) -> None:
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
        with naming(part), part.open("ab") as stream:
            _copy_body(response, stream, start, remote.length)


def _open_url(url: str, part: Path, have: int, known: Remote | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": "download_dataset.py"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known and known.validator:
            headers["If-Range"] = known.validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        _raise_for_status(url, part, error)
    except (OSError, http.client.RemoteDisconnected, http.client.BadStatusLine) as error:
        raise Dropped(_words_of(error)) from None
    except (ValueError, http.client.HTTPException) as error:
        raise InputError(f"{url}: not an address that can be fetched ({error})") from None
    return response


def _raise_for_status(url: str, part: Path, error: urllib.error.HTTPError) -> NoReturn:
    if error.code == 416:
        _start_again(part)
    if error.code >= 500 or error.code in RETRIED_STATUS:
        raise Dropped(f"the server answered {error.code} {one_line(error.reason)}")
    raise InputError(f"{url}: the server answered {error.code} {one_line(error.reason)}; check the address")


def _range_of(
    response: http.client.HTTPResponse, url: str, part: Path, have: int, known: Remote | None
) -> tuple[int, Remote]:
    """Where in the file the answer's bytes belong, and what the answer says about the file."""
    headers = response.headers
    validator = _validator_of(headers.get("ETag"), headers.get("Last-Modified"))
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


def _validator_of(etag: str | None, date: str | None) -> str | None:
    """What If-Range may carry: an ETag unless it is weak, else the date of the last change."""
    return etag if etag and not etag.startswith("W/") else date


def _copy_body(response: http.client.HTTPResponse, stream: BinaryIO, start: int, length: int | None) -> None:
    have = start
    with progress_bar(length, start, "downloading") as bar:
        while block := _read_block(response):
            stream.write(block)
            have += len(block)
            bar.update(len(block))
    if length is not None and have != length:
        raise Dropped(f"the connection ended at byte {have:,} of {length:,}")


def _read_block(response: http.client.HTTPResponse) -> bytes:
    # Only the reading is guarded: an error of the disk is not mended by another attempt.
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Dropped(_words_of(error)) from None


def _start_again(part: Path) -> NoReturn:
    part.unlink(missing_ok=True)
    _notes_path(part).unlink(missing_ok=True)
    raise Dropped("the file at the server has changed, starting again")


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


# --------------------------------------------------------------------------------- the command line


def fetch(url: str, out: Path, sha256: str | None = None, keep_archive: bool = False) -> None:
    """Download, verify and unpack the corpus at `url` (.../<name>.zip) to `out`/<name>.

    Nothing is done where that folder exists and is complete.

    Raises:
        InputError: as `download`, `verify_checksum` and `unpack`; or the folder exists and is incomplete.
    """
    if sha256 is not None:
        check_sha256("--sha256", sha256)  # now, and not after a download of hours
    archive = out / _archive_name(url)
    target = out / archive.stem
    if os.path.lexists(target):
        _check_complete(target)
        print(f"{target}: already there and complete, nothing to do")
        return
    if not archive.exists():
        download(url, archive)
    print(f"{archive}: SHA-256 {verify_checksum(archive, sha256)}")
    unpack(archive, target)
    if not keep_archive:
        archive.unlink()
    print(f"{target}: unpacked and complete")


def _archive_name(url: str) -> str:
    try:
        address = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InputError(f"--url {url!r}: not an address ({error})") from None
    name = urllib.parse.unquote(address.path).rsplit("/", 1)[-1]
    if address.scheme not in ("http", "https") or not re.fullmatch(r"\w[\w.-]*\.zip", name):
        raise InputError(f"--url {url!r}: expected http(s)://.../<name>.zip")
    return name


def _check_complete(target: Path) -> None:
    report = check_tree(target)
    if not report.complete:
        raise InputError(
            f"{target}: it exists and is incomplete ({report.problems[0]}); move it away or delete it, then run again"
        )
