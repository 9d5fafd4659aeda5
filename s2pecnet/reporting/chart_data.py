"""What charts show, as arrays: computed here once, and drawn by `html.charts` (SVG) and `plots` (matplotlib).

    sweep_of           error rates and costs at every threshold; operating_points: the thresholds people may want
    det_limits, det_line, probit_ticks    the DET curve and its axes
    score_histogram, score_edges          shares of each class per bin
    staircase          a function that is constant between its points, as a line
    attacks_shown      which attacks get a bar, in which order

Conventions are those of `metrics.det`; rates are fractions, histograms per cent. The DET curve has probit axes, on
which two Gaussian score distributions make a straight line (A. Martin et al., "The DET curve in assessment of detection
task performance", Eurospeech 1997).
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from s2pecnet.metrics.dcf import normalised_dcf
from s2pecnet.metrics.det import Bools, Floats, compute_det_curve, equal_error, threshold_between
from s2pecnet.metrics.tdcf import TandemWeights, normalised_tdcf
from s2pecnet.score_files.cm_asv import CMScores

_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)
_TAIL = 0.0005  # share of a class's trials that a histogram may put into its outermost bin
_RATES = (0.01, 0.001)  # error rates at which people set thresholds


class Sweep(NamedTuple):
    """Error rates at every threshold (points of `compute_det_curve`), and the t-DCF there if it is known.

    `thresholds` are where the rates change, the scores themselves; `threshold_at` lies between them, as in `Metrics`.
    """

    frr: Floats
    far: Floats
    thresholds: Floats
    tdcf: Floats | None = None

    def threshold_at(self, point: int) -> float:
        """A threshold with the rates of a point, halfway between the scores around it.

        Between equal scores no threshold has the rates of a point: see `point_of`.
        """
        return threshold_between(self.thresholds[1:], point)

    def point_of(self, threshold: float) -> int:
        """The point whose rates a threshold has: scores up to it are rejected."""
        return int(np.searchsorted(self.thresholds[1:], threshold, side="right"))

    @property
    def has_threshold(self) -> Bools:
        """At which points there is a threshold that has their rates, (n,)."""
        scores = self.thresholds[1:]
        return np.concatenate(([True], scores[:-1] < scores[1:], [True]))

    @property
    def eer_point(self) -> int:
        """Index of the EER."""
        return equal_error(self.frr, self.far)[1]

    @property
    def dcf_point(self) -> int:
        """Index of the minDCF."""
        return int(np.argmin(normalised_dcf(self.frr, self.far)))

    @property
    def tdcf_point(self) -> int | None:
        """Index of the minimum t-DCF."""
        return None if self.tdcf is None else int(np.argmin(self.tdcf))


def sweep_of(cm: CMScores, tandem: TandemWeights | None = None) -> Sweep:
    """The sweep over all thresholds; with the t-DCF if its weights are given.

    Raises:
        InputError: a class has no trials, or a score is not finite.
    """
    frr, far, thresholds = compute_det_curve(cm.bonafide, cm.spoof)
    return Sweep(frr, far, thresholds, None if tandem is None else normalised_tdcf(frr, far, tandem))


def operating_points(sweep: Sweep, n_bonafide: int, n_spoof: int) -> list[tuple[str, int]]:
    """Thresholds that people may want to set: a name, and the index in the sweep."""
    points = [("EER", sweep.eer_point), ("minDCF", sweep.dcf_point)]
    if sweep.tdcf_point is not None:
        points.append(("min t-DCF", sweep.tdcf_point))
    real = sweep.has_threshold
    for rate in _RATES:
        # A rate of less than a trial says nothing.
        if rate * n_spoof >= 1:
            first = int(np.argmax((sweep.far <= rate) & real))
            points.append((f"at most {100 * rate:g} % of spoofs accepted", first))
        if rate * n_bonafide >= 1:
            last = int(np.flatnonzero((sweep.frr <= rate) & real)[-1])
            points.append((f"at most {100 * rate:g} % of bona fide rejected", last))
    return points


# ---- DET curves --------------------------------------------------------------------------------


def probit(rates: Floats) -> Floats:
    """Quantiles of the standard normal distribution for `rates` (n,) strictly between 0 and 1.

    >>> probit(np.array([0.5, 0.975])).round(3).tolist()
    [0.0, 1.96]
    """
    return np.fromiter(map(NormalDist().inv_cdf, rates.tolist()), dtype=np.float64, count=rates.size)


def corners(frr: Floats, far: Floats) -> Bools:
    """Where the DET staircase turns, (n,): the points that suffice to draw it."""
    rises = np.diff(frr) > 0
    return np.concatenate(([True], rises[1:] != rises[:-1], [True]))


def det_limits(sweeps: Sequence[Sweep], n_largest: int) -> tuple[float, float]:
    """The rates at the ends of both axes, between which all EERs and minimum t-DCFs lie.

    Args:
        n_largest: trials of the largest class.
    """
    # A rate of 0 lies infinitely far out: the axes end at half a trial of the largest class.
    low = min(0.02, 0.5 / n_largest)
    marked = [(sweep, point) for sweep in sweeps for point in (sweep.eer_point, sweep.tdcf_point) if point is not None]
    high = max(max(float(sweep.frr[point]), float(sweep.far[point])) for sweep, point in marked)
    return low, min(1 - low, max(0.5, 1.2 * high))


def det_line(sweep: Sweep, low: float) -> tuple[Floats, Floats]:
    """The DET curve on probit axes from the rate `low` on: spoofs accepted across, bona fide rejected up, (points,)."""
    corner = corners(sweep.frr, sweep.far)
    across, up = (probit(rates[corner].clip(low, 1 - low)) for rates in (sweep.far, sweep.frr))
    return across, up


def probit_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a probit axis between two rates: positions, and rates in per cent."""
    low_end, high_end = probit(np.array([low, high])).tolist()
    ticks: list[tuple[float, str]] = []
    for rate in _TICKS:
        if low <= rate <= high:
            position = float(probit(np.array([rate]))[0])
            # Two labels side by side need about a tenth of the axis.
            if not ticks or position - ticks[-1][0] > (high_end - low_end) / 10:
                ticks.append((position, f"{100 * rate:g}"))
    return ticks


