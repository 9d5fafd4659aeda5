"""The notebook of the demo, run from its first cell to its last, with one epoch and a smaller corpus."""

import shutil
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / "examples" / "demo.ipynb"
CLIPS = {"train": 24, "dev": 18, "eval": 18}


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_says_that_the_corpus_is_synthetic() -> None:
    assert "synthetic" in read().cells[0].source


def test_it_works_in_the_root_wherever_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors open it in its own folder, and its commands are those of the root."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "main.py").touch()
    notebook = read()
    first = next(index for index, cell in enumerate(notebook.cells) if "%cd .." in cell.source)
    notebook.cells = [*notebook.cells[: first + 1], nbformat.v4.new_code_cell("print(os.getcwd())")]
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for folder in (tmp_path, tmp_path / "examples"):
        nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
        assert notebook.cells[-1].outputs[0].text.strip() == str(tmp_path)


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the checkout, as a reader has it; the plots and the verdict are seen."""
    for path in [*ROOT.glob("*.py"), ROOT / "requirements.txt"]:
        shutil.copy(path, tmp_path)
    for folder in ("models", "config", "s2pecnet"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    smaller = tmp_path / "s2pecnet" / "corpora" / "demo.py"
    default = 'DEFAULT_CLIPS = {"train": 480, "dev": 120, "eval": 180}'
    assert default in smaller.read_text()
    smaller.write_text(smaller.read_text().replace(default, f"DEFAULT_CLIPS = {CLIPS}"))
    notebook = read()
    (parameters,) = [cell for cell in notebook.cells if cell.source.startswith("# Change these")]
    parameters.source = parameters.source.replace("EPOCHS = 5", "EPOCHS = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in shown)
    assert "SYNTHETIC" in text
    assert "eval_swa  EER " in text
    assert "verdict           llr        score" in text
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert not [output for output in shown if "Warning" in output.get("text", "")]
