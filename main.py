"""Train a countermeasure, or score with one.

    python main.py --config ./config/S2pecNet.conf
    python main.py --eval --config ./config/AASIST.conf

This file is the command line and the story of a run. `get_model`, `get_loader`, `train_epoch` and
`produce_evaluation_file` can be imported from here by code that brings its own loop.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from commands import make_parser
from errors import InputError, run_command
from experiment_config import Config, as_config, load_config
from protocols import SPLITS, CorpusOptions, Split, find_corpus, find_split
from schema import clipped, is_plain

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    from evaluation import ASVScores, Metrics
    from fit import Fit
    from scorer import Scorer
    from scoring import ScoredSplit, produce_evaluation_file
    from trainer import train_epoch

DEFAULT_SEED = 1234
DEFAULT_OUTPUT = "./exp_result"
# What `--eval --split dev` writes: scores, figures, calibration.
DEV_FILES = ("dev_scores.txt", "t-DCF_EER_dev.txt", "calibration.json")
EXAMPLES = """examples:
  python main.py --config ./config/S2pecNet.conf
  python main.py --config ./config/AASIST.conf --set batch_size=16 --set optim_config.base_lr=0.0002 --comment lr2e-4
  python main.py --eval --config ./config/AASIST.conf --eval_model_weights AASIST.pth --set database_path=/data/LA
  python main.py --eval --split dev --config ./config/AASIST.conf --eval_model_weights AASIST.pth
"""


def main(argv: Sequence[str] | None = None, prog: str = "main.py") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    # To be said before torch is imported: its threads are to sleep, not spin, while they wait. Where other processes
    # want the cores too, spinning made a training step up to thirty times slower; on idle cores sleeping costs little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parse_arguments(argv, prog)
    config = load_config(arguments.config, arguments.set)
    seed = arguments.seed if arguments.seed is not None else config.seed if config.seed is not None else DEFAULT_SEED
    if arguments.seeds:
        train_series(config, arguments)
    elif arguments.eval:
        (calibrate if arguments.split == "dev" else evaluate)(config, seed, arguments)
    else:
        train(config, seed, arguments)
    return 0


def build_parser(prog: str = "main.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Train a countermeasure (the default), or score the eval set with one (--eval).", EXAMPLES
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="config of the experiment: a file, or a name such as AASIST")
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value; dotted keys reach into model_config and optim_config; repeatable")  # fmt: skip
    add("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute (default: %(default)s)")
    add("--seed", type=int, metavar="N", help=f"random seed (default: the config's, else {DEFAULT_SEED})")
    add("--output_dir", default=DEFAULT_OUTPUT, metavar="DIR", help="folder for results (default: %(default)s)")
    add("--comment", metavar="TEXT", help="put behind the name of the result folder")
    add("--cache_dir", metavar="DIR", help="what is known of the audio, for the next run (default: <output_dir>/cache)")
    training = parser.add_argument_group("training alone").add_argument
    training("--resume", action="store_true",
        help="go on with an unfinished training of this experiment (default: keep it aside, start anew)")  # fmt: skip
    training("--seeds", metavar="N,N,...",
        help="train with each of these seeds, and write mean, spread and intervals of the figures")  # fmt: skip
    scoring = parser.add_argument_group("scoring alone").add_argument
    scoring("--eval", action="store_true", help="score the eval set once instead of training")
    scoring("--split", choices=("eval", "dev"), default="eval",
        help="what --eval scores; on dev it fits a calibration of the weights, too (default: eval)")  # fmt: skip
    scoring("--eval_model_weights", metavar="PATH", help="weights for --eval (default: the config's model_path)")
    return parser


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "main.py") -> argparse.Namespace:
    """Read the command line."""
    arguments = build_parser(prog).parse_args(argv)
    if arguments.comment and not arguments.comment.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InputError(
            f"--comment {clipped(repr(arguments.comment))}: expected letters, digits, '-', '_' and '.', as it names a "
            "folder"
        )
    for name in ("output_dir", "cache_dir"):
        if not is_plain(getattr(arguments, name) or ""):
            raise InputError(f"--{name} {getattr(arguments, name)!r}: expected a path without control characters")
    if arguments.seed is not None and not 0 <= arguments.seed < 2**64:
        raise InputError(f"--seed {clipped(str(arguments.seed))}: expected a number >= 0, of 64 bits at most")
    if arguments.eval_model_weights and not arguments.eval:
        raise InputError("--eval_model_weights is for --eval; add --eval, or leave it out to train")
    if arguments.split != "eval" and not arguments.eval:
        raise InputError("--split is for --eval; add --eval, or leave it out to train")
    if arguments.eval and (arguments.resume or arguments.seeds):
        raise InputError(f"--{'resume' if arguments.resume else 'seeds'} is for training; leave it out with --eval")
    if arguments.seeds and arguments.seed is not None:
        raise InputError("--seed and --seeds: give one of the two")
    return arguments


def train(config: Config, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, select on dev, report on eval; returns what results.json says.

    Where the config or the command line says so, an unfinished training of the same experiment is gone on with, and a
    finished one is left as it is.
    """
    from interruption import listening
    from models import count_parameters
    from run_folder import describe_run, experiment, finished_results, run_name, sole_writer

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
    config: Config, seed: int, device: "torch.device", path: Path, about: dict[str, Any], arguments: argparse.Namespace
) -> "Fit":
    """The training, at its start or where it was left."""
    from fit import Fit
    from run_folder import RunFolder, require_same_experiment
    from trainer import prepare_for_training
    from training_state import newest_state
    from utils import create_optimizer

    model = prepare_for_training(get_model(config.model_config, device, config.channels_last), config)
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
    from run_folder import run_name
    from series import read_seeds, run_series

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
    import calibration
    from evaluation import read_cm_scores
    from files import write_json

    scores, summary, fitted = DEV_FILES
    with _scoring("dev", config, seed, arguments, DEV_FILES) as work:
        work.score(scores, summary)
        found = calibration.fit(read_cm_scores(work.folder / scores), str(work.folder / scores))
        write_json(work.folder / fitted, found.as_dict())
        print(f"{found.summary()}\ncalibration, for predict.py --calibration: {work.folder / fitted}")


