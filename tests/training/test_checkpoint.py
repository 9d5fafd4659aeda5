"""A state comes back as it went, or is known to be damaged; nothing in it runs."""

import hashlib
import io
import os
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.systems.weights import DamagedFile
from s2pecnet.training.checkpoint import HEAD, newest_state, prune_states, read_state, write_state


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def training() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2, 2])
    return model, optimizer, scheduler


def step(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> float:
    loss = model(torch.randn(4, 2)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    return loss.item()


def forged(payload: bytes, version: bytes = b"1") -> bytes:
    """A state with a right checksum, whatever it holds."""
    content = HEAD + version + b"\n" + payload
    return content + hashlib.sha256(content).digest()


def states(folder: Path, *steps: int) -> list[Path]:
    paths = [folder / f"step_{number}.state" for number in steps]
    for number, path in zip(steps, paths, strict=True):
        write_state(path, {"step": number})
    return paths


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_training_resumes_where_it_was(tmp_path: Path) -> None:
    model, optimizer, scheduler = training()
    step(model, optimizer, scheduler)
    numpys: Any = np.random.get_state()
    content: dict[Any, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "random": [torch.get_rng_state(), random.getstate(), torch.from_numpy(numpys[1])],
        "best": None,
        "done": False,
        "note": "Müller",
        "history": [{"epoch": 0, "loss": 0.1, "shape": (1, 2)}],
        ("tuple", 1): b"bytes",
    }
    write_state(tmp_path / "s.state", content)
    expected = [step(model, optimizer, scheduler) for _ in range(3)]

    found = read_state(tmp_path / "s.state")
    assert list(found) == list(content)
    assert {key: found[key] for key in ("best", "done", "note", "history", ("tuple", 1))} == {
        key: content[key] for key in ("best", "done", "note", "history", ("tuple", 1))
    }
    assert type(found["history"][0]["shape"]) is tuple
    random.setstate(found["random"][1])
    model, optimizer, scheduler = training()
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    scheduler.load_state_dict(found["scheduler"])
    torch.set_rng_state(found["random"][0])
    assert [step(model, optimizer, scheduler) for _ in range(3)] == expected


@pytest.mark.parametrize("content", [3, "text", [], {}, None, (1, (2,)), torch.arange(3), OrderedDict(a=2**100)])
def test_any_plain_content(tmp_path: Path, content: Any) -> None:
    write_state(tmp_path / "s", content)
    found = read_state(tmp_path / "s")
    assert type(found) is type(content)
    assert torch.equal(found, content) if isinstance(content, torch.Tensor) else found == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [1, np.float64(2)]}, r"content\['a'\]\[1\] is a numpy.float64"),
        ({"a": {3: np.zeros(2)}}, r"content\['a'\]\[3\] is a numpy.ndarray"),
        ({Path("x"): 1}, r"a key of content is a pathlib.PosixPath"),
        (nn.Linear(1, 1), r"content is a torch.nn.modules.linear.Linear"),
        ([Evil("true")], r"content\[0\] is a .*Evil"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        write_state(tmp_path / "s", content)
    assert names(tmp_path) == []


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    model, optimizer, scheduler = training()
    step(model, optimizer, scheduler)
    path = tmp_path / "s.state"
    write_state(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    data = path.read_bytes()
    draw = random.Random(2)
    # All of the head and of the checksum, and a share of what lies between.
    positions = [*range(len(HEAD) + 2), *range(len(data) - 32, len(data)), *draw.sample(range(len(data)), 600)]
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DamagedFile, match=r"is damaged \(checksum\)|no training state, or a damaged one"):
            read_state(path)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s.state"
    write_state(path, {"w": torch.zeros(100)})
    data = path.read_bytes()
    for length in [*range(80), *random.Random(2).sample(range(len(data)), 200), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DamagedFile, match="damaged"):
            read_state(path)
    for other in (data + b"\0", data + data, b"\0" + data, data[:-32] + bytes(32), bytes(len(data)), b"hello"):
        path.write_bytes(other)
        with pytest.raises(DamagedFile, match="damaged"):
            read_state(path)


def test_other_files_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.state"
    with pytest.raises(InputError, match="no such training state"):
        read_state(path)
    payload = io.BytesIO()
    torch.save({"step": 1}, payload)
    path.write_bytes(forged(payload.getvalue()))
    assert read_state(path) == {"step": 1}
    for data, message in (
        (forged(payload.getvalue(), b"2"), "a state of version 2, this code reads version 1"),
        (forged(b"hello"), "its checksum is right: was it written with another version of torch"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            read_state(path)
        assert not isinstance(caught.value, DamagedFile)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_not_executed(tmp_path: Path, legacy: bool) -> None:
    trap, payload = tmp_path / "executed", io.BytesIO()
    torch.save({"step": Evil(f"touch {trap}")}, payload, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "evil.state").write_bytes(forged(payload.getvalue()))
    for read in (read_state, lambda path: newest_state(path.parent)):
        with pytest.raises(InputError, match=r"evil.state: refused: .* execute code on loading \(it calls posix.sys"):
            read(tmp_path / "evil.state")
    assert not trap.exists()
    torch.load(io.BytesIO(payload.getvalue()), weights_only=False)
    assert trap.exists(), "the trap would have worked"


def test_a_failed_write_keeps_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = states(tmp_path, 1)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"step_1.state") as caught:
        write_state(path, {"step": 2})
    assert caught.value.filename == str(path)
    assert read_state(path) == {"step": 1}
    assert names(tmp_path) == ["step_1.state"]


def test_the_newest_complete_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert newest_state(tmp_path) is None
    assert newest_state(tmp_path / "nothing") is None
    (tmp_path / "other.txt").write_text("no state")
    assert newest_state(tmp_path) is None
    paths = states(tmp_path, 8, 9, 10)
    assert newest_state(tmp_path) == (paths[2], {"step": 10})
    assert capsys.readouterr().err == ""

    damage(paths[2])
    paths[1].write_bytes(b"")
    assert newest_state(tmp_path) == (paths[0], {"step": 8})
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {paths[2]} is damaged (checksum), going back to step_9.state",
        f"warning: {paths[1]} is damaged (checksum), going back to step_8.state",
    ]
    assert newest_state(tmp_path, "step_8.*") == (paths[0], {"step": 8})

    damage(paths[0])
    with pytest.raises(InputError, match=r"every state there is damaged \(step_10.state, step_9.state, step_8.state\)"):
        newest_state(tmp_path)
    capsys.readouterr()


def test_pruning_keeps_the_newest_complete_ones(tmp_path: Path) -> None:
    paths = states(tmp_path, 1, 2)
    (tmp_path / "other.txt").write_text("stays")
    assert prune_states(tmp_path) == []
    paths += states(tmp_path, 9, 10)
    assert prune_states(tmp_path) == [paths[1], paths[0]]
    assert names(tmp_path) == ["other.txt", "step_10.state", "step_9.state"]
    assert prune_states(tmp_path, keep=1) == [paths[2]]
    with pytest.raises(ValueError, match="at least one"):
        prune_states(tmp_path, keep=0)


def test_pruning_counts_damaged_states_for_nothing(tmp_path: Path) -> None:
    paths = states(tmp_path, 1, 2, 3)
    damage(paths[2])
    damage(paths[1])
    assert prune_states(tmp_path) == []
    (newer,) = states(tmp_path, 4)
    assert prune_states(tmp_path) == [paths[2], paths[1]]
    assert newest_state(tmp_path) == (newer, {"step": 4})
    assert names(tmp_path) == ["step_1.state", "step_4.state"]


def test_pruning_removes_what_killed_writers_left(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "step_3.state", "wb") as stream:
        (part,) = tmp_path.glob(".*.part")
        abandoned = part.with_name(part.name.replace("step_3", "step_2").replace(f".{os.getpid()}.", ".99999999."))
        abandoned.write_bytes(b"half")
        prune_states(tmp_path)
        assert not abandoned.exists()
        assert part.exists()
        stream.write(b"")
