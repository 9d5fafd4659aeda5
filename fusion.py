"""Fusion: one score from the scores of several systems; and log-likelihood ratios from those of one.

    dev scores of k systems  --fit_logistic or fit_mean--> LinearMap --apply--> fused scores of eval

Both ways are weighted sums, score = offset + weights . scores; higher = bona fide.
    logistic  the weights of a logistic regression on dev in which both classes weigh the same, whatever their number of
              trials: the fused scores are natural logarithms of p(scores | bona fide) / p(scores | spoof). With one
              system it is a calibration.
    mean      the mean of the systems' scores, each less its mean and divided by its standard deviation over all
              trials: no labels and no parameters are learnt.

Source: N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the NIST
speaker recognition evaluation 2006", IEEE TASLP, 2007. Where dev is separated without error there are no best weights,
the larger the better; then the labels are softened as J. Platt does in "Probabilistic outputs for support vector
machines", 1999: of N trials of a class, (N + 1) / (N + 2) are taken to be what they are. The regression is
scikit-learn's.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commands import make_parser
from error_rates import Bools, Floats
from errors import InputError, run_command
from same_trials import align_trials
from score_files import CMScores, read_cm_scores, write_cm_scores

METHODS = ("logistic", "mean")
EXAMPLES = """example:
  python fusion.py --cm dev_A.txt --cm dev_B.txt --apply eval_A.txt eval_B.txt --output fused.txt
  python evaluation.py --cm fused.txt --llr
"""


@dataclass(frozen=True)
class LinearMap:
    """score = offset + weights . scores of k systems.

    Attributes:
        weights: k of them, in the order of the systems.
        offset: added to the weighted sum.
    """

    weights: tuple[float, ...]
    offset: float

    def apply(self, systems: Sequence[CMScores], names: Sequence[str] = ()) -> CMScores:
        """The fused scores, in the order of the first system's trials.

        Raises:
            InputError: another number of systems, or they did not score the same trials.
        """
        if len(systems) != len(self.weights):
            raise InputError(f"scores of {len(systems)} systems, expected {len(self.weights)} as in training")
        aligned = align_trials(systems, names)
        fused = self.offset + _as_columns(aligned) @ np.array(self.weights)
        by_name = np.argsort(systems[0].utterances)
        scores = np.empty_like(fused)
        scores[by_name] = fused
        first = systems[0]
        return CMScores(first.utterances, first.attacks, first.is_bonafide, scores, first.n_unscored)

    def of(self, scores: Floats) -> Floats:
        """The map of one system's scores, (n,), where there is only one weight."""
        (weight,) = self.weights
        return weight * scores + self.offset


def fit_logistic(systems: Sequence[CMScores], names: Sequence[str] = ()) -> LinearMap:
    """Weights and offset that make log-likelihood ratios, fitted on development trials.

    One system's weight is at least 0; scores that rank no better than chance get weight and offset 0. Of several, a
    system may get a negative weight.

    Args:
        systems: the k systems' scores of the same trials.
        names: what messages call them.

    Raises:
        InputError: systems of different trials, a class without trials.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2", "u3", "u4"]), attacks=np.array(["-", "-", "A07", "A08"]),
    ...     is_bonafide=np.array([True, True, False, False]), scores=np.array([3.0, 1.0, 2.0, 0.0]))
    >>> calibration = fit_logistic([cm])
    >>> round(calibration.weights[0], 4), round(float(calibration.of(np.array([1.5]))[0]), 4)
    (0.9082, 0.0)
    """
    aligned = align_trials(systems, names)
    scores, is_bonafide = _as_columns(aligned), aligned[0].is_bonafide
    if is_bonafide.all() or not is_bonafide.any():
        raise InputError(
            f"no {'spoofed' if is_bonafide.all() else 'bona fide'} trials to fit on, expected both classes"
        )
    centres, spreads = scores.mean(axis=0), scores.std(axis=0)
    standard = (scores - centres) / np.where(spreads > 0, spreads, 1.0)
    coefficients, intercept = _regression(standard, is_bonafide, softened=False)
    if _separates(standard @ coefficients, is_bonafide):
        coefficients, intercept = _regression(standard, is_bonafide, softened=True)
    if len(systems) == 1 and coefficients[0] <= 0:
        # The best line that does not fall is flat, and with classes that weigh the same it lies at 0.
        return LinearMap((0.0,), 0.0)
    weights = np.where(spreads > 0, coefficients / np.where(spreads > 0, spreads, 1.0), 0.0)
    return LinearMap(tuple(weights.tolist()), float(intercept - weights @ centres))


