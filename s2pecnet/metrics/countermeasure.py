"""All metrics of a spoofing countermeasure on one set of trials, sorted once.

    CMScores[, ASVScores, ratios] --evaluate--> Metrics --summary, as_dict--> text, JSON --from_dict--> Metrics

Definitions and conventions: `det` (DET curve, EER), `dcf` (minDCF, actDCF, Cllr) and `tdcf` (tandem detection cost).
Rates and EERs are fractions in [0, 1]; per cent appear in texts and under `eer_percent`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2pecnet.errors import InputError
from s2pecnet.metrics.dcf import ASVSPOOF5_COSTS, compute_act_dcf, compute_cllr, normalised_dcf
from s2pecnet.metrics.det import (
    Bools,
    Floats,
    Indices,
    checked_scores,
    equal_error,
    rank_names,
    sort_trials,
    sweep,
    threshold_between,
)
from s2pecnet.metrics.tdcf import fix_asv, normalised_tdcf
from s2pecnet.score_files.cm_asv import ASVScores, CMScores
from s2pecnet.text import listed, quoted, threshold_text

NO_LLRS = "not computed: the scores are not known to be log-likelihood ratios"


# Share of the trials above which their ties are worth a line.
TIED = 0.05


@dataclass(frozen=True)
class Metrics:
    """Metrics of one countermeasure on one set of trials; rates are fractions in [0, 1].

    Attributes:
        eer, eer_threshold: equal error rate and its threshold (NaN: not known). Thresholds lie halfway between two
            CM scores.
        min_tdcf, min_tdcf_threshold: minimum of the normalised t-DCF and its CM score; None without
            ASV scores.
        asv_eer: EER of the speaker verification, targets against nontargets; None without ASV scores.
        per_attack_eer: EER of all bona fide trials against one attack's spoofs, by attack name, sorted.
        n_bonafide, n_spoof: number of trials.
        n_unscored: number of trials without a score; they are in none of the other numbers.
        min_dcf, min_dcf_threshold: minimum of the normalised detection cost of ASVspoof 5, and its CM score; None: not
            known.
        act_dcf: the same cost at Bayes' threshold; None without log-likelihood ratios.
        cllr: cost of the log-likelihood ratios in bits; None without them.
        n_tied: trials whose score a trial of the other class has too; they count against the system.
        per_corpus_eer: where the trials are of several corpora, the EER of each on its own trials, by its name (None:
            it has trials of one class); empty where they are of one.
    """

    eer: float
    eer_threshold: float
    min_tdcf: float | None
    min_tdcf_threshold: float | None
    asv_eer: float | None
    per_attack_eer: dict[str, float]
    n_bonafide: int
    n_spoof: int
    n_unscored: int = 0
    min_dcf: float | None = None
    min_dcf_threshold: float | None = None
    act_dcf: float | None = None
    cllr: float | None = None
    n_tied: int = 0
    per_corpus_eer: dict[str, float | None] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON (NaN is None), and `eer_percent`; all other rates stay fractions."""
        threshold = None if math.isnan(self.eer_threshold) else self.eer_threshold
        fields = dataclasses.asdict(self)
        if not self.per_corpus_eer:
            del fields["per_corpus_eer"]
        return {"eer": self.eer, "eer_percent": 100 * self.eer, **fields, "eer_threshold": threshold}

    @classmethod
    def from_dict(cls, content: Any, origin: str = "metrics") -> "Metrics":
        """The exact inverse of `as_dict`.

        Args:
            origin: where the content came from, for messages.

        Raises:
            InputError: not a dictionary, a key is missing or unknown, or a value has the wrong type.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"{origin}: expected an object with metrics, got {quoted(content)}")
        values = {name: value for name, value in content.items() if name != "eer_percent"}
        fields = {field.name: field for field in dataclasses.fields(cls)}
        required = [
            name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING
        ]
        if values.keys() - fields.keys():
            raise InputError(f"{origin}: unknown keys {listed(sorted(map(str, values.keys() - fields.keys())))}")
        if set(required) - values.keys():
            raise InputError(f"{origin}: no {listed([name for name in required if name not in values])}")
        wrong = [name for name, value in values.items() if not _is_valid(name, value)]
        if wrong:
            raise InputError(f"{origin}: {wrong[0]} is {quoted(values[wrong[0]])}")
        return cls(**values | ({"eer_threshold": math.nan} if values["eer_threshold"] is None else {}))

    def summary(self) -> str:
        """A text for people: a metric a line, EERs in per cent."""
        attacks = (f"  {name:<10} {100 * eer:8.4f} %" for name, eer in self.per_attack_eer.items())
        corpora = [
            f"  {name:<10} " + ("not defined: trials of one class" if eer is None else f"{100 * eer:8.4f} %")
            for name, eer in self.per_corpus_eer.items()
        ]
        of_corpora = ["EER per corpus", *corpora] if corpora else []
        return "\n".join([*self.lines(), *of_corpora, "EER per attack", *attacks])

    def lines(self) -> list[str]:
        """The summary without the attacks."""
        lines = [f"trials       {self.n_bonafide} bona fide, {self.n_spoof} spoofed"]
        if self.n_unscored:
            lines.append(f"unscored     {self.n_unscored} more, not in the metrics")
        lines.append(f"CM EER       {100 * self.eer:8.4f} %   (threshold {threshold_text(self.eer_threshold)})")
        if self.min_dcf is not None and self.min_dcf_threshold is not None:
            lines.append(f"minDCF       {self.min_dcf:8.4f}     (threshold {threshold_text(self.min_dcf_threshold)})")
        if self.act_dcf is None or self.cllr is None:
            lines.append(f"actDCF, Cllr {NO_LLRS}")
        else:
            bayes = f"(LLR threshold {ASVSPOOF5_COSTS.bayes_threshold:.6g})"
            lines += [f"actDCF       {self.act_dcf:8.4f}     {bayes}", f"Cllr         {self.cllr:8.4f} bits"]
        if self.min_tdcf is None or self.min_tdcf_threshold is None or self.asv_eer is None:
            lines += ["ASV EER      not computed: no ASV scores", "min t-DCF    not computed: no ASV scores"]
        else:
            lines.append(f"ASV EER      {100 * self.asv_eer:8.4f} %")
            lines.append(f"min t-DCF    {self.min_tdcf:8.4f}     (threshold {threshold_text(self.min_tdcf_threshold)})")
        return lines + [f"note         {remark}" for remark in self.remarks()]

    def remarks(self) -> list[str]:
        """What makes the metrics doubtful, a line each: scores the wrong way round, many ties."""
        trials, remarks = self.n_bonafide + self.n_spoof, []
        if self.n_tied == trials:
            remarks.append("all scores are equal: they say nothing, and ties count against the system")
        elif self.n_tied > TIED * trials:
            remarks.append(
                f"{self.n_tied:,} of {trials:,} trials tie with the other class and count against the system"
            )
        if self.eer > 0.5 and self.n_tied <= TIED * trials:
            remarks.append("EER above 50 %: are these scores higher for spoofs? Here higher = bona fide")
        if self.asv_eer is not None and self.asv_eer > 0.5:
            remarks.append("ASV EER above 50 %: are the ASV scores higher for nontargets? Here higher = target")
        return remarks


def _is_valid(name: str, value: Any) -> bool:
    """Whether a metric can have this value, which came from outside."""
    if name == "per_attack_eer":
        return isinstance(value, Mapping) and all(_is_valid("eer", eer) for eer in value.values())
    if name == "per_corpus_eer":
        return isinstance(value, Mapping) and all(eer is None or _is_valid("eer", eer) for eer in value.values())
    if value is None:
        return name != "eer" and not name.startswith("n_")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) and value >= 0 if name.startswith("n_") else bool(-1e308 < value < 1e308)


def evaluate(
    cm: CMScores, asv: ASVScores | None = None, llrs: Floats | None = None, corpora: Sequence[str] = ()
) -> Metrics:
    """EER, minDCF, EER of each attack; with ASV scores the minimum t-DCF; with LLRs actDCF and Cllr.

    minDCF and actDCF have the costs of ASVspoof 5, the t-DCF those of ASVspoof 2019. The ASV's threshold is that of its
    own EER, targets against nontargets.

    Args:
        llrs: (n,) log-likelihood ratios of the trials (natural logarithm), in the order of `cm.scores`.
        corpora: names of several corpora, with which their utterances begin ("LA/LA_E_1000147"): each has an EER too.

    Raises:
        InputError: one class has no trials, a score is not finite, there are more or fewer ratios than trials, or the
            t-DCF cannot be normalised with this ASV (`compute_tDCF`).

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "A07", "A08", "-"]),
    ...     is_bonafide=np.array([True, False, False, True]), scores=np.array([2.0, -1.0, 4.0, 3.0]))
    >>> metrics = evaluate(cm)
    >>> metrics.eer, metrics.per_attack_eer, metrics.min_dcf, metrics.min_tdcf
    (0.5, {'A07': 0.0, 'A08': 1.0}, 0.5, None)
    """
    bonafide = checked_scores(cm.bonafide, "bona fide CM scores")
    spoof = checked_scores(cm.spoof, "spoofed CM scores")
    scores, order = sort_trials(bonafide, spoof)
    frr, far = sweep(order < bonafide.size)
    eer, point = equal_error(frr, far)
    dcf = normalised_dcf(frr, far)
    min_tdcf = min_tdcf_threshold = asv_eer = None
    if asv is not None:
        weights, asv_eer = fix_asv(asv)
        tdcf = normalised_tdcf(frr, far, weights)
        min_tdcf, min_tdcf_threshold = float(tdcf.min()), threshold_between(scores, int(tdcf.argmin()))
    act_dcf = cllr = None
    if llrs is not None:
        ratios = checked_scores(llrs, "llrs")
        if ratios.size != cm.scores.size:
            raise InputError(f"{ratios.size} log-likelihood ratios, expected one for each of {cm.scores.size} trials")
        by_class = ratios[cm.is_bonafide], ratios[~cm.is_bonafide]
        act_dcf, cllr = compute_act_dcf(*by_class), compute_cllr(*by_class)
    attacks, ranks = rank_names(cm.attacks[~cm.is_bonafide])
    by_attack = against_all_bonafide(ranks, len(attacks), order)
    return Metrics(
        eer=eer,
        eer_threshold=threshold_between(scores, point),
        min_tdcf=min_tdcf,
        min_tdcf_threshold=min_tdcf_threshold,
        asv_eer=asv_eer,
        per_attack_eer={name: equal_error(*sweep(each))[0] for name, each in zip(attacks, by_attack, strict=True)},
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        n_unscored=cm.n_unscored,
        n_tied=_count_ties(scores, order < bonafide.size),
        min_dcf=float(dcf.min()),
        min_dcf_threshold=threshold_between(scores, int(dcf.argmin())),
        act_dcf=act_dcf,
        cllr=cllr,
        per_corpus_eer={name: _eer_of_corpus(cm, name) for name in corpora} if len(corpora) > 1 else {},
    )


def _eer_of_corpus(cm: CMScores, name: str) -> float | None:
    """EER of the trials of one of several corpora; None where they are of one class."""
    own = np.char.startswith(cm.utterances, f"{name}/")
    bonafide, spoof = cm.scores[own & cm.is_bonafide], cm.scores[own & ~cm.is_bonafide]
    if not (bonafide.size and spoof.size):
        return None
    _, order = sort_trials(bonafide, spoof)
    return equal_error(*sweep(order < bonafide.size))[0]


def _count_ties(scores: Floats, is_bonafide: Bools) -> int:
    """Trials whose score a trial of the other class has too; scores in rising order, (n,)."""
    starts = np.flatnonzero(np.concatenate(([True], scores[1:] != scores[:-1])))
    if starts.size == scores.size:
        return 0
    sizes = np.diff(starts, append=scores.size)
    n_bonafide = np.add.reduceat(is_bonafide, starts, dtype=np.int64)
    return int(sizes[(n_bonafide > 0) & (n_bonafide < sizes)].sum())


def against_all_bonafide(groups: Indices, n_groups: int, order: Indices) -> Iterator[Bools]:
    """For each group of spoofs: which of all bona fide trials and its spoofs are bona fide, in rising order of score.

    Args:
        groups: (S,) the group of each spoof, from 0.
        order: (B + S,) indices into (bona fide, spoofed) trials, in rising order of score.
    """
    # Bona fide trials are a group of their own, the last one.
    group_of = np.full(order.size, n_groups, dtype=np.min_scalar_type(n_groups))
    group_of[-groups.size :] = groups
    group_of = group_of[order]
    for group in range(n_groups):
        # A part of a sorted list is sorted.
        yield group_of[(group_of == n_groups) | (group_of == group)] == n_groups