class _Scoring(NamedTuple):
    """A split to be scored with trained weights into a folder, and what is to be said of that."""

    scorer: "Scorer"
    scored: "ScoredSplit"
    folder: Path
    about: dict[str, Any]

    def score(self, scores: str, summary: str) -> "Metrics":
        """Score into a file of the folder; write, print and return the figures."""
        from scoring import write_summary

        metrics = self.scored.evaluate(self.scorer, self.folder / scores)
        write_summary(self.folder / summary, metrics)
        print(metrics.summary())
        return metrics


@contextlib.contextmanager
def _scoring(
    split: str, config: Config, seed: int, arguments: argparse.Namespace, files: Sequence[str]
) -> Iterator[_Scoring]:
    """Make ready to score a split; `files` are to be written, earlier ones of these names are kept aside."""
    from interruption import listening
    from models import count_parameters
    from run_folder import RunFolder, describe_run, keep_earlier, run_name, sole_writer
    from scorer import Scorer

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


def get_model(model_config: Mapping[str, Any], device: "torch.device | str", channels_last: bool = True) -> "nn.Module":
    """Build the system that `model_config["architecture"]` names, on `device`.

    Args:
        channels_last: keep maps with the channels last in memory; convolutions run up to twice as fast, on CPUs and
            GPUs alike.

    Raises:
        InputError: no such system, or it cannot be built from this `model_config`.
    """
    import torch

    from models import count_parameters, find_model

    if "architecture" not in model_config:
        raise InputError("model_config: key 'architecture' is missing; expected the name of a file of models/")
    architecture = model_config["architecture"]
    try:
        model: nn.Module = find_model(architecture)(dict(model_config))
    except KeyError as error:
        raise InputError(f"model_config: {architecture} needs the key {error}") from error
    print(f"{architecture}: {count_parameters(model):,} parameters")
    order = torch.channels_last if channels_last else torch.preserve_format
    return model.to(device).to(memory_format=order)  # type: ignore[call-overload]


