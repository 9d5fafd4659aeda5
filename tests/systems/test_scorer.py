"""Scores do not depend on how they are computed: folded or not, one by one or together, in any memory format."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from s2pecnet import load_scorer
from s2pecnet.audio.crops import pad
from s2pecnet.audio.decoding import read_crop
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.nn.packed_gru import PackedGRU
from s2pecnet.precision import PRECISIONS
from s2pecnet.systems import build
from s2pecnet.systems.registry import find_model, utterance_feature
from s2pecnet.systems.scorer import Scorer, fold_batch_norms
from s2pecnet.systems.weights import save_weights
from tests.helpers import ROOT

CONFIG = ROOT / "config"
CPU = torch.device("cpu")
SAMPLES = 12000


def random_model(name: str) -> torch.nn.Module:
    """A system with BatchNorm statistics of its own, so that folding has something to fold."""
    torch.manual_seed(0)
    config = dict(load_config(CONFIG / f"{name}.conf").model_config) | {"nb_samp": SAMPLES}
    model = find_model(config["architecture"])(config)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            torch.nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", ["AASIST", "RawGATST_baseline", "RawNet2_baseline", "S2pecNet"])
def test_folded_chunked_scores_are_the_plain_logits(name: str) -> None:
    model, x = random_model(name), torch.randn(5, SAMPLES) * 0.1
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        plain = model(x)[1][:, 1]
    scorer = Scorer(model.to(memory_format=torch.channels_last), CPU)  # type: ignore[call-overload]
    torch.testing.assert_close(scorer(x), plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(scorer(x.numpy()[3:4])[0], plain[3], atol=1e-4, rtol=0)
    assert scorer(x[:0]).shape == (0,)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_folding_leaves_no_norm_behind_a_convolution() -> None:
    folded = fold_batch_norms(random_model("AASIST"))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for n, m in folded.named_modules() if n.endswith("bn2"))
    plain = torch.nn.Linear(2, 2)
    assert fold_batch_norms(plain) is plain


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_packed_gru_has_the_states_of_the_gru(batch: int) -> None:
    torch.manual_seed(0)
    gru, x = torch.nn.GRU(24, 40, 3, batch_first=True), torch.randn(batch, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(PackedGRU(gru)(x)[0], gru(x)[0], atol=1e-6, rtol=0)


def test_weights_are_packed_for_float32_alone() -> None:
    model = random_model("RawNet2_baseline")
    assert isinstance(Scorer(model, CPU).model.gru, PackedGRU)
    assert isinstance(Scorer(model, CPU, PRECISIONS["bf16"]).model.gru, torch.nn.GRU)
    assert isinstance(fold_batch_norms(model).gru, torch.nn.GRU)
    assert isinstance(model.gru, torch.nn.GRU)


def test_load_scorer_is_what_eval_scores_with(tiny_config: Path, tmp_path: Path) -> None:
    config = load_config(tiny_config)
    model = build.get_model(config.model_config, "cpu")
    save_weights(model, tmp_path / "w.pth")
    scorer = load_scorer(tiny_config, tmp_path / "w.pth", device="cpu")
    waveforms = np.random.default_rng(0).normal(size=(3, config.samples)).astype(np.float32)
    scores = scorer(waveforms)
    assert scores.shape == (3,)
    assert scores.dtype == torch.float32
    feature = utterance_feature(config.model_config)
    assert feature is not None
    torch.testing.assert_close(scorer(waveforms, feature(torch.from_numpy(waveforms))), scores)
    as_dictionary = load_scorer(config.raw | {"model_path": str(tmp_path / "w.pth")})
    torch.testing.assert_close(as_dictionary(waveforms), scores)
    with pytest.raises(InputError, match="expected waveforms"):
        scorer(waveforms[0])
    with pytest.raises(InputError, match="no weights; give"):
        load_scorer(tiny_config)


class Small(torch.nn.Module):
    """Compiles in seconds, where the systems take minutes; in the style of the README's example."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 9, 5), torch.nn.BatchNorm1d(4), torch.nn.SELU())
        self.out = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.encoder(x.unsqueeze(1)).amax(dim=2)
        return hidden, self.out(hidden)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++) on CPUs")
@pytest.mark.filterwarnings("ignore")
def test_compiled_scores_are_the_scores() -> None:
    torch.manual_seed(0)
    model, x = Small(), torch.randn(5, 2400)
    plain, compiled = Scorer(model, CPU), Scorer(model, CPU, compiled=True)
    # The last chunk is not full: what is compiled is compiled for one size.
    torch.testing.assert_close(compiled(x), plain(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(compiled(x[:1]), plain(x[:1]), atol=1e-5, rtol=0)
    assert not hasattr(model, "_orig_mod")
    assert set(compiled.model.state_dict()) == set(model.state_dict())


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 0.0), ("bf16", 0.05), ("fp16", 0.005)])
def test_scores_in_other_precisions(shared: Path, precision: str, tolerance: float) -> None:
    """The published AASIST on real speech: its scores spread over 1.2, the tolerances are absolute."""
    weights = shared / "reference" / "weights" / "AASIST.pth"
    clips = sorted((shared / "minila" / "LA" / "ASVspoof2019_LA_eval" / "flac").glob("*.flac"))[:2]
    waveforms = np.stack([pad(read_crop(clip, 24000), 24000) for clip in clips])
    config = load_config(CONFIG / "AASIST.conf").raw
    expected = load_scorer(config, weights, device="cpu")(waveforms)
    scores = load_scorer(config | {"precision": precision}, weights, device="cpu")(waveforms)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, atol=tolerance, rtol=0)
    assert (precision == "tf32") == torch.equal(scores, expected)
