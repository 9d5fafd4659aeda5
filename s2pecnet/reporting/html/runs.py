"""Runs as a report shows them: the run record with the scores that its metrics come from.

    Run.of       a run that is in memory, as training and evaluation hand it over
    read_runs    folders of runs and bare score files, for `s2pecnet report`

A report is also made on machines that have neither the corpus nor its ASV scores: what is missing is left out, and a
note says so. A record may come from anybody, and name any file of this machine: audio and ASV scores outside of a run's
folder are only read below the `database_path` that the caller gives. Where results.json and a score file disagree, the
score file is shown, with a warning.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.conventions import EVAL_OUTPUT, RUN_FILES
from s2pecnet.corpora.detect import find_corpus
from s2pecnet.corpora.several import find_corpora
from s2pecnet.corpora.trials import Corpus, Split
from s2pecnet.errors import InputError, describe_error
from s2pecnet.files import is_below
from s2pecnet.metrics.bootstrap import Interval, bootstrap_intervals
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.det import compute_eer
from s2pecnet.metrics.tdcf import TandemWeights, fix_asv
from s2pecnet.reporting.chart_data import Sweep, sweep_of
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores
from s2pecnet.text import counted

# In the order in which a page shows them.
EVALUATIONS = ("eval", "eval_swa", "dev")
INTERVALS = ("eer", "min_dcf", "min_tdcf")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a system on a split, and the scores they come from where these are at hand.

    Attributes:
        name: "eval", "eval_swa" or "dev".
        label: the same for people.
        tandem: weighs the two error rates of the t-DCF curve; None without ASV scores.
        intervals: 95 % confidence intervals of "eer", "min_dcf" and "min_tdcf"; empty without scores.
        replicates: draws they come from.
    """

    name: str
    label: str
    metrics: Metrics
    scores: CMScores | None = None
    tandem: TandemWeights | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    replicates: int = 0

    @cached_property
    def sweep(self) -> Sweep | None:
        """What every threshold gives; None without scores."""
        return None if self.scores is None else sweep_of(self.scores, self.tandem)


@dataclass(frozen=True)
class Run:
    """A run and what is known of it.

    Attributes:
        record: None of a bare score file.
        evaluations: the first is the one that counts: eval, of the selected epoch.
        split: where the eval audio lies, if anything says so.
        within: the folder that audio must lie in to be shown; None: anywhere, as the run is the caller's own.
        warnings: what a reader of the metrics must know.
        notes: what is not in the report, and why.
    """

    name: str
    path: Path
    record: RunRecord | None
    evaluations: Sequence[Evaluation]
    split: Split | None = None
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    within: Path | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        record: RunRecord,
        scores: Mapping[str, CMScores],
        asv: Mapping[str, ASVScores | None],
        split: Split,
    ) -> "Run":
        """A run in memory: its record, with the scores and ASV scores of each evaluation in it."""
        evaluations = [
            _evaluation(name, record, record.metrics[name], scores[name], asv[name])
            for name in EVALUATIONS
            if name in record.metrics
        ]
        return cls(path.resolve().name, path, record, evaluations, split, _warnings(record))

    @property
    def main(self) -> Evaluation:
        """The evaluation that counts."""
        return self.evaluations[0]

    @property
    def doubts(self) -> list[str]:
        """Its warnings, and what makes the metrics of its evaluations doubtful."""
        remarks = [f"{one.label}: {remark}" for one in self.evaluations for remark in one.metrics.remarks()]
        return [*self.warnings, *remarks]

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """The record as values for people; empty of a bare score file."""
        return {} if self.record is None else self.record.as_dict()

    @property
    def config(self) -> Mapping[str, Any]:
        """The config as it was used."""
        return {} if self.record is None else self.record.config

    @property
    def history(self) -> list[dict[str, Any]]:
        """A dictionary an epoch; empty of an evaluation."""
        return [] if self.record is None else self.record.history


