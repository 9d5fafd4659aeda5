"""A system of one's own is found where the command runs, beside its config, and in listed folders; in this order."""

import inspect
from pathlib import Path

import pytest

from s2pecnet.errors import InputError
from s2pecnet.shipped import MODELS_FOLDER
from s2pecnet.systems.registry import available, find_model


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
