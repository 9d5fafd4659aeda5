"""The story of an experiment: train, evaluate, calibrate, several seeds.

    config --find_corpus--> corpus (once) --make_loader--> loaders --Trainer--> weights, scores, metrics --> run record

The corpus is found once and handed on; scores and metrics stay in memory and are written once, as score files,
results.json, plots and report.html.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from s2pecnet import parallel
from s2pecnet.augment.chain import Augmentation
from s2pecnet.config.experiment import Config, as_config
from s2pecnet.conventions import DEFAULT_OUTPUT, SPLITS
from s2pecnet.corpora.detect import find_corpus
from s2pecnet.corpora.several import find_corpora
from s2pecnet.corpora.trials import Corpus
from s2pecnet.data.cache import digest_of
from s2pecnet.data.loaders import make_loader
from s2pecnet.errors import InputError, describe_error
from s2pecnet.extras import MissingExtra
from s2pecnet.files import atomic_write, sha256_of, write_json, writes
from s2pecnet.interruption import handle_signals
from s2pecnet.locks import run_lock
from s2pecnet.metrics import calibration
from s2pecnet.metrics.bootstrap import bootstrap_intervals
from s2pecnet.metrics.fixed_threshold import FixedThreshold
from s2pecnet.reporting.html.runs import INTERVALS, Run, read_runs, replicates_of
from s2pecnet.reporting.plots import save_figures
from s2pecnet.reporting.report import write_report
from s2pecnet.runs.folder import RunFolder, back_up, run_name
from s2pecnet.runs.provenance import (
    RunRecord,
    check_same_experiment,
    describe_run,
    finished_record,
    resume_session,
)
from s2pecnet.runtime import prepare, resolve_device
from s2pecnet.score_files.cm_asv import ASVScores, read_asv_scores
from s2pecnet.scoring.splits import (
    Evaluation,
    ScoredSplit,
    as_cm_scores,
    score_split,
    write_score_file,
    write_summary,
)
from s2pecnet.scoring.verdicts import load_calibration, make_rule
from s2pecnet.systems.build import System, inputs_of
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.registry import count_parameters
from s2pecnet.text import listed
from s2pecnet.training.checkpoint import newest_state
from s2pecnet.training.loop import prepare_for_training
from s2pecnet.training.series import read_seeds, run_series
from s2pecnet.training.trainer import Trainer

log = logging.getLogger(__name__)

# What the released configs name, and what they were written for.
RELEASED_ASV_SCORES = "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says beside the config.

    Attributes:
        cache_dir: where headers and decoded audio are kept for the next run; None: <output_dir>/cache.
        comment: stands at the end of the folder's name.
        resume: resume an unfinished training of this experiment.
        weights: what an evaluation scores with; None: the config's `model_path`.
    """

    device: str = "auto"
    output_dir: Path = Path(DEFAULT_OUTPUT)
    cache_dir: Path | None = None
    comment: str | None = None
    resume: bool = False
    weights: str | None = None

    @property
    def cache(self) -> Path:
        """The folder of caches."""
        return self.cache_dir or self.output_dir / "cache"

    def folder(self, config: Config) -> RunFolder:
        """The folder of a run with this config."""
        return RunFolder(self.output_dir / run_name(config, self.comment), config)


def train(config: Config, seed: int, options: RunOptions) -> RunRecord:
    """Train, select on dev, report on eval; returns the run record.

    Where the config or the command line says so, an unfinished training of the same experiment is resumed, and of a
    finished one the record is returned.
    """
    started = time.monotonic()
    device = prepare(parallel.device_of(options.device), seed, config)
    with handle_signals(), parallel.joined(device):
        corpus = corpus_of(config)
        record = describe_run(config, seed, str(device), corpus, "train", SPLITS)
        folder = options.folder(config)
        resume = options.resume or config.resume == "auto" or parallel.restarted()
        parallel.check_shared(options.output_dir)
        with run_lock(folder.path):
            finished = finished_record(folder.results, record) if resume else None
            if finished:
                log.info("%s holds this training, finished; nothing to do", folder.path)
                if folder.states.is_dir() or not folder.file("report").is_file():
                    # It was killed behind its results, or the page could not be written.
                    write_report(read_runs([folder.path], own=True), folder.file("report"))
                    folder.remove_states()
                return finished
            trainer = make_trainer(config, seed, device, corpus, folder, record, options.cache, resume)
            evaluations = trainer.run()
            asv = {"dev": trainer.dev.asv, "eval": trainer.eval.asv, "eval_swa": trainer.eval.asv}
            write_results(folder, record, corpus, evaluations, asv, started)
            folder.remove_states()
            parallel.wait()
    return record


