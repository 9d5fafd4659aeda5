"""`eval_crop: windows`: dev and eval are scored as `predict` scores, on windows of complete recordings."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s2pecnet.cli import crosseval, predict, train
from s2pecnet.config.experiment import as_config
from s2pecnet.data import loaders
from s2pecnet.experiment import get_loader
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.scoring.verdicts import load_calibration
from s2pecnet.systems.build import System
from s2pecnet.systems.weights import save_weights
from tests.helpers.samples import TINIEST, TINY

SCORES = "eval_scores_using_best_dev_model.txt"
CROP = TINIEST["model_config"]["nb_samp"]
# Shorter than a crop, as long, a sample more; up to a window more, with a rest and without; many windows.
LENGTHS = (1000, CROP, CROP + 1, 2 * CROP, 2 * CROP + 1, 5 * CROP, 12 * CROP + 77)


@pytest.fixture(scope="module")
def root(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus with some clips of eval of these lengths."""
    root = shutil.copytree(corpus, tmp_path_factory.mktemp("windows") / "LA")
    rng = np.random.default_rng(0)
    for path, samples in zip(eval_clips(root), LENGTHS, strict=False):
        soundfile.write(path, rng.uniform(-0.5, 0.5, samples), 16000)
    return root


def eval_clips(root: Path) -> list[Path]:
    return sorted((root / "ASVspoof2019_LA_eval" / "flac").iterdir())


def scores_of(path: Path) -> dict[str, float]:
    lines = path.read_text().splitlines()
    return {line.split()[0]: float(line.split()[-1].replace("unscored", "nan")) for line in lines}


def config_file(root: Path, folder: Path, content: dict[str, Any], **changes: Any) -> Path:
    path = folder / "tiny.conf"
    path.write_text(json.dumps(content | {"database_path": str(root), "eval_crop": "windows"} | changes))
    return path


def weights_for(config: Path, path: Path) -> Path:
    torch.manual_seed(2)
    save_weights(System.build(as_config(config), torch.device("cpu")).model, path)
    return path


def evaluated(config: Path, weights: Path, folder: Path, *words: str) -> Path:
    """The file of eval scores."""
    own = ["--config", str(config), "--output_dir", str(folder), "--eval", "--eval_model_weights", str(weights)]
    assert train.main([*own, *words]) == 0
    (path,) = folder.rglob(SCORES)
    return path


def predicted(config: Path, weights: Path, audio: Path, table: Path) -> dict[str, float]:
    own = ["--config", str(config), "--weights", str(weights), "--format", "csv", "--output", str(table), str(audio)]
    assert predict.main(own) == 0
    with table.open() as stream:
        return {Path(row["path"]).stem: float(row["score"]) for row in csv.DictReader(stream)}


@pytest.mark.parametrize("content", [TINIEST, TINY], ids=["a waveform", "a waveform and a feature"])
def test_a_score_is_the_one_that_predict_gives(content: dict[str, Any], root: Path, tmp_path: Path) -> None:
    config = config_file(root, tmp_path, content)
    weights = weights_for(config, tmp_path / "weights.pth")
    found = scores_of(evaluated(config, weights, tmp_path / "out"))
    wanted = predicted(config, weights, root / "ASVspoof2019_LA_eval" / "flac", tmp_path / "table.csv")
    assert len(found) == len(eval_clips(root))
    # predict prints six decimals; how many rows are computed together is in the last bits.
    assert found == pytest.approx(wanted, abs=2e-6)
    first = scores_of(evaluated(config, weights, tmp_path / "first", "--set", "eval_crop=first"))
    fits = [soundfile.info(path).frames <= content["model_config"]["nb_samp"] for path in eval_clips(root)]
    # What is no longer than a crop has one window, which is the crop.
    differences = {path.stem: abs(first[path.stem] - found[path.stem]) for path in eval_clips(root)}
    short = {path.stem for path, one in zip(eval_clips(root), fits, strict=True) if one}
    assert all(differences[name] < 2e-6 for name in short)
    assert sum(difference > 1e-4 for difference in differences.values()) > (len(differences) - len(short)) / 2
    # The report dims what was not scored.
    pages = {folder: next((tmp_path / folder).rglob("report.html")).read_text() for folder in ("out", "first")}
    assert ['class="unseen"' in page for page in pages.values()] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 7, "num_workers": 2}, {"audio_cache": True}])
def test_batches_workers_and_caches_do_not_matter(changes: dict[str, Any], root: Path, tmp_path: Path) -> None:
    config = config_file(root, tmp_path, TINIEST)
    weights = weights_for(config, tmp_path / "weights.pth")
    plain = scores_of(evaluated(config, weights, tmp_path / "plain"))
    config = config_file(root, tmp_path, TINIEST, **changes)
    assert scores_of(evaluated(config, weights, tmp_path / "other")) == pytest.approx(plain, abs=1e-6)


