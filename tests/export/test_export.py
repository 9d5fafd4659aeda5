"""Exported systems: the scores of the checkpoint from a file alone, in both formats; what bad input hears."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import soundfile
import torch

from s2pecnet import load_scorer
from s2pecnet.audio.crops import pad
from s2pecnet.audio.decoding import read_audio
from s2pecnet.cli import export, predict
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.export import check
from s2pecnet.export.graphs import BATCH, FORMATS, Axis, Input, ScoringForm, trace
from s2pecnet.files import sha256_of
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.nn.graphs import GraphPool
from s2pecnet.systems import build
from s2pecnet.systems.weights import save_weights
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST, TINY

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "score_exported.py"
WIDTHS = {"first_conv": 128, "nb_samp": 9600}
NARROW: dict[str, dict[str, Any]] = {
    "AASIST": TINIEST["model_config"],
    "RawNet2": WIDTHS
    | {
        "architecture": "RawNet2Spoof",
        "filts": [8, [8, 8], [8, 12], [12, 12]],
        "gru_node": 16,
        "nb_gru_layer": 2,
        "nb_fc_node": 16,
    },
    "RawGAT-ST": WIDTHS | {"architecture": "RawNetGatSpoofST", "filts": [12, [1, 4], [4, 4], [4, 8], [8, 8]]},
    "S2pecNet": TINY["model_config"],
}
CALIBRATION = Calibration(
    slope=2.0, offset=0.5, eer_threshold=0.125, min_dcf_threshold=-0.25, p_spoof=0.05, c_miss=1.0, c_fa=10.0,
    n_bonafide=60, n_spoof=180, separable=False, fitted_on="dev",
)  # fmt: skip
Output = pytest.CaptureFixture[str]


class System(NamedTuple):
    """A narrow system on disk, its weights with a calibration."""

    name: str
    config: Path
    weights: Path

    def arguments(self, output: Path, *more: object) -> list[str]:
        return list(map(str, ["--config", self.config, "--weights", self.weights, "--output", output, *more]))


class Small(torch.nn.Module):
    """A system of a user's own that is exported in a second; of the published ones' keys it has what it leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = torch.nn.Conv1d(1, 4, 9, 5), torch.nn.BatchNorm1d(4)
        self.unused, self.out = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.selu(self.norm(self.convolution(x.unsqueeze(1)))).amax(dim=2)
        return hidden, self.out(hidden)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """`Small` in the place of AASIST, which wants no second input either."""
    monkeypatch.setattr(build, "get_model", lambda *given: Small())
    torch.manual_seed(0)
    save_weights(Small(), tmp_path / "Small.pth", {"calibration": CALIBRATION.as_dict()})
    config = tmp_path / "Small.conf"
    config.write_text(json.dumps(TINY | {"model_config": NARROW["AASIST"]}))
    return System("AASIST", config, tmp_path / "Small.pth")