def make_trainer(
    config: Config,
    seed: int,
    device: torch.device,
    corpus: Corpus,
    folder: RunFolder,
    record: RunRecord,
    cache: Path,
    resume: bool,
) -> Trainer:
    """The training, at its start or as its newest state has it."""
    inputs = inputs_of(config)
    train_loader = _loader(config, seed, corpus, "train", inputs, cache, folder)
    dev, evaluation = (scored_split(config, corpus, name, inputs, cache, folder, record) for name in ("dev", "eval"))
    # Only now, so that what is missing is reported before anything long starts.
    system = System.build(config, device)
    prepare_for_training(system.model, config)
    record.parameters = count_parameters(system.model)
    record.audio["train"] = digest_of(train_loader.dataset.audio.headers)  # type: ignore[attr-defined]
    own = {"system_sha256": system.source_sha256, "audio": dict(record.audio)}
    record.sessions[-1] |= own | {"processes": parallel.processes().size}
    left = newest_state(folder.states) if resume else None
    parallel.wait()
    if left:
        changed = check_same_experiment(record.experiment, left[1]["experiment"], folder.path)
        for difference in (*changed, *resume_session(record, left[1])):
            log.warning("resuming with another %s", difference)
    folder.make(resume=left is not None)
    folder.write_config()
    trainer = Trainer(system, train_loader, dev, evaluation, folder, record)
    if left:
        trainer.restore(left[1])
        log.info("resuming after step %d of epoch %d (%s)", trainer.progress.step, trainer.progress.epoch, left[0])
    if config.feature_cache:
        # Only now: its key is made of the weights that the training has.
        from s2pecnet.data.outputs import use_feature_cache

        loaders = {"train": train_loader, "dev": dev.loader, "eval": evaluation.loader}
        use_feature_cache(system, {name: (one, corpus[name].trials) for name, one in loaders.items()}, cache)
    return trainer


def train_series(config: Config, seeds: str, options: RunOptions) -> dict[str, Any]:
    """Train once with each of the seeds "1,2,3", and sum up; returns what summary.json says."""
    corpus = corpus_of(config)

    def member(seed: int) -> RunOptions:
        comment = f"{options.comment}_seed{seed}" if options.comment else f"seed{seed}"
        return replace(options, comment=comment, resume=True)

    def score_files(seed: int) -> dict[str, Path]:
        folder = member(seed).folder(config)
        return {name: folder.scores(name) for name in ("eval", "eval_swa")}

    folder = options.output_dir / f"{run_name(config, options.comment)}_series"
    asv = asv_scores_of(config, corpus, "eval")[1]
    device = resolve_device(parallel.device_of(options.device))
    with handle_signals(), parallel.joined(device):
        return run_series(read_seeds(seeds), lambda seed: train(config, seed, member(seed)), score_files, asv, folder)


def evaluate(config: Config, seed: int, options: RunOptions) -> RunRecord:
    """Score the eval set once with trained weights."""
    started = time.monotonic()
    with _scoring("eval", config, seed, options, ("eval_summary", "results", "plots", "report")) as scoring:
        corpus, scored, found, folder, record = scoring
        if found is None:
            record.wall_time_s = round(time.monotonic() - started, 3)
            record.write(folder.results)
            return record
        write_results(folder, record, corpus, {"eval": found}, {"eval": scored.asv}, started)
        return record


def calibrate(config: Config, seed: int, options: RunOptions) -> calibration.Calibration:
    """Score dev with trained weights, and fit what turns their scores into log-likelihood ratios and verdicts."""
    with _scoring("dev", config, seed, options, ("dev_summary", "calibration")) as scoring:
        _, _, found, folder, record = scoring
        assert found is not None
        fitted = calibration.fit(found.scores, str(folder.scores("dev")))
        fitted = replace(fitted, weights_sha256=record.weights_sha256, eval_crop=config.eval_crop)
        write_json(folder.file("calibration"), fitted.as_dict())
        print(f"{fitted.summary()}\ncalibration, for s2pecnet predict --calibration: {folder.file('calibration')}")
        return fitted


