"""What one measurement is to run; written by `python -m benchmarks`, read by the process that runs it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "config"
# Kinds of input that a loader gives, with a system that asks for each.
INPUTS = {"waveform": "AASIST", "waveform+LFCC": "S2pecNet"}
# Name of a figure: seconds of processor time of a run, or of an utterance where rates are measured. Other processes on
# the machine disturb it least.
PROCESSOR = "processor_s"


@dataclass(frozen=True)
class Workload:
    """One measurement in a process of its own.

    Attributes:
        task: score, train, load, evaluate, start or memory.
        way: ours, plain, peer, or cached (load alone); see worker.py.
        subject: of score and train the name of a config, of load a key of INPUTS.
        mode: measure; for score and train also count (floating-point operations) and profile.
        batch: utterances of a batch.
        repeats: how often the workload is timed; the median counts.
        device: "cpu", "cuda" or "cuda:N".
        settings: "key=value" each, as of `main.py --set`; for the way `ours`.
        peer: checkout of the released code.
        folder: where corpora and score files are made, and found by the processes that follow.
        workers: loading processes.
        trials: trials of a scored list (memory), or utterances of an epoch (load).
    """

    task: str
    way: str = "ours"
    subject: str = ""
    mode: str = "measure"
    batch: int = 8
    repeats: int = 3
    device: str = "cpu"
    settings: Sequence[str] = ()
    peer: str | None = None
    folder: str = ""
    workers: int = 0
    trials: int = 0

    @property
    def on_cuda(self) -> bool:
        """Is it computed on a CUDA device?"""
        return self.device.startswith("cuda")

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Workload":
        """The workload that `to_json` wrote."""
        return cls(**json.loads(text))
