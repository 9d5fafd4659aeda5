"""Systems over corpora: each corpus at its own threshold, all of them at one, pooled and averaged.

    {corpus: CMScores} of a system, SharedThreshold --evaluate_over--> Row a corpus, and those of all corpora together

A metric at a corpus' *own* threshold (EER, minDCF, min t-DCF) knows the answers: it says how well scores rank there. A
system that is in use has *one* threshold for whatever comes, and FRR, FAR, their mean (balanced error), the share of
wrong decisions and the detection cost at that one say what it does. What a corpus lacks is None, never 0: trials of one
class have no EER, spoofs alone have a FAR (in per cent the Arena's srr_complement, 1 - SRR), bona fide speech alone an
FRR.

    pooled    all trials of all corpora as one set: a corpus weighs as much as it has trials
    mean      the mean over the corpora that have the metric: every corpus weighs the same

Both are of the corpora that all systems have scored, without the one that gave the threshold, if one did.

Intervals (95 %): FRR, FAR, the error rate and an EER with few errors have the exact one (Clopper-Pearson). The others
are the bootstrap's, as in `bootstrap`. Draws of trials know nothing of errors that did not happen: where such rates go
into others (the balanced error, the cost, means over corpora), they are drawn from their posterior under Jeffreys'
prior, the beta distribution of errors + 1/2 and trials - errors + 1/2. Corpora are drawn
independently of each other, and are themselves held fixed: the interval of a mean is of these corpora, not of others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.bootstrap import (
    FEW_ERRORS,
    METRICS,
    Interval,
    check_replicates,
    draw_metrics,
    exact_interval,
    interval_of,
    metric_interval,
)
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.metrics.dcf import normalised_dcf
from s2pecnet.metrics.det import Floats
from s2pecnet.metrics.fixed_threshold import FixedThreshold
from s2pecnet.score_files.cm_asv import ASVScores, CMScores

# At the corpus' own threshold, and at the shared one: metric, heading, factor from what is held to what is shown.
OWN = (("eer", "EER %", 100), ("min_dcf", "minDCF", 1), ("min_tdcf", "min t-DCF", 1))
SHARED = (
    ("frr", "FRR %", 100),
    ("far", "FAR %", 100),
    ("balanced_error", "balanced %", 100),
    ("error", "error %", 100),
    ("dcf", "DCF", 1),
)
CALIBRATED = (("act_dcf", "actDCF", 1), ("cllr", "Cllr", 1))
COLUMNS = (*OWN, *SHARED, *CALIBRATED)
# What tables call the rows of all corpora together.
TOGETHER = ("pooled", "mean")


@dataclass(frozen=True)
class SharedThreshold:
    """The one threshold of a system.

    Attributes:
        value: a score; what lies above it is accepted as bona fide.
        reason: where it comes from, in words.
        calibration: makes log-likelihood ratios of the scores, for actDCF and Cllr.
    """

    value: float
    reason: str
    calibration: Calibration | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """What one system does on a corpus, on all of them pooled, or on average; rates are fractions in [0, 1].

    Attributes:
        n_bonafide, n_spoof, n_unscored: number of trials.
        values: by metric of `COLUMNS`; None: it is not defined there.
        intervals: 95 %; None: not defined, or all draws are the same.
        eer_threshold: the corpus' own; None without an EER, and of a mean.
        n_corpora: of a mean, of how many corpora each metric is.
        draws: (replicates,) by metric, of what has a bootstrap.
    """

    n_bonafide: int
    n_spoof: int
    n_unscored: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    eer_threshold: float | None
    n_corpora: Mapping[str, int]
    draws: Mapping[str, Floats]

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        intervals = {name: None if one is None else one.as_dict() for name, one in self.intervals.items()}
        counts = {"n_bonafide": self.n_bonafide, "n_spoof": self.n_spoof, "n_unscored": self.n_unscored}
        about = {"n_corpora": dict(self.n_corpora)} if self.n_corpora else {"eer_threshold": self.eer_threshold}
        return {**counts, **self.values, **about, "intervals": intervals}


@dataclass(frozen=True, eq=False)
class CrossEvaluation:
    """Several systems over several corpora.

    Attributes:
        rows: by system, then by corpus; a corpus that a system has not scored is not there.
        pooled, mean: by system; empty where fewer than two corpora are to be taken together.
        together: the corpora that these two are of.
        shared: each system's threshold; empty: there is none.
        threshold_of: the corpus that gave it; None: another source.
        replicates: of the bootstrap.
    """

    rows: Mapping[str, Mapping[str, Row]]
    pooled: Mapping[str, Row]
    mean: Mapping[str, Row]
    together: Sequence[str]
    shared: Mapping[str, SharedThreshold]
    threshold_of: str | None
    replicates: int

    @property
    def corpora(self) -> list[str]:
        """All corpora, in the order in which they came."""
        return list(dict.fromkeys(corpus for of_system in self.rows.values() for corpus in of_system))

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        systems: dict[str, Any] = {}
        for name, rows in self.rows.items():
            shared = self.shared.get(name)
            systems[name] = {
                "threshold": None if shared is None else shared.value,
                "threshold_is": None if shared is None else shared.reason,
                "corpora": {corpus: row.as_dict() for corpus, row in rows.items()},
                "pooled": self.pooled[name].as_dict() if name in self.pooled else None,
                "mean": self.mean[name].as_dict() if name in self.mean else None,
            }
        about = {"together": list(self.together), "threshold_of": self.threshold_of, "replicates": self.replicates}
        return {**about, "systems": systems}


def check_corpora(names: Iterable[str]) -> None:
    """Raises InputError for a corpus that has the name of a row of all corpora together."""
    taken = [name for name in names if name in TOGETHER]
    if taken:
        raise InputError(f"a corpus cannot be called {taken[0]}, as rows of all corpora are; choose another name")


def evaluate_over(
    scores: Mapping[str, Mapping[str, CMScores]],
    shared: Mapping[str, SharedThreshold] | None = None,
    threshold_of: str | None = None,
    asv: Mapping[str, ASVScores] | None = None,
    replicates: int = 1000,
) -> CrossEvaluation:
    """Evaluate systems over corpora.

    Args:
        scores: by system, then by corpus; at least one of each.
        shared: each system's threshold; None, or a system that is not in it: it has none.
        threshold_of: the corpus whose EER threshold is each system's, in place of `shared`.
        asv: ASV scores of corpora that have some.
        replicates: of the bootstrap.

    Raises:
        InputError: `threshold_of` has no EER, a score is not finite, no replicates, a name of `TOGETHER`.
    """
    check_replicates(replicates)
    check_corpora(corpus for by_corpus in scores.values() for corpus in by_corpus)
    thresholds = dict(shared or {})
    if threshold_of is not None:
        for name, by_corpus in scores.items():
            if threshold_of not in by_corpus:
                raise InputError(f"{name} has no scores of {threshold_of}, whose threshold is to be everybody's")
            cm = by_corpus[threshold_of]
            if not cm.bonafide.size or not cm.spoof.size:
                raise InputError(f"{threshold_of}: its trials are of one class, so it has no EER, and no threshold")
            thresholds[name] = SharedThreshold(evaluate(cm).eer_threshold, f"the EER threshold of {threshold_of}")
    corpora = dict.fromkeys(corpus for by_corpus in scores.values() for corpus in by_corpus)
    together = [name for name in corpora if name != threshold_of and all(name in one for one in scores.values())]
    rows, pooled, mean = dict[str, dict[str, Row]](), dict[str, Row](), dict[str, Row]()
    for name, by_corpus in scores.items():
        threshold = thresholds.get(name)
        # Each corpus has its own draws, the same for every system.
        rows[name] = {
            corpus: evaluate_row(by_corpus[corpus], threshold, (asv or {}).get(corpus), replicates, seed)
            for seed, corpus in enumerate(corpora)
            if corpus in by_corpus
        }
        if len(together) > 1:
            pooled[name] = evaluate_row(pool({one: by_corpus[one] for one in together}), threshold, None, replicates)
            mean[name] = mean_row([rows[name][one] for one in together])
    return CrossEvaluation(rows, pooled, mean, together, thresholds, threshold_of, replicates)


def evaluate_row(
    cm: CMScores,
    shared: SharedThreshold | None,
    asv: ASVScores | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Row:
    """One system on one set of trials, at least one.

    Raises:
        InputError: as `evaluate_over`.
    """
    values: dict[str, float | None] = dict.fromkeys(name for name, *_ in COLUMNS)
    intervals: dict[str, Interval | None] = dict.fromkeys(values)
    draws: dict[str, Floats] = {}
    eer_threshold = None
    n_bonafide, n_spoof = cm.bonafide.size, cm.spoof.size
    if n_bonafide and n_spoof:
        calibration = None if shared is None else shared.calibration
        llrs = None if calibration is None else calibration.slope * cm.scores + calibration.offset
        metrics = evaluate(cm, asv, llrs)
        eer_threshold = metrics.eer_threshold
        ratios = None if llrs is None else [llrs]
        drawn = draw_metrics([cm], asv, replicates=replicates, seed=seed, llrs=ratios)[:, 0]
        for column, name in enumerate(METRICS):
            values[name] = getattr(metrics, name)
            if values[name] is not None:
                draws[name] = drawn[:, column]
                intervals[name] = metric_interval(name, draws[name], [cm])
        trials = min(n_bonafide, n_spoof)
        if metrics.eer * trials < FEW_ERRORS:
            draws["eer"] = _posterior_draws(metrics.eer * trials, trials, replicates, seed)
    if shared is not None:
        at = FixedThreshold.of(cm, shared.value)
        trials, errors = n_bonafide + n_spoof, at.n_rejected + at.n_accepted
        values |= {"frr": at.frr, "far": at.far, "balanced_error": at.balanced_error, "error": errors / trials}
        wrong = {"frr": (at.n_rejected, n_bonafide), "far": (at.n_accepted, n_spoof)}
        for name, (count, size) in wrong.items():
            if size:
                intervals[name] = exact_interval(count, size)
                draws[name] = _posterior_draws(count, size, replicates, seed, name == "far")
        intervals["error"] = exact_interval(errors, trials)
        parts = [draws[name] * size for name, (_, size) in wrong.items() if size]
        draws["error"] = np.sum(parts, axis=0) / trials
        if at.frr is not None and at.far is not None:
            values["dcf"] = float(normalised_dcf(np.array([at.frr]), np.array([at.far]))[0])
            draws["balanced_error"] = (draws["frr"] + draws["far"]) / 2
            draws["dcf"] = normalised_dcf(draws["frr"], draws["far"])
            intervals |= {name: _interval(draws[name], values[name]) for name in ("balanced_error", "dcf")}
    return Row(n_bonafide, n_spoof, cm.n_unscored, values, intervals, eer_threshold, {}, draws)


def pool(scores: Mapping[str, CMScores]) -> CMScores:
    """The trials of several corpora as one set; utterances and attacks have their corpus in front."""
    parts = [
        replace(
            cm,
            utterances=np.char.add(f"{corpus}/", cm.utterances),
            attacks=np.where(cm.is_bonafide, "-", np.char.add(f"{corpus}/", cm.attacks)),
        )
        for corpus, cm in scores.items()
    ]
    names, attacks, keys, values = (
        np.concatenate([getattr(cm, column) for cm in parts])
        for column in ("utterances", "attacks", "is_bonafide", "scores")
    )
    return CMScores(names, attacks, keys, values, sum(cm.n_unscored for cm in parts))


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean over corpora of each metric, of those that have it."""
    values: dict[str, float | None] = {}
    intervals: dict[str, Interval | None] = {}
    draws, counts = dict[str, Floats](), dict[str, int]()
    for name, *_ in COLUMNS:
        having = [row for row in rows if row.values[name] is not None]
        found = [value for row in having if (value := row.values[name]) is not None]
        counts[name] = len(found)
        values[name] = float(np.mean(found)) if found else None
        intervals[name] = None
        if found:
            draws[name] = np.mean([row.draws[name] for row in having], axis=0)
            intervals[name] = _interval(draws[name], values[name])
    n_bonafide, n_spoof, n_unscored = (
        sum(getattr(row, name) for row in rows) for name in ("n_bonafide", "n_spoof", "n_unscored")
    )
    return Row(n_bonafide, n_spoof, n_unscored, values, intervals, None, counts, draws)


def _posterior_draws(errors: float, trials: int, replicates: int, seed: int, second: bool = False) -> Floats:
    """Error rates (replicates,) that go with so many errors (they need not be an integer), by Jeffreys' prior."""
    return np.random.default_rng([seed, 1 + second]).beta(errors + 0.5, trials - errors + 0.5, replicates)


def _interval(draws: Floats, value: float | None) -> Interval | None:
    """Of a bootstrap, with the value itself inside; None where all draws are the same."""
    found = None if draws.size > 1 and (draws == draws[0]).all() else interval_of(draws)
    if found is None or value is None:
        return found
    return replace(found, low=min(found.low, value), high=max(found.high, value))
