"""Weights on disk: plain state dicts, written atomically, verified when read, read without executing anything.

A `.pth` file written here is an ordinary state dict that `torch.load(path, weights_only=True)` and any other
AASIST-style code reads; a `.safetensors` file is one that any safetensors reader reads. Beside its tensors it carries
what made it (`description(path)`: config, seed, versions, command) and a SHA-256 over all of that:

    .pth           attributes `about` and `sha256` of the state dict; no keys of it, so that strict loading works
    .safetensors   entries `s2pecnet.about` (JSON) and `s2pecnet.sha256` of the metadata

Reading verifies what is there. Older files and those of other frameworks have no SHA-256; of them, a `.pth` file still
has the CRC-32 that zip keeps of every record, which torch writes and does not verify.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, writes
from s2pecnet.text import first_line

# Prefixes that other frameworks put before every key, alone or one after the other.
FOREIGN_PREFIXES = ("module.", "model.", "_orig_mod.")
# What torch's AveragedModel counts in; it has no prefix.
AVERAGED = "n_averaged"

# Names of our own in the metadata, where everybody puts what he likes.
ABOUT_ENTRY, SHA256_ENTRY = "s2pecnet.about", "s2pecnet.sha256"
# A header of 8 MiB describes a hundred thousand tensors; one of gigabytes only fills the memory.
SAFETENSORS_HEADER_BYTES = 8 << 20
# torch does not compress; a file that unpacks to so many times its size is made to fill the memory.
UNPACKED_RATIO = 64

SAVE_STATE_DICT = "save `model.state_dict()`"
FLIPPED = (
    "is damaged: its checksum does not fit its content, so bits were flipped on a disk or on the way; copy it again "
    "from where it came, or use another checkpoint"
)


class DamagedFile(InputError):
    """A file whose checksum does not fit its content, or that cannot be read; an earlier one may be intact."""


def save_weights(model: nn.Module, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
    """Write the model's state dict (tensors on the CPU), with `about` (JSON-like values) as its description.

    Args:
        path: a name that ends in `.safetensors` makes a safetensors file, any other a torch file.

    Raises:
        OSError: the disk is full or the folder cannot be written; a file of that name that was there is untouched.
    """
    if not writes():
        return
    state = OrderedDict((name, tensor.detach().cpu().contiguous()) for name, tensor in model.state_dict().items())
    # What a pre-trained front end was built from: these weights are then all that scoring needs.
    configuration = getattr(getattr(model, "front_end", None), "configuration", None)
    about = dict(about or {}) | ({} if configuration is None else {"front_end": configuration})
    # As JSON reads it, so that a description comes back the same from both formats.
    text = json.dumps(about)
    notes = {"about": json.loads(text), "sha256": _checksum(state, text)}
    # In memory first: torch turns a full disk into an error that names neither the file nor the reason.
    data: bytes | memoryview
    if Path(path).suffix.lower() == ".safetensors":
        # Tensors that share memory are refused there.
        copies = {name: tensor.clone() for name, tensor in state.items()}
        metadata = {"format": "pt", ABOUT_ENTRY: text, SHA256_ENTRY: notes["sha256"]}
        packed: bytes = _safetensors().save(copies, metadata)
        # Its header in order of names: the package gives another order each time.
        end = 8 + int.from_bytes(packed[:8], "little")
        header = json.dumps(json.loads(packed[8:end]), sort_keys=True, separators=(",", ":")).encode()
        # The tensors behind it begin at a multiple of eight bytes.
        header += b" " * (-len(header) % 8)
        data = len(header).to_bytes(8, "little") + header + packed[end:]
    else:
        vars(state).update(notes)
        stream = io.BytesIO()
        torch.save(state, stream)
        data = stream.getbuffer()
    with atomic_write(path, "wb") as file:
        file.write(data)


def read_weights(path: str | os.PathLike[str]) -> "OrderedDict[str, Tensor]":
    """The state dict of a checkpoint, on the CPU.

    Raises:
        DamagedFile: its checksum does not fit, or it is no checkpoint that can be made out.
        InputError: the file is missing, would have to execute code, or is no state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; give one by model_path or --eval_model_weights")
    state = _read_safetensors(path) if Path(path).suffix.lower() == ".safetensors" else _read_torch(path)
    notes = vars(state) if isinstance(state, OrderedDict) else {}
    if "sha256" in notes:
        try:
            found = _checksum(state, json.dumps(notes.get("about")))
        except (TypeError, ValueError, RuntimeError):
            # No description that we wrote.
            found = None
        if found != notes["sha256"]:
            raise DamagedFile(f"{path}: {FLIPPED}")
    return state