def test_dev_selects_and_calibrates_by_it(root: Path, tmp_path: Path) -> None:
    config = config_file(root, tmp_path, TINIEST, num_epochs=1)
    assert train.main(["--config", str(config), "--output_dir", str(tmp_path / "out")]) == 0
    (folder,) = (path.parent for path in tmp_path.rglob("results.json"))
    wanted = predicted(config, folder / "weights" / "best.pth", root / "ASVspoof2019_LA_dev" / "flac", tmp_path / "d")
    assert scores_of(folder / "dev_scores.txt") == pytest.approx(wanted, abs=2e-6)


def test_a_threshold_for_other_scores_gets_a_warning(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_file(root, tmp_path, TINIEST, num_epochs=1)
    assert train.main(["--config", str(config), "--output_dir", str(tmp_path / "out")]) == 0
    (folder,) = (path.parent for path in tmp_path.rglob("results.json"))
    weights, warning = str(folder / "weights" / "best.pth"), "eval_crop windows, which is first here"
    for eval_crop, expected in (("windows", False), (None, False), ("first", True)):
        caplog.clear()
        calibration = load_calibration(None, weights, eval_crop)
        assert calibration is not None
        assert calibration.eval_crop == "windows"
        assert (warning in caplog.text) is expected
    # One that was fitted by --eval --split dev says it too, and crosseval heeds both.
    own = ["--config", str(config), "--output_dir", str(tmp_path / "dev"), "--set", "eval_crop=first"]
    assert train.main([*own, "--eval", "--split", "dev", "--eval_model_weights", weights]) == 0
    (fitted,) = (tmp_path / "dev").rglob("calibration.json")
    words = ["--config", str(config), "--weights", weights, "--output_dir", str(tmp_path / "over"), f"LA={root}"]
    for given, crop, warnings in (([], "windows", 0), ([], "first", 1), (["--calibration", str(fitted)], "windows", 1)):
        caplog.clear()
        assert crosseval.main([*words, *given, "--set", f"eval_crop={crop}"]) == 0
        assert caplog.text.count("its ratios and thresholds may mislead") == warnings


def test_weights_without_the_key_were_scored_on_first_crops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "weights.pth"
    about = Calibration(1.0, 0.0, 0.0, 0.0, 0.05, 1.0, 10.0, 5, 5, False, "dev").as_dict()
    del about["eval_crop"]
    save_weights(torch.nn.Linear(1, 1), path, {"calibration": about})
    assert load_calibration(None, str(path), "windows") is not None
    assert "fitted on scores with eval_crop first, which is windows here" in caplog.text


def test_a_second_evaluation_lists_what_it_skips_itself(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "LARGEST_SHARE", 1.0)
    monkeypatch.setattr("s2pecnet.data.datasets.LARGEST_SHARE", 1.0)
    own = shutil.copytree(root, tmp_path / "LA")
    config = config_file(own, tmp_path, TINIEST, on_bad_audio="skip")
    weights = weights_for(config, tmp_path / "weights.pth")
    for spoilt in eval_clips(own)[8:10]:
        whole = spoilt.read_bytes()
        soundfile.write(spoilt, np.zeros(20_000), 16000)
        folder = evaluated(config, weights, tmp_path / "out").parent
        spoilt.write_bytes(whole)
        lines = (folder / "skipped_audio_eval.txt").read_text().splitlines()
        assert [line.split("\t")[0] for line in lines] == [spoilt.stem]


def test_audio_that_is_skipped_has_no_score(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = shutil.copytree(root, tmp_path / "LA")
    spoilt = eval_clips(own)[9]
    soundfile.write(spoilt, np.zeros(20_000), 16000)
    # One of the few here is more than the share that may be skipped.
    monkeypatch.setattr(loaders, "LARGEST_SHARE", 1.0)
    monkeypatch.setattr("s2pecnet.data.datasets.LARGEST_SHARE", 1.0)
    config = config_file(own, tmp_path, TINIEST, on_bad_audio="skip")
    found = scores_of(evaluated(config, weights_for(config, tmp_path / "weights.pth"), tmp_path / "out"))
    assert [name for name, score in found.items() if np.isnan(score)] == [spoilt.stem]


def test_shared_memory_is_reckoned_by_the_largest_batch(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def no_workers(workers: int, prefetch: int, batch_bytes: int, chosen: bool) -> int:
        asked.append(batch_bytes)
        return 0

    monkeypatch.setattr(loaders, "workers_that_fit", no_workers)
    content = TINIEST | {"eval_crop": "windows", "num_workers": 1, "batch_size": 4, "database_path": str(root)}
    train_loader, *scored = get_loader(root, 1, content, tmp_path)
    sizes = [max(batch[0].nbytes for batch in loader) for loader in (train_loader, *scored)]
    assert asked == sizes
    assert sizes[2] > 13 * sizes[0] / 4
