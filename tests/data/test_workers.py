"""Loading processes that die, hang, or find no shared memory; signals that are meant for the whole job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from s2pecnet.data import workers
from s2pecnet.data.workers import WorkerFailed, batches, start_worker, workers_that_fit
from s2pecnet.errors import InputError
from tests.helpers import ROOT


class Files(Dataset[tuple[torch.Tensor]]):
    """Twelve items; number 5 does something else."""

    def __init__(self, act: str, marker: Path):
        self.act, self.marker = act, marker
        self.list_IDs = [f"utterance_{number}" for number in range(12)]

    def __len__(self) -> int:
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        if index == 5 and not self.marker.exists():
            if self.act == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.act == "ignore":
                self.marker.touch()
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
                    os.kill(os.getpid(), number)
            if self.act == "sleep":
                time.sleep(60)
        return (torch.tensor([index]),)


def loader(act: str, tmp_path: Path, **options: Any) -> DataLoader[Any]:
    data = Files(act, tmp_path / "marker")
    return DataLoader(data, batch_size=3, num_workers=1, worker_init_fn=start_worker, **options)


def test_a_worker_that_dies_is_one_line_with_the_files_asked_for(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"the loading process \d+ died.*: utterance_0, "):
        list(batches(loader("die", tmp_path)))


def test_workers_leave_the_jobs_signals_to_the_training(tmp_path: Path) -> None:
    assert [int(batch[0][0]) for batch in batches(loader("ignore", tmp_path))] == [0, 3, 6, 9]
    assert (tmp_path / "marker").exists()


@pytest.mark.slow
def test_one_that_hangs_is_warned_of_and_then_ends_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "WARN_AFTER", 0.5)
    with pytest.raises(WorkerFailed, match=r"a loading process is stuck .* utterance_3, utterance_4, utterance_5$"):
        list(batches(loader("sleep", tmp_path, timeout=3)))
    (message,) = caplog.messages
    assert message.startswith("no batch for 0 s")
    assert message.endswith("the files asked for: utterance_3, utterance_4, utterance_5")


def test_without_workers_nothing_is_watched(tmp_path: Path) -> None:
    data = Files("none", tmp_path)
    assert len(list(batches(DataLoader(data, batch_size=5)))) == 3


def test_full_shared_memory_is_known_beforehand(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = SimpleNamespace(f_bavail=16384, f_frsize=4096)  # 64 MiB, as Docker gives
    monkeypatch.setattr(workers.os, "statvfs", lambda path: room)
    assert workers_that_fit(3, 2, 6 << 20, chosen=True) == 3
    with pytest.raises(InputError, match=r"64 MiB free; 8 loading processes .* need about 144: set num_workers=3 or"):
        workers_that_fit(8, 2, 6 << 20, chosen=True)
    assert workers_that_fit(8, 2, 6 << 20, chosen=False) == 3
    assert "num_workers is 3 here" in caplog.text
    assert workers_that_fit(8, 1, 100 << 20, chosen=False) == 0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("unable to allocate shared memory(shm) for file </torch_1>: Success (0)", "/dev/shm full"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...", "/dev/shm full"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "the loading process 7, 8 died"),
        ("something else", None),
    ],
)
def test_errors_of_torch_in_words(message: str, expected: str | None) -> None:
    reason = workers._why_failed(message)
    assert reason is None if expected is None else expected in str(reason)


def test_a_script_with_a_loader_of_its_own_ends(corpus: Path, tmp_path: Path) -> None:
    """Loading processes ignore the signal by which python asks them to end; they must not keep it waiting."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from s2pecnet.experiment import get_loader\n"
        "from tests.helpers.samples import TINIEST\n"
        "loader = get_loader(sys.argv[1], 1, TINIEST | {'num_workers': 2, 'num_epochs': 1})[0]\n"
        "print(len(next(iter(loader))[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(corpus)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