@contextmanager
def _scoring(
    split: str, config: Config, seed: int, options: RunOptions, files: tuple[str, ...]
) -> Iterator[tuple[Corpus, ScoredSplit, Evaluation | None, RunFolder, RunRecord]]:
    """Score a split with trained weights into a folder; earlier `files` and scores there are backed up.

    Trials of eval may all be of one class; they have no `Evaluation`.
    """
    device = prepare(parallel.device_of(options.device), seed, config)
    with handle_signals(), parallel.joined(device):
        corpus = corpus_of(config)
        if split == "eval":
            corpus = replace(corpus, splits={name: one.of_any_class() for name, one in corpus.splits.items()})
        folder = options.folder(config)
        if folder.holds_training:
            # Its results stay what they are.
            folder = RunFolder(folder.path.with_name(f"{folder.path.name}_scored_{split}"), config)
            log.info("%s holds a training; this evaluation goes to %s", options.folder(config).path, folder.path)
        parallel.check_shared(options.output_dir)
        record = describe_run(config, seed, str(device), corpus, split, (split,))
        scored = scored_split(config, corpus, split, inputs_of(config), options.cache, folder, record)
        system = System.load(config, options.weights, device)
        record.weights, record.parameters = system.weights, count_parameters(system.model)
        record.weights_sha256 = sha256_of(str(system.weights))
        with run_lock(folder.path):
            folder.make(resume=True)
            for path in (folder.scores(split), folder.skip_list(split), *map(folder.file, files)):
                if path is not None:
                    back_up(path)
            if len(scored.trials.keys()) == 1:
                _score_one_class(system, scored, folder)
                yield corpus, scored, None, folder, record
                parallel.wait()
                return
            found = scored.evaluate(system.scorer(), folder.scores(split))
            write_summary(folder.summary(split), found.metrics)
            print(found.metrics.summary())
            record.metrics = {split: found.metrics}
            yield corpus, scored, found, folder, record
            parallel.wait()


def _score_one_class(system: System, scored: ScoredSplit, folder: RunFolder) -> None:
    """Score trials of one class: rates at the threshold that goes with the weights, if there is one, and no EER."""
    values = score_split(scored.loader, system.scorer(), scored.trials)
    write_score_file(folder.scores("eval"), scored.trials, values)
    cm = as_cm_scores(scored.trials, values, both_classes=False)
    n_bonafide, n_spoof = cm.bonafide.size, cm.spoof.size
    lines = [f"trials       {n_bonafide} bona fide, {n_spoof} spoofed"]
    lines += [f"unscored     {cm.n_unscored} more, not in the metrics"] if cm.n_unscored else []
    lines.append(f"EER, minDCF  not defined: no {'spoofed' if n_bonafide else 'bona fide'} trials")
    rule = make_rule(None, load_calibration(None, str(system.weights), system.config.eval_crop))
    if rule.threshold is None:
        why = rule.reason if rule.calibration else "no calibration is stored with the weights"
        lines.append(f"no rates: {why}; s2pecnet evaluate --cm {folder.scores('eval')} --threshold SCORE")
    else:
        lines += [*FixedThreshold.of(cm, rule.threshold).lines(), f"  threshold: {rule.reason}"]
    with atomic_write(folder.summary("eval")) as stream:
        stream.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"scores in {folder.scores('eval')}")


def write_results(
    folder: RunFolder,
    record: RunRecord,
    corpus: Corpus,
    evaluations: Mapping[str, Evaluation],
    asv: Mapping[str, ASVScores | None],
    started: float,
) -> None:
    """Write plots, results.json and the report of a finished run."""
    if not writes():
        return
    for name, found in evaluations.items():
        record.replicates = replicates_of(found.scores.scores.size)
        intervals = bootstrap_intervals([found.scores], asv[name], replicates=record.replicates, metrics=INTERVALS)
        record.intervals[name] = {metric: one for metric, one in intervals.items() if one is not None}
    eval_ = evaluations["eval"]
    try:
        save_figures(
            folder.file("plots"), eval_.scores, eval_.metrics, f"{folder.config.name} on {folder.config.track} eval"
        )
    except MissingExtra as error:
        log.warning("no %s: %s", folder.file("plots").name, error)
    record.wall_time_s = round(time.monotonic() - started, 3)
    record.write(folder.results)
    try:
        run = Run.of(folder.path, record, {name: one.scores for name, one in evaluations.items()}, asv, corpus["eval"])
        write_report([run], folder.file("report"))
    except (InputError, OSError) as error:
        # The results are there; a page about them that cannot be made is no reason to fail.
        log.warning("no report.html: %s", describe_error(error))
    print(f"results in {folder.path}")


