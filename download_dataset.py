"""The corpus on disk: downloaded, unpacked, checked, or made up for a trial run.

    fetch     LA.zip, with resume: a dropped connection or a second run goes on where the first stopped
    checksum  SHA-256, as given or as recorded at the first download
    unpack    into a folder beside the target, which takes its name only when it is whole
    check     a folder against its protocols, or any other corpus that main.py reads (corpus_check.py)
    demo      a small synthetic corpus (corpus_demo.py) in the same layout

What the server sends is not trusted: neither the lengths it announces nor the names in the archive.
Bad input, a refusing server and a full disk each end in one line and exit status 2.
"""

import argparse
import errno
import hashlib
import http.client
import json
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from tqdm import tqdm

from commands import make_parser
from corpus_check import check_tree
from errors import EXIT_BAD_INPUT, InputError, run_command
from files import whole_file, write_json

LA_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3336/LA.zip"
DEMO_FOLDER = "demo_corpus/LA"

ATTEMPTS = 6  # in a row without a new byte; the pauses between them add up to half a minute
LONGEST_PAUSE = 60.0  # seconds
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 1 << 20
RETRIED_STATUS = (408, 429)  # beside every 5xx
_LENGTH = "[0-9]{1,18}"  # what a server announces; python does not read numbers of thousands of digits

EXAMPLES = f"""examples:
  python download_dataset.py                      fetch LA.zip (7.1 GB) and unpack it to ./LA
  python download_dataset.py --out /data          the same, to /data/LA; run it again to resume
  python download_dataset.py --check /data/LA     compare a folder with its protocols
  python download_dataset.py --check mine.csv     check a corpus of your own, see docs/own-data.md
  python download_dataset.py --demo               make a small SYNTHETIC corpus at ./{DEMO_FOLDER}
  python download_dataset.py --demo d --seed 7 --shuffle-labels
                                                  the same with labels that cannot be learnt
"""


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
    or date); where the file has changed, or the server cannot send ranges, the download begins anew.
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
    failures, furthest = 0, _size(part)
    while True:
        try:
            _fetch_rest(url, part)
            break
        except Dropped as error:
            # Progress is a byte that no attempt had before: a server that always begins anew and
            # always fails at the same place must not keep us for ever.
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
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
    have = _size(part) if known else 0
    if known and known.length is not None and have >= known.length:
        if have == known.length:
            return
        have = 0  # more than there ever was: not to be trusted
    with _open_url(url, part, have, known) as response:
        start, remote = _place_of(response, url, part, have, known)
        if start == 0:
            part.write_bytes(b"")  # before the notes: new notes on old bytes would splice two files
        write_json(_notes_path(part), remote._asdict())
        _demand_disk(part.parent, (remote.length or 0) - start, f"for the rest of {url}")
        with _named(part), part.open("ab") as stream:
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
        _begin_anew(part)
    if error.code >= 500 or error.code in RETRIED_STATUS:
        raise Dropped(f"the server answered {error.code} {_one_line(error.reason)}")
    raise InputError(f"{url}: the server answered {error.code} {_one_line(error.reason)}; check the address")


