"""Train a countermeasure, or score with one.

    python main.py --config ./config/S2pecNet.conf
    python main.py --eval --config ./config/AASIST.conf

This file is the command line and the story of a run. `get_model`, `get_loader`, `train_epoch` and
`produce_evaluation_file` can be imported from here by code that brings its own loop.
"""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.conventions import DEFAULT_OUTPUT, SPLITS
from s2pecnet.corpora.detect import find_corpus, find_split
from s2pecnet.corpora.trials import CorpusOptions, Split
from s2pecnet.data.loaders import make_loader
from s2pecnet.errors import InputError
from s2pecnet.extras import MissingExtra
from s2pecnet.files import write_json
from s2pecnet.interruption import listening
from s2pecnet.metrics import calibration, countermeasure
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.reporting.plots import save_figures
from s2pecnet.reporting.report import write_report
from s2pecnet.runs.folder import RunFolder, keep_earlier, run_name
from s2pecnet.runs.lock import sole_writer
from s2pecnet.runs.provenance import describe_run, experiment, finished_results, require_same_experiment
from s2pecnet.score_files.cm_asv import ASVScores, read_asv_scores, read_cm_scores
from s2pecnet.scoring.splits import ScoredSplit, write_summary
from s2pecnet.systems.build import _prepare, _trained_model, get_model
from s2pecnet.systems.registry import count_parameters, utterance_feature
from s2pecnet.systems.scorer import Scorer
from s2pecnet.training.checkpoint import newest_state
from s2pecnet.training.loop import prepare_for_training
from s2pecnet.training.optim import create_optimizer
from s2pecnet.training.series import read_seeds, run_series
from s2pecnet.training.trainer import Fit

# What `--eval --split dev` writes: scores, figures, calibration.
DEV_FILES = ("dev_scores.txt", "t-DCF_EER_dev.txt", "calibration.json")


