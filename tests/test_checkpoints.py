"""Weights come back as they went; everything else about a file is said in one line."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints import description, load_weights, read_weights, save_weights
from errors import InputError


class Evil:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_round_trip_with_description(tmp_path: Path) -> None:
    model, other = net(), net()
    save_weights(model, tmp_path / "w.pth", {"seed": 3, "config": {"a": [1, None]}})
    load_weights(other, tmp_path / "w.pth")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert description(tmp_path / "w.pth") == {"seed": 3, "config": {"a": [1, None]}}
    # Plain to everybody else.
    other.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True), strict=True)


def test_foreign_state_dicts_load(tmp_path: Path) -> None:
    model = net()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    load_weights(net(), tmp_path / "w.pth")
    assert description(tmp_path / "w.pth") == {}


def test_code_is_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    torch.save({"weight": Evil(trap)}, tmp_path / "evil.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil(trap)))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(InputError, match=r"would execute code|not a readable checkpoint"):
            read_weights(tmp_path / name)
    torch.save(net(), tmp_path / "whole_model.pth")
    with pytest.raises(InputError, match="would execute code"):
        read_weights(tmp_path / "whole_model.pth")
    assert not trap.exists()


def test_damaged_files(tmp_path: Path) -> None:
    save_weights(net(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    for name, content in [("cut", data[: len(data) // 2]), ("empty", b""), ("text", b"hello"), ("zeros", bytes(500))]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="not a readable checkpoint"):
            read_weights(tmp_path / name)
    with pytest.raises(InputError, match="no such checkpoint"):
        read_weights(tmp_path / "nothing")
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(InputError, match="holds no state dict"):
        read_weights(tmp_path / "list")


def test_mismatches_are_told_apart(tmp_path: Path) -> None:
    save_weights(net(4), tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"other widths: 0.weight is \(4, 2\) there and \(3, 2\) by model_config"):
        load_weights(net(), tmp_path / "wide.pth")
    save_weights(nn.Linear(2, 3), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"another architecture .*lacks 0.weight.*has unexpected weight, bias"):
        load_weights(net(), tmp_path / "other.pth")
    torch.save({f"module.{k}": v for k, v in net().state_dict().items()}, tmp_path / "prefixed.pth")
    with pytest.raises(InputError, match=r"every key begins with 'module\.'"):
        load_weights(net(), tmp_path / "prefixed.pth")
