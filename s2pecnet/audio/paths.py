"""Which audio files a command line means: files, folders, globs and lists on stdin, found as they are asked for.

A folder of a million files is not listed before its first file is used, but for the names of each folder by itself; a
list on stdin may still be being written while it is read.
"""

import glob
import itertools
import os
import select
from collections.abc import Iterable, Iterator, Sequence

from s2pecnet.errors import InputError, describe_error

# Endings of what libsndfile reads, of those that hold audio alone (.mat does not) and say their rate (.raw does not).
SUFFIXES = frozenset(
    (
        *(".8svx", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf", ".flac", ".ircam", ".mp2", ".mp3", ".nist"),
        *(".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sds", ".sf", ".snd", ".sph", ".svx", ".voc", ".w64"),
        *(".wav", ".wave", ".wve", ".xi"),
    )
)
STDIN = 0
# Paths named in a message.
SHOWN = 3
# Seconds without a further path on stdin after which those that have come are scored, however few.
PATIENCE = 0.5

# A path; a problem met while looking for paths, to be handed on in its place; or None, no further path for the moment.
Found = str | InputError | None


def find_audio(paths: Iterable[str]) -> Iterator[Found]:
    """Audio files, one by one: what `paths` name, the files of folders, matches of globs, and for "-" those of stdin.

    A folder is walked in the order of names, subfolders too, as far as the files are asked for; names that begin with
    a dot, links to folders, and files without an ending of `SUFFIXES` are skipped.

    Yields:
        a path; an `InputError` where a folder cannot be read or holds no audio, or a glob matches nothing; None where
        stdin pauses.
    """
    for path in paths:
        if path == "-":
            for line in read_lines(STDIN):
                yield from [None] if line is None else _files_of(line)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))
            yield from itertools.chain.from_iterable(map(_files_of, matches))
            if not matches:
                yield InputError(f"{path}: no file matches")
        else:
            yield from _files_of(path)


def require_files(found: Iterator[Found], paths: Sequence[str]) -> Iterator[Found]:
    """`found` as it is, after making sure that there is a file in it.

    Raises:
        InputError: there is none; the first few reasons are given.
    """
    before: list[Found] = []
    for item in found:
        before.append(item)
        if isinstance(item, str) and os.path.exists(item):
            return itertools.chain(before, found)
    problems = [f"{item}: no such file" if isinstance(item, str) else str(item) for item in before if item is not None]
    if not problems:
        raise InputError(f"no audio file found in {', '.join(paths)}")
    more = [f"no file found in {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    raise InputError("\n".join([*problems[:SHOWN], *more]))


def read_lines(descriptor: int) -> Iterator[str | None]:
    """Lines of an open file as they come, empty ones left out; None where no line has come for a while."""
    rest, chunk = b"", b"-"
    while chunk:
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            yield None
        chunk = os.read(descriptor, 1 << 16)
        # The last line need not end.
        *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
        yield from (os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip())


def _files_of(path: str) -> Iterator[Found]:
    if not os.path.isdir(path):
        yield path
        return
    items = _walk(path)
    nothing = f"{path}: no audio file in this folder (looked for {' '.join(sorted(SUFFIXES))})"
    yield next(items, InputError(nothing))
    yield from items


def _walk(folder: str) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            content = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in shown)
    except OSError as error:
        yield InputError(describe_error(error))
        return
    for name, is_folder in content:
        path = os.path.join(folder, name)
        if is_folder:
            yield from _walk(path)
        elif os.path.splitext(name)[1].lower() in SUFFIXES:
            yield path