def train(config: Config, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, select on dev, report on eval; returns what results.json says.

    Where the config or the command line says so, an unfinished training of the same experiment is gone on with, and a
    finished one is left as it is.
    """
    started = time.monotonic()
    device = _prepare(arguments.device, seed, config)
    path = Path(arguments.output_dir) / run_name(config, arguments.comment)
    splits = [_find_split(config, name) for name in SPLITS]
    _tell_of_corpus(config)
    about = describe_run(config, seed, str(device), splits)
    about["experiment"] = experiment(config, about)
    go_on = arguments.resume or config.resume == "auto"
    with sole_writer(path), listening():
        finished = finished_results(path, about["experiment"]) if go_on else None
        if finished:
            print(f"note: {path} holds this training, finished; nothing to do")
            return finished
        fit = _fit(config, seed, device, path, about, arguments)
        results = about | {"mode": "train", "parameters": count_parameters(fit.model)} | fit.run()
        _finish(path, config, results, started, path / config.eval_output)
        shutil.rmtree(fit.folder.states)
    return results


def _fit(
    config: Config, seed: int, device: torch.device, path: Path, about: dict[str, Any], arguments: argparse.Namespace
) -> Fit:
    """The training, at its start or where it was left."""

    model = prepare_for_training(get_model(config.model_config, device, config.channels_last, config.file), config)
    cache = _cache_dir(arguments)
    train_loader = _loader(config.database_path, seed, config, "train", cache, path)
    dev, eval_split = (_scored(name, config, cache, path) for name in ("dev", "eval"))
    schedule = {**vars(config.optim_config), "epochs": config.num_epochs, "steps_per_epoch": len(train_loader)}
    optimizer, scheduler = create_optimizer(model.parameters(), schedule)
    left = newest_state(path / "state") if arguments.resume or config.resume == "auto" else None
    if left:
        require_same_experiment(about["experiment"], left[1]["experiment"], path)
    folder = RunFolder.for_training(path, go_on=left is not None)
    folder.write_config(config)
    fit = Fit(model, optimizer, scheduler, train_loader, dev, eval_split, config, device, folder, about)
    if left:
        fit.restore(left[1])
        print(f"note: going on after step {fit.progress.step} of epoch {fit.progress.epoch} ({left[0]})")
    return fit


def train_series(config: Config, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train once for each of `--seeds`, and sum up; returns what summary.json says."""

    output = Path(arguments.output_dir)
    asv = _asv_scores("eval", _find_split(config, "eval").asv_scores, config)

    def member(seed: int) -> str:
        return f"{arguments.comment}_seed{seed}" if arguments.comment else f"seed{seed}"

    def train_one(seed: int) -> dict[str, Any]:
        return train(config, seed, argparse.Namespace(**vars(arguments) | {"comment": member(seed), "resume": True}))

    def score_files(seed: int) -> dict[str, Path]:
        folder = output / run_name(config, member(seed))
        return {"eval": folder / config.eval_output, "eval_swa": folder / config.eval_output_swa}

    folder = output / f"{run_name(config, arguments.comment)}_series"
    return run_series(read_seeds(arguments.seeds), train_one, score_files, asv, folder)


def evaluate(config: Config, seed: int, arguments: argparse.Namespace) -> None:
    """Score the eval set once with the given weights."""
    started = time.monotonic()
    scores, summary = config.eval_output, "t-DCF_EER.txt"
    with _scoring("eval", config, seed, arguments, (scores, summary, "results.json", "figures.png")) as work:
        metrics = work.score(scores, summary)
        results = work.about | {"mode": "eval", "metrics": {"eval": metrics.as_dict()}}
        _finish(work.folder, config, results, started, work.folder / scores)


def calibrate(config: Config, seed: int, arguments: argparse.Namespace) -> None:
    """Score dev with the given weights, and fit what turns their scores into log-likelihood ratios and verdicts."""

    scores, summary, fitted = DEV_FILES
    with _scoring("dev", config, seed, arguments, DEV_FILES) as work:
        work.score(scores, summary)
        found = calibration.fit(read_cm_scores(work.folder / scores), str(work.folder / scores))
        write_json(work.folder / fitted, found.as_dict())
        print(f"{found.summary()}\ncalibration, for predict.py --calibration: {work.folder / fitted}")


class _Scoring(NamedTuple):
    """A split to be scored with trained weights into a folder, and what is to be said of that."""

    scorer: Scorer
    scored: ScoredSplit
    folder: Path
    about: dict[str, Any]

    def score(self, scores: str, summary: str) -> Metrics:
        """Score into a file of the folder; write, print and return the figures."""

        metrics = self.scored.evaluate(self.scorer, self.folder / scores)
        write_summary(self.folder / summary, metrics)
        print(metrics.summary())
        return metrics


@contextlib.contextmanager
def _scoring(
    split: str, config: Config, seed: int, arguments: argparse.Namespace, files: Sequence[str]
) -> Iterator[_Scoring]:
    """Make ready to score a split; `files` are to be written, earlier ones of these names are kept aside."""

    device = _prepare(arguments.device, seed, config)
    _tell_of_corpus(config)
    model, weights = _trained_model(config, arguments.eval_model_weights, device)
    path = Path(arguments.output_dir) / run_name(config, arguments.comment)
    scored = _scored(split, config, _cache_dir(arguments), path)
    with sole_writer(path), listening():
        folder = RunFolder.for_evaluation(path)
        for name in files:
            keep_earlier(folder.path / name)
        about = describe_run(config, seed, str(device), [scored.split])
        about |= {"weights": weights, "parameters": count_parameters(model)}
        yield _Scoring(Scorer(model, device, config.precision, config.compile), scored, folder.path, about)


def get_loader(
    database_path: str | Path,
    seed: int,
    config: Config | Mapping[str, Any],
    cache_dir: str | Path | None = None,
) -> list[DataLoader[Any]]:
    """Loaders of the train, dev and eval sets of a corpus.

    Batches are (waveforms (B, samples)[, features], labels) for training, shuffled anew every epoch, and
    (waveforms[, features], utterances) in the order of the protocol for dev and eval.

    Args:
        cache_dir: where the config's `audio_cache` keeps decoded audio, and what is known of the files is kept; None:
            nowhere, or with `audio_cache` where the command line does.

    Raises:
        InputError: a protocol or an audio file is missing or malformed.
    """

    config = as_config(config)
    output = Path(DEFAULT_OUTPUT)
    cache = Path(cache_dir) if cache_dir else output / "cache" if config.audio_cache else None
    return [_loader(database_path, seed, config, split, cache, output) for split in SPLITS]


def _loader(
    database_path: str | Path, seed: int, config: Config, split: str, cache_dir: Path | None, folder: Path
) -> DataLoader[Any]:

    return make_loader(
        _find_split(config, split, database_path),
        batch_size=config.batch_size,
        seed=seed,
        cut=config.samples,
        feature=utterance_feature(config.model_config, config.file),
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        cache_dir=cache_dir,
        audio_cache=config.audio_cache,
        skip_list=folder / f"skipped_audio_{split}.txt" if config.on_bad_audio == "skip" else None,
    )


def _find_split(config: Config, name: str, database_path: str | Path | None = None) -> Split:
    path = config.database_path if database_path is None else database_path
    return find_split(path, config.track, name, config.corpus, config.unsplit, config.eval_subset)


def _tell_of_corpus(config: Config) -> None:
    options = CorpusOptions(config.track, config.unsplit, config.eval_subset)
    note = find_corpus(config.database_path, config.corpus, options).note
    if note:
        print(f"note: {note}")


def _cache_dir(arguments: argparse.Namespace) -> Path:
    return Path(arguments.cache_dir or Path(arguments.output_dir) / "cache")


def _scored(name: str, config: Config, cache_dir: Path, folder: Path) -> ScoredSplit:

    split = _find_split(config, name)
    loader = _loader(config.database_path, 0, config, name, cache_dir, folder)
    return ScoredSplit(split, loader, _asv_scores(name, split.asv_scores, config))


def _asv_scores(name: str, in_layout: Path | None, config: Config) -> ASVScores | None:
    """ASV scores of a split: those that the config names, those of the layout, or none (said so)."""

    key = "asv_score_path" if name == "eval" else "asv_score_path_dev"
    given = getattr(config, key)
    root = Path(config.database_path)
    path = (root.parent if root.is_file() else root) / given if given else in_layout
    if path and path.is_file():
        return read_asv_scores(path)
    if given:
        raise InputError(f"{path}: no such ASV scores ({key}); set {key} to null to go without min t-DCF")
    print(f"note: {name} has no ASV scores{f' ({path})' if path else ''}: EER only, no min t-DCF")
    return None


def _finish(folder: Path, config: Config, results: dict[str, Any], started: float, scores: Path) -> None:
    """Write the figures as a picture, as results.json and as a page, and say where they are."""

    cm = read_cm_scores(scores)
    try:
        save_figures(folder / "figures.png", cm, countermeasure.evaluate(cm), f"{config.name} on {config.track} eval")
    except MissingExtra as error:
        print(f"warning: no figures.png: {error}", file=sys.stderr)
    write_json(folder / "results.json", results | {"wall_time_s": round(time.monotonic() - started, 3)})
    try:
        write_report([folder], folder / "report.html")
    except (InputError, OSError) as error:
        # The results are there; a page about them that cannot be made is no reason to fail.
        print(f"warning: no report.html: {error}", file=sys.stderr)
    print(f"results in {folder}")
