"""A system of a config, with weights: what fits by names and shapes alone is not silently taken for the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.config.options import _warn_of
from s2pecnet.errors import InputError
from s2pecnet.systems.build import System, get_model
from s2pecnet.systems.weights import save_weights
from tests.helpers.samples import TINIEST, TINY

CPU = torch.device("cpu")


def trained(content: dict[str, Any], path: Path) -> Path:
    """Weights as a training of this config leaves them."""
    save_weights(System.build(as_config(content), CPU).model, path, {"config": as_config(content).raw})
    return path


@pytest.mark.parametrize(
    ("content", "key", "value", "then"),
    [
        (TINIEST, "temperatures", [1.0, 2.0, 100.0, 100.0], "(2.0, 2.0, 100.0, 100.0)"),
        (TINIEST, "pool_ratios", [0.6, 0.7, 0.5, 0.5], "(0.5, 0.7, 0.5, 0.5)"),
        (TINIEST, "first_conv", 64, "128"),
        (TINY, "fusion_pooling", "max", "'mean'"),
        (TINY, "fusion_residual", False, "True"),
    ],
)
def test_weights_of_another_model_config_get_a_warning(
    content: dict[str, Any], key: str, value: Any, then: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = trained(content, tmp_path / "weights.pth")
    System.load(as_config(content), path, CPU)
    assert caplog.messages == []
    own = content["model_config"]
    defaults = {"first_conv": 128} if key != "first_conv" else {}
    System.load(as_config(content | {"model_config": own | defaults}), path, CPU)
    assert caplog.messages == []
    System.load(as_config(content | {"model_config": own | {key: value}}), path, CPU)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: trained with another model_config.{key}: {then} -> ")


def test_what_the_command_line_says_is_meant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, config = trained(TINIEST, tmp_path / "weights.pth"), tmp_path / "tiny.conf"
    config.write_text(json.dumps(TINIEST))
    System.load(load_config(config, ["model_config.nb_samp=4800"]), path, CPU)
    assert caplog.messages == []


def test_a_key_that_the_system_does_not_read_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of.cache_clear()
    for _ in range(2):
        get_model(TINIEST["model_config"] | {"dropout": 0.5}, "cpu")
    assert caplog.messages == ["AASIST does not read model_config.dropout; ignored"]


def test_a_dotted_key_that_is_none_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "tiny.conf"
    config.write_text(json.dumps(TINIEST))
    with pytest.raises(InputError, match="there is no such key"):
        load_config(config, ["sam.rho=0.05"])