def _place_of(
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
        _begin_anew(part)
    return have, Remote(url, known.validator, int(length) if length else None)


def _validator_of(etag: str | None, date: str | None) -> str | None:
    """What If-Range may carry: an ETag unless it is weak, else the date of the last change."""
    return etag if etag and not etag.startswith("W/") else date


def _copy_body(response: http.client.HTTPResponse, stream: BinaryIO, start: int, length: int | None) -> None:
    have = start
    with _progress(length, start, "downloading") as bar:
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


def _begin_anew(part: Path) -> NoReturn:
    part.unlink(missing_ok=True)
    _notes_path(part).unlink(missing_ok=True)
    raise Dropped("the file at the server is not the one that was begun, beginning anew")


def _notes_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path, url: str) -> Remote | None:
    """What is known of the file that `part` was cut from; None where it cannot be gone on with."""
    try:
        notes = Remote(**json.loads(_notes_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    trusted = isinstance(notes.length, int | None) and isinstance(notes.validator, str | None)
    return notes if trusted and notes.url == url else None


def _words_of(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return f"the connection failed ({_one_line(reason) or type(reason).__name__})"


def _one_line(words: object) -> str:
    """A server's words for a message: they may hold anything."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(words)).strip()[:200]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let a full disk say which file it could not take."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _demand_disk(folder: Path, needed: int, purpose: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{folder}: the disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed {purpose}")


def _progress(total: int | None, start: int, title: str) -> "tqdm[NoReturn]":
    """A bar in bytes on stderr, silent where that is not a terminal."""
    return tqdm(total=total, initial=start, desc=title, unit="B", unit_scale=True, disable=None)


# --------------------------------------------------------------------------------- the checksum


def verify_checksum(archive: Path, expected: str | None = None) -> str:
    """Compare the archive's SHA-256 with `expected`, else with the one recorded beside the archive.

    Where there is neither, the checksum is recorded in `<archive>.sha256` (the format of sha256sum),
    and every later call compares with it.

    Returns:
        The checksum, 64 hexadecimal digits.

    Raises:
        InputError: the checksums differ, or one of them is not a checksum.
    """
    record = archive.with_name(f"{archive.name}.sha256")
    origin = "--sha256" if expected is not None else str(record)
    if expected is None and record.exists():
        expected = (record.read_text(encoding="utf-8", errors="replace").split() or [""])[0]
    if expected is not None:
        _demand_sha256(origin, expected)
    found = _sha256(archive)
    if expected is not None and found != expected.lower():
        raise InputError(
            f"{archive}: its SHA-256 is {found}, but {origin} says {expected.lower()}; "
            "delete the archive and run again, or correct the checksum"
        )
    with whole_file(record) as stream:
        stream.write(f"{found}  {archive.name}\n")
    return found


def _demand_sha256(origin: str, checksum: str) -> None:
    if not re.fullmatch("[0-9a-fA-F]{64}", checksum):
        raise InputError(f"{origin}: {checksum!r} is not a SHA-256, wanted 64 hexadecimal digits")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


# --------------------------------------------------------------------------------- the unpacking


def unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's folder `target.name` to `target`, which appears whole or not at all.

    Nothing is written before every name in the archive has been found harmless, and what was written
    takes its place only when it agrees with its own protocols (`check_tree`).

    Raises:
        InputError: `target` exists; the archive is damaged, holds a name that leads outside, a link,
            a name twice, more bytes than announced, or no whole corpus; the disk is too small.
    """
    if os.path.lexists(target):
        raise InputError(f"{target}: it exists already; move it away or delete it, then run again")
    workshop = target.with_name(f".{target.name}.unpacking")
    if workshop.exists():
        shutil.rmtree(workshop)  # left by a run that was killed
    try:
        with _damage_told(archive), zipfile.ZipFile(archive) as source:
            _unpack_members(source, archive, workshop)
        report = check_tree(workshop / target.name)
        if not report.whole:
            raise InputError(
                f"{archive}: it does not hold a whole corpus {target.name} ({report.problems[0]}, "
                f"{len(report.problems)} problems in all)".replace(f"{workshop}{os.sep}", "")
            )
        os.replace(workshop / target.name, target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        MemoryError,
        RuntimeError,
        ValueError,
        OSError,
        struct.error,
    ) as error:
        # OSError: bz2 has no error of its own, and a place before the file's beginning is an EINVAL without a name.
        if isinstance(error, OSError) and (error.filename or error.errno not in (None, errno.EINVAL)):
            error.filename = error.filename or str(archive)
            raise
        # RuntimeError: encrypted, or a compression that zipfile does not know.
        raise InputError(
            f"{archive}: the archive is damaged or not a zip ({_one_line(error)}); "
            f"delete it and {archive.name}.sha256, then run again"
        ) from None


def _unpack_members(source: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    members = source.infolist()
    _demand_harmless(archive, members)
    total = sum(member.file_size for member in members)
    _demand_disk(archive.parent, total, f"to unpack {archive.name}")
    folder.mkdir(parents=True)
    with _progress(total, 0, "unpacking") as bar:
        for member in members:
            path = folder.joinpath(*_parts_of(member))
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                _unpack_member(source, member, path)
                bar.update(member.file_size)


def _unpack_member(source: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    left = member.file_size
    with source.open(member) as packed, path.open("xb") as stream:
        while block := packed.read(BLOCK):
            left -= len(block)
            if left < 0:
                break
            with _named(path):
                stream.write(block)
                stream.flush()
    if left:
        raise zipfile.BadZipFile(f"{member.filename!r} does not have the {member.file_size:,} bytes it announces")


def _demand_harmless(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse the archive if a member could land outside its folder or on another member."""
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for member in members:
        if fault := _fault_of(member):
            raise InputError(f"{archive}: refused, member {member.orig_filename!r} {fault}")
        # Case is folded because some disks do so: there, A/x and a/X are one file.
        key = tuple(part.casefold() for part in _parts_of(member))
        folders.update(key[:depth] for depth in range(1, len(key)))
        if member.is_dir():
            folders.add(key)
        elif key in files:
            raise InputError(f"{archive}: refused, member {member.orig_filename!r} is there twice")
        else:
            files.add(key)
    if clash := files & folders:
        raise InputError(f"{archive}: refused, member {'/'.join(min(clash))!r} is both a file and a folder")
    if sum(member.compress_size for member in members) > archive.stat().st_size:
        raise InputError(f"{archive}: refused, its members overlap (more packed bytes than the file has)")


def _fault_of(member: zipfile.ZipInfo) -> str | None:
    name = member.orig_filename  # as it stands in the archive, before zipfile cuts it at a NUL
    if name.startswith("/") or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        return "has an absolute or foreign path"
    if any(part in ("", ".", "..") for part in _parts_of(member)):
        return "leads outside its folder, or its path is not plain"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    return None


def _parts_of(member: zipfile.ZipInfo) -> list[str]:
    return member.orig_filename.removesuffix("/").split("/")


# --------------------------------------------------------------------------------- the command line


def fetch(url: str, out: Path, sha256: str | None = None, keep_archive: bool = False) -> None:
    """Download, verify and unpack the corpus at `url` (.../<name>.zip) to `out`/<name>.

    Nothing is done where that folder exists and is whole.

    Raises:
        InputError: as `download`, `verify_checksum` and `unpack`; or the folder exists and is not whole.
    """
    if sha256 is not None:
        _demand_sha256("--sha256", sha256)  # now, and not after a download of hours
    archive = out / _archive_name(url)
    target = out / archive.stem
    if os.path.lexists(target):
        _demand_whole(target)
        print(f"{target}: is there already and is whole, nothing to do")
        return
    if not archive.exists():
        download(url, archive)
    print(f"{archive}: SHA-256 {verify_checksum(archive, sha256)}")
    unpack(archive, target)
    if not keep_archive:
        archive.unlink()
    print(f"{target}: unpacked and whole")


def _archive_name(url: str) -> str:
    try:
        address = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InputError(f"--url {url!r}: not an address ({error})") from None
    name = urllib.parse.unquote(address.path).rsplit("/", 1)[-1]
    if address.scheme not in ("http", "https") or not re.fullmatch(r"\w[\w.-]*\.zip", name):
        raise InputError(f"--url {url!r}: expected http(s)://.../<name>.zip")
    return name


def _demand_whole(target: Path) -> None:
    report = check_tree(target)
    if not report.whole:
        raise InputError(
            f"{target}: it exists and is not whole ({report.problems[0]}); move it away or delete it, then run again"
        )


def report_tree(root: Path) -> int:
    """Print what `check_tree` finds; the exit status, 0 where the folder is whole and 2 elsewhere."""
    report = check_tree(root)
    for line in report.facts:
        print(line)
    for line in report.problems:
        print(f"error: {line}", file=sys.stderr)
    print(f"{root}: {'whole' if report.whole else 'NOT whole'}")
    return 0 if report.whole else EXIT_BAD_INPUT


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def build_parser(prog: str = "download_dataset.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Get the ASVspoof2019 LA corpus, check a corpus, or make a small synthetic one.", EXAMPLES, _Parser
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder that will hold LA (default: here)")
    parser.add_argument("--url", help=f"address of the archive (default: {LA_URL})")
    parser.add_argument("--sha256", metavar="HEX", help="checksum that the archive must have")
    parser.add_argument("--keep-archive", action="store_true", help="keep LA.zip once it is unpacked")
    parser.add_argument("--check", type=Path, metavar="PATH", help="check the corpus at PATH, and no more")
    parser.add_argument(
        "--demo",
        type=Path,
        nargs="?",
        const=Path(DEMO_FOLDER),
        metavar="DIR",
        help=f"make a small SYNTHETIC corpus, which proves nothing about speech (default: {DEMO_FOLDER})",
    )
    parser.add_argument("--seed", type=int, help="with --demo: the same seed gives the same corpus")
    parser.add_argument("--shuffle-labels", action="store_true", help="with --demo: labels at random")
    return parser


def _parse(argv: list[str] | None, prog: str) -> argparse.Namespace:
    parser = build_parser(prog)
    options = parser.parse_args(argv)
    _demand_consistent(parser, options)
    return options


def _demand_consistent(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that the chosen job would silently ignore."""
    of_download = {
        "--out": options.out,
        "--url": options.url,
        "--sha256": options.sha256,
        "--keep-archive": options.keep_archive or None,
    }
    of_demo = {"--seed": options.seed, "--shuffle-labels": options.shuffle_labels or None}
    if options.check is not None and options.demo is not None:
        parser.error("--check and --demo are two different jobs, give one")
    if options.check is not None or options.demo is not None:
        job = "--check" if options.check is not None else "--demo"
        for name, value in of_download.items():
            if value is not None:
                parser.error(f"{name} belongs to the download and means nothing with {job}")
    if options.demo is None:
        for name, value in of_demo.items():
            if value is not None:
                parser.error(f"{name} belongs to --demo")


def main(argv: list[str] | None = None, prog: str = "download_dataset.py") -> int:
    """The command line, which help calls `prog`; the exit status.

    Raises:
        InputError: bad options, and whatever the chosen job cannot do.
    """
    options = _parse(argv, prog)
    if options.check is not None:
        return report_tree(options.check)
    if options.demo is not None:
        import corpus_demo  # brings numpy and soundfile, which a download does not need

        seed = corpus_demo.DEFAULT_SEED if options.seed is None else options.seed
        corpus_demo.make_demo_corpus(options.demo, seed, options.shuffle_labels)
        return 0
    fetch(options.url or LA_URL, options.out or Path(), options.sha256, options.keep_archive)
    return 0


if __name__ == "__main__":
    run_command(main)
