"""A system of one's own is found where the command runs, beside its config, and in listed folders; in this order."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.shipped import MODELS_FOLDER
from s2pecnet.systems.registry import available, find_model, forward
from s2pecnet.systems.scorer import Scorer
from s2pecnet.training.step import loss_terms


def write_system(folder: Path, name: str) -> Path:
    """A system of one's own, the smallest there is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text("from torch import nn\nclass Model(nn.Module):\n    pass\n")
    return path


def test_systems_lie_where_the_command_runs_and_beside_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("S2PEC_MODELS", str(tmp_path / "listed"))
    monkeypatch.chdir(tmp_path)
    here = [tmp_path / name for name in ("models", "listed", "project/config/models", "project/models")]
    for number, folder in enumerate(here):
        write_system(folder, f"OnlyIn{number}")
        write_system(folder, "InAll")
    with pytest.raises(InputError, match="unknown architecture 'OnlyIn2'") as caught:
        find_model("OnlyIn2")
    assert f"no such file in models/, {here[0]}, {here[1]}; did you mean 'OnlyIn" in str(caught.value)
    config = tmp_path / "project" / "config" / "mine.conf"
    for number in range(4):
        assert find_model(f"OnlyIn{number}", config).__module__ == f"models.OnlyIn{number}"
    assert inspect.getfile(find_model("InAll", config)) == str(here[0] / "InAll.py")
    others = ", ".join(str(folder / "InAll.py") for folder in (here[0], here[2], here[3], here[1])[1:])
    assert caplog.messages == [f"InAll is {here[0] / 'InAll.py'}; not used: {others} (give it another name)"]
    assert {"OnlyIn3", "InAll", "AASIST"} <= set(available(config))


def test_a_published_name_is_the_published_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_system(tmp_path / "models", "AASIST")
    monkeypatch.chdir(tmp_path)
    assert find_model("AASIST").__module__ == "models.AASIST"
    assert inspect.getfile(find_model("AASIST")) == str(MODELS_FOLDER / "AASIST.py")


class _Answers(nn.Module):
    """A system that returns what it is given."""

    def __init__(self, *outputs: Any):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Any:
        return self.outputs


@pytest.mark.parametrize(
    ("logits", "found"),
    [
        (torch.zeros(12, 2), "a Tensor (12, 2)"),
        (torch.zeros(1, 2), "a Tensor (1, 2)"),
        (torch.zeros(4, 3), "a Tensor (4, 3)"),
        (torch.zeros(4), "a Tensor (4,)"),
        (None, "a NoneType"),
        ([[0.0, 1.0]] * 4, "a list"),
    ],
)
def test_logits_have_a_row_for_each_utterance(logits: Any, found: str) -> None:
    with pytest.raises(
        InputError, match=r"second element is logits \(B, 2\), here \(4, 2\); it is " + re.escape(found)
    ):
        forward(_Answers(None, logits), [torch.zeros(4, 100)])
    with pytest.raises(InputError, match="it is "):
        Scorer(_Answers(None, logits), torch.device("cpu"))(torch.zeros(4, 100))


def test_a_loss_of_its_own_is_made_of_scalars() -> None:
    model = _Answers(None, torch.zeros(4, 2))
    for own, found in ((torch.zeros(4), r"'loss' is a Tensor \(4,\)"), ({"a": 1.0}, "'a' is a float")):
        model.loss = lambda *_, own=own: own  # type: ignore[assignment]
        with pytest.raises(InputError, match=f"the model's loss is to return a scalar.*; {found}"):
            loss_terms(model, [torch.zeros(4, 100)], torch.zeros(4, dtype=torch.long), nn.CrossEntropyLoss())
