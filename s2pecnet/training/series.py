"""A series: one experiment trained with several seeds, and the metrics of all (mean, spread, confidence interval).

exp_result/<run>_seed<N>/             a training each; a finished one is not run again, an unfinished one is resumed
exp_result/<run>_series/summary.json  metrics of all of them

The same series again, or with more seeds, replaces its summary. That of other seeds, or of another experiment of the
same name, is backed up: summary.1.json, summary.1.txt.
"""

import itertools
import logging
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write, write_json
from s2pecnet.interruption import raise_if_stop_requested
from s2pecnet.metrics.bootstrap import bootstrap_intervals
from s2pecnet.runs.folder import back_up
from s2pecnet.runs.provenance import RunRecord, check_same_experiment
from s2pecnet.score_files.cm_asv import ASVScores, read_cm_scores
from s2pecnet.text import clipped, load_json_object

# What is summed up, as the run record calls it.
EVALUATIONS = ("dev", "eval", "eval_swa")

log = logging.getLogger(__name__)


def read_seeds(text: str) -> list[int]:
    """The seeds of "1,2,3".

    Raises:
        InputError: something else than different numbers >= 0 that a generator takes.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,18}", word) for word in words) or len({int(word) for word in words}) < len(words):
        raise InputError(f"--seeds {clipped(repr(text))}: expected different numbers >= 0, as in --seeds 1,2,3")
    return [int(word) for word in words]


def run_series(
    seeds: Sequence[int],
    train: Callable[[int], RunRecord],
    score_files: Callable[[int], Mapping[str, Path]],
    asv: ASVScores | None,
    folder: Path,
) -> dict[str, Any]:
    """Train with each seed, then write the series' metrics.

    Args:
        train: trains with a seed, or finds that done; gives its record.
        score_files: the eval score files of a seed's run, by the name of the evaluation ("eval", "eval_swa").
        asv: ASV scores of eval.
        folder: where to write summary.json and summary.txt; those of another series are backed up.

    Returns:
        what summary.json says.
    """
    records: dict[int, RunRecord] = {}
    for seed in seeds:
        raise_if_stop_requested(f"before seed {seed}; the same command continues the series")
        print(f"seed {seed}:", flush=True)
        records[seed] = train(seed)
    # Mean and standard deviation over the seeds, EER and min t-DCF as fractions.
    found: dict[str, dict[str, Any]] = {name: {} for name in EVALUATIONS}
    for name, metric in itertools.product(EVALUATIONS, ("eer", "min_tdcf")):
        values = [getattr(records[seed].metrics[name], metric) for seed in seeds]
        if None not in values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            found[name][metric] = {"values": values, "mean": statistics.fmean(values), "standard_deviation": deviation}
    for name in ("eval", "eval_swa"):
        systems = [read_cm_scores(score_files(seed)[name]) for seed in seeds]
        for metric, interval in bootstrap_intervals(systems, asv).items():
            # Runs from before there were ASV scores have no min t-DCF, and the series has none.
            if interval is not None and metric in found[name]:
                found[name][metric] |= {"interval": [interval.low, interval.high], "level": interval.level}
    experiment = {key: value for key, value in records[seeds[0]].experiment.items() if key != "seed"}
    summary = {"seeds": list(seeds), "experiment": experiment, "metrics": found}
    _back_up_others(folder, seeds, experiment)
    write_json(folder / "summary.json", summary)
    text = "\n".join(_lines(summary))
    with atomic_write(folder / "summary.txt") as stream:
        stream.write(f"{text}\n")
    print(f"{text}\nseries in {folder}")
    return summary


def _back_up_others(folder: Path, seeds: Sequence[int], experiment: Mapping[str, Any]) -> None:
    """Back up the summary in `folder`, unless it is of this experiment and has no other seeds."""
    path = folder / "summary.json"
    if path.exists() and not _is_replaced(path, seeds, experiment):
        for moved in (back_up(path), back_up(folder / "summary.txt")):
            if moved:
                log.info("the summary of another series is now %s", moved)


def _is_replaced(path: Path, seeds: Sequence[int], experiment: Mapping[str, Any]) -> bool:
    try:
        earlier = load_json_object(path.read_text(encoding="utf-8", errors="replace"), str(path))
        # Summaries of earlier versions do not say of which experiment they are.
        other = earlier.get("experiment", experiment)
        if not isinstance(other, Mapping) or not isinstance(earlier.get("seeds"), list):
            return False
        # As where a training resumes: remedies do not make it another experiment.
        check_same_experiment(experiment, other, path.parent)
    except (OSError, InputError):
        # Whatever it is, it is not lost.
        return False
    return all(seed in seeds for seed in earlier["seeds"])


def _lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"seeds {', '.join(map(str, summary['seeds']))}; intervals: bootstrap over trials of the mean of the seeds"
    ]
    for name, metrics in summary["metrics"].items():
        for metric, found in metrics.items():
            factor, unit = (100, " %") if metric == "eer" else (1, "")
            line = f"{name:9} {metric:8} mean {factor * found['mean']:.4f}{unit}"
            if found["standard_deviation"] is not None:
                line += f", standard deviation {factor * found['standard_deviation']:.4f}{unit}"
            if "interval" in found:
                low, high = (factor * end for end in found["interval"])
                line += f", {found['level']:.0%} interval {low:.4f} to {high:.4f}{unit}"
            lines.append(line)
    return lines
