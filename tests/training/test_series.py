"""A series trains each seed once, goes on with what is unfinished, and sums up what the runs say."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from s2pecnet.cli import train
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.training.series import read_seeds

pytestmark = pytest.mark.slow


def results(folder: Path, seed: int) -> Any:
    return json.loads((folder / f"LA_tiniest_ep1_bs6_seed{seed}" / "results.json").read_text())


def test_a_series_of_seeds(tiniest_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--config", str(tiniest_config), "--output_dir", str(tmp_path), "--set=num_epochs=1"]
    caplog.set_level("INFO")
    train.main([*arguments, "--seeds", "1,2"])
    train.main([*arguments, "--seeds", "1,2,5"])
    assert caplog.text.count("finished; nothing to do") == 2
    summary = json.loads((tmp_path / "LA_tiniest_ep1_bs6_series" / "summary.json").read_text())
    assert summary["seeds"] == [1, 2, 5]
    assert set(summary["metrics"]) == {"dev", "eval", "eval_swa"}
    for name, metrics in summary["metrics"].items():
        values = [results(tmp_path, seed)["metrics"][name]["eer"] for seed in (1, 2, 5)]
        assert metrics["eer"]["values"] == values
        assert metrics["eer"]["mean"] == pytest.approx(statistics.fmean(values))
        assert metrics["eer"]["standard_deviation"] == pytest.approx(statistics.stdev(values))
    low, high = summary["metrics"]["eval"]["eer"]["interval"]
    assert 0 <= low <= high <= 1
    text = (tmp_path / "LA_tiniest_ep1_bs6_series" / "summary.txt").read_text()
    assert "eval_swa  min_tdcf mean" in text
    assert [results(tmp_path, seed)["seed"] for seed in (1, 2, 5)] == [1, 2, 5]
    for seed in (1, 2):
        scores = read_cm_scores(tmp_path / f"LA_tiniest_ep1_bs6_seed{seed}" / "eval_scores_using_best_dev_model.txt")
        assert evaluate(scores).eer == results(tmp_path, seed)["metrics"]["eval"]["eer"]


def test_runs_from_before_there_were_asv_scores(tiniest_config: Path, corpus: Path, tmp_path: Path) -> None:
    """Their series has no min t-DCF, and the seeds that come later do not change that."""
    own = shutil.copytree(corpus, tmp_path / "LA")
    asv = next(own.glob("*_asv_scores"))
    (tmp_path / "away").mkdir()
    kept = asv.rename(tmp_path / "away" / asv.name)
    arguments = ["--config", str(tiniest_config), "--output_dir", str(tmp_path), "--set=num_epochs=1"]
    arguments.append(f"--set=database_path={own}")
    train.main([*arguments, "--seeds", "1,2"])
    kept.rename(asv)
    train.main([*arguments, "--seeds", "1,2,3"])
    summary = json.loads((tmp_path / "LA_tiniest_ep1_bs6_series" / "summary.json").read_text())
    assert summary["seeds"] == [1, 2, 3]
    assert set(summary["metrics"]["eval"]) == {"eer"}
    assert len(summary["metrics"]["eval"]["eer"]["interval"]) == 2


@pytest.mark.parametrize("text", ["", "1,", "1,1", "a", "-1", "1;2", "1.5", "1" * 20, "1" * 5000])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected different numbers"):
        read_seeds(text)


def test_what_does_not_go_together(tiniest_config: Path) -> None:
    for more in (["--eval"], ["--seed", "1"]):
        with pytest.raises(InputError, match="--seed"):
            train.main(["--config", str(tiniest_config), "--seeds", "1,2", *more])
