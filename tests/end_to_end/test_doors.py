"""The same waveform has the same score, or the same refusal, by whichever door it comes in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s2pecnet.arena import Adapter
from s2pecnet.audio.decoding import BadAudio, read_audio
from s2pecnet.cli import predict, train
from s2pecnet.errors import InputError
from s2pecnet.systems.build import System, get_model, load_system
from s2pecnet.systems.weights import save_weights
from tests.helpers.audio_zoo import zoo
from tests.helpers.samples import TINIEST, TINY

pytestmark = pytest.mark.slow

RATES = (8000, 11025, 16000, 22050, 44100)


@pytest.fixture(params=["AASIST", "S2pecNet"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Config and weights of a small system, without and with a second input."""
    config = {"AASIST": TINIEST, "S2pecNet": TINY}[request.param]
    (tmp_path / "system.conf").write_text(json.dumps(config | {"database_path": str(tmp_path / "mine.csv")}))
    torch.manual_seed(1)
    save_weights(get_model(config["model_config"], "cpu"), tmp_path / "w.pth")
    return tmp_path / "system.conf", tmp_path / "w.pth"


def clip(path: Path, rate: int, seconds: float, seed: int) -> Path:
    samples = np.random.default_rng(seed).uniform(-0.4, 0.4, (int(rate * seconds), 1 + seed % 2))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def by_main(config: Path, weights: Path, folder: Path, *more: str) -> dict[str, float]:
    """Scores of `python main.py --eval` on a CSV corpus of the clips."""
    train.main(["--eval", "--config", str(config), "--eval_model_weights", str(weights), "--output_dir", str(folder),
                "--device", "cpu", "--set", "split_policy=eval", *more])  # fmt: skip
    (scores,) = folder.glob("*/eval_scores_using_best_dev_model.txt")
    return {line.split()[0]: float(line.split()[3]) for line in scores.read_text().splitlines()}


def by_predict(config: Path, weights: Path, paths: list[Path], capsys: Any) -> dict[str, float]:
    capsys.readouterr()
    arguments = ["--config", str(config), "--weights", str(weights), "--format", "jsonl", "--device", "cpu"]
    assert predict.main([*arguments, *map(str, paths)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {Path(row["path"]).name: row["score"] for row in rows}


def test_one_waveform_has_one_score(
    system: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = system
    # No longer than a window: predict scores a longer file in several.
    paths = [clip(tmp_path / f"{rate}.wav", rate, 0.12, seed) for seed, rate in enumerate(RATES)]
    rows = [f"{path.name},{'real' if number % 2 else 'fake'}" for number, path in enumerate(paths)]
    (tmp_path / "mine.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("S2PEC_CONFIG", str(config))
    monkeypatch.setenv("S2PEC_WEIGHTS", str(weights))
    monkeypatch.setenv("S2PEC_DEVICE", "cpu")
    main_scores = by_main(config, weights, tmp_path / "out")
    predicted = by_predict(config, weights, paths, capsys)
    adapter = Adapter()
    adapter.load()
    loaded: System = load_system(config, weights, "cpu")
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        (arena,) = adapter.score_batch([samples.mean(axis=1)], [rate])
        own = loaded.scorer()(*loaded.inputs.batch([read_audio(path)])).item()
        for score in (predicted[path.name], arena, own):
            assert score == pytest.approx(main_scores[path.name], abs=2e-6)


def unusable(folder: Path) -> dict[str, Path]:
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, 4000)
    clips = {
        "is silent": (np.zeros(4000), 16000),
        "less than 10 ms": (noise[:100], 16000),
        "NaN or infinite": (np.where(np.arange(4000) == 2, np.nan, noise), 16000),
        "expected a waveform in": (1e7 * noise, 16000),
        "cannot be resampled": (noise, 3000),
    }
    for number, (samples, rate) in enumerate(clips.values()):
        soundfile.write(folder / f"{number}.wav", samples, rate, subtype="FLOAT")
    return {reason: folder / f"{number}.wav" for number, reason in enumerate(clips)}


def test_one_refusal_for_bad_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system.conf").write_text(json.dumps(TINIEST))
    save_weights(get_model(TINIEST["model_config"], "cpu"), tmp_path / "w.pth")
    given = ["--config", str(tmp_path / "system.conf"), "--weights", str(tmp_path / "w.pth"), "--device", "cpu"]
    for name, value in zip(("CONFIG", "WEIGHTS", "DEVICE"), given[1::2], strict=True):
        monkeypatch.setenv(f"S2PEC_{name}", value)
    adapter = Adapter()
    adapter.load()
    for reason, path in unusable(tmp_path).items():
        with pytest.raises(BadAudio, match=reason) as of_file:
            read_audio(path)
        said = str(of_file.value).removeprefix(f"{path}: ")
        assert predict.main([*given, str(path)]) == 1
        assert f"error: {path}: {said}" in capsys.readouterr().err.splitlines()
        samples, rate = soundfile.read(path, dtype="float32")
        with pytest.raises(BadAudio) as of_arena:
            adapter.score_batch([samples], [rate])
        assert str(of_arena.value) == f"clip 1 of the batch: {said}"


@pytest.fixture(scope="module")
def long_system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and weights of a small system with windows longer than any file of the zoo."""
    folder = tmp_path_factory.mktemp("long")
    config = TINIEST | {"model_config": TINIEST["model_config"] | {"nb_samp": 64000}}
    (folder / "system.conf").write_text(json.dumps(config | {"database_path": "mine.csv", "num_workers": 0}))
    torch.manual_seed(1)
    save_weights(get_model(config["model_config"], "cpu"), folder / "w.pth")
    return folder / "system.conf", folder / "w.pth"


def write_csv(folder: Path, names: list[str]) -> list[str]:
    """A CSV corpus of these files; the option of the command line that names it."""
    rows = [f"{name},{('real', 'fake')[number % 2]}" for number, name in enumerate(names)]
    (folder / "mine.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return ["--set", f"database_path={folder / 'mine.csv'}"]


def test_one_score_for_a_zoo_of_files(
    long_system: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readable = [animal for animal in zoo() if animal.refusal is None]
    for animal in readable:
        (tmp_path / animal.name).write_bytes(animal.content)
    given = write_csv(tmp_path, [animal.name for animal in readable])
    main_scores = by_main(*long_system, tmp_path / "out", *given)
    predicted = by_predict(*long_system, [tmp_path / animal.name for animal in readable], capsys)
    assert len(predicted) == len(readable) > 130
    for name, score in predicted.items():
        assert score == pytest.approx(main_scores[name], abs=2e-6), name


def test_one_refusal_for_a_zoo_of_files(
    long_system: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = long_system
    refused = [animal for animal in zoo() if animal.refusal is not None]
    for animal in refused:
        (tmp_path / animal.name).write_bytes(animal.content)
    paths = [str(tmp_path / animal.name) for animal in refused]
    assert predict.main(["--config", str(config), "--weights", str(weights), "--device", "cpu", *paths]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    soundfile.write(tmp_path / "good.wav", np.random.default_rng(0).uniform(-0.4, 0.4, 9000), 16000)
    for path, animal, error in zip(paths, refused, errors, strict=True):
        reason = error.removeprefix(f"error: {path}: ")
        given = write_csv(tmp_path, ["good.wav", animal.name])
        with pytest.raises(InputError) as of_main:
            by_main(config, weights, tmp_path / "out", *given)
        assert reason in str(of_main.value)
