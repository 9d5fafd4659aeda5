"""Small systems trained on one corpus with several seeds, in one table: what helps there, and by how much.

    python -m benchmarks.league --corpus /data/minila/LA --seeds 5      make league CORPUS=/data/minila/LA

Every run is `main.py` with a config of config/small/, or else of config/, in a process of its own. Finished runs are
not repeated and interrupted ones resume, so the same command continues where it was stopped; `--records` keeps what the
table is made of in a folder small enough for a repository, from which another machine continues. `--minutes` starts no
run after that time, and what is missing then is listed. A config selects its epoch on dev; eval is scored once, at a
run's end, and `--dev` prints what a recipe is chosen by, without it.

Of each system: EER and min t-DCF, mean and standard deviation over the seeds, and a 95 % interval of the mean EER on
eval from draws of trials (within each class) and of seeds. Differences from the first system of the table are tested on
the same draws, with Holm's correction. Two baselines from scikit-learn see frames or statistics of LFCC and have no
seed (logistic regression) or one as the others (mixtures of Gaussians).
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.runs import check_numbers
from s2pecnet.cli.command import make_parser, run_command
from s2pecnet.config.experiment import load_config
from s2pecnet.conventions import RUN_FILES, SPLITS
from s2pecnet.errors import InputError
from s2pecnet.experiment import asv_scores_of, corpus_of
from s2pecnet.files import write_json
from s2pecnet.metrics.bootstrap import METRICS, draw_metrics
from s2pecnet.metrics.comparison import holm, two_sided_p
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.runs.folder import run_name
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.runtime import usable_cores
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores
from s2pecnet.text import listed

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "config" / "small"
# In the order of the table; differences are tested against the first.
SYSTEMS = (
    "S2pecNet", "S2pecNet_paper", "S2pecNet_first_order", "S2pecNet_second_order", "S2pecNet_no_reconstruction",
    "S2pecNet_coarse_fusion", "S2pecNet_statistics", "AASIST", "RawNet2", "RawGATST", "S2pecNet_rawboost",
    "S2pecNet_codec", "AASIST_rawboost", "AASIST_codec", "RawNet2_speed", "S2pecNet_speed", "S2pecNet_plus",
)  # fmt: skip
BASELINES = ("LFCC-GMM", "LFCC-LR")
COMPONENTS = 64
RESULTS = RUN_FILES["results"]
DRAWS = 1000
Row = dict[str, Any]


class Run(NamedTuple):
    """A finished run: its eval scores, in `--records` or in `--output_dir`, and what it recorded."""

    scores: Path
    record: RunRecord


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, then print the table and write league.json."""
    given = _parse(argv)
    seeds = range(1, given.seeds + 1)
    if not given.dev:
        _train_missing(seeds, given)
    runs = {name: {seed: run for seed in seeds if (run := _finished(name, seed, given))} for name in given.systems}
    if given.dev:
        for name, found in runs.items():
            eers = [run.record.metrics["dev"].eer for run in found.values()]
            print(f"{name}: dev EER % {_spread(eers, 100)} ({', '.join(f'{100 * eer:.1f}' for eer in eers)})")
        return 0
    rows = [_row(name, list(found.values())) for name, found in runs.items() if found]
    rows += [_baseline(name, seeds, given) for name in given.baselines]
    _compare(rows)
    print("\n".join(_table(rows)))
    for name, found in runs.items():
        missing = [str(seed) for seed in seeds if seed not in found]
        if missing:
            print(f"missing: {name}, seed {', '.join(missing)}")
    kept = [{key: value for key, value in row.items() if key != "scores"} for row in rows]
    write_json(given.output_dir / "league.json", {"corpus": str(given.corpus), "rows": kept})
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("python -m benchmarks.league", __doc__.partition("\n")[0], "")
    add = parser.add_argument
    add("--corpus", type=Path, required=True, metavar="DIR", help="the corpus, in any layout that the framework reads")
    add("--seeds", type=int, default=5, metavar="N", help="train with the seeds 1 to N (default: %(default)s)")
    add("--systems", nargs="+", default=list(SYSTEMS), metavar="NAME",
        help="configs of config/small/, or else of config/ (default: the former, and S2pecNet_plus)")  # fmt: skip
    add("--baselines", nargs="*", default=list(BASELINES), choices=BASELINES, help="default: both")
    add("--jobs", type=int, default=1, metavar="N",
        help="train so many systems at a time, the cores divided among them (default: %(default)s)")  # fmt: skip
    add("--dev", action="store_true", help="train nothing and print dev alone: recipes are chosen without eval")
    add("--minutes", type=float, metavar="M", help="start no training after so many minutes (default: no limit)")
    add("--output_dir", type=Path, default=Path("exp_result/league"), metavar="DIR", help="default: %(default)s")
    add("--records", type=Path, metavar="DIR",
        help="keep record and eval scores of each run here too; what lies here is finished")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of every config")
    given = parser.parse_args(argv)
    check_numbers(given, seeds=1, jobs=1)
    for name in given.systems:
        if not _config_of(name).is_file():
            raise InputError(f"--systems {name}: there is no {CONFIGS / name}.conf, nor a {_config_of(name)}")
    # A corpus that is not there is found before anything is trained.
    _protocols(given.systems[0], _overrides(given))
    return given


