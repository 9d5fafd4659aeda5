"""One measurement in a process of its own; prints a line of JSON. Started by `python -m benchmarks`.

A workload is a task (and a system) and a way:

    ours    as main.py runs it, with the config's settings and those given
    plain   score, train   our model, run as the released code runs its own: row-major maps, BatchNorms that take no
                           part computed, decoders run while scoring, undivided batches, float32, the C library's,
                           OpenMP's
                           and torch's own settings
            load           every file decoded completely
            evaluate       score files read by `np.genfromtxt`
            start          a program that does nothing but import torch
    cached  load           ours, from decoded audio that is there already
    transformers  score    a self-supervised system whose front end is the library's own model; of front_end.py
    peer    score, train   the model file of a checkout of the released code, imported from there as it is, run as in
                           `plain`
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.runs import PROCESSOR, ROOT, Workload
from s2pecnet.cli.command import run_command


def main() -> int:
    """Run the workload that the one argument describes."""
    workload = Workload(**json.loads(sys.argv[1]))
    if workload.way == "ours" or workload.task == "load":
        # As main.py does, before torch is imported; the ways of a loader differ in what they do, not in how they wait.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(json.dumps(run(workload)))
    return 0


def run(workload: Workload) -> dict[str, Any]:
    """The figures of a workload; what each task imports is imported for it alone."""
    if workload.task in ("score", "train"):
        from benchmarks import compute

        modes: dict[str, Callable[[Workload], dict[str, Any]]] = {
            "measure": compute.measure,
            "count": compute.count,
            "profile": compute.profiled,
            "scores": compute.scores,
        }
        return modes[workload.mode](workload)
    if workload.task == "load":
        from benchmarks import loading

        return loading.measure(workload)
    if workload.task == "start":
        return measure_start(workload)
    from benchmarks import score_lists

    return {"evaluate": score_lists.measure_evaluation, "memory": score_lists.measure_memory}[workload.task](workload)


def measure_start(workload: Workload) -> dict[str, float]:
    """Seconds of `main.py --help` (median, after one call that fills the caches), and processor time."""
    command = ["main.py", "--help"] if workload.way == "ours" else ["-c", "import torch"]
    seconds, processor = [], []
    for _ in range(workload.repeats + 1):
        started, used = time.perf_counter(), _used_by_children()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
        processor.append(_used_by_children() - used)
    return {"seconds": statistics.median(seconds[1:]), PROCESSOR: statistics.median(processor[1:])}


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    run_command(main)
