"""The yardstick computes what our models compute, in the released code's way."""

import pytest
import torch

from benchmarks.released import run_as_released
from s2pecnet.config.experiment import load_config
from s2pecnet.systems.registry import find_model
from tests.helpers import ROOT

CONFIG = ROOT / "config"
SAMPLES = 8000


@pytest.mark.parametrize("name", ["AASIST", "RawNet2_baseline"])
def test_released_way_gives_the_same_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = dict(load_config(CONFIG / f"{name}.conf").model_config) | {"nb_samp": SAMPLES}
    model, x = find_model(config["architecture"])(config).eval(), 0.1 * torch.randn(2, SAMPLES)
    with torch.no_grad():
        ours = model(x)[1]
        monkeypatch.setattr("s2pecnet.nn.sinc.filter_by_fft", None)
        torch.testing.assert_close(run_as_released(model)(x)[1], ours, atol=1e-5, rtol=0)