def _config_of(name: str) -> Path:
    """The config of a system: of its small form, or else the one that users take."""
    small = CONFIGS / f"{name}.conf"
    return small if small.is_file() else CONFIGS.parent / small.name


@functools.cache
def _protocols(name: str, overrides: tuple[str, ...]) -> dict[str, str]:
    """The digests of the protocols that a system is trained with, as run records have them."""
    corpus = corpus_of(load_config(_config_of(name), overrides))
    return {f"protocol of {split}": corpus[split].trials.digest for split in SPLITS}


def _overrides(given: argparse.Namespace) -> tuple[str, ...]:
    return f"database_path={json.dumps(str(given.corpus))}", *given.set


def _finished(name: str, seed: int, given: argparse.Namespace) -> Run | None:
    """A finished run, kept in `--records` too; None: it has to be trained.

    Raises:
        InputError: what lies in its place is a run of another recipe or corpus.
    """
    config = load_config(_config_of(name), _overrides(given))
    for parent in (given.records, given.output_dir):
        folder = parent and Path(parent) / run_name(config, f"seed{seed}")
        if not folder or not (folder / RESULTS).is_file():
            continue
        record = RunRecord.read(folder / RESULTS)
        found = {key: value for key, value in record.experiment.items() if key != "device"}
        wanted = config.identity() | {"seed": seed} | _protocols(name, _overrides(given))
        other = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
        if other:
            raise InputError(
                f"{folder / RESULTS}: a run of another recipe or corpus (it differs in {listed(other)}); remove that "
                "folder, or give another --output_dir or --records"
            )
        if parent == given.output_dir and given.records:
            kept = given.records / folder.name
            kept.mkdir(parents=True, exist_ok=True)
            for file in (config.eval_output, RESULTS):
                shutil.copy(folder / file, kept / file)
        return Run(folder / config.eval_output, record)
    return None


def _train_missing(seeds: Sequence[int], given: argparse.Namespace) -> None:
    """Train what has no results yet, `--jobs` at a time; none is started after `--minutes`, or after one failed."""
    started, failed = time.monotonic(), threading.Event()

    def train(name: str, seed: int) -> None:
        late = given.minutes is not None and time.monotonic() - started >= 60 * given.minutes
        if late or failed.is_set() or _finished(name, seed, given):
            return
        print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}", file=sys.stderr, flush=True)
        sets = [f"--set={one}" for one in _overrides(given)]
        command = [sys.executable, ROOT / "main.py", "-q", "--config", _config_of(name), *sets, "--seed", seed,
                   "--comment", f"seed{seed}", "--resume", "--output_dir", given.output_dir]  # fmt: skip
        threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // given.jobs))} if given.jobs > 1 else {}
        done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, env={**os.environ, **threads})
        if done.returncode:
            failed.set()
            what = f"the training ended with status {done.returncode}; its message is above"
            raise InputError(f"{name}, seed {seed}: {what}")

    with ThreadPoolExecutor(given.jobs) as pool:
        # One seed of each system after the other: a league that is cut short compares equals.
        for run in [pool.submit(train, name, seed) for seed in seeds for name in given.systems]:
            run.result()


def _row(name: str, runs: Sequence[Run]) -> Row:
    """What the finished runs of a system say."""
    records = [run.record for run in runs]
    return {
        "system": name,
        "parameters": records[0].parameters,
        "seeds": len(records),
        "minutes": statistics.fmean((record.wall_time_s or 0) / 60 for record in records),
        "dev": [record.metrics["dev"].eer for record in records],
        "eval": [record.metrics["eval"].eer for record in records],
        "tdcf": [record.metrics["eval"].min_tdcf for record in records],
        "scores": [read_cm_scores(run.scores) for run in runs],
    }


