"""The pictures of README.md are made from the folder of a run."""

from pathlib import Path

import pytest

from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.errors import InputError
from tests.helpers import ROOT
from tests.helpers.browser import find_browser
from tests.helpers.run_samples import make_run
from tools import readme_figures

PNG = b"\x89PNG\r\n"
LARGEST = 200_000  # bytes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run on a small corpus."""
    clips = {"train": 12, "dev": 12, "eval": 12}
    corpus = make_demo_corpus(tmp_path / "LA", 7, clips_per_split=clips)
    make_run(tmp_path / "run", corpus, seed=1)
    (tmp_path / "run" / "report.html").write_text("<!doctype html><title>a report</title><p>a report")
    return tmp_path / "run"


def test_the_det_plot_without_a_browser(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readme_figures, "find_browser", lambda: None)
    assert readme_figures.main([str(run), "--output", str(tmp_path / "images")]) == 0
    assert (tmp_path / "images" / "det.png").read_bytes().startswith(PNG)
    assert "no Chromium found" in capsys.readouterr().out
    assert not (tmp_path / "images" / "report.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_the_picture_of_the_report(run: Path, tmp_path: Path) -> None:
    assert readme_figures.main([str(run), "--output", str(tmp_path / "images")]) == 0
    assert (tmp_path / "images" / "report.png").read_bytes().startswith(PNG)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: no such file; expected the folder of a finished run"):
        readme_figures.main([str(tmp_path)])


def test_the_pictures_are_there_and_small() -> None:
    for name in ("report.png", "det.png"):
        content = (ROOT / "docs" / "images" / name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) < LARGEST
