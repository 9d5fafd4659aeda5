"""Workloads run in processes of their own, in turn, and what their figures come to."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.workload import PROCESSOR, ROOT, Workload
from s2pecnet.errors import InputError

Runs = dict[str, list[dict[str, Any]]]


def run(workload: Workload) -> dict[str, Any]:
    """The figures of a workload, measured in a process of its own.

    Raises:
        InputError: it failed; with the last thing that it said.
    """
    command = [sys.executable, "-m", "benchmarks.worker", workload.to_json()]
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
        figures = {name: statistics.median(each[name] for each in found) for name in found[0]}
        if "peak_GiB" in figures:
            figures["peak_GiB"] = max(each["peak_GiB"] for each in found)
        pairs = list(zip(found, runs[yardstick], strict=True))
        ratios = [seconds(theirs) / seconds(ours) for ours, theirs in pairs]
        result[way] = figures | {"ratio": statistics.median(ratios), "ratios": ratios}
        if PROCESSOR in figures:
            result[way]["processor_ratio"] = statistics.median(
                theirs[PROCESSOR] / ours[PROCESSOR] for ours, theirs in pairs
            )
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


def seconds(figures: Mapping[str, float]) -> float:
    """Seconds of a run of the workload, or of one utterance of it."""
    return figures["seconds"] if "seconds" in figures else 1 / figures["utterances_per_second"]


def machine() -> str:
    """The processor's name, and how many of its cores may be used."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