def _baseline(name: str, seeds: Sequence[int], given: argparse.Namespace) -> Row:
    """LFCC with a classifier of scikit-learn: log-likelihood ratio of two mixtures, or logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.mixture import GaussianMixture
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.monotonic()
    # The corpus of the first system, as all of one table are compared with it.
    config = load_config(_config_of(given.systems[0]), _overrides(given))
    corpus = corpus_of(config)
    frames = {split: _lfcc_of(corpus[split]) for split in SPLITS}
    labels = {split: np.asarray(corpus[split].trials.is_bonafide) for split in SPLITS}
    scores: dict[str, list[Any]] = {"dev": [], "eval": []}
    for seed in seeds if name == "LFCC-GMM" else seeds[:1]:
        if name == "LFCC-GMM":
            models = []
            for of_class in (True, False):
                chosen = [one for one, real in zip(frames["train"], labels["train"], strict=True) if real == of_class]
                mixture = GaussianMixture(COMPONENTS, covariance_type="diag", random_state=seed, reg_covar=1e-3)
                models.append(mixture.fit(np.concatenate(chosen)))
            for split, found in scores.items():
                found.append([models[0].score(one) - models[1].score(one) for one in frames[split]])
        else:
            statistics_of = {
                split: np.stack([np.r_[one.mean(0), one.std(0)] for one in frames[split]]) for split in SPLITS
            }
            fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
            fitted.fit(statistics_of["train"], labels["train"])
            for split, found in scores.items():
                found.append(fitted.decision_function(statistics_of[split]))
    row: Row = {"system": name, "parameters": None, "seeds": len(scores["eval"]), "scores": []}
    row["minutes"] = (time.monotonic() - started) / 60 / row["seeds"]
    asv = asv_scores_of(config, corpus, "eval")[1]
    for split, found in scores.items():
        trials = corpus[split].trials
        sets = [
            CMScores(
                np.array(list(trials.utterance)), np.array(list(trials.attack)), labels[split], np.array(values), 0
            )
            for values in found
        ]
        metrics = [evaluate(one, asv if split == "eval" else None) for one in sets]
        row[split] = [one.eer for one in metrics]
        if split == "eval":
            row["tdcf"], row["scores"] = [one.min_tdcf for one in metrics], sets
    return row


def _lfcc_of(split: Any) -> list[np.ndarray]:
    """LFCC of each utterance of a split, (frames, 60), float64."""
    import torch

    from s2pecnet.data.utterances import AudioFolder
    from s2pecnet.features import LFCC

    lfcc, audio = LFCC(), AudioFolder.of(split)
    return [lfcc(torch.from_numpy(audio.complete(item))).T.double().numpy() for item in range(len(split.trials))]


def _compare(rows: list[Row]) -> None:
    """Intervals of the mean EER over draws of trials and seeds, and tests against the first row."""
    systems = [one for row in rows for one in row["scores"]]
    if not systems:
        return
    eers = draw_metrics(systems, replicates=DRAWS)[:, :, METRICS.index("eer")]
    rng, start, means = np.random.default_rng(0), 0, []
    for row in rows:
        count = len(row["scores"])
        seeds = rng.integers(count, size=(DRAWS, count)) + start
        means.append(np.take_along_axis(eers, seeds, axis=1).mean(axis=1))
        row["interval"] = np.quantile(means[-1], [0.025, 0.975]).tolist()
        start += count
    tested = [two_sided_p(mean - means[0]) for mean in means[1:]]
    for row, p in zip(rows[1:], holm(tested), strict=True):
        row["p"] = p


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| system | parameters | minutes a run | seeds | dev EER % | eval EER % | 95 % interval | eval min t-DCF | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        parameters = f"{row['parameters']:,}" if row["parameters"] else "-"
        low, high = (100 * end for end in row["interval"])
        cells = [row["system"], parameters, f"{row['minutes']:.1f}", row["seeds"], _spread(row["dev"], 100),
                 _spread(row["eval"], 100), f"{low:.1f} to {high:.1f}", _spread(row["tdcf"], 1),
                 f"{row['p']:.3f}" if "p" in row else "-"]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _spread(values: Sequence[float | None], factor: float) -> str:
    known = [factor * value for value in values if value is not None]
    if not known:
        return "-"
    digits = 1 if factor == 100 else 3
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{deviation}"


if __name__ == "__main__":
    run_command(main)
