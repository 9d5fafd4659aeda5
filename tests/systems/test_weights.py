"""Weights come back as they went; everything else about a file is said in one line."""

import json
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from s2pecnet.errors import InputError
from s2pecnet.systems import weights
from s2pecnet.systems.weights import DamagedFile, description, load_weights, read_weights, save_weights

ABOUT = {"seed": 3, "config": {"a": [1, None, 0.1], "name": "Müller\n"}}
FORMATS = ["w.pth", "w.safetensors"]


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def assert_same(first: "dict[str, Tensor]", second: "dict[str, Tensor]") -> None:
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name])


def refusal(path: Path, model: nn.Module | None = None) -> str:
    """What load_weights says of a file: one line, and the model is as it was."""
    model = model or net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, path)
    assert_same(before, model.state_dict())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip_with_description(tmp_path: Path, name: str) -> None:
    model, other = net(), net()
    save_weights(model, tmp_path / name, ABOUT)
    load_weights(other, tmp_path / name)
    assert_same(model.state_dict(), other.state_dict())
    assert description(tmp_path / name) == ABOUT
    save_weights(model, tmp_path / name)
    assert description(tmp_path / name) == {}


def test_files_are_plain_to_everybody_else(tmp_path: Path) -> None:
    model = net()
    for name in FORMATS:
        save_weights(model, tmp_path / name, ABOUT)
    state = torch.load(tmp_path / "w.pth", weights_only=True)
    net().load_state_dict(state, strict=True)
    assert_same(model.state_dict(), state)
    assert_same(model.state_dict(), safetensors.torch.load_file(tmp_path / "w.safetensors"))
    with safetensors.safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["s2pecnet.about"]) == ABOUT


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    model = net()
    for name in ("one.safetensors", "one.pth"):
        contents = set()
        for _ in range(10):
            save_weights(model, tmp_path / name, ABOUT)
            contents.add((tmp_path / name).read_bytes())
        assert len(contents) == 1


def test_both_formats_hold_the_same_in_every_dtype(tmp_path: Path) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tied = nn.Linear(3, 3)
            self.again = self.tied
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8):
                self.register_buffer(f"of_{str(dtype).partition('.')[2]}", torch.tensor([[0, 1, 1]]).to(dtype).T)
            self.register_buffer("scalar", torch.tensor(2.5))
            self.register_buffer("empty", torch.zeros(0, 4))

    model = Mixed()
    for first, second in (FORMATS, FORMATS[::-1]):
        save_weights(model, tmp_path / first, ABOUT)
        copy = Mixed()
        load_weights(copy, tmp_path / first)
        save_weights(copy, tmp_path / second, description(tmp_path / first))
        assert_same(model.state_dict(), read_weights(tmp_path / second))
        assert description(tmp_path / second) == ABOUT


def test_foreign_state_dicts_load(tmp_path: Path) -> None:
    model = net()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    torch.save(dict(model.state_dict()), tmp_path / "dict.pth")
    torch.save(model.state_dict(), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(dict(model.state_dict()), tmp_path / "w.safetensors", {"format": "pt", "about": "me"})
    safetensors.torch.save_file(dict(model.state_dict()), tmp_path / "bare.safetensors")
    for path in tmp_path.iterdir():
        copy = net()
        load_weights(copy, path)
        assert_same(model.state_dict(), copy.state_dict())
        assert description(path) == {}


def test_earlier_files_of_ours_load(tmp_path: Path) -> None:
    state = OrderedDict(net().state_dict())
    state.about = ABOUT  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "w.pth")
    load_weights(net(), tmp_path / "w.pth")
    assert description(tmp_path / "w.pth") == ABOUT