def corpus_of(config: Config, database_path: str | Path | None = None) -> Corpus:
    """The corpus of a config, its several corpora as one, or the one at `database_path` instead.

    Raises:
        InputError: it is not there, or not in order.
    """
    path = database_path or config.database_path
    if isinstance(path, (str, Path)):
        corpus = find_corpus(path, config.corpus, config.corpus_options)
    else:
        corpus = find_corpora(config.sources)
    if corpus.note:
        log.info("%s", corpus.note)
    if corpus.unused:
        log.warning("%s: audio that belongs to no split, and is not used: %s", corpus.root, listed(corpus.unused))
    return corpus


def scored_split(
    config: Config,
    corpus: Corpus,
    name: str,
    inputs: Inputs,
    cache: Path,
    folder: RunFolder,
    record: RunRecord,
) -> ScoredSplit:
    """A split made ready to be scored; the record says which ASV scores it has."""
    loader = _loader(config, 0, corpus, name, inputs, cache, folder)
    path, asv = asv_scores_of(config, corpus, name)
    record.asv_scores[name] = None if path is None else str(path)
    record.audio[name] = digest_of(loader.dataset.audio.headers)  # type: ignore[attr-defined]
    return ScoredSplit(name, corpus[name].trials, loader, asv, tuple(part.name for part in corpus[name].filled()))


def asv_scores_of(config: Config, corpus: Corpus, name: str) -> tuple[Path | None, ASVScores | None]:
    """ASV scores of a split and their file: those that the config names, those of the layout, or none (with a note).

    The scores of one corpus say nothing about the spoofs of another. The released configs name those of ASVspoof2019
    LA, whatever they are used for: for another corpus that path is not used.
    """
    parts, key = corpus[name].filled(), "asv_score_path" if name == "eval" else "asv_score_path_dev"
    if len(parts) > 1:
        log.info("%s is of several corpora, and ASV scores are of one: EER only, no min t-DCF", name)
        return None, None
    if getattr(config.leave_out, name):
        log.info("attacks are left out of %s, and ASV scores are of all: EER only, no min t-DCF", name)
        return None, None
    given = config.asv_scores(name, parts[0].name if parts else None)
    layout = (parts[0].split if parts else corpus[name]).asv_scores
    if given and "ASVspoof2019." in Path(given).name and (layout is None or layout.name != Path(given).name):
        own = given != config.asv_scores(name) or key in config.overrides
        if Path(given).name == RELEASED_ASV_SCORES and not own:
            given = None
        else:
            log.warning("%s: not the ASV scores of this corpus; a t-DCF of them means little", given)
    path = corpus.asv_file(name, given)
    if path and path.is_file():
        return path, read_asv_scores(path)
    if given:
        raise InputError(f"{path}: no such ASV scores ({key}); set {key} to null to go without min t-DCF")
    log.info("%s has no ASV scores%s: EER only, no min t-DCF", name, f" ({path})" if path else "")
    return None, None


def get_loader(
    database_path: str | Path,
    seed: int,
    config: Config | Mapping[str, Any],
    cache_dir: str | Path | None = None,
) -> list[DataLoader[Any]]:
    """Loaders of the train, dev and eval sets of a corpus.

    Batches are (waveforms (B, samples)[, features], labels) for training, shuffled again every epoch, and
    (waveforms[, features], utterances) in the order of the protocol for dev and eval.

    Args:
        cache_dir: where the config's `audio_cache` keeps decoded audio, and headers of the files are kept; None:
            nowhere, or with `audio_cache` where the command line does.

    Raises:
        InputError: a protocol or an audio file is missing or malformed.
    """
    config = as_config(config)
    output = Path(DEFAULT_OUTPUT)
    cache = Path(cache_dir) if cache_dir else output / "cache" if config.audio_cache else None
    corpus, inputs = corpus_of(config, database_path), inputs_of(config)
    return [_loader(config, seed, corpus, name, inputs, cache, RunFolder(output, config)) for name in SPLITS]


def _loader(
    config: Config, seed: int, corpus: Corpus, name: str, inputs: Inputs, cache: Path | None, folder: RunFolder
) -> DataLoader[Any]:
    return make_loader(
        corpus[name],
        batch_size=config.batch_size,
        seed=seed,
        inputs=inputs,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        cache_dir=cache,
        audio_cache=config.audio_cache,
        skip_list=folder.skip_list(name),
        augmentation=Augmentation(config.augment) if config.augment and name == "train" else None,
        random_crop=config.train_crop == "random",
        micro_batch_size=config.micro_batch_size,
        windows=config.eval_crop == "windows",
    )
