"""Scores for property tests, and the sweep over thresholds done the slow way."""

from hypothesis import strategies as st

# Few distinct values, so that ties within and across classes are the rule.
tied_scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def brute_force_points(target: list[float], nontarget: list[float]) -> list[tuple[int, int, float]]:
    """(targets rejected, nontargets accepted, threshold) by counting anew for every cut."""
    trials = sorted([(score, 0) for score in target] + [(score, 1) for score in nontarget])
    points = [(0, len(nontarget), trials[0][0] - 0.001)]
    for cut in range(1, len(trials) + 1):
        rejected = sum(kind == 0 for _, kind in trials[:cut])
        accepted = sum(kind == 1 for _, kind in trials[cut:])
        points.append((rejected, accepted, trials[cut - 1][0]))
    return points


def spread(size: int, step: int, scale: float, shift: float) -> list[float]:
    """`size` scores spread over (shift, shift + 1009 / scale): the same on every machine, without a generator."""
    return [(step * place % 1009) / scale + shift for place in range(1, size + 1)]
