"""docs/config.md and the JSON Schema are what the code says; a change that is not written is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s2pecnet.cli import schema
from s2pecnet.errors import InputError
from tests.helpers import ROOT
from tools import config_reference, config_schema


def test_the_reference_is_up_to_date() -> None:
    for path, text in config_reference.made().items():
        assert path.read_text() == text, f"{path}: run python -m tools.config_reference"


def test_what_differs_is_found_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {name: tmp_path / getattr(config_reference, name).name for name in ("PAGE", "SCHEMA")}
    for name, path in pages.items():
        shutil.copy(getattr(config_reference, name), path)
        monkeypatch.setattr(config_reference, name, path)
    before = [path.read_text() for path in pages.values()]
    assert config_reference.main(["--check"]) == 0
    for path in pages.values():
        path.write_text(path.read_text().replace("utterances of a batch", "utterances"))
        with pytest.raises(
            InputError, match=rf"{path.name}: not what the code says; run python -m tools\.config_reference"
        ):
            config_reference.main(["--check"])
        config_reference.main([])
    assert [path.read_text() for path in pages.values()] == before
    pages["PAGE"].write_text("# Configs\n")
    with pytest.raises(InputError, match=r"no lines .* to write between"):
        config_reference.main([])


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main([]) == 0
    assert capsys.readouterr().out == config_schema.SCHEMA.read_text()


def test_the_module_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.config_reference", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.count("as the code says")) == (0, 2), done.stderr
