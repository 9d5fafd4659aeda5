"""Workloads: what one measurement is to run, run in processes of their own, in turn; and what the figures come to."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s2pecnet.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "config"
# Kinds of input that a loader gives, with a system that asks for each.
INPUTS = {"waveform": "AASIST", "waveform+LFCC": "S2pecNet"}
# Name of a figure: seconds of processor time of a run, or of an utterance where rates are measured. Other processes on
# the machine disturb it least.
PROCESSOR = "processor_s"

Runs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Workload:
    """One measurement in a process of its own, to which it goes as JSON.

    Attributes:
        task: score, train, load, evaluate, start or memory.
        way: ours, plain, peer, cached (load alone), or transformers (score alone); see worker.py.
        subject: of score and train the name of a config, of load a key of INPUTS.
        mode: measure; for score and train also count (floating-point operations), profile and scores.
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


def check_numbers(arguments: argparse.Namespace, **lowest: int) -> None:
    """Check that options are not below these numbers.

    Raises:
        InputError: one is.
    """
    for name, number in lowest.items():
        if getattr(arguments, name) < number:
            raise InputError(f"--{name} {getattr(arguments, name)}: expected a number >= {number}")


def run(workload: Workload) -> dict[str, Any]:
    """The figures of a workload, measured in a process of its own.

    Raises:
        InputError: it failed; with the last thing that it said.
    """
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(workload))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}, was there memory enough?"]
        what = ", ".join(part for part in (workload.subject, workload.task, workload.way) if part)
        raise InputError(f"{what}: the measurement failed: {said[-1].removeprefix('error: ')}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def in_turn(workloads: Mapping[str, Workload], rounds: int) -> Runs:
    """Run every workload once a round; every other round goes backwards, so that a drift favours none."""
    runs: Runs = {way: [] for way in workloads}
    for number in range(rounds):
        for way in list(workloads)[:: -1 if number % 2 else 1]:
            runs[way].append(run(workloads[way]))
    return runs


def compared(runs: Runs, yardstick: str) -> dict[str, Any]:
    """Of each way the median of its figures, and its speed against the yardstick's.

    Returns:
        by way: medians of the figures (of peaks the maximum), `ratios` of the rounds (above 1: faster than the
        yardstick), `ratio`, their median, and where processor time was measured `processor_ratio`, the same of it.
    """
    result: dict[str, Any] = {}
    for way, found in runs.items():
        figures: dict[str, Any] = {name: statistics.median(each[name] for each in found) for name in found[0]}
        if "peak_GiB" in figures:
            figures["peak_GiB"] = max(each["peak_GiB"] for each in found)
        pairs = list(zip(found, runs[yardstick], strict=True))
        if "seconds" in figures:
            ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
        else:
            ratios = [ours["utterances_per_second"] / theirs["utterances_per_second"] for ours, theirs in pairs]
        result[way] = figures | {"ratio": statistics.median(ratios), "ratios": ratios}
        if PROCESSOR in figures:
            of_processor = [theirs[PROCESSOR] / ours[PROCESSOR] for ours, theirs in pairs]
            result[way]["processor_ratio"] = statistics.median(of_processor)
    return result


def against_ceiling(found: list[dict[str, Any]], gflop: float) -> dict[str, float]:
    """Achieved GFLOP/s of runs with `gflop` an utterance, and the share of their own ceilings; medians."""
    rates = [each["utterances_per_second"] * gflop for each in found]
    shares = [rate / each["ceiling_gflops"] for rate, each in zip(rates, found, strict=True)]
    result = {"achieved_gflops": statistics.median(rates), "share_of_ceiling": statistics.median(shares)}
    if "ceiling_gflop_per_processor_s" in found[0]:
        shares = [gflop / each[PROCESSOR] / each["ceiling_gflop_per_processor_s"] for each in found]
        result["share_in_processor_time"] = statistics.median(shares)
    return result


def machine() -> str:
    """The processor's name, and how many of its cores may be used."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
