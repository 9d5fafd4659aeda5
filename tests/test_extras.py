"""A package that is not installed is told in one line, and only to those who need it."""

import sys
from pathlib import Path

import pytest

from s2pecnet.cli import arena, predict, train
from s2pecnet.errors import InputError
from s2pecnet.extras import MissingExtra, require
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.reporting.plots import save_figures
from s2pecnet.score_files.cm_asv import read_cm_scores


def test_a_package_that_is_there_comes_back() -> None:
    assert require("json", "report", "a test").dumps([1]) == "[1]"


def test_a_package_that_is_broken_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        require("broken_package", "report", "a test")


def test_figures_without_matplotlib(cm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    scores = read_cm_scores(cm_file)
    with pytest.raises(MissingExtra, match=r'drawing plots needs the package matplotlib: pip install "s2pecnet\[rep'):
        save_figures(tmp_path / "figures.png", scores, evaluate(scores), "none")


def test_a_training_without_matplotlib_ends_well(
    tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    train.main(["--config", str(tiniest_config), "--output_dir", str(tmp_path), "--set", "num_epochs=1"])
    warning = 'no figures.png: drawing plots needs the package matplotlib: pip install "s2pecnet[report]"'
    assert caplog.messages[-1].startswith(warning)
    names = {path.name for path in (tmp_path / "LA_tiniest_ep1_bs6").iterdir()}
    assert {"results.json", "report.html"} <= names
    assert "figures.png" not in names


def test_predict_says_so_before_it_scores(cm_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"^--plot needs the package matplotlib: [^\n]*$"):
        predict.main(["--config", "config/AASIST.conf", "--plot", "x.png", str(cm_file)])


def test_submissions_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submission.yaml").write_text("a: 1\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match=r'needs the package yaml: pip install "s2pecnet\[arena\]"'):
        arena.main(["check", str(tmp_path / "submission.yaml"), "--scores", str(tmp_path / "scores.txt")])