def read_runs(
    paths: Sequence[Path], asv: Path | None = None, database_path: Path | None = None, own: bool = False
) -> list[Run]:
    """Read run folders and score files.

    Args:
        asv: ASV scores of eval for what has none of its own.
        database_path: the corpus on this machine; audio and ASV scores are read below it alone.
        own: the runs are the caller's: without `database_path`, audio and ASV scores are read from where they say.

    Raises:
        InputError: a path that is neither, or whose files cannot be used.
        OSError: a file cannot be read.
    """
    given = None if asv is None else read_asv_scores(asv)
    runs = [_read_run(Path(path), given, database_path, own) for path in paths]
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path)) if names.count(run.name) > 1 else run for run in runs]


def replicates_of(trials: int) -> int:
    """Draws of the bootstrap: a thousand up to 80,000 trials, fewer of larger sets, where a draw takes longer.

    >>> [replicates_of(trials) for trials in (100, 71_237, 160_000, 10**9)]
    [1000, 1000, 500, 200]
    """
    return min(1000, max(200, 80_000_000 // trials))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> float | None:
    """The value if it is a number that a metric may have."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100
    return float(value) if known else None


def _read_run(path: Path, asv: ASVScores | None, database_path: Path | None, own: bool) -> Run:
    if not path.exists():
        raise InputError(f"{path}: no such run; expected the folder of a run, or a score file")
    if (path / RUN_FILES["results"]).is_file():
        return _FolderReader(path, RunRecord.read(path / RUN_FILES["results"]), asv, database_path, own).run()
    file, name, label, warnings = path, path.name.removesuffix(".gz").removesuffix(".txt"), "scores", []
    if path.is_dir():
        file, name, label = path / EVAL_OUTPUT, path.resolve().name, "eval"
        warnings = [f"There is no {RUN_FILES['results']} (an unfinished run?): only the score file is reported."]
        if not file.is_file():
            raise InputError(
                f"{path}: holds neither {RUN_FILES['results']} nor {file.name}; expected the folder of a finished run, "
                "or a score file"
            )
    scores = read_cm_scores(file)
    evaluation = _evaluation("eval", None, evaluate(scores, asv), scores, asv, label)
    return Run(name, path, None, [evaluation], warnings=warnings)


class _FolderReader:
    """Reads what the record of a run folder refers to: scores, ASV scores, the corpus."""

    def __init__(self, path: Path, record: RunRecord, asv: ASVScores | None, database_path: Path | None, own: bool):
        self.path, self.record, self.given, self.moved = path, record, asv, database_path is not None
        self.warnings, self.notes = _warnings(record), list[str]()
        self.config: Config | None = None
        self.corpus: Corpus | None = None
        self.within: Path | None = None
        if database_path is not None:
            self.within = database_path if database_path.is_dir() else database_path.parent
        try:
            self.config = config = as_config(record.config)
        except InputError as error:
            self.notes.append(f"The config in {RUN_FILES['results']} cannot be used here: {error}")
            return
        if database_path is None and not own:
            return
        # The corpus may be another by now, or elsewhere: then the report goes without its audio.
        with contextlib.suppress(InputError):
            self.corpus = self._find_corpus(config, database_path)

    def _find_corpus(self, config: Config, given: Path | None) -> Corpus | None:
        """The corpus at the given path, or where the record says. Several are found below that path alone."""

        def recorded(path: str) -> Path:
            from_there = Path(self.record.working_directory) / path
            return from_there if from_there.exists() else Path(path)

        if isinstance(config.database_path, str):
            return find_corpus(given or recorded(config.database_path), config.corpus, config.corpus_options)
        sources = []
        for one in config.sources:
            if given is not None and (given / Path(one.path).name).exists():
                path = str(given / Path(one.path).name)
            else:
                # A data set of the Hub has no folder of its own.
                path = one.path if one.path.startswith("hf:") else str(recorded(one.path))
            if given is not None and (path.startswith("hf:") or not is_below(Path(path), self.within)):
                self.notes.append(f"{one.name} does not lie below {given}: there is no audio of the corpora.")
                return None
            sources.append(one._replace(path=path))
        return find_corpora(sources)

    def run(self) -> Run:
        evaluations = [self._evaluation(name) for name in EVALUATIONS if name in self.record.metrics]
        if not evaluations:
            raise InputError(f"{self.path / RUN_FILES['results']}: holds no metrics; expected those of a finished run")
        split = self.corpus.splits.get("eval") if self.corpus else None
        name = self.path.resolve().name
        return Run(name, self.path, self.record, evaluations, split, self.warnings, self.notes, self.within)

    def _evaluation(self, name: str) -> Evaluation:
        metrics, label = self.record.metrics[name], _label(name, self.record)
        file = RunFolder(self.path, self.config).scores(name) if self.config else None
        if file is None or not file.is_file() or not is_below(file, self.path):
            if file:
                self.notes.append(f"{file.name} is not there: of {label} there are no curves.")
            return Evaluation(name, label, metrics)
        scores, asv = read_cm_scores(file), self._asv_scores(name, metrics)
        eer = compute_eer(scores.bonafide, scores.spoof)[0]
        trials = scores.bonafide.size, scores.spoof.size, scores.n_unscored
        if abs(eer - metrics.eer) <= 1e-9 and trials == (metrics.n_bonafide, metrics.n_spoof, metrics.n_unscored):
            return _evaluation(name, self.record, metrics, scores, asv)
        self.warnings.append(
            f"{file.name} gives another EER ({100 * eer:.4f} %) or other trials than {RUN_FILES['results']} "
            f"({100 * metrics.eer:.4f} %): the report shows the score file's."
        )
        again = evaluate(scores, asv, corpora=list(metrics.per_corpus_eer))
        return _evaluation(name, None, again, scores, asv, label)

    def _asv_scores(self, name: str, metrics: Metrics) -> ASVScores | None:
        """The ASV scores that the run used, those given, or none (with a note where the run had some)."""
        split = "dev" if name == "dev" else "eval"
        path, used = None, self.record.asv_scores.get(split)
        if used and self.corpus and not self.moved:
            path = Path(self.record.working_directory) / used
        elif self.corpus and self.config and split in self.corpus.splits:
            having = self.corpus[split].filled()
            given = self.config.asv_scores(split, having[0].name if having else None)
            path = self.corpus.asv_file(split, given)
        try:
            if path and path.is_file() and is_below(path, self.within):
                scores = read_asv_scores(path)
                fix_asv(scores)
                return scores
        except (InputError, OSError) as error:
            self.warnings.append(describe_error(error))
        if self.given is not None and split == "eval":
            return self.given
        if metrics.min_tdcf is not None:
            self.notes.append(
                f"There are no ASV scores of {split}{f' at {path}' if path else ''}: {_label(name, self.record)} has "
                f"its min t-DCF from {RUN_FILES['results']}, without interval and curve (--asv or --database_path give "
                "them)."
            )
        return None


def _evaluation(
    name: str,
    record: RunRecord | None,
    metrics: Metrics,
    scores: CMScores,
    asv: ASVScores | None,
    label: str | None = None,
) -> Evaluation:
    """An evaluation with its intervals: the record's, or new ones."""
    tandem = None if asv is None else fix_asv(asv)[0]
    if record is not None and record.intervals.get(name):
        intervals: Mapping[str, Interval | None] = record.intervals[name]
        replicates = record.replicates
    else:
        replicates = replicates_of(scores.scores.size)
        intervals = bootstrap_intervals([scores], asv, replicates=replicates, metrics=INTERVALS)
    return Evaluation(name, label or _label(name, record), metrics, scores, tandem, intervals, replicates)


def _warnings(record: RunRecord) -> list[str]:
    if not record.skipped_batches:
        return []
    return [f"{record.skipped_batches} batches without a finite loss were skipped in training."]


def _label(name: str, record: RunRecord | None) -> str:
    if name == "eval_swa":
        return f"eval, SWA of {counted(record.swa_epochs, 'epoch')}" if record and record.swa_epochs else "eval, SWA"
    return f"{name}, epoch {record.selected_epoch}" if record and record.selected_epoch is not None else name
