"""Processes that share a training, started by torchrun, compute what one process would; one that is lost ends all.

Two processes with gloo on the CPU. In float64, where rounding cannot hide or make a difference, losses and weights are
those of one process to 1e-7.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2pecnet.cli import train
from s2pecnet.systems.build import get_model
from s2pecnet.systems.weights import read_weights, save_weights
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST, TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]

SYSTEMS: dict[str, dict[str, Any]] = {
    "AASIST": TINIEST["model_config"],
    "S2pecNet": TINY["model_config"],
    "S2pecNet with statistics": TINY["model_config"] | {"classifier": "statistics", "reconstruction": "none"},
    "RawNet2": {
        "architecture": "RawNet2Spoof", "nb_samp": 3000, "first_conv": 33, "in_channels": 1,
        "filts": [8, [8, 8], [8, 12], [12, 12]], "blocks": [2, 4], "nb_fc_node": 16, "gru_node": 16, "nb_gru_layer": 1,
        "nb_classes": 2,
    },
    "RawGAT-ST": {
        "architecture": "RawNetGatSpoofST", "nb_samp": 6000, "first_conv": 33,
        "filts": [12, [1, 8], [8, 8], [8, 12], [12, 12]],
    },
}  # fmt: skip

STEPS = """
import json, sys, torch
from s2pecnet import parallel
from s2pecnet.config.experiment import as_config
from s2pecnet.data.loaders import SeededShuffle
from s2pecnet.systems.build import System
from s2pecnet.training.optim import create_optimizer
from s2pecnet.training.step import TrainingStep

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
config, out = as_config(json.loads(sys.argv[1])), sys.argv[2]
with parallel.joined(torch.device("cpu")) as group:
    torch.manual_seed(3)
    system = System.build(config, torch.device("cpu"))
    system.model.double().train()
    optimizer, _ = create_optimizer(system.model.parameters(), config.optim_config)
    step = TrainingStep(system.model, optimizer, None, config, torch.device("cpu"))
    utterances = torch.randn(24, config.samples, generator=torch.Generator().manual_seed(0)) * 0.1
    labels = torch.arange(24) % 3 % 2
    torch.manual_seed(11)
    shuffle = SeededShuffle(range(24), 5, config.batch_size, config.micro_batch_size)
    items = torch.tensor([draw.item for draw in shuffle])
    losses = []
    for rows in items.split(config.batch_size // group.size):
        inputs = [utterances[rows]]
        feature = system.inputs.feature
        if feature is not None:
            inputs.append(torch.stack([feature(one.float()).double() for one in inputs[0]]))
        losses.append({name: float(term) for name, term in step(inputs, labels[rows]).items()})
    if not group.rank:
        torch.save({"losses": losses, "state": system.model.state_dict()}, out)
"""


def torchrun(*command: object, processes: int = 2, restarts: int = 0, nodes: Sequence[str] = ()) -> list[str]:
    """The command of one node, or of one of several, where `nodes` are the options by which they find each other."""
    own = [*(nodes or ["--standalone"]), f"--nproc_per_node={processes}", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *own, *map(str, command)]


def two_nodes() -> list[str]:
    """Options of torchrun for two nodes, which meet at a free port of this machine."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    return ["--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", f"--rdzv_id={port}"]


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("micro", [None, 4])
@pytest.mark.parametrize("name", SYSTEMS)
def test_steps_are_those_of_one_process(name: str, micro: int | None, tmp_path: Path) -> None:
    if micro and name != "AASIST":
        pytest.skip("micro-batches are the same code for every system")
    config = TINIEST | {
        "model_config": SYSTEMS[name],
        "batch_size": 8,
        "micro_batch_size": micro,
        "optim_config": {"base_lr": 0.001, "weight_decay": 1e-4},
    }
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    found = []
    for way in ("one", "two"):
        given = [script, json.dumps(config), tmp_path / way]
        command = torchrun(*given) if way == "two" else [sys.executable, *map(str, given)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(torch.load(tmp_path / way, weights_only=True))
    one, two = found
    assert len(one["losses"]) == len(two["losses"]) == 3
    for before, now in zip(one["losses"], two["losses"], strict=True):
        assert now == pytest.approx(before, rel=1e-9)
    assert list(two["state"]) == list(one["state"])
    for key, tensor in one["state"].items():
        torch.testing.assert_close(two["state"][key], tensor, rtol=1e-7, atol=1e-7, msg=f"{key} differs")


@pytest.fixture
def config(tiniest_config: Path) -> Path:
    """A training that lasts long enough to be interrupted, and saves every step."""
    content = json.loads(tiniest_config.read_text()) | {"num_epochs": 4, "save_every_steps": 1}
    tiniest_config.write_text(json.dumps(content))
    return tiniest_config


def arguments(config: Path, output: Path, *more: object) -> list[object]:
    return [ROOT / "main.py", "--config", config, "--output_dir", output, "--seed", "3", "--device", "cpu", *more]


@contextlib.contextmanager
def started(
    output: Path, command: list[str], also: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A training in its second epoch, and the pids of its processes by rank, those of the node `also` last."""
    nodes = [
        subprocess.Popen(one, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in (command, also)
        if one
    ]
    process = nodes[0]
    try:
        deadline = time.monotonic() + 120
        while not list(output.glob("LA*/state/00001_*")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = [
            int(child)
            for node in nodes
            for child in subprocess.run(["pgrep", "-P", str(node.pid)], capture_output=True, text=True).stdout.split()
        ]
        yield process, children
    finally:
        for node in nodes:
            # Where the first has ended, so does the other; in a test that fails neither may.
            if process.poll() is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.communicate(timeout=60)
            if node.poll() is None:
                node.kill()
                node.communicate()


def history(output: Path) -> list[float]:
    results = json.loads((output / "LA_tiniest_ep4_bs6" / "results.json").read_text())
    return [row["loss"] for row in results["history"]]


def test_a_training_by_two_processes_is_that_of_one(config: Path, tmp_path: Path) -> None:
    train.main(["--config", str(config), "--output_dir", str(tmp_path / "one"), "--seed", "3", "--device", "cpu"])
    done = subprocess.run(torchrun(*arguments(config, tmp_path / "two")), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Only one of them prints and writes.
    assert done.stdout.count("epoch   0  loss") == done.stdout.count("results in ") == 1
    assert history(tmp_path / "two") == pytest.approx(history(tmp_path / "one"), rel=2e-3)
    assert history(tmp_path / "two")[0] == pytest.approx(history(tmp_path / "one")[0], rel=1e-5)
    folder = tmp_path / "two" / "LA_tiniest_ep4_bs6"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name if "tfevents" not in path.name else next(folder.glob("*tfevents*")).name
        for path in (tmp_path / "one" / folder.name).iterdir()
    )
    assert json.loads((folder / "results.json").read_text())["sessions"][0]["processes"] == 2

    # Scoring: the same bytes, of first crops and of windows.
    weights, name = folder / "weights" / "swa.pth", "eval_scores_using_best_dev_model.txt"
    for crop in ("first", "windows"):
        for processes in (1, 2):
            given = arguments(config, tmp_path / f"{crop}{processes}", "--eval", "--eval_model_weights", weights)
            command = torchrun(*given, "--set", f"eval_crop={crop}", processes=processes)
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        assert len({(tmp_path / f"{crop}{one}" / folder.name / name).read_bytes() for one in (1, 2)}) == 1


def test_a_signal_to_one_process_saves_and_ends_all_and_one_process_resumes(config: Path, tmp_path: Path) -> None:
    with started(tmp_path / "cut", torchrun(*arguments(config, tmp_path / "cut"))) as (process, ranks):
        os.kill(ranks[1], signal.SIGTERM)
        err = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert "the training's state is saved, --resume continues it" in err
    assert not [line for line in err.splitlines() if line.startswith("[rank")], err
    given = ["--config", str(config), "--output_dir", str(tmp_path / "cut"), "--seed", "3", "--device", "cpu"]
    train.main([*given, "--resume"])
    train.main([*given[:2], "--output_dir", str(tmp_path / "whole"), *given[4:]])
    np.testing.assert_allclose(history(tmp_path / "cut"), history(tmp_path / "whole"), rtol=2e-3)
    sessions = json.loads((tmp_path / "cut" / "LA_tiniest_ep4_bs6" / "results.json").read_text())["sessions"]
    assert [one["processes"] for one in sessions] == [2, 1]


def test_a_process_that_is_killed_ends_all_and_torchrun_restarts_them(config: Path, tmp_path: Path) -> None:
    with started(tmp_path / "lost", torchrun(*arguments(config, tmp_path / "lost"))) as (process, ranks):
        os.kill(ranks[1], signal.SIGKILL)
        err = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert err.count("error: another process of this training has ended; --resume continues from the last") == 1

    command = torchrun(*arguments(config, tmp_path / "again"), restarts=1)
    with started(tmp_path / "again", command) as (process, ranks):
        os.kill(ranks[1], signal.SIGKILL)
        err = process.communicate(timeout=200)[1]
    assert process.returncode == 0, err
    assert "note: resuming after step" in err
    whole = subprocess.run(torchrun(*arguments(config, tmp_path / "whole")), cwd=ROOT, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    # The same number of processes: the same bytes.
    states = [read_weights(tmp_path / one / "LA_tiniest_ep4_bs6" / "weights" / "swa.pth") for one in ("again", "whole")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_a_process_of_another_node_is_killed_and_torchrun_restarts_all(config: Path, tmp_path: Path) -> None:
    """Each node counts the restarts of its own; all resume, and give what two processes of one node give."""
    command = torchrun(*arguments(config, tmp_path / "two"), processes=1, restarts=1, nodes=two_nodes())
    with started(tmp_path / "two", command, also=command) as (process, ranks):
        os.kill(ranks[-1], signal.SIGKILL)
        process.communicate(timeout=200)
    folder = tmp_path / "two" / "LA_tiniest_ep4_bs6"
    sessions = json.loads((folder / "results.json").read_text())["sessions"]
    assert [one["processes"] for one in sessions] == [2, 2]
    assert sessions[1]["epoch"] >= 1
    whole = subprocess.run(torchrun(*arguments(config, tmp_path / "one")), cwd=ROOT, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    two, one = (read_weights(tmp_path / name / folder.name / "weights" / "swa.pth") for name in ("two", "one"))
    assert all(torch.equal(two[key], one[key]) for key in one)


def test_nodes_need_one_folder_for_results(config: Path, tmp_path: Path) -> None:
    nodes = two_nodes()
    commands = [
        torchrun(*arguments(config, tmp_path / disk), processes=1, nodes=nodes) for disk in ("a disk", "another")
    ]
    with subprocess.Popen(commands[1], cwd=ROOT, stderr=subprocess.PIPE, text=True) as other:
        done = subprocess.run(commands[0], cwd=ROOT, capture_output=True, text=True)
        errors = [done.stderr, other.communicate(timeout=120)[1]]
    for error in errors:
        assert "is not the folder that rank 0 writes to; expected one on a disk that all nodes share" in error
    # Nothing of a training is there, nor the mark by which it was found.
    assert not [path for path in tmp_path.glob("a*/*") if path.name != "cache"]


def test_batches_that_cannot_be_shared_are_refused(config: Path, tmp_path: Path) -> None:
    command = torchrun(*arguments(config, tmp_path, "--set=batch_size=5"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "error: batch_size 5 cannot be shared evenly by 2 processes; choose a multiple of 2" in done.stderr
    assert "[rank" not in done.stderr


def test_files_are_shared_and_the_table_has_the_bytes_of_one_process(
    corpus: Path, config: Path, tmp_path: Path
) -> None:
    """Also where a killed table is continued by several processes; a bad file is one line."""
    given = json.loads(config.read_text())
    torch.manual_seed(0)
    save_weights(get_model(given["model_config"], "cpu"), tmp_path / "w.pth")
    clips = tmp_path / "clips"
    shutil.copytree(corpus / "ASVspoof2019_LA_eval" / "flac", clips)
    (clips / "bad.wav").write_bytes(b"RIFF0000WAVE")
    tables = {}
    for processes in (1, 2):
        table = tmp_path / f"{processes}.csv"
        # Groups of four files: each process has several.
        script = tmp_path / "predict.py"
        script.write_text(
            "import s2pecnet.scoring.recordings as recordings\n"
            "recordings.GROUP = 4\n"
            "import s2pecnet.scoring.resume as resume\n"
            "from s2pecnet.__main__ import run\n"
            "run()\n"
        )
        weights = ["--weights", tmp_path / "w.pth", "--device", "cpu"]
        command = [script, "predict", "--config", config, *weights, "--format", "csv", "--output", table, clips]
        done = subprocess.run(torchrun(*command, processes=processes), cwd=ROOT, capture_output=True, text=True)
        assert done.stderr.count("bad.wav") == 1, done.stderr
        assert "files scored: 18; that could not be used: 1" in done.stderr
        tables[processes] = table.read_bytes()
    assert tables[1] == tables[2]
    assert tables[1].count(b"\n") == 19
    (tmp_path / "2.csv").write_bytes(tables[1][: len(tables[1]) * 2 // 3])
    done = subprocess.run(torchrun(*command, "--resume"), cwd=ROOT, capture_output=True, text=True)
    assert (tmp_path / "2.csv").read_bytes() == tables[1], done.stderr
