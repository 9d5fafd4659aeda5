"""Which audio files a command line means: files, folders, globs and lists on stdin, found as they are asked for.

A folder of a million files is not listed before its first file is used, but for the names of each folder by itself; a
list on stdin may still be being written while it is read.
"""

import contextlib
import glob
import itertools
import os
import select
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from s2pecnet.audio.containers.content import Content
from s2pecnet.audio.containers.signatures import sniff
from s2pecnet.conventions import AUDIO_ENDINGS, OTHER_AUDIO
from s2pecnet.errors import InputError, describe_error

# Bytes of a path; no system takes longer ones.
LONGEST_PATH = 1 << 16
STDIN = 0
# Paths, and endings, named in a message.
SHOWN, ENDINGS_SHOWN = 3, 6
# Seconds without a further path on stdin after which those that have come are scored, however few.
PATIENCE = 0.5

# A path; a problem met while looking for paths, to be handed on in its place; or None, no further path for the moment.
Found = str | InputError | None
HIDDEN, LINKED, SPECIAL, CLOSED = "hidden", "linked folders", "no regular files", "not readable"


def find_audio(paths: Iterable[str], skipped: Counter[str] | None = None) -> Iterator[Found]:
    """Audio files, one by one: what `paths` name, the files of folders, matches of globs, and for "-" those of stdin.

    A folder is walked in the order of names, subfolders too, as far as the files are asked for. Files with an ending of
    audio are taken, and those that begin as audio does; others, names that begin with a dot, and links to folders are
    skipped and counted.

    Args:
        skipped: counts what is skipped, by ending ("" where there is none) or by one of the words above.

    Yields:
        a path; an `InputError` where a folder cannot be read or holds no audio, or a glob matches nothing; None where
        stdin pauses.
    """
    skipped = Counter() if skipped is None else skipped
    for path in paths:
        if path == "-":
            for line in read_lines(STDIN):
                yield from [None] if line is None else _files_of(line, skipped)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))
            for match in matches:
                yield from _files_of(match, skipped)
            if not matches:
                yield InputError(f"{path}: no file matches")
        else:
            yield from _files_of(path, skipped)


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
        if len(rest) > LONGEST_PATH:
            raise InputError(
                f"a line of more than {LONGEST_PATH:,} bytes on stdin; expected a list, a path in each line"
            )
        yield from (os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip())


def skipped_in_words(skipped: Counter[str]) -> str:
    """What was skipped: "3 that are no audio (.txt 2, no ending 1), 1 hidden"; "" where nothing was."""
    others = (HIDDEN, LINKED, SPECIAL, CLOSED)
    endings = sorted((-count, ending or "no ending") for ending, count in skipped.items() if ending not in others)
    named = ", ".join(f"{ending} {-count}" for count, ending in endings[:ENDINGS_SHOWN])
    more = ", ..." if len(endings) > ENDINGS_SHOWN else ""
    parts = [f"{-sum(count for count, _ in endings)} that are no audio ({named}{more})"] if endings else []
    return ", ".join([*parts, *(f"{skipped[word]} {word}" for word in others if skipped[word])])


def _files_of(path: str, skipped: Counter[str]) -> Iterator[Found]:
    if not os.path.isdir(path):
        yield path
        return
    before = skipped.copy()
    items = _walk(path, skipped)
    first = next(items, None)
    if first is None:
        words = skipped_in_words(skipped - before)
        yield InputError(
            f"{path}: no audio file in this folder" + (f"; skipped: {words}" if words else ", it is empty")
        )
        return
    yield first
    yield from items


def _walk(folder: str, skipped: Counter[str]) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            content = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield InputError(describe_error(error))
        return
    for name, is_folder in content:
        path = os.path.join(folder, name)
        ending = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            skipped[HIDDEN] += 1
        elif is_folder:
            yield from _walk(path, skipped)
        elif os.path.isdir(path):
            skipped[LINKED] += 1
        elif os.path.exists(path) and not os.path.isfile(path):
            skipped[SPECIAL] += 1
        elif ending in AUDIO_ENDINGS | OTHER_AUDIO:
            yield path
        else:
            try:
                with contextlib.closing(Content(path)) as bytes_of_it:
                    is_audio = bool(sniff(bytes_of_it)[0])
            except OSError:
                skipped[CLOSED] += 1
                continue
            if is_audio:
                yield path
            else:
                skipped[ending] += 1