def _trained_model(config: Config, weights: str | Path | None, device: "torch.device") -> "tuple[nn.Module, str]":
    """The system with its weights loaded, and where they came from."""
    from checkpoints import load_weights

    path = weights or config.model_path
    if not path:
        raise InputError(f"{config.source}: no weights to score with; give --eval_model_weights or the key model_path")
    model = get_model(config.model_config, device, config.channels_last)
    load_weights(model, path)
    return model, str(path)


def load_scorer(
    config: Config | Mapping[str, Any] | str | Path, weights: str | Path | None = None, device: str = "auto"
) -> "Scorer":
    """A trained system as a callable: float32 waveforms (B, samples) at 16 kHz -> scores (B,), higher = bona fide.

    What `--eval` scores with. A system that wants a feature of the whole utterance takes it as a second argument;
    without it, it computes the feature from the waveforms given.

    Args:
        config: a path, a dictionary or a `Config`.
        weights: a checkpoint; the config's `model_path` without it.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: no weights, or they do not fit.
    """
    from scorer import Scorer

    config = as_config(config)
    place = _prepare(device, DEFAULT_SEED if config.seed is None else config.seed, config)
    return Scorer(_trained_model(config, weights, place)[0], place, config.precision, config.compile)


def get_loader(
    database_path: str | Path,
    seed: int,
    config: Config | Mapping[str, Any],
    cache_dir: str | Path | None = None,
) -> "list[DataLoader[Any]]":
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
) -> "DataLoader[Any]":
    from data_utils import make_loader
    from models import utterance_feature

    return make_loader(
        _find_split(config, split, database_path),
        batch_size=config.batch_size,
        seed=seed,
        cut=config.samples,
        feature=utterance_feature(config.model_config),
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


def _scored(name: str, config: Config, cache_dir: Path, folder: Path) -> "ScoredSplit":
    from scoring import ScoredSplit

    split = _find_split(config, name)
    loader = _loader(config.database_path, 0, config, name, cache_dir, folder)
    return ScoredSplit(split, loader, _asv_scores(name, split.asv_scores, config))


def _asv_scores(name: str, in_layout: Path | None, config: Config) -> "ASVScores | None":
    """ASV scores of a split: those that the config names, those of the layout, or none (said so)."""
    from evaluation import read_asv_scores

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


def _prepare(device_name: str, seed: int, config: Config) -> "torch.device":
    from precision import allow_tf32
    from utils import keep_freed_memory, resolve_device, set_seed

    device = resolve_device(device_name)
    if device_name == "auto" and device.type == "cpu":
        print("note: no CUDA device here, computing on the CPU")
    if device.type == "cpu":
        keep_freed_memory()
    allow_tf32(config.precision)
    set_seed(seed, config)
    return device


def _finish(folder: Path, config: Config, results: dict[str, Any], started: float, scores: Path) -> None:
    """Write the figures as a picture, as results.json and as a page, and say where they are."""
    from evaluation import evaluate, read_cm_scores
    from extras import MissingExtra
    from files import write_json
    from plots import save_figures
    from report import write_report

    cm = read_cm_scores(scores)
    try:
        save_figures(folder / "figures.png", cm, evaluate(cm), f"{config.name} on {config.track} eval")
    except MissingExtra as error:
        print(f"warning: no figures.png: {error}", file=sys.stderr)
    write_json(folder / "results.json", results | {"wall_time_s": round(time.monotonic() - started, 3)})
    try:
        write_report([folder], folder / "report.html")
    except (InputError, OSError) as error:
        # The results are there; a page about them that cannot be made is no reason to fail.
        print(f"warning: no report.html: {error}", file=sys.stderr)
    print(f"results in {folder}")


def __getattr__(name: str) -> Any:
    """`train_epoch` and `produce_evaluation_file`, from where they are; torch is imported when they are asked for."""
    if name in ("train_epoch", "produce_evaluation_file"):
        import scoring
        import trainer

        return getattr(trainer if name == "train_epoch" else scoring, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["get_loader", "get_model", "load_config", "load_scorer", "main", "produce_evaluation_file", "train_epoch"]

if __name__ == "__main__":
    sys.modules.setdefault("main", sys.modules["__main__"])
    run_command(main)