def description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What made a checkpoint of ours: config, seed, versions, command; empty for foreign ones.

    Raises:
        InputError: as `read_weights`.
    """
    about = getattr(read_weights(path), "about", None)
    return dict(about) if isinstance(about, Mapping) else {}


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], state: "OrderedDict[str, Tensor] | None" = None
) -> None:
    """Load a checkpoint strictly into `model`.

    A system whose published weights have other names than its own brings them to its own (`from_published`).

    Args:
        state: the checkpoint, where it has been read.

    Raises:
        InputError: as `read_weights`, or the checkpoint is of another architecture or other widths; the first
            differing keys are named. The model is then as it was.
    """
    state = read_weights(path) if state is None else state
    own, from_published = model.state_dict(), getattr(model, "from_published", None)
    if from_published is not None:
        state = from_published(state)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        prefix, fits = _foreign_prefix(own, state)
        if prefix:
            rest = "the rest fits" if fits else "the rest is of another architecture too"
            raise InputError(
                f"{path}: every key begins with {prefix!r}, as another framework saves it ({_first(state)} there, "
                f"{_first(own)} by model_config; {rest}); strip the prefix and save again"
            )
        raise InputError(
            f"{path}: weights of another architecture ({len(state)} tensors there, {len(own)} by model_config)"
            f"{f'; missing: {_first(missing)}' if missing else ''}"
            f"{f'; unexpected: {_first(unexpected)}' if unexpected else ''}"
        )
    other = [name for name in own if own[name].shape != state[name].shape]
    if other:
        name = other[0]
        raise InputError(
            f"{path}: the same architecture with other widths: {name} is {tuple(state[name].shape)} there and "
            f"{tuple(own[name].shape)} by model_config; {len(other)} of {len(own)} tensors differ: {_first(other)}"
        )
    odd = [name for name in own if not _holds_numbers(state[name], own[name])]
    if odd:
        kind = f"{state[odd[0]].layout}, {state[odd[0]].dtype} on {state[odd[0]].device}".replace("torch.", "")
        raise InputError(
            f"{path}: {odd[0]} is no tensor of numbers as the model has it ({kind}; expected a dense "
            f"{str(own[odd[0]].dtype).removeprefix('torch.')}); {SAVE_STATE_DICT} of the trained model on the CPU"
        )
    model.load_state_dict(state)


def _holds_numbers(there: Tensor, own: Tensor) -> bool:
    """Whether a tensor of a checkpoint can be copied into one of the model: dense, real, and not without content."""
    plain = there.layout == torch.strided and not there.is_meta and not there.is_quantized
    return plain and there.is_floating_point() == own.is_floating_point() and not there.is_complex()


def load_plain(stream: IO[bytes], name: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote, if it is plain: tensors, containers, numbers, text. Nothing of it is executed.

    Args:
        stream: open for reading; it is read from its beginning.
        name: what messages call it.

    Raises:
        InputError: it would have to execute code.
        DamagedFile: it cannot be made out.
    """
    _check_records(stream, name)
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it then refuses; the refusal is enough.
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged pickles fail in every way that a program can fail.
        text = str(error)
        called = re.search(r"(?:Unsupported (?:global|class): GLOBAL|unsupported GLOBAL) ([\w.]+)", text)
        # 149 opens every pickle of protocol 4 or later, as `pickle.dump` writes it.
        if called or "TorchScript" in text or "Unsupported operand 149" in text:
            reason = f"it calls {called[1]}" if called else "it is a program or a pickle of any content"
            raise InputError(
                f"{name}: refused: it is a pickle that would execute code on loading ({reason}); "
                "ask its author for `model.state_dict()`"
            ) from None
        # torch advises at length how to execute what it has refused.
        reason = "nothing of it was executed" if isinstance(error, pickle.UnpicklingError) else first_line(error)
        raise DamagedFile(f"{name}: not a readable checkpoint, it is damaged or of another kind ({reason})") from None