def test_files_written_without_crc_load(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(net().state_dict(), tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "w.pth") as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("w/version")
    load_weights(net(), tmp_path / "w.pth")


def test_published_weights_load(shared: Path) -> None:
    for name in ("AASIST", "AASIST-L"):
        path = shared / "reference" / "weights" / f"{name}.pth"
        assert_same(read_weights(path), torch.load(path, weights_only=True, map_location="cpu"))


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits_are_noticed_or_harm_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_weights(net(), path, ABOUT)
    data, state = path.read_bytes(), read_weights(path)
    draw = random.Random(5)
    damaged = 0
    for position in draw.sample(range(len(data)), 400):
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read_weights(path)
        except DamagedFile:
            damaged += 1
        else:
            # A .pth file is half padding.
            assert_same(state, found)
            assert vars(found)["about"] == ABOUT
    assert damaged > 150


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_bit_in_a_weight_is_named_as_such(tmp_path: Path, name: str) -> None:
    model, path = net(), tmp_path / name
    weight = model.state_dict()["0.weight"]
    save_weights(model, path, ABOUT)
    data = bytearray(path.read_bytes())
    data[data.index(weight.numpy().tobytes())] ^= 4
    path.write_bytes(data)
    if name.endswith(".pth"):
        assert not torch.equal(torch.load(path, weights_only=True)["0.weight"], weight), "torch reads it"
    assert "is damaged: its checksum does not fit" in refusal(path)
    assert "copy it again from where it came, or use another" in refusal(path)


def test_the_checksum_covers_all_of_it(tmp_path: Path) -> None:
    # Written again with right CRCs, so that the SHA-256 alone can notice.
    def changed(**changes: Any) -> Path:
        save_weights(net(), tmp_path / "w.pth", ABOUT)
        state = torch.load(tmp_path / "w.pth", weights_only=True)
        state.update(changes.pop("tensors", {}))
        vars(state).update(changes)
        torch.save(state, tmp_path / "w.pth")
        return tmp_path / "w.pth"

    read_weights(changed())
    for changes in (
        {"tensors": {"0.bias": torch.ones(3)}},
        {"tensors": {"0.bias": torch.zeros(3, 1)}},
        {"tensors": {"more": torch.ones(0)}},
        {"tensors": {"1.num_batches_tracked": torch.tensor(0.0, dtype=torch.float64)}},
        {"about": ABOUT | {"seed": 4}},
        {"about": {1, 2}},
        {"sha256": "0" * 64},
        {"sha256": None},
    ):
        with pytest.raises(DamagedFile, match="its checksum does not fit"):
            read_weights(changed(**changes))


def test_cut_files(tmp_path: Path) -> None:
    for name in FORMATS:
        save_weights(net(), tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for length in random.Random(1).sample(range(len(data)), 60):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(DamagedFile, match="damaged"):
                read_weights(tmp_path / name)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    for ending in ("pth", "safetensors"):
        for content in (b"", b"hello", bytes(500), b"\x08" + bytes(7) + b'["a",1]\n', random.Random(1).randbytes(99)):
            path = tmp_path / f"x.{ending}"
            path.write_bytes(content)
            assert "damaged" in refusal(path)
    with pytest.raises(InputError, match="no such checkpoint"):
        read_weights(tmp_path / "nothing")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no state dict (names to tensors) but a list; save" in refusal(tmp_path / "list.pth")
    torch.save({1: torch.ones(1)}, tmp_path / "numbers.pth")
    assert "holds no state dict (names to tensors): 1 is a Tensor; save" in refusal(tmp_path / "numbers.pth")
    torch.save({"lr": 0.1, "x": torch.ones(2)}, tmp_path / "dict.pth")
    assert "holds no state dict (names to tensors): 'lr' is a float; save" in refusal(tmp_path / "dict.pth")
    torch.save(net().state_dict(), tmp_path / "torch.safetensors")
    assert "a torch file under a safetensors name; rename it to .pth" in refusal(tmp_path / "torch.safetensors")
    safetensors.torch.save_file(dict(net().state_dict()), tmp_path / "safe.pth")
    assert "a safetensors file under another name; rename it to .safetensors" in refusal(tmp_path / "safe.pth")


# What is in the file, how it is written, and what the refusal says.
MALICIOUS = [
    *[(f"pickle{protocol}", "would execute code") for protocol in range(1, 6)],
    ("pickle0", "nothing of it was executed"),
    ("zip", r"would execute code on loading \(it calls posix.system\); ask its author for `model.state_dict"),
    ("zip4", "would execute code"),
    ("legacy", r"it calls posix.system"),
    ("safetensors", "no safetensors file"),
]


@pytest.mark.parametrize(("kind", "message"), MALICIOUS)
def test_code_is_not_executed(tmp_path: Path, kind: str, message: str) -> None:
    trap, path = tmp_path / "executed", tmp_path / "evil.pth"
    content = {"0.weight": Evil(f"touch {trap}")}
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=int(kind[-1])))
    elif kind == "safetensors":
        path = tmp_path / "evil.safetensors"
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(
            content,
            path,
            pickle_protocol=4 if kind == "zip4" else 2,
            _use_new_zipfile_serialization=kind != "legacy",
        )
    with pytest.raises(InputError, match=message):
        read_weights(path)
    refusal(path)
    with pytest.raises(InputError):
        description(path)
    assert not trap.exists()
    if kind == "zip":
        # The trap works: without the refusal it would have been sprung.
        torch.load(path, weights_only=False)
        assert trap.exists()


