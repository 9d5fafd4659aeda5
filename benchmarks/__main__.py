"""Measure this code against itself run plainly, or against a checkout of the released code.

    python -m benchmarks                          all systems, ours against plain
    python -m benchmarks --systems AASIST --tasks score --peer /path/to/aasist
    python -m benchmarks --json figures.json

Every figure is a process of its own; the ways are run in turn (A B A B ...), so that a machine whose speed drifts does
not favour one. Quote the ratios, not the absolute figures.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from errors import InputError, run_command  # noqa: E402
from files import write_json  # noqa: E402

SYSTEMS = ("AASIST", "AASIST-L", "S2pecNet", "RawGATST_baseline", "RawNet2_baseline")
# Floating-point operations of one scored utterance, in GFLOP, where they have been counted.
GFLOP_SCORED = {"AASIST": 19.1}


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    arguments = _parse(argv)
    yardstick = "peer" if arguments.peer else "plain"
    ceiling = _run("AASIST", "ceiling", "ours", arguments)["gflops"]
    print(f"{platform.processor() or platform.machine()}, float32 matrix products {ceiling:.0f} GFLOP/s")
    print(f"{'system':18} {'task':6} {'ours utt/s':>11} {yardstick + ' utt/s':>12} {'ratio':>7} {'ours GiB':>9} "
          f"{yardstick + ' GiB':>10} {'of ceiling':>10}")  # fmt: skip
    rows = []
    for system in arguments.systems:
        for task in arguments.tasks:
            row = _compare(system, task, yardstick, arguments)
            row["share_of_ceiling"] = _share(system, task, row, ceiling)
            rows.append(row)
            share = "" if row["share_of_ceiling"] is None else f"{100 * row['share_of_ceiling']:8.0f} %"
            print(f"{system:18} {task:6} {row['ours']:11.2f} {row['yardstick']:12.2f} {row['ratio']:6.2f}x "
                  f"{row['ours_GiB']:9.2f} {row['yardstick_GiB']:10.2f} {share}", flush=True)  # fmt: skip
    if arguments.json:
        write_json(arguments.json, _described(rows, ceiling, yardstick, arguments))
    return 0


def _compare(system: str, task: str, yardstick: str, arguments: argparse.Namespace) -> dict[str, Any]:
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        ours.append(_run(system, task, "ours", arguments))
        theirs.append(_run(system, task, yardstick, arguments))
    rates = [[run["utterances_per_second"] for run in runs] for runs in (ours, theirs)]
    return {
        "system": system,
        "task": task,
        "ours": statistics.median(rates[0]),
        "yardstick": statistics.median(rates[1]),
        "ratio": statistics.median(a / b for a, b in zip(*rates, strict=True)),
        "ours_GiB": max(run["peak_GiB"] for run in ours),
        "yardstick_GiB": max(run["peak_GiB"] for run in theirs),
    }


def _run(system: str, task: str, way: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.worker", "--config", system, "--task", task, "--way", way,
               "--batch", str(arguments.batch), "--repeats", str(arguments.repeats),
               "--device", arguments.device]  # fmt: skip
    if arguments.peer:
        command += ["--peer", str(arguments.peer)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{system}, {task}, {way}: the measurement failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _share(system: str, task: str, row: dict[str, Any], ceiling: float) -> float | None:
    if task != "score" or system not in GFLOP_SCORED:
        return None
    return float(row["ours"] * GFLOP_SCORED[system] / ceiling)


def _described(rows: list[Any], ceiling: float, yardstick: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from run_folder import commit, versions

    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "versions": versions(),
        "device": arguments.device,
        "batch": arguments.batch,
        "yardstick": yardstick,
        "matrix_product_gflops": ceiling,
        "rows": rows,
    }


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--tasks", nargs="+", choices=("score", "train"), default=["score", "train"], metavar="TASK")
    parser.add_argument("--peer", type=Path, metavar="DIR", help="checkout of the released code to measure against")
    parser.add_argument("--batch", type=int, default=8, help="utterances of a batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed batches of a process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args(argv)
    if arguments.peer and not (arguments.peer / "models").is_dir():
        raise InputError(f"--peer {arguments.peer}: expected a checkout with a folder models/")
    return arguments


if __name__ == "__main__":
    run_command(main)
