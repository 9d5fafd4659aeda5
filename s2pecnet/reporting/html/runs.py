"""What a run folder or a score file holds, as far as it can be read.

A report is made of old runs too, and on machines that have neither the corpus nor its ASV scores: what is missing is
left out, and a note says so. Where results.json and a score file disagree, the score file is believed for eval.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.trials import Split
from s2pecnet.errors import InputError, describe_os_error
from s2pecnet.metrics.bootstrap import Interval, bootstrap_intervals
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.tdcf import TandemWeights, fix_asv
from s2pecnet.reporting.chart_data import Sweep, sweep_of
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores

__all__ = ["Evaluation", "Run", "Sweep", "finite", "mapping", "read_runs", "replicates_of"]

DEFAULT_SCORES = "eval_scores_using_best_dev_model.txt"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of a system on a split, and the scores they come from where these are at hand.

    Attributes:
        name: "eval", "eval_swa" or "dev".
        label: the same for people.
        tandem: weighs the two error rates of the t-DCF curve; None without ASV scores.
        intervals: 95 % confidence intervals of "eer" and "min_tdcf"; empty without scores.
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
        about: results.json; empty of a bare score file.
        evaluations: the first is the one that counts: eval, of the selected epoch.
        split: where the eval audio lies, if anything says so.
        warnings: what a reader of the figures must know.
        notes: what is not in the report, and why.
    """

    name: str
    path: Path
    about: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    split: Split | None
    warnings: Sequence[str]
    notes: Sequence[str]

    @property
    def main(self) -> Evaluation:
        """The evaluation that counts."""
        return self.evaluations[0]

    @property
    def config(self) -> Mapping[str, Any]:
        """The config as it was used."""
        return mapping(self.about.get("config"))

    @property
    def history(self) -> list[Mapping[str, Any]]:
        """What is told of each epoch; empty of an evaluation."""
        epochs = self.about.get("history")
        return [epoch for epoch in epochs if isinstance(epoch, Mapping)] if isinstance(epochs, list) else []


