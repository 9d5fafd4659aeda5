"""Runs of version 0.1.0 before the package (commit d5db423): weights, reports and unfinished trainings still work.

tests/data_of_0.1.0/ was made there on the corpus of the fixture `corpus`, with old.conf:
`python main.py --config old.conf --seed 3 --device cpu`, once to the end, once killed after step 2 of the second epoch.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from s2pecnet import load_scorer
from s2pecnet.cli import report, train
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.systems.weights import description
from tests.helpers import ROOT

pytestmark = pytest.mark.slow

OLD = ROOT / "tests" / "data_of_0.1.0"


def test_the_weights_score(tmp_path: Path) -> None:
    weights = OLD / "finished" / "weights" / "best.pth"
    scores = load_scorer(OLD / "old.conf", weights, "cpu")(torch.randn(2, 2400))
    assert scores.isfinite().all()
    assert description(weights)["epoch"] == RunRecord.read(OLD / "finished" / "results.json").selected_epoch


def test_the_report_has_its_metrics_and_curves(corpus: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(OLD / "finished", tmp_path / "run")
    assert report.main([str(folder), "--database_path", str(corpus), "--output", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    eer = json.loads((OLD / "finished" / "results.json").read_text())["metrics"]["eval"]["eer"]
    assert f"{100 * eer:.2f}" in page
    assert "<svg" in page


def test_an_unfinished_training_resumes(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And ends with the metrics of the one that was not cut."""
    caplog.set_level("INFO")
    shutil.copytree(OLD / "unfinished", tmp_path / "LA_old_ep2_bs6")
    train.main(["--config", str(OLD / "old.conf"), "--set", f"database_path={corpus}", "--seed", "3", "--device", "cpu",
                "--output_dir", str(tmp_path), "--resume", "--set", "save_every_steps=1"])  # fmt: skip
    assert "resuming after step 2 of epoch 1" in caplog.text
    ours = RunRecord.read(tmp_path / "LA_old_ep2_bs6" / "results.json")
    theirs = RunRecord.read(OLD / "finished" / "results.json")
    assert ours.selected_epoch == theirs.selected_epoch
    for name, metrics in theirs.metrics.items():
        assert ours.metrics[name].eer == pytest.approx(metrics.eer, abs=1e-9)