def make_system(folder: Path, name: str) -> System:
    system = System(name, folder / f"{name}.conf", folder / f"{name}.pth")
    system.config.write_text(json.dumps(TINY | {"model_config": NARROW[name]}))
    torch.manual_seed(0)
    model = build.get_model(NARROW[name], "cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            # Statistics of its own, so that folding has something to fold.
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            torch.nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            # As drawn, weights of these two give every clip nearly the same score.
            weight.mul_(1.5 if weight.dim() > 1 and name != "S2pecNet" else 1.0)
    save_weights(model, system.weights, {"calibration": CALIBRATION.as_dict()})
    return system


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    # With a floor of noise, as recordings have it: LFCCs of a pure tone hold little but rounding.
    tone, walk = 0.3 * np.sin(np.arange(4800) * 0.2) + 0.1 * noise[:4800], np.cumsum(noise) / 30 + 0.1 * noise
    for name, rate, samples in [("a", 16000, noise[:1600]), ("b", 16000, tone), ("d", 48000, walk)]:
        soundfile.write(folder / f"{name}.wav", samples, rate, subtype="FLOAT")
    return folder


def run_example(output: Path, clip: Path, cwd: Path) -> dict[str, float]:
    """What the example prints, by name: run in an empty environment outside the repository, warnings being errors."""
    script = (
        f"import sys, runpy; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__'); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", script, str(output), str(clip)],
        cwd=cwd, env={}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", ["RawNet2", "RawGAT-ST", "S2pecNet"])
def test_both_formats_of_every_system_give_its_scores(name: str, tmp_path: Path, clips: Path) -> None:
    system = make_system(tmp_path, name)
    config = load_config(system.config)
    loaded = check.load(config, str(system.weights))
    waveforms = [read_audio(path) for path in sorted(clips.glob("*.wav"))]
    graphs, about = check.make_graphs(loaded, False), check.describe(config, str(system.weights), CALIBRATION, "onnx")
    if name == "S2pecNet":
        about["feature_file"] = "S.feature.onnx"
    scorer = load_scorer(system.config, system.weights, "cpu")

    def scores(score: Any, feature: Any, count: int) -> torch.Tensor:
        inputs = [torch.from_numpy(np.stack([pad(waveform, config.samples) for waveform in waveforms[:count]]))]
        if feature is not None:
            inputs.append(torch.cat([feature(torch.from_numpy(waveform)[None]) for waveform in waveforms[:count]]))
        found: torch.Tensor = score(*inputs)
        return found

    expected = scores(scorer, loaded.inputs.feature, 3)
    assert expected.diff().abs().min() > 2e-4
    for kind in FORMATS:
        files = [FORMATS[kind].write(graph, about) for graph in graphs]
        score, *features = [FORMATS[kind].read(data)[0] for data in files]
        for count in (1, 3):
            given = scores(score, features[0] if features else None, count)
            torch.testing.assert_close(given, expected[:count], atol=1e-5, rtol=0)
        if kind == "onnx":
            for data, ending in zip(files, ("onnx", "feature.onnx"), strict=False):
                (tmp_path / f"S.{ending}").write_bytes(data)
            printed = run_example(tmp_path / "S.onnx", clips / "a.wav", tmp_path)
            assert printed["score"] == pytest.approx(float(expected[0]), abs=1e-5)
            assert printed["llr"] == pytest.approx(CALIBRATION.llr(printed["score"]), abs=1e-5)


def test_files_say_what_they_are(small: System, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for ending in FORMATS:
        assert export.main(small.arguments(folder / f"a.{ending}", "--check", clips)) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "a.pt2"]
    model = onnx.load(folder / "a.onnx")
    onnx_about = {entry.key: entry.value for entry in model.metadata_props}
    extra = {"about.json": ""}
    program = torch.export.load(folder / "a.pt2", extra_files=extra)
    for about in (onnx_about, json.loads(extra["about.json"])):
        assert (about["system"], about["config"]) == ("AASIST", "Small")
        assert (about["sample_rate"], about["window_samples"]) == ("16000", "2400")
        assert about["polarity"] == "higher = bona fide"
        assert about["weights_sha256"] == sha256_of(small.weights)
        assert json.loads(about["model_config"]) == NARROW["AASIST"]
        assert Calibration.from_dict(json.loads(about["calibration"])) == CALIBRATION
        assert json.loads(about["versions"])["torch"] == torch.__version__
    assert json.loads(onnx_about["versions"])["onnxruntime"]
    (waveform,), (score,) = model.graph.input, model.graph.output
    assert (waveform.name, score.name) == ("waveform", "score")
    shape = waveform.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", 2400)
    assert score.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any("unused" in name or "tracked" in name for name in program.state_dict)
    assert not any("unused" in tensor.name for tensor in model.graph.initializer)
    for path in folder.iterdir():
        # Where it was traced is nobody's business.
        assert str(ROOT).encode() not in path.read_bytes()


def test_windows_of_any_length(small: System, clips: Path, tmp_path: Path, capsys: Output) -> None:
    for ending in FORMATS:
        assert export.main(small.arguments(tmp_path / f"a.{ending}", "--check", clips, "--any-length")) == 0
        *_, file, checked, tried = capsys.readouterr().out.splitlines()
        assert file.startswith(f"{tmp_path}/a.{ending}: waveform (batch, samples) -> score, 0.0 MB")
        assert checked.startswith("checked on 3 clips: largest difference ")
        assert tried == "  in batches of 1, 2, 4; windows of 1200, 2400, 3600, 4800 samples"


def test_scores_that_differ_leave_no_file(
    small: System, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ScoringForm.forward
    monkeypatch.setattr(ScoringForm, "forward", lambda self, waveform: right(self, waveform) + 2e-4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.pt2").write_text("an earlier one")
    message = r"a.pt2: not written: 7 of 7 scores differ .* by more than --tolerance 0.0001, up to 2.0\de-04"
    with pytest.raises(InputError, match=message):
        export.main(small.arguments(tmp_path / "out" / "a.pt2"))
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["an earlier one"]
    assert export.main(small.arguments(tmp_path / "out" / "a.pt2", "--tolerance", "0.001")) == 0
    *_, file, checked, tried = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{tmp_path}/out/a.pt2: waveform \(batch, 2400\) -> score, 0\.0 MB", file)
    assert re.match(r"checked on 7 stretches of noise \(.*: largest difference 2\.0\de-04 from", checked)
    assert tried == "  in batches of 1, 2, 4; windows of 2400 samples"


def first(waveforms: torch.Tensor) -> torch.Tensor:
    return waveforms[:, 0]


def test_a_score_that_is_not_finite_is_a_difference() -> None:
    clip = np.ones(50, dtype=np.float32)
    same = check.compare(first, None, [first], [clip] * 9, [100])
    assert same == check.Comparison([0.0] * 9, 9, {1, 2, 4}, {100})
    assert check.compare(first, None, [lambda x: x[:, 0] * np.nan], [clip], [100]).difference == np.inf


def test_a_graph_that_fails_when_it_is_run_is_reported_in_one_line() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("expected 200 samples\nand more")

    with pytest.raises(InputError, match=r"fails on inputs of shape \(1, 100\): expected 200 samples$"):
        check.compare(first, None, [fails], [np.ones(50, dtype=np.float32)], [100])


def test_bad_input_is_reported_before_the_work(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = make_system(tmp_path, "AASIST")
    other = make_system(tmp_path, "RawNet2")
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.wav").write_text("not a sound")
    cases: list[tuple[list[str], str]] = [
        (system.arguments(Path("a.pth")), r"--output a.pth: expected a name that ends in .onnx or .pt2, or --format"),
        (system.arguments(Path("a.pt2"), "--format", "onnx"), r"--output a.pt2: ends in .pt2, but --format is onnx"),
        (system.arguments(Path("a.pt2"), "--tolerance", "nan"), r"--tolerance nan: expected a number >= 0"),
        (system.arguments(Path("a.pt2"), "--check", tmp_path / "none"), r"none: no such file"),
        (system.arguments(tmp_path / "a.pt2", "--check", tmp_path / "bad.wav"), r"bad.wav: cannot be decoded"),
        (other._replace(weights=system.weights).arguments(tmp_path / "a.pt2"), r"AASIST.pth: .*another architecture"),
        (system._replace(weights=tmp_path / "x").arguments(tmp_path / "a.pt2"), r"x: no such checkpoint"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            export.main(arguments)
    with pytest.raises(OSError, match="file"):
        export.main(system.arguments(tmp_path / "file" / "a.pt2"))
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(InputError, match=r"needs onnxscript, not installed here: pip install 's2pecnet\[export\]'"):
        export.main(system.arguments(tmp_path / "a.onnx"))
    assert not list(tmp_path.glob("*.pt2")) + list(tmp_path.glob("*.onnx"))


def test_windows_of_any_length_where_the_model_allows_it(tmp_path: Path) -> None:
    for name in ("RawGAT-ST", "S2pecNet"):
        system = make_system(tmp_path, name)
        with pytest.raises(InputError, match=r"--any-length: the system does not take windows of \d+ samples"):
            check.make_graphs(check.load(load_config(system.config), str(system.weights)), True)


def test_rawnet2_takes_windows_of_any_length(tmp_path: Path, clips: Path, capsys: Output) -> None:
    system = make_system(tmp_path, "RawNet2")
    assert export.main(system.arguments(tmp_path / "a.pt2", "--any-length", "--check", clips)) == 0
    assert "windows of 4800, 9600, 14400, 19200 samples" in capsys.readouterr().out


@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.64, 0.81])
def test_a_pool_keeps_as_many_of_any_number_of_nodes(ratio: float) -> None:
    torch.manual_seed(0)
    pool = GraphPool(ratio, 4).eval()
    graph = trace(pool, {"h": Input(torch.randn(2, 40, 4), {0: BATCH, 1: Axis("nodes", 10, 80)})}, "kept")
    run, _ = FORMATS["onnx"].read(FORMATS["onnx"].write(graph, {}))
    for nodes in range(10, 81):
        h = torch.randn(1, nodes, 4)
        with torch.no_grad():
            torch.testing.assert_close(run(h), pool(h), atol=1e-6, rtol=0)


def test_the_published_aasist_scores_a_real_clip_without_this_repository(
    shared: Path, tmp_path: Path, capsys: Output
) -> None:
    weights = shared / "reference" / "weights" / "AASIST.pth"
    clip = sorted((shared / "minila" / "LA" / "ASVspoof2019_LA_eval" / "flac").glob("*.flac"))[0]
    given = ["--config", str(ROOT / "config" / "AASIST.conf"), "--weights", str(weights)]
    assert export.main([*given, "--output", str(tmp_path / "AASIST.onnx"), "--check", str(clip)]) == 0
    capsys.readouterr()
    assert predict.main([*given, "--format", "jsonl", "--device", "cpu", str(clip)]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    printed = run_example(tmp_path / "AASIST.onnx", clip, tmp_path)
    assert list(printed) == ["score"]
    assert printed["score"] == pytest.approx(row["score"], abs=1e-4)


def test_the_page_shows_the_example() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in (ROOT / "docs" / "export.md").read_text()