def read_runs(paths: Sequence[Path], asv: Path | None = None, database_path: Path | None = None) -> list[Run]:
    """Read run folders and score files.

    Args:
        asv: ASV scores of eval for what has none of its own.
        database_path: where the corpus lies on this machine, instead of where the runs found it.

    Raises:
        InputError: a path that is neither, or whose files cannot be used.
        OSError: a file cannot be read.
    """
    given = None if asv is None else read_asv_scores(asv)
    runs = [_Reader(Path(path), given, database_path).read() for path in paths]
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path)) if names.count(run.name) > 1 else run for run in runs]


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: what an old or foreign file may lack."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> float | None:
    """The value if it is a number that a figure may have."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100
    return float(value) if known else None


class _Reader:
    """One run, while it is read."""

    def __init__(self, path: Path, asv: ASVScores | None, database_path: Path | None):
        self.path, self.asv, self.database_path = path, asv, database_path
        self.about: Mapping[str, Any] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def read(self) -> Run:
        if self.path.is_dir():
            self.about = self._results()
            name = self.path.resolve().name
            evaluations = [one for one in map(self._evaluation, ("eval", "eval_swa", "dev")) if one]
        elif self.path.exists():
            name = self.path.name.removesuffix(".gz").removesuffix(".txt")
            evaluations = [_with_scores("eval", "scores", read_cm_scores(self.path), self.asv)]
        else:
            raise InputError(f"{self.path}: no such run; expected the folder of a run, or a score file")
        if not evaluations:
            raise InputError(
                f"{self.path}: holds neither results.json with metrics nor {self._score_file('eval').name}; expected "
                "the folder of a finished run, or a score file"
            )
        passed_over = finite(self.about.get("batches_passed_over"))
        if passed_over:
            self.warnings.append(f"{passed_over:.0f} batches without a finite loss were passed over in training.")
        return Run(name, self.path, self.about, evaluations, self._split("eval"), self.warnings, self.notes)

    def _results(self) -> Mapping[str, Any]:
        path = self.path / "results.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.warnings.append("There is no results.json (an unfinished run?): only the score file is reported.")
            return {}
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); expected what main.py writes") from None
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: {type(content).__name__}, expected an object {{...}} as main.py writes it")
        return content

    def _evaluation(self, name: str) -> Evaluation | None:
        told = _as_metrics(mapping(self.about.get("metrics")).get(name))
        path = self._score_file(name)
        scores = read_cm_scores(path) if path.is_file() and (told or name == "eval") else None
        if scores is None:
            if told:
                self.notes.append(f"{path.name} is not there: of {_label(name, self.about)} there are no curves.")
            return Evaluation(name, _label(name, self.about), told) if told else None
        found = _with_scores(name, _label(name, self.about), scores, self._asv_scores(name, told))
        return found if told is None else self._reconciled(found, told)

    def _reconciled(self, found: Evaluation, told: Metrics) -> Evaluation | None:
        """The figures of a score file beside what results.json tells of them."""
        if found.name == "dev" and _point(found.metrics) != _point(told):
            # The dev scores are those of the last epoch; the figures in results.json are the selected one's.
            self.notes.append("The dev scores kept are not of the selected epoch: of dev there are no curves.")
            return Evaluation(found.name, found.label, told)
        if abs(found.metrics.eer - told.eer) > 1e-9:
            self.warnings.append(
                f"{self._score_file(found.name).name} gives another EER ({100 * found.metrics.eer:.4f} %) than "
                f"results.json tells ({100 * told.eer:.4f} %): the report shows the score file's."
            )
        elif found.metrics.min_tdcf is None and told.min_tdcf is not None:
            kept = replace(found.metrics, min_tdcf=told.min_tdcf, asv_eer=told.asv_eer)
            return replace(found, metrics=replace(kept, min_tdcf_threshold=told.min_tdcf_threshold))
        return found

    def _score_file(self, name: str) -> Path:
        if name == "dev":
            return self.path / "metrics" / "dev_score.txt"
        output = mapping(self.about.get("config")).get("eval_output")
        path = self.path / os.path.basename(output if isinstance(output, str) and output else DEFAULT_SCORES)
        return path if name == "eval" else path.with_name(f"{path.stem}_swa{path.suffix}")

    def _asv_scores(self, name: str, told: Metrics | None) -> ASVScores | None:
        """The ASV scores that a run used, those given, or none (said so where the run had some)."""
        split = self._split("dev" if name == "dev" else "eval")
        key = "asv_score_path_dev" if name == "dev" else "asv_score_path"
        named = mapping(self.about.get("config")).get(key)
        path = split and (self._database() / named if isinstance(named, str) else split.asv_scores)
        try:
            if path and path.is_file():
                scores = read_asv_scores(path)
                fix_asv(scores)
                return scores
        except (InputError, OSError) as error:
            self.warnings.append(describe_os_error(error) if isinstance(error, OSError) else str(error))
        if self.asv is not None and name != "dev":
            return self.asv
        if told and told.min_tdcf is not None:
            of = f"{split.name} at {path}" if split else name
            self.notes.append(
                f"There are no ASV scores of {of}: {_label(name, self.about)} has its "
                "min t-DCF from results.json, without interval and curve (--asv or --database_path tell where)."
            )
        return None

    def _database(self) -> Path:
        if self.database_path is not None:
            return self.database_path
        told = Path(str(mapping(self.about.get("config")).get("database_path", "")))
        directory = self.about.get("working_directory")
        from_there = Path(directory) / told if isinstance(directory, str) else told
        return from_there if from_there.exists() else told

    def _split(self, name: str) -> Split | None:
        config = mapping(self.about.get("config"))
        if self.database_path is None and not isinstance(config.get("database_path"), str):
            return None
        keys = ("track", "corpus", "unsplit", "eval_subset")
        given = {key: config[key] for key in keys if isinstance(config.get(key), str)}
        try:
            return find_split(self._database(), name=name, **{"track": "LA"} | given)
        except InputError:
            # The corpus is another by now, or elsewhere: the report goes without its audio.
            return None


def _with_scores(name: str, label: str, scores: CMScores, asv: ASVScores | None) -> Evaluation:
    metrics = evaluate(scores, asv)
    replicates = replicates_of(scores.scores.size)
    intervals = bootstrap_intervals([scores], asv, replicates=replicates, metrics=("eer", "min_dcf", "min_tdcf"))
    return Evaluation(name, label, metrics, scores, None if asv is None else fix_asv(asv)[0], intervals, replicates)


def replicates_of(trials: int) -> int:
    """Draws of the bootstrap: a thousand up to 80,000 trials, fewer of larger sets, where a draw takes longer.

    >>> [replicates_of(trials) for trials in (100, 71_237, 160_000, 10**9)]
    [1000, 1000, 500, 200]
    """
    return min(1000, max(200, 80_000_000 // trials))


def _label(name: str, about: Mapping[str, Any]) -> str:
    if name == "eval_swa":
        count = about.get("swa_epochs")
        return f"eval, SWA of {count} epochs" if isinstance(count, int) else "eval, SWA"
    epoch = about.get("selected_epoch")
    return f"{name}, epoch {epoch}" if isinstance(epoch, int) else name


def _as_metrics(told: Any) -> Metrics | None:
    """What results.json tells of an evaluation; None where it tells no EER."""
    figures = mapping(told)
    eer = finite(figures.get("eer"))
    if eer is None:
        return None
    threshold = finite(figures.get("eer_threshold"))
    attacks = {str(name): finite(value) for name, value in mapping(figures.get("per_attack_eer")).items()}
    counts = {name: int(finite(figures.get(name)) or 0) for name in ("n_bonafide", "n_spoof", "n_unscored")}
    return Metrics(
        eer=eer,
        eer_threshold=math.nan if threshold is None else threshold,
        per_attack_eer={name: value for name, value in attacks.items() if value is not None},
        min_tdcf=finite(figures.get("min_tdcf")),
        min_tdcf_threshold=finite(figures.get("min_tdcf_threshold")),
        asv_eer=finite(figures.get("asv_eer")),
        **counts,
        min_dcf=finite(figures.get("min_dcf")),
        min_dcf_threshold=finite(figures.get("min_dcf_threshold")),
        act_dcf=finite(figures.get("act_dcf")),
        cllr=finite(figures.get("cllr")),
    )


def _point(metrics: Metrics) -> tuple[float, float]:
    return round(metrics.eer, 9), float(f"{metrics.eer_threshold:.6g}")
