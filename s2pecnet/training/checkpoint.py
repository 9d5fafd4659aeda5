"""The state of a training on disk: complete, or known to be damaged; read without executing anything.

A state is what a training resumes from: weights, optimizer, scheduler, random generators, counters, as nested dicts,
lists and tuples of tensors, numbers and text. One file holds it:

    S2pecNet training state, version 1\\n     what it is
    ...                                      the content, as `torch.save` writes it
    32 bytes                                 SHA-256 of everything before

So one flipped bit or one missing byte anywhere is noticed before a byte is interpreted. States of a run lie in one
folder, their names counting up (`step_000200.state`): `newest_state` goes back to the newest one that is intact.
"""

import contextlib
import hashlib
import io
import os
import re
import sys
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, remove_leftovers, writes
from s2pecnet.systems.weights import DamagedFile, load_plain

VERSION = 1
HEAD = b"S2pecNet training state, version "
DIGEST_BYTES = hashlib.sha256().digest_size

# What `torch.load(weights_only=True)` gives back; subclasses (numpy's float64 is a float) it refuses.
PLAIN_VALUES = (Tensor, nn.Parameter, str, int, float, bool, type(None), bytes, torch.dtype, torch.device, torch.Size)


def write_state(path: str | os.PathLike[str], content: Any) -> None:
    """Write a state; an earlier file of that name stays until the new one is complete.

    Args:
        content: dicts, lists and tuples, nested, of tensors (any device), str, int, float, bool, None, bytes, dtypes.

    Raises:
        TypeError: the content holds something that could not be read back; the message names the place.
        OSError: the disk is full or the folder cannot be written; `filename` is `path`.
    """
    if not writes():
        return
    _check_plain(content, "content")
    stream = io.BytesIO()
    torch.save(content, stream)
    # In memory first: torch turns a full disk into an error that names neither the file nor the reason.
    head, payload = HEAD + b"%d\n" % VERSION, stream.getbuffer()
    digest = hashlib.sha256(head)
    digest.update(payload)
    with atomic_write(path, "wb") as file:
        file.writelines((head, payload, digest.digest()))


def read_state(path: str | os.PathLike[str]) -> Any:
    """The content of a state, its tensors on the CPU.

    Raises:
        DamagedFile: a bit is flipped, the file is cut, or it never was a state; an earlier state may be intact.
        InputError: there is no such file, another version wrote it, or it would have to execute code.
    """
    head, _, payload = _checked(path).partition(b"\n")
    version = head.removeprefix(HEAD)
    if version != b"%d" % VERSION:
        raise InputError(
            f"{path}: a state of version {version.decode(errors='replace')}, this code reads version {VERSION}; "
            "resume with the code that wrote it"
        )
    try:
        return load_plain(io.BytesIO(payload), path)
    except DamagedFile as error:
        # As it was written, by its checksum: no earlier state would do better.
        raise InputError(f"{error}; its checksum is right: was it written with another version of torch?") from None


def newest_state(folder: str | os.PathLike[str], pattern: str = "*.state") -> tuple[Path, Any] | None:
    """The newest state of a folder that is intact; a warning for each damaged one.

    Args:
        pattern: the states' names; the numbers in them count up (as numbers: 10 is after 9).

    Returns:
        its path and content, None where there is no state at all.

    Raises:
        InputError: all of them are damaged, or as `read_state`.
    """
    paths = _by_age(folder, pattern)
    for index, path in enumerate(paths):
        try:
            return path, read_state(path)
        except DamagedFile:
            for earlier in paths[index + 1 : index + 2]:
                message = f"warning: {path} is damaged (checksum), going back to {earlier.name}"
                print(message, file=sys.stderr, flush=True)
    if not paths:
        return None
    names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    raise InputError(f"{folder}: every state there is damaged ({names}); remove them to train from the start")


def prune_states(folder: str | os.PathLike[str], keep: int = 2, pattern: str = "*.state") -> list[Path]:
    """Delete all states but the newest `keep` that are intact, and what killed writers left behind.

    A damaged state counts for nothing, and nothing is deleted while there are fewer than `keep` intact ones.

    Returns:
        what was deleted.

    Raises:
        OSError: a file cannot be deleted.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least one state has to stay")
    if not writes():
        return []
    remove_leftovers(folder)
    paths = _by_age(folder, pattern)
    kept: list[Path] = []
    for path in paths:
        if len(kept) < keep:
            with contextlib.suppress(DamagedFile):
                _checked(path)
                kept.append(path)
    doomed = [path for path in paths if path not in kept] if len(kept) == keep else []
    for path in doomed:
        path.unlink(missing_ok=True)
    return doomed


def _checked(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a state without their digest, which is right.

    Raises:
        InputError, DamagedFile: as `read_state`.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such training state") from None
    content, digest = memoryview(data)[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if not data.startswith(HEAD):
        raise DamagedFile(f"{path}: no training state, or a damaged one (it begins with {data[:16]!r})")
    if hashlib.sha256(content).digest() != digest:
        raise DamagedFile(
            f"{path}: is damaged (checksum): bits are flipped or bytes are missing; go back to an earlier state"
        )
    return bytes(content)


def _by_age(folder: str | os.PathLike[str], pattern: str) -> list[Path]:
    """The states of a folder, newest first."""

    def steps(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]

    return sorted((path for path in Path(folder).glob(pattern) if path.is_file()), key=steps, reverse=True)


def _check_plain(value: Any, place: str) -> None:
    kind = type(value)
    if kind in (dict, OrderedDict, Counter):
        for key, inner in value.items():
            _check_plain(key, f"a key of {place}")
            _check_plain(inner, f"{place}[{key!r}]")
    elif kind in (list, tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{place}[{index}]")
    elif kind not in PLAIN_VALUES:
        raise TypeError(f"{place} is a {kind.__module__}.{kind.__qualname__}; a state holds plain values and tensors")
