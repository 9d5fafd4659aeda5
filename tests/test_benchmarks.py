"""The benchmarks run and their yardstick computes what ours computes; no test asks how long it took."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import worker
from errors import InputError
from experiment_config import load_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("task", ["score", "train"])
def test_a_workload_reports_rate_and_memory(task: str) -> None:
    call = [sys.executable, "-m", "benchmarks.worker", "--config", "demo", "--task", task, "--batch", "2"]
    for way in ("ours", "plain"):
        done = subprocess.run([*call, "--repeats", "1", "--way", way], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert '"utterances_per_second"' in done.stdout


def test_plain_and_ours_score_alike() -> None:
    config = load_config(ROOT / "config" / "demo.conf")
    inputs = worker._inputs(config, 3)
    scores = []
    for way in ("ours", "plain"):
        torch.manual_seed(1)
        arguments = argparse.Namespace(way=way, device="cpu", batch=3)
        scores.append(worker._scoring(arguments, config, inputs)())
    torch.testing.assert_close(scores[0], scores[1][:, 1], atol=1e-4, rtol=0)


def test_a_peer_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a checkout with a folder models/"):
        command._parse(["--peer", str(tmp_path)])


def test_a_peer_is_imported_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "S2pecNet.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self, config):\n        super().__init__()\n        self.out = torch.nn.Linear(1, 2)\n"
        "    def forward(self, x, lfcc):\n        return x, self.out(x[:, :1])\n"
    )
    call = [sys.executable, "-m", "benchmarks.worker", "--config", "demo", "--task", "score", "--way", "peer"]
    done = subprocess.run([*call, "--peer", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
