"""A package that is not installed is told in one line, and only to those who need it."""

import sys
from pathlib import Path

import pytest

import arena
import predict
from errors import InputError
from evaluation import evaluate, read_cm_scores
from extras import MissingExtra, require
from plots import save_figures


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
    with pytest.raises(MissingExtra, match=r'drawing figures needs the package matplotlib: pip install "s2pecnet\[rep'):
        save_figures(tmp_path / "figures.png", scores, evaluate(scores), "none")


def test_predict_says_so_before_it_scores(cm_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"^--plot needs the package matplotlib: [^\n]*$"):
        predict.main(["--config", "config/AASIST.conf", "--plot", "x.png", str(cm_file)])


def test_submissions_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submission.yaml").write_text("a: 1\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match=r'needs the package yaml: pip install "s2pecnet\[arena\]"'):
        arena.main(["check", str(tmp_path / "submission.yaml"), "--scores", str(tmp_path / "scores.txt")])