def test_programs_are_refused(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole_model.pth")
    assert "would execute code on loading (it calls torch.nn.modules" in refusal(tmp_path / "whole_model.pth")
    torch.jit.trace(nn.Linear(2, 3), torch.ones(1, 2)).save(str(tmp_path / "script.pth"))
    message = refusal(tmp_path / "script.pth")
    assert "would execute code" in message
    assert "weights_only" not in message, "torch's advice on how to execute it is not passed on"


def test_files_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b"{" + b" " * (64 << 20) + b"}"
    (tmp_path / "header.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "lie.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    tensors = {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(tensors).encode()
    (tmp_path / "tensor.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    deep = b'{"a":' + b"[" * 100_000
    (tmp_path / "deep.safetensors").write_bytes(len(deep).to_bytes(8, "little") + deep)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(65 << 20))

    def unreached(*_: object, **__: object) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(torch, "load", unreached)
    for path in tmp_path.iterdir():
        assert "safetensors file, or a damaged" in refusal(path) or "made to fill the memory" in refusal(path)


def test_other_architectures_and_widths_are_distinguished(tmp_path: Path) -> None:
    for name in FORMATS:
        save_weights(net(4), tmp_path / name)
        message = refusal(tmp_path / name)
        assert "same architecture with other widths: 0.weight is (4, 2) there and (3, 2) by model_config" in message
        assert "6 of 7 tensors differ: 0.weight, 0.bias, 1.weight, ..." in message
        save_weights(nn.Linear(2, 3), tmp_path / name)
        message = refusal(tmp_path / name)
        assert "weights of another architecture (2 tensors there, 7 by model_config)" in message
        unexpected = "weight, bias" if name.endswith(".pth") else "bias, weight"
        assert f"missing: 0.weight, 0.bias, 1.weight, ...; unexpected: {unexpected}" in message


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.model._orig_mod."]
)
def test_other_prefixes_are_named(tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in net().state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    assert f"every key begins with {prefix!r}, as another framework saves it" in message
    assert f"({prefix}0.weight, {prefix}0.bias, {prefix}1.weight, ... there, 0.weight, 0.bias, 1.weight, ..." in message
    assert "the rest fits); strip the prefix and save again" in message
    assert "the rest is of another architecture too" in refusal(tmp_path / "w.pth", nn.Linear(2, 3))


def test_a_prefix_of_the_model_itself_is_none(tmp_path: Path) -> None:
    model = nn.ModuleDict({"model": net()})
    save_weights(model, tmp_path / "w.pth")
    load_weights(model, tmp_path / "w.pth")
    other = nn.ModuleDict({"model": nn.Linear(2, 3)})
    assert "weights of another architecture" in refusal(tmp_path / "w.pth", other)
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth", model)
    assert "every key begins with 'module.'," in message
    assert "the rest fits" in message


def test_averaged_models(tmp_path: Path) -> None:
    torch.save(AveragedModel(net()).state_dict(), tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    assert "every key begins with 'module.'," in message
    assert "the rest fits" in message


def test_files_of_other_trainers_name_the_key(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    assert "holds its weights one level down, under 'state_dict', as other trainers save them" in message
    assert "save content['state_dict'] alone" in message
    optimizer = torch.optim.AdamW(net().parameters()).state_dict()
    torch.save({"model": dict(state), "optimizer": optimizer, "epoch": 3, "loss": 0.1, "x": None}, tmp_path / "w.pth")
    assert "under 'model' (beside 'optimizer', 'epoch', 'loss', ...)" in refusal(tmp_path / "w.pth")
    torch.save({"model": state, "ema": state}, tmp_path / "w.pth")
    assert "under 'model' and 'ema', as" in refusal(tmp_path / "w.pth")


def test_safetensors_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(net(), tmp_path / "w.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="the package safetensors is missing"):
        weights.read_weights(tmp_path / "w.safetensors")
