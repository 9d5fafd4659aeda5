"""Figures of a spoofing countermeasure: from score files to EER, EER of each attack and t-DCF.

    score files --read_cm_scores, read_asv_scores--> arrays --evaluate--> Metrics --> summary, JSON

What the figures are and their conventions: `error_rates` (DET curve, EER) and `tdcf` (tandem detection cost); their
functions are to be had from here too. A countermeasure (CM) score is higher for bona fide speech, a speaker
verification (ASV) score is higher for the target speaker. Rates and EERs are fractions in [0, 1]; per cent appear in
texts, in `calculate_tDCF_EER`'s first value and under the key `eer_percent`.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bootstrap import Interval, bootstrap_intervals
from error_rates import (
    Floats,
    checked_scores,
    compute_det_curve,
    compute_eer,
    equal_error,
    obtain_asv_error_rates,
    sort_trials,
    sweep,
    thresholds_of,
)
from errors import run_command
from files import whole_file
from score_files import ASVScores, CMScores, read_asv_scores, read_cm_scores
from tdcf import ASVSPOOF2019_COST_MODEL, compute_tDCF, fix_asv, normalised_tdcf
from text_columns import rank_names

__all__ = [
    "ASVSPOOF2019_COST_MODEL",
    "ASVScores",
    "CMScores",
    "Floats",
    "Metrics",
    "calculate_tDCF_EER",
    "compute_det_curve",
    "compute_eer",
    "compute_tDCF",
    "evaluate",
    "main",
    "obtain_asv_error_rates",
    "read_asv_scores",
    "read_cm_scores",
]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Metrics:
    """Figures of one countermeasure on one set of trials; rates are fractions in [0, 1].

    Attributes:
        eer, eer_threshold: equal error rate and the CM score where it lies.
        min_tdcf, min_tdcf_threshold: minimum of the normalised t-DCF and its CM score; None without
            ASV scores.
        asv_eer: EER of the speaker verification, targets against nontargets; None without ASV scores.
        per_attack_eer: EER of all bona fide trials against one attack's spoofs, by attack name, sorted.
        n_bonafide, n_spoof: number of trials.
        n_unscored: number of further trials, which have no score and are in none of the figures.
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

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON, and `eer_percent`; all other rates stay fractions."""
        return {
            "eer": self.eer,
            "eer_percent": 100 * self.eer,
            "eer_threshold": self.eer_threshold,
            "min_tdcf": self.min_tdcf,
            "min_tdcf_threshold": self.min_tdcf_threshold,
            "asv_eer": self.asv_eer,
            "per_attack_eer": dict(self.per_attack_eer),
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "n_unscored": self.n_unscored,
        }

    def summary(self) -> str:
        """A text for people: one figure a line, EERs in per cent."""
        lines = [
            f"trials       {self.n_bonafide} bona fide, {self.n_spoof} spoofed",
            *([f"unscored     {self.n_unscored} more, in none of the figures"] if self.n_unscored else []),
            f"CM EER       {100 * self.eer:8.4f} %   (threshold {self.eer_threshold:.6g})",
            *self._tandem_lines(),
            "EER per attack",
            *(f"  {name:<10} {100 * eer:8.4f} %" for name, eer in self.per_attack_eer.items()),
        ]
        return "\n".join(lines)

    def _tandem_lines(self) -> list[str]:
        if self.min_tdcf is None or self.asv_eer is None:
            return ["ASV EER      not computed: no ASV scores", "min t-DCF    not computed: no ASV scores"]
        return [
            f"ASV EER      {100 * self.asv_eer:8.4f} %",
            f"min t-DCF    {self.min_tdcf:8.4f}     (threshold {self.min_tdcf_threshold:.6g})",
        ]


def evaluate(cm: CMScores, asv: ASVScores | None = None) -> Metrics:
    """EER, EER of each attack, and with ASV scores the minimum t-DCF under the ASVspoof 2019 costs.

    The ASV's threshold is that of its own EER, targets against nontargets.

    Raises:
        InputError: one class has no trials, a score is not finite, or the ASV leaves the t-DCF nothing to
            normalise by (`compute_tDCF`).

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "A07", "A08", "-"]),
    ...     is_bonafide=np.array([True, False, False, True]), scores=np.array([2.0, -1.0, 4.0, 3.0]))
    >>> metrics = evaluate(cm)
    >>> metrics.eer, metrics.per_attack_eer, metrics.min_tdcf
    (0.5, {'A07': 0.0, 'A08': 1.0}, None)
    """
    bonafide = checked_scores(cm.bonafide, "bona fide CM scores")
    spoof = checked_scores(cm.spoof, "spoofed CM scores")
    scores, order = sort_trials(bonafide, spoof)
    frr, far = sweep(order < bonafide.size)
    eer, point = equal_error(frr, far)
    thresholds = thresholds_of(scores)
    min_tdcf, min_tdcf_threshold, asv_eer = _tandem_figures(frr, far, thresholds, asv)
    return Metrics(
        eer=eer,
        eer_threshold=float(thresholds[point]),
        min_tdcf=min_tdcf,
        min_tdcf_threshold=min_tdcf_threshold,
        asv_eer=asv_eer,
        per_attack_eer=_per_attack_eer(cm.attacks[~cm.is_bonafide], order),
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
        n_unscored=cm.n_unscored,
    )


def _tandem_figures(
    frr: Floats, far: Floats, thresholds: Floats, asv: ASVScores | None
) -> tuple[float | None, float | None, float | None]:
    """Minimum t-DCF, its threshold, and the ASV's EER; None each without ASV scores."""
    if asv is None:
        return None, None, None
    weights, asv_eer = fix_asv(asv)
    tdcf = normalised_tdcf(frr, far, weights)
    best = int(np.argmin(tdcf))
    return float(tdcf[best]), float(thresholds[best]), asv_eer


