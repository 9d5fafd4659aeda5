"""A series trains each seed once, goes on with what is unfinished, and sums up what the runs say."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from s2pecnet.cli import train
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.training.series import EVALUATIONS, read_seeds, run_series


def results(folder: Path, seed: int) -> Any:
    return json.loads((folder / f"LA_tiniest_ep1_bs6_seed{seed}" / "results.json").read_text())


@pytest.mark.slow
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


@pytest.mark.slow
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


def sum_up(folder: Path, *seeds: int, **experiment: Any) -> None:
    """A series whose trainings are finished at once."""
    scores = folder.parent / "scores.txt"
    scores.write_text("".join(f"u{number} - {key} {number}\n" for number, key in enumerate(["spoof", "bonafide"] * 3)))
    metrics = dict.fromkeys(EVALUATIONS, Metrics(0.25, 0.0, None, None, None, {}, 3, 3))

    def train(seed: int) -> RunRecord:
        return RunRecord(
            "train", seed=seed, experiment={"batch_size": 6} | experiment | {"seed": seed}, metrics=metrics
        )

    run_series(seeds, train, lambda seed: {"eval": scores, "eval_swa": scores}, None, folder)


def seeds_in(folder: Path) -> dict[str, list[int]]:
    """The seeds of each summary, which are those of the text beside it."""
    found = {path.stem: json.loads(path.read_text())["seeds"] for path in folder.glob("*.json")}
    for name, seeds in found.items():
        text = (folder / f"{name}.txt").read_text()
        assert text.startswith(f"seeds {', '.join(map(str, seeds))}; ")
    return found


def test_a_summary_is_replaced_by_that_of_the_same_series_or_of_more_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    for seeds in ((1, 2), (1, 2), (2, 1, 3)):
        sum_up(folder, *seeds)
        assert seeds_in(folder) == {"summary": list(seeds)}
    # A remedy makes no other experiment; and earlier versions did not say of which one a summary is.
    sum_up(folder, 1, 2, 3, on_bad_audio="skip")
    content = json.loads((folder / "summary.json").read_text())
    assert content.pop("experiment") == {"batch_size": 6, "on_bad_audio": "skip"}
    (folder / "summary.json").write_text(json.dumps(content))
    sum_up(folder, 1, 2, 3, batch_size=7)
    assert seeds_in(folder) == {"summary": [1, 2, 3]}


def test_a_summary_of_another_series_is_backed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "series"
    sum_up(folder, 1, 2)
    sum_up(folder, 3, 4)
    assert seeds_in(folder) == {"summary": [3, 4], "summary.1": [1, 2]}
    assert f"the summary of another series is now {folder / 'summary.1.json'}" in caplog.text
    sum_up(folder, 3)
    assert seeds_in(folder) == {"summary": [3], "summary.1": [1, 2], "summary.2": [3, 4]}
    sum_up(folder, 3, 4, batch_size=7)
    assert seeds_in(folder) == {"summary": [3, 4], "summary.1": [1, 2], "summary.2": [3, 4], "summary.3": [3]}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seeds": 1}', '{"seeds": [1, 2], "experiment": []}'])
def test_a_summary_that_cannot_be_read_is_backed_up(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "summary.json").write_text(text)
    sum_up(folder, 1, 2)
    assert (folder / "summary.1.json").read_text() == text
    assert json.loads((folder / "summary.json").read_text())["seeds"] == [1, 2]


@pytest.mark.parametrize("text", ["", "1,", "1,1", "a", "-1", "1;2", "1.5", "1" * 20, "1" * 5000])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected different numbers"):
        read_seeds(text)


def test_what_does_not_go_together(tiniest_config: Path) -> None:
    for more in (["--eval"], ["--seed", "1"]):
        with pytest.raises(InputError, match="--seed"):
            train.main(["--config", str(tiniest_config), "--seeds", "1,2", *more])