# ---- scores ------------------------------------------------------------------------------------


class Histogram(NamedTuple):
    """Per cent of the trials of each class in every bin, (bins,) each; `edges` are (bins + 1,) scores."""

    edges: Floats
    bonafide: Floats
    spoof: Floats

    @property
    def tallest(self) -> float:
        """The largest share."""
        return float(max(self.bonafide.max(), self.spoof.max()))


def score_histogram(cm: CMScores) -> Histogram:
    """The histogram of each class; scores beyond the edges count in the outermost bins."""
    edges = score_edges(cm)
    bonafide, spoof = (
        100 * np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / values.size
        for values in (cm.bonafide, cm.spoof)
    )
    return Histogram(edges, bonafide, spoof)


def score_edges(cm: CMScores) -> Floats:
    """Edges of bins over all scores, but for outliers that would squeeze the others; also the axis of thresholds."""
    low, high = float(cm.scores.min()), float(cm.scores.max())
    tails = [np.quantile(values, [_TAIL, 1 - _TAIL]) for values in (cm.bonafide, cm.spoof)]
    inner_low, inner_high = float(min(tail[0] for tail in tails)), float(max(tail[1] for tail in tails))
    if high / 2 - low / 2 > 1.3 * (inner_high / 2 - inner_low / 2) > 0:
        low, high = inner_low, inner_high
    # Differences and tick marks of the largest numbers must not overflow, those of equal ones not vanish.
    low, high = max(low, -1e300), min(high, 1e300)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(0.5, abs(low) / 2)
        low, high = low - margin, high + margin
    return np.linspace(low, high, int(np.clip(2 * np.sqrt(cm.scores.size), 12, 60)) + 1)


def staircase(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The corners of a line that keeps each y until the next x, (2 n - 1,) each; or (2 n,) where x has one value more.

    >>> [axis.tolist() for axis in staircase(np.array([0.0, 1.0]), np.array([5.0, 6.0]))]
    [[0.0, 1.0, 1.0], [5.0, 5.0, 6.0]]
    """
    if x.size > y.size:  # edges of bins
        return np.repeat(x, 2)[1:-1], np.repeat(y, 2)
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def attacks_shown(eers: Sequence[Mapping[str, float]], most: int | None = None) -> list[str]:
    """The attacks of all systems, sorted; where there are more than `most`, that many with the highest EERs, first.

    Args:
        eers: for each system the EERs by attack.
    """
    worst: dict[str, float] = {}
    for name, eer in (item for of_system in eers for item in of_system.items()):
        worst[name] = max(eer, worst.get(name, eer))
    if most is None or len(worst) <= most:
        return sorted(worst)
    return sorted(worst, key=lambda name: (-worst[name], name))[:most]
