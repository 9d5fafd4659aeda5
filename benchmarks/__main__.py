"""Measure this code against itself run plainly, or against a checkout of the released code.

Every figure is a process of its own; the ways are run in turn (A B, B A, ...), so that a machine whose speed drifts
favours none. Quote the ratios, not the absolute figures.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.runs import CONFIGS, INPUTS, Workload, against_ceiling, check_numbers, compared, in_turn, machine, run
from s2pecnet.cli.command import make_parser, run_command
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.files import write_json

SYSTEMS = ("AASIST", "AASIST-L", "S2pecNet", "RawGATST_baseline", "RawNet2_baseline")
# Utterances of an epoch of the loader.
EPOCH = 240
GROWTH = 10
EXAMPLES = """tasks:
  score, train  utterances a second of each system, against the rate of matrix products in the same process
  load          utterances a second of the training loader, from a corpus of noise made for it
  evaluate      seconds from score files of LA's size to figures
  start         seconds until help is printed, against a program that imports torch
  memory        peak memory of scoring a list, and one ten times as long

examples:
  python -m benchmarks --json figures.json
  python -m benchmarks --systems AASIST --tasks score --peer /path/to/aasist
  python -m benchmarks --systems AASIST --tasks score train --device cuda --precision bf16 --compile
  python -m benchmarks --systems S2pecNet --tasks train --set activation_checkpointing=true
  python -m benchmarks --systems AASIST --tasks score --profile
"""
PROG = "python -m benchmarks"
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Measure, print tables, write JSON."""
    arguments = _parse(argv, prog)
    if arguments.profile:
        for task in arguments.tasks:
            for system in arguments.systems:
                workload = replace(_workload(task, arguments), subject=system, mode="profile")
                print("\n".join(tables.profile_lines(run(workload), system, task)), end="\n\n", flush=True)
        return 0
    print(f"{machine()}; device {arguments.device}; {arguments.rounds} rounds, {arguments.repeats} repeats each")
    table, rows = tables.Table(), []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for task in arguments.tasks:
            for row in (_memory if task == "memory" else _compare)(_workload(task, arguments, folder), arguments):
                table.add(TASKS[task](row))
                rows.append(row)
    if not arguments.json:
        return 0
    # Imports torch; here, where all is measured, that takes nobody's time.
    import torch

    from s2pecnet.runs.provenance import commit, versions

    device = arguments.device
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "device": f"{device}: {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device,
        "versions": versions(),
        "batch": arguments.batch,
        "settings": arguments.settings,
    }
    write_json(arguments.json, about | {"rows": rows})
    return 0


def _workload(task: str, arguments: argparse.Namespace, folder: str = "") -> Workload:
    given = {name: getattr(arguments, name) for name in ("batch", "repeats", "device", "settings", "workers")}
    return Workload(task, peer=str(arguments.peer.resolve()) if arguments.peer else None, folder=folder, **given)


def _compare(workload: Workload, arguments: argparse.Namespace) -> Iterator[Row]:
    """A row a system, kind of input, or none of these: the ways of a task, run in turn."""
    task, computed = workload.task, workload.task in COMPUTED
    subjects, ways = [""], ["ours", "plain"]
    if computed:
        subjects, ways = arguments.systems, ["ours", "peer" if arguments.peer else "plain"]
    elif task == "load":
        subjects, ways = list(INPUTS), ["ours", "cached", "plain"]
    for subject in subjects:
        workload = replace(workload, subject=subject, trials=EPOCH)
        more = run(replace(workload, mode="count")) if computed else {}
        runs = in_turn({way: replace(workload, way=way) for way in ways}, arguments.rounds)
        row = {"task": task, "subject": subject, "yardstick": ways[-1], "ways": compared(runs, ways[-1]), "runs": runs}
        if computed:
            more |= against_ceiling(runs["ours"], more["gflop_per_utterance"])
        yield row | more | ({"workers": arguments.workers} if task == "load" else {})


def _memory(workload: Workload, arguments: argparse.Namespace) -> Iterator[Row]:
    trials = [arguments.trials, GROWTH * arguments.trials]
    peaks = [run(replace(workload, trials=count))["peak_GiB"] for count in trials]
    growth = (peaks[1] - peaks[0]) * 2**30 / (trials[1] - trials[0])
    yield {"task": "memory", "trials": trials, "peak_GiB": peaks, "bytes_per_trial": growth}


TASKS: dict[str, Callable[[Row], tables.Cells]] = {
    "score": tables.compute_cells,
    "train": tables.compute_cells,
    "load": tables.load_cells,
    "evaluate": tables.seconds_cells,
    "start": tables.seconds_cells,
    "memory": tables.memory_cells,
}
COMPUTED = ("score", "train")


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, __doc__ or "", EXAMPLES)
    add = parser.add_argument
    configs = sorted(path.stem for path in CONFIGS.glob("*.conf"))
    add("--systems", nargs="+", choices=configs, metavar="NAME", help="configs of config/ (default: the five systems)")
    add("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    add("--peer", type=Path, metavar="DIR", help="checkout of the released code: score and train run its models too")
    add("--batch", type=int, default=8, metavar="N", help="utterances of a batch (default: %(default)s)")
    add("--repeats", type=int, default=3, metavar="N", help="timed repeats of a process (default: %(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="processes of each way (default: %(default)s)")
    add("--workers", type=int, default=0, metavar="N", help="loading processes of the task load (default: %(default)s)")
    add("--trials", type=int, default=10_000, metavar="N",
        help="length of the shorter list of the task memory (default: %(default)s)")  # fmt: skip
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    add("--precision", metavar="P", help="short for --set precision=P")
    add("--compile", action="store_true", help="short for --set compile=true")
    add("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="config value of the way ours")
    add("--profile", action="store_true", help="print the operators that take the most time of score and train instead")
    add("--json", type=Path, metavar="FILE", help="write all figures here too, every run's")
    return parser


def _parse(argv: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    arguments = build_parser(prog).parse_args(argv)
    if arguments.precision:
        arguments.settings.append(f"precision={arguments.precision}")
    if arguments.compile:
        arguments.settings.append("compile=true")
    arguments.tasks = arguments.tasks or (COMPUTED if arguments.profile else list(TASKS))
    if arguments.profile and not set(arguments.tasks) <= set(COMPUTED):
        raise InputError("--profile is for the tasks score and train; leave the others out of --tasks")
    check_numbers(arguments, batch=1, repeats=1, rounds=1, trials=1, workers=0)
    wanted = arguments.systems or SYSTEMS
    # Settings are checked here, before anything is measured.
    files = {name: load_config(CONFIGS / f"{name}.conf", arguments.settings).architecture for name in wanted}
    missing = []
    if arguments.peer:
        models = arguments.peer / "models"
        if not models.is_dir():
            raise InputError(f"--peer {arguments.peer}: expected a checkout with a folder models/")
        missing = [name for name, file in files.items() if not (models / f"{file}.py").is_file()]
    if len(missing) == len(files) or (missing and arguments.systems):
        raise InputError(
            f"--peer {arguments.peer}: it has no models/{files[missing[0]]}.py, the file of {missing[0]}; see --systems"
        )
    arguments.systems = [name for name in files if name not in missing]
    return arguments


if __name__ == "__main__":
    run_command(main)