def fit_mean(systems: Sequence[CMScores], names: Sequence[str] = ()) -> LinearMap:
    """The mean of standardised scores; mean and standard deviation of each system are those of these trials.

    Raises:
        InputError: systems of different trials, or a system whose scores are all equal.

    >>> cm = CMScores(
    ...     utterances=np.array(["u1", "u2"]), attacks=np.array(["-", "A07"]),
    ...     is_bonafide=np.array([True, False]), scores=np.array([5.0, 1.0]))
    >>> fit_mean([cm, cm])
    LinearMap(weights=(0.25, 0.25), offset=-1.5)
    """
    scores = _as_columns(align_trials(systems, names))
    centres, spreads = scores.mean(axis=0), scores.std(axis=0)
    if not spreads.all():
        place = int(np.argmin(spreads))
        raise InputError(
            f"{names[place] if names else f'system {place + 1}'}: all scores are {centres[place]:g}, expected "
            "different ones to standardise"
        )
    weights = 1 / (len(systems) * spreads)
    return LinearMap(tuple(weights.tolist()), float(-(weights @ centres)))


def _as_columns(systems: Sequence[CMScores]) -> Floats:
    """(n, k) scores of n common trials."""
    return np.stack([system.scores for system in systems], axis=1)


def _regression(inputs: Floats, is_bonafide: Bools, softened: bool) -> tuple[Floats, float]:
    """Coefficients (k,) and intercept of the log-likelihood ratio in standardised scores, (n, k)."""
    # Imported here: it takes a second, and most callers of this module's commands do without.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    n_class = np.where(is_bonafide, is_bonafide.sum(), (~is_bonafide).sum())
    right = (n_class + 1) / (n_class + 2) if softened else np.ones(n_class.size)
    # Every trial twice: as what it is, and, with what is left of its weight, as the other class.
    labels = np.concatenate((is_bonafide, ~is_bonafide))
    weights = np.concatenate((right, 1 - right)) * np.tile(0.5 / n_class, 2)
    # C = inf: no penalty. Standardised scores keep the solver's steps sound whatever the scale of the scores.
    regression = LogisticRegression(C=np.inf, solver="lbfgs", tol=1e-9, max_iter=1000)
    with warnings.catch_warnings():
        # Separable trials have no optimum to reach; the caller sees that, and softens the labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(np.tile(inputs, (2, 1)), labels, weights)
    return regression.coef_[0], float(regression.intercept_[0])


def _separates(scores: Floats, is_bonafide: Bools) -> bool:
    return bool(scores[is_bonafide].min() >= scores[~is_bonafide].max() and np.ptp(scores) > 0)


# ---- command line ------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, prog: str = "fusion.py") -> int:
    """Fuse score files; see `python fusion.py --help`."""
    options = build_parser(prog).parse_args(argv)
    if not options.cm and options.method == "logistic":
        raise InputError("--cm is missing: logistic regression needs each system's dev scores (or --method mean)")
    if options.cm and len(options.cm) != len(options.apply):
        raise InputError(f"{len(options.cm)} --cm but {len(options.apply)} files behind --apply, expected as many")
    systems = [read_cm_scores(path) for path in options.apply]
    training = [read_cm_scores(path) for path in options.cm] if options.cm else systems
    fit = fit_logistic if options.method == "logistic" else fit_mean
    fused_map = fit(training, options.cm or options.apply)
    fused = fused_map.apply(systems, options.apply)
    write_cm_scores(options.output, fused)
    for path, system in zip(options.apply, systems, strict=True):
        if system.n_unscored:
            print(f"warning: {path}: {system.n_unscored} trials without a score are left out", file=sys.stderr)
    print(_describe(options, fused_map, fused))
    return 0


def _describe(options: argparse.Namespace, fused_map: LinearMap, fused: CMScores) -> str:
    if options.method == "logistic":
        kind = "log-likelihood ratios by logistic regression"
    else:
        kind = f"mean of scores standardised on {'the --cm files' if options.cm else 'the files themselves'}"
    weights = [f"  {weight:12.6g} * {path}" for weight, path in zip(fused_map.weights, options.apply, strict=True)]
    lines = [f"{options.output}: {fused.scores.size} trials, {kind}", *weights, f"  {fused_map.offset:+12.6g}"]
    return "\n".join(lines)


def build_parser(prog: str = "fusion.py") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Fuse the scores of several systems into one score file.", EXAMPLES)
    add = parser.add_argument
    add("--cm", action="append", metavar="DEV_SCORES",
        help="scores of dev to fit on, one --cm for each system")  # fmt: skip
    add("--apply", nargs="+", required=True, metavar="SCORES",
        help="scores to fuse, one file for each system, in the same order")  # fmt: skip
    add("--output", required=True, metavar="FILE", help="the fused scores, 'utterance attack key score' a line")
    add("--method", choices=METHODS, default="logistic",
        help="logistic (default): regression on dev, gives log-likelihood ratios; mean: of standardised scores, "
        "without --cm standardised on the files themselves")  # fmt: skip
    return parser


if __name__ == "__main__":
    run_command(main)