def _per_attack_eer(attacks: NDArray[np.str_], order: NDArray[np.intp]) -> dict[str, float]:
    """EER by attack, from the spoofs' attacks and the order of (bona fide, spoofed) trials by score."""
    names, ranks = rank_names(attacks)
    bonafide = len(names)
    kinds = np.full(order.size, bonafide, dtype=np.min_scalar_type(bonafide))
    kinds[-attacks.size :] = ranks
    kinds = kinds[order]
    eers = {}
    for rank, name in enumerate(names):
        # A part of a sorted list is sorted.
        eers[name], _ = equal_error(*sweep(kinds[(kinds == bonafide) | (kinds == rank)] == bonafide))
    return eers


def calculate_tDCF_EER(
    cm_scores_file: PathLike, asv_score_file: PathLike | None, output_file: PathLike, printout: bool = True
) -> tuple[float, float | None]:
    """From score files to figures and a readable summary, under the name and units users of AASIST know.

    Args:
        cm_scores_file: CM scores, see the top of this module.
        asv_score_file: ASV scores of the organisers; None leaves out the t-DCF.
        output_file: the summary, written whole or not at all.
        printout: print the summary too.

    Returns:
        The CM's EER **in per cent**, and the minimum normalised t-DCF (None without ASV scores).

    Raises:
        InputError: a score file cannot be used, see `read_cm_scores`.
        OSError: a file cannot be read or written.
    """
    asv = None if asv_score_file is None else read_asv_scores(asv_score_file)
    metrics = evaluate(read_cm_scores(cm_scores_file), asv)
    with whole_file(output_file) as stream:
        stream.write(metrics.summary() + "\n")
    if printout:
        print(metrics.summary())
    return 100 * metrics.eer, metrics.min_tdcf


# ---- command line ------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures of a score file; see `python evaluation.py --help`."""
    options = _parse_arguments(argv)
    asv = read_asv_scores(options.asv) if options.asv else None
    cm = read_cm_scores(options.cm)
    metrics = evaluate(cm, asv)
    content, text = metrics.as_dict(), metrics.summary()
    if options.bootstrap is not None:
        intervals = bootstrap_intervals([cm], asv, replicates=options.bootstrap)
        content["bootstrap"] = {"replicates": options.bootstrap, **_as_dicts(intervals)}
        text = f"{text}\n{_describe_intervals(intervals, options.bootstrap)}"
    if metrics.n_unscored:
        trials = f"{metrics.n_unscored} trial{'s' if metrics.n_unscored > 1 else ''}"
        print(f"warning: {options.cm}: {trials} without a score, in none of the figures", file=sys.stderr)
    if options.json:
        text = json.dumps(content, indent=2)
    if options.output:
        with whole_file(options.output) as stream:
            stream.write(text + "\n")
    print(text)
    return 0


def _as_dicts(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, float] | None]:
    return {name: None if interval is None else asdict(interval) for name, interval in intervals.items()}


def _describe_intervals(intervals: Mapping[str, Interval | None], replicates: int) -> str:
    lines = [f"bootstrap intervals ({replicates} draws of the trials, ASV scores held fixed)"]
    for name, key, factor, unit in (("CM EER", "eer", 100, " %"), ("min t-DCF", "min_tdcf", 1, "")):
        interval = intervals[key]
        if interval is not None:
            ends = f"{factor * interval.low:8.4f} to {factor * interval.high:8.4f}{unit}"
            lines.append(f"  {name:<10} {ends:<23} ({100 * interval.level:g} %)")
    return "\n".join(lines)


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="EER and min t-DCF (ASVspoof 2019) of a countermeasure's score file.",
        epilog="example: python evaluation.py --cm exp_result/AASIST/eval_scores.txt "
        "--asv LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt",
    )
    parser.add_argument(
        "--cm",
        required=True,
        metavar="SCORES",
        help="countermeasure scores, 'utterance attack key score' a line, higher = bona fide",
    )
    parser.add_argument(
        "--asv", metavar="ASV", help="the organisers' ASV scores, 'source key score' a line; without them no t-DCF"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        metavar="N",
        help="95 %% confidence intervals of EER and min t-DCF from N bootstrap replicates, e.g. 1000 (bootstrap.py)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (rates as fractions) instead of text")
    parser.add_argument("--output", metavar="FILE", help="write what is printed to this file too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
