"""A self-supervised system through every door: trained, resumed, scored, calibrated, exported, reported, submitted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from s2pecnet.cli import calibrate, export, predict, report, train
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.systems.weights import description
from s2pecnet.training import trainer
from tests.arena.test_adapter import adapter_class, stand_in
from tests.helpers.ssl import BACK_ENDS, TINY_XLSR

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The process died."""


def made(folder: Path, corpus: Path, model: Any, **changes: Any) -> Path:
    """A config of a tiny system with the AASIST back end."""
    content = {
        "database_path": str(corpus),
        "batch_size": 6,
        "num_epochs": 1,
        "weights_format": "safetensors",
        "model_config": {"architecture": "SSL_AASIST", "nb_samp": 4000, **BACK_ENDS["SSL_AASIST"],
                         "front_end": {"model": model}},
        "optim_config": {"base_lr": 0.001, "front_end_lr": 0.0001},
    }  # fmt: skip
    path = folder / "ssl.conf"
    path.write_text(json.dumps(content | changes))
    return path


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; the folder of its pre-trained model is gone."""
    folder = tmp_path_factory.mktemp("ssl")
    values = {name: value for name, value in TINY_XLSR.items() if name != "model_type"}
    torch.manual_seed(3)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**values)).save_pretrained(folder / "pre-trained")
    config = made(folder, corpus, str(folder / "pre-trained"))
    assert train.main(["--config", str(config), "--output_dir", str(folder / "out")]) == 0
    shutil.rmtree(folder / "pre-trained")
    return folder / "out" / "LA_ssl_ep1_bs6"


def test_finished_weights_score_without_the_pre_trained_model(trained: Path, tmp_path: Path) -> None:
    weights = trained / "weights" / "best.safetensors"
    assert description(weights)["front_end"]["hidden_size"] == TINY_XLSR["hidden_size"]
    words = ["--config", str(trained / "config.conf"), "--eval_model_weights", str(weights), "--eval"]
    assert train.main([*words, "--output_dir", str(tmp_path)]) == 0
    again = next(tmp_path.rglob("eval_scores*.txt"))
    whole = read_cm_scores(trained / "eval_scores_using_best_dev_model.txt")
    np.testing.assert_allclose(read_cm_scores(again).scores, whole.scores, atol=1e-6)


def test_predict_calibrate_report(trained: Path, corpus: Path, tmp_path: Path) -> None:
    weights, calibration = trained / "weights" / "best.safetensors", tmp_path / "calibration.json"
    assert calibrate.main(["--cm", str(trained / "dev_scores.txt"), "--output", str(calibration)]) == 0
    clip = next((corpus / "ASVspoof2019_LA_eval" / "flac").glob("*.flac"))
    words = ["--config", str(trained / "config.conf"), "--weights", str(weights), "--calibration", str(calibration)]
    assert predict.main([*words, str(clip)]) == 0
    assert report.main([str(trained), "--output", str(tmp_path / "report.html")]) == 0
    assert "SSL_AASIST" in (tmp_path / "report.html").read_text()


def test_exported_with_windows_of_any_length(trained: Path, tmp_path: Path) -> None:
    weights, output = trained / "weights" / "best.safetensors", tmp_path / "a.onnx"
    words = ["--config", str(trained / "config.conf"), "--weights", str(weights), "--output", str(output)]
    assert export.main([*words, "--any-length"]) == 0
    assert output.stat().st_size > 10_000


def test_the_arena_gets_the_scores(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2PEC_CONFIG", str(trained / "config.conf"))
    monkeypatch.setenv("S2PEC_WEIGHTS", str(trained / "weights" / "best.safetensors"))
    monkeypatch.setenv("S2PEC_DEVICE", "cpu")
    clip = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    with stand_in(tmp_path):
        model = adapter_class()()
        model.load()
        first, second = model.score_batch([clip, clip], [16000, 16000])
    assert np.isfinite(first)
    assert first == pytest.approx(second, abs=1e-5)


def test_a_run_that_was_cut_ends_as_one_that_was_not(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made(tmp_path, corpus, TINY_XLSR, save_every_steps=1, activation_checkpointing=True)
    train.main(["--config", str(config), "--output_dir", str(tmp_path / "whole")])
    calls = iter(range(100))

    def cut(where: str) -> None:
        if where.startswith("after step") and next(calls) == 1:
            raise Killed

    monkeypatch.setattr(trainer, "raise_if_stop_requested", cut)
    words = ["--config", str(config), "--output_dir", str(tmp_path / "cut"), "--resume"]
    with pytest.raises(Killed):
        train.main(words)
    train.main(words)
    for name in ("eval_scores_using_best_dev_model.txt", "weights/best.safetensors"):
        files = [tmp_path / one / "LA_ssl_ep1_bs6" / name for one in ("whole", "cut")]
        if name.endswith("txt"):
            assert files[0].read_bytes() == files[1].read_bytes()
        assert files[1].is_file()


def test_bfloat16_micro_batches_and_seeds(corpus: Path, tmp_path: Path) -> None:
    config = made(tmp_path, corpus, TINY_XLSR, precision="bf16", micro_batch_size=3)
    assert train.main(["--config", str(config), "--output_dir", str(tmp_path), "--seeds", "1,2"]) == 0
    summary = json.loads((tmp_path / "LA_ssl_ep1_bs6_series" / "summary.json").read_text())
    assert summary["seeds"] == [1, 2]
