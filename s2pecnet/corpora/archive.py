"""Archives: their checksum, and unpacking them without writing outside of the target folder."""

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from s2pecnet.corpora.check import check_tree
from s2pecnet.download import BLOCK, check_disk_space, naming, one_line, progress_bar
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, sha256_of

# What a damaged archive raises; RuntimeError: encrypted, or a compression that zipfile does not know.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, MemoryError, RuntimeError, ValueError, struct.error)

# --------------------------------------------------------------------------------- the checksum

# A list of trials packs well, audio does not: what unpacks to so much more is made to fill the disk.
LARGEST_RATIO, SMALL_MEMBER = 20, 10 << 20


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
        check_sha256(origin, expected)
    found = sha256_of(archive)
    if expected is not None and found != expected.lower():
        raise InputError(
            f"{archive}: its SHA-256 is {found}, but {origin} says {expected.lower()}; "
            "delete the archive and run again, or correct the checksum"
        )
    with atomic_write(record) as stream:
        stream.write(f"{found}  {archive.name}\n")
    return found


def check_sha256(origin: str, checksum: str) -> None:
    """Raises InputError for what is not a SHA-256; `origin` is where it stands."""
    if not re.fullmatch("[0-9a-fA-F]{64}", checksum):
        raise InputError(f"{origin}: {checksum!r} is not a SHA-256, wanted 64 hexadecimal digits")


# --------------------------------------------------------------------------------- the unpacking


def unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's folder `target.name` to `target`, which appears when it is complete.

    Nothing is written before every name in the archive has been found harmless, and what was written
    takes its place only when it agrees with its own protocols (`check_tree`).

    Raises:
        InputError: `target` exists; the archive is damaged, holds a name that leads outside, a link,
            a name twice, more bytes than announced, or no complete corpus; the disk is too small.
    """
    if os.path.lexists(target):
        raise InputError(f"{target}: it exists already; move it away or delete it, then run again")
    workshop = target.with_name(f".{target.name}.unpacking")
    if workshop.exists():
        shutil.rmtree(workshop)  # left by a run that was killed
    try:
        try:
            with zipfile.ZipFile(archive) as source:
                _unpack_members(source, archive, workshop)
        except InputError:
            raise
        except (*DAMAGE, OSError) as error:
            # A place before the file's beginning is an EINVAL without a name; bz2 has no error of its own.
            if isinstance(error, OSError) and (error.filename or error.errno not in (None, errno.EINVAL)):
                error.filename = error.filename or str(archive)
                raise
            raise InputError(
                f"{archive}: the archive is damaged or not a zip ({one_line(error)}); "
                f"delete it and {archive.name}.sha256, then run again"
            ) from None
        report = check_tree(workshop / target.name)
        if not report.complete:
            raise InputError(
                f"{archive}: it does not hold a complete corpus {target.name} ({report.problems[0]}, "
                f"{len(report.problems)} problems in all)".replace(f"{workshop}{os.sep}", "")
            )
        os.replace(workshop / target.name, target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _unpack_members(source: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    members = source.infolist()
    _check_members(archive, members)
    total = sum(member.file_size for member in members)
    check_disk_space(archive.parent, total, f"to unpack {archive.name}")
    folder.mkdir(parents=True)
    with progress_bar(total, 0, "unpacking") as bar:
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
            with naming(path):
                stream.write(block)
                stream.flush()
    if left:
        raise zipfile.BadZipFile(f"{member.filename!r} does not have the {member.file_size:,} bytes it announces")


def _check_members(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse the archive if a member could land outside its folder or on another member."""
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for member in members:
        name = member.orig_filename  # as it stands in the archive, before zipfile cuts it at a NUL
        fault = ""
        if name.startswith("/") or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
            fault = "has an absolute or foreign path"
        elif any(part in ("", ".", "..") for part in _parts_of(member)):
            fault = "leads outside its folder, or its path is not plain"
        elif member.file_size > max(LARGEST_RATIO * member.compress_size, SMALL_MEMBER):
            fault = f"unpacks to {member.file_size:,} bytes, more than {LARGEST_RATIO} times its size: no audio does"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link or a special file"
        if fault:
            raise InputError(f"{archive}: refused, member {name!r} {fault}")
        # Case is folded because some disks do so: there, A/x and a/X are one file.
        key = tuple(part.casefold() for part in _parts_of(member))
        folders.update(key[:depth] for depth in range(1, len(key)))
        if member.is_dir():
            folders.add(key)
        elif key in files:
            raise InputError(f"{archive}: refused, member {name!r} is there twice")
        else:
            files.add(key)
    if clash := files & folders:
        raise InputError(f"{archive}: refused, member {'/'.join(min(clash))!r} is both a file and a folder")
    if sum(member.compress_size for member in members) > archive.stat().st_size:
        raise InputError(f"{archive}: refused, its members overlap (more packed bytes than the file has)")


def _parts_of(member: zipfile.ZipInfo) -> list[str]:
    return member.orig_filename.removesuffix("/").split("/")
