"""The benchmark of augmentation measures every step, and its plain RawBoost is the one that ours equals."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import augmentation
from s2pecnet.augment.rawboost import rawboost
from s2pecnet.config.augmentation import CODECS, STEPS
from s2pecnet.config.experiment import as_config
from tests.helpers.samples import TINIEST


@pytest.mark.parametrize("algorithm", range(1, 9))
def test_the_plain_functions_give_the_same(algorithm: int) -> None:
    x = 0.2 * np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    options = as_config(TINIEST | {"augment": [{"step": "rawboost", "algorithm": algorithm}]}).augment[0]
    plain = augmentation.as_released(x, algorithm, np.random.RandomState(4))
    np.testing.assert_allclose(rawboost(x, options, np.random.RandomState(4)), plain, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_step_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert augmentation.main(["--rounds", "1", "--json", str(tmp_path / "figures.json")]) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    measured = {row["step"].partition(" ")[0] for row in rows}
    assert measured == set(STEPS)
    assert {row["step"].split(" ")[1].rstrip(",") for row in rows if row["step"].startswith("codec")} == set(CODECS)
    assert all(row["ms"] > 0 for row in rows)
    assert "| rawboost 5 |" in capsys.readouterr().out