def _read_torch(path: str | os.PathLike[str]) -> "OrderedDict[str, Tensor]":
    with open(path, "rb") as stream:
        first = stream.read(9)
        if first.endswith(b"{") and 0 < int.from_bytes(first[:8], "little") <= os.path.getsize(path) - 8:
            raise InputError(f"{path}: a safetensors file under another name; rename it to .safetensors")
        content = load_plain(stream, path)
    if _is_state_dict(content):
        return content
    none = f"{path}: holds no state dict (names to tensors)"
    if not isinstance(content, Mapping):
        raise InputError(f"{none} but a {type(content).__name__}; {SAVE_STATE_DICT}")
    # The file of a trainer has weights under one of its keys.
    inside = [key for key, value in content.items() if _is_state_dict(value) and len(value)]
    if not inside:
        key, value = next(item for item in content.items() if not _is_state_dict(dict([item])))
        raise InputError(f"{none}: {key!r} is a {type(value).__name__}; {SAVE_STATE_DICT}")
    beside = [repr(key) for key in content if key not in inside]
    raise InputError(
        f"{path}: holds its weights one level down, under {' and '.join(map(repr, inside))}"
        f"{f' (beside {_first(beside)})' if beside else ''}, as other trainers save them; "
        f"save content[{inside[0]!r}] alone as a file of its own"
    )


def _check_records(stream: IO[bytes], name: str | os.PathLike[str]) -> None:
    """Verify the CRC-32 of every record of a zip file.

    Raises:
        DamagedFile: some fit and some do not. A writer that leaves them out (torch can) has none that fits.
            Or they would unpack to far more than the file.
    """
    most = UNPACKED_RATIO * max(1 << 20, stream.seek(0, os.SEEK_END))
    unpacked, fits = 0, list[bool]()
    # What is no zip file, or one with a broken directory, is left to torch.
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(stream) as archive:
        unpacked = sum(record.file_size for record in archive.infolist())
        if unpacked <= most:
            for record in archive.infolist():
                stored = record.compress_type == zipfile.ZIP_STORED
                fits.append(not stored or record.compress_size == record.file_size)
                try:
                    with archive.open(record) as content:
                        while fits[-1] and content.read(1 << 20):
                            pass
                except Exception:
                    # A flipped bit in the record's own header can say anything: encrypted, another name or method.
                    fits[-1] = False
    if unpacked > most:
        raise DamagedFile(f"{name}: a damaged file, or one made to fill the memory: it announces {unpacked} bytes")
    if any(fits) and not all(fits):
        raise DamagedFile(f"{name}: {FLIPPED}")


def _read_safetensors(path: str | os.PathLike[str]) -> "OrderedDict[str, Tensor]":
    """The tensors of a safetensors file; its description and checksum are their attributes, as in a torch file."""
    with open(path, "rb") as stream:
        first = stream.read(8)
        length = int.from_bytes(first, "little")
        if first.startswith(b"PK"):
            raise InputError(f"{path}: a torch file under a safetensors name; rename it to .pth")
        if len(first) < 8 or length > min(SAFETENSORS_HEADER_BYTES, os.path.getsize(path) - 8):
            raise DamagedFile(
                f"{path}: no safetensors file, or a damaged one (it announces a header of {length} bytes)"
            )
        data = first + stream.read()
    package = _safetensors()
    try:
        # The package gives them in no order at all.
        state: OrderedDict[str, Tensor] = OrderedDict(sorted(package.load(data).items()))
        notes = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        if ABOUT_ENTRY in notes or SHA256_ENTRY in notes:
            # Both, always: one alone has lost the other.
            vars(state).update(about=json.loads(notes[ABOUT_ENTRY]), sha256=notes[SHA256_ENTRY])
    except Exception as error:
        # The package has its own exceptions, and passes on those of whatever it calls.
        raise DamagedFile(f"{path}: no safetensors file, or a damaged one ({first_line(error)})") from None
    return state


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch as package
    except ImportError:
        raise InputError(
            "the package safetensors is missing: python -m pip install --requirement requirements.txt"
        ) from None
    return package


def _checksum(state: Mapping[str, Tensor], about: str) -> str:
    """SHA-256 of a description (JSON text) and of name, dtype, shape and bytes of every tensor, in order of names."""
    digest = hashlib.sha256(f"{about}\n".encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{json.dumps(name)} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _foreign_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[str, bool]:
    """The prefix that every key of `state` has and no key of the model ("": there is none), and if the rest fits."""
    names = [name for name in state if name != AVERAGED]
    prefix, longest = "", ""
    while step := next((s for s in FOREIGN_PREFIXES if names and all(n.startswith(prefix + s) for n in names)), None):
        prefix += step
        if {name.removeprefix(prefix) for name in names} == set(own):
            return prefix, True
        if not any(name.startswith(prefix) for name in own):
            longest = prefix
    return longest, False


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
