"""Scoring with a self-supervised system: ours against the same model as a user of transformers runs it.

The way `transformers` is the library's model with eager attention, in evaluation mode, without gradients, and the
system's back end behind it; in bf16 it is under autocast too. The weights are random, the same ones on both sides, and
so are the waveforms; the scores of both are compared before anything is timed. Every figure is a process of its own,
the ways are run in turn (A B, B A, ...). Quote the ratios, not the absolute figures, and measure on a quiet machine.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.runs import CONFIGS, Workload, against_ceiling, check_numbers, compared, in_turn, machine, run
from s2pecnet.cli.command import make_parser, run_command
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.files import write_json

PROG = "python -m benchmarks.front_end"
# How far scores may lie apart: rounding in float32; in bf16 its 8 bits, through all layers.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.2}
FRONT_END = "model_config.front_end"
EXAMPLES = """examples:
  %(prog)s
  %(prog)s --batch 1 8 --precision bf16 --json figures.json
  %(prog)s --system SSL_tiny --rounds 1
"""


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Measure, print a table, write JSON."""
    arguments = build_parser(prog).parse_args(argv)
    check_numbers(arguments, repeats=1, rounds=1)
    if min(arguments.batch) < 1:
        raise InputError(f"--batch {min(arguments.batch)}: expected numbers >= 1")
    settings = [f"precision={arguments.precision}", *settings_of(arguments.system)]
    print(f"{machine()}; {arguments.precision}; {arguments.rounds} rounds, {arguments.repeats} repeats each")
    table, rows = tables.Table(), []
    for batch in arguments.batch:
        workload = Workload("score", subject=arguments.system, batch=batch, repeats=arguments.repeats,
                            settings=settings)  # fmt: skip
        row = {
            "batch": batch,
            "precision": arguments.precision,
            **measure(workload, arguments.rounds, TOLERANCES[arguments.precision]),
        }
        table.add({"system": row["subject"], "batch": str(batch), **_cells(row)})
        rows.append(row)
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "system": arguments.system, "rows": rows})
    return 0


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, __doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--system", default="XLSR_AASIST", metavar="NAME", help="a config of config/ (default: %(default)s)")
    add("--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="utterances of a batch (default: 1 8)")
    add("--precision", choices=TOLERANCES, default="fp32", help="of both ways (default: %(default)s)")
    add("--repeats", type=int, default=3, metavar="N", help="timed repeats of a process (default: %(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="processes of each way (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all figures here too, every run's")
    return parser


def settings_of(system: str) -> list[str]:
    """What makes a front end of random weights of a config's: the configuration in the place of the pre-trained model.

    Raises:
        InputError: the config has no front end, one whose configuration is not known here, or one whose layers its
            back end takes.
    """
    from s2pecnet.systems.front_end import KNOWN

    front_end = load_config(CONFIGS / f"{system}.conf").model_config.get("front_end")
    if not isinstance(front_end, dict):
        raise InputError(f"--system {system}: it has no front end; see the table in docs/ssl.md")
    if front_end.get("layers", "last") != "last" or front_end.get("normalise"):
        raise InputError(
            f'--system {system}: expected "layers" last and "normalise" false, which transformers gives as it is'
        )
    model = front_end["model"]
    if isinstance(model, str) and model not in KNOWN:
        raise InputError(
            f"--system {system}: the configuration of {model} is not known here (have: {', '.join(KNOWN)})"
        )
    return [] if isinstance(model, dict) else [f"{FRONT_END}.model={json.dumps(KNOWN[model])}"]


def measure(workload: Workload, rounds: int, tolerance: float) -> dict[str, Any]:
    """Both ways in turn: their rates, operations, shares of the ceiling, and how far their scores lie apart.

    Args:
        tolerance: how far the scores may lie apart.

    Raises:
        InputError: they lie further apart.
    """
    eager = [*workload.settings, f"{FRONT_END}.attention=eager"]
    workloads = {"ours": workload, "transformers": replace(workload, way="transformers", settings=eager)}
    ours, theirs = (run(replace(each, mode="scores"))["scores"] for each in workloads.values())
    apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    if not apart <= tolerance:
        raise InputError(f"{workload.subject}: the scores of both ways lie {apart:.3g} apart, more than {tolerance:g}")
    # Fused attention is not counted by torch's counter.
    counted = run(replace(workload, mode="count", settings=eager))
    runs = in_turn(workloads, rounds)
    row = {"task": "score", "subject": workload.subject, "yardstick": "transformers", "largest_difference": apart}
    row |= {"ways": compared(runs, "transformers"), "runs": runs} | counted
    return row | against_ceiling(runs["ours"], counted["gflop_per_utterance"])


def _cells(row: dict[str, Any]) -> tables.Cells:
    cells = tables.compute_cells(row)
    return {name: text for name, text in cells.items() if name not in ("system", "task")} | {
        "apart": f"{row['largest_difference']:.1e}"
    }


if __name__ == "__main__":
    run_command(main)
