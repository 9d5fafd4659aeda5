"""RawBoost computes what the released functions compute: filters, sub-steps, and whole chains draw by draw."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from s2pecnet.augment.rawboost import (
    notch_filter,
    peak_limited_without_mean,
    rawboost,
    standard_normals,
    sum_of_filtered_powers,
    with_coloured_noise,
    with_impulses,
)
from s2pecnet.config.augmentation import RawBoost

# Of filters, and end to end.
EXACT, CLOSE = 1e-12, 1e-6


def boost(**given: Any) -> RawBoost:
    return RawBoost(step="rawboost", **given)


@pytest.fixture(scope="module")
def reference(shared: Path) -> Mapping[str, Any]:
    path = shared / "reference" / "ssl" / "rawboost.npz"
    if not path.is_file():
        pytest.skip(f"no reference data at {path}")
    return dict(np.load(path))


def test_notch_filters(reference: Mapping[str, Any]) -> None:
    # Six of them: two of several bands, clipped at the lower and at the upper edge, one band with a low gain.
    assert reference["notch/count"] == 6
    for number in range(6):
        of = {name: reference[f"notch/{number}/{name}"] for name in ("fc", "bw", "taps_drawn", "taps", "G_dB", "b")}
        drawn = np.atleast_1d(of["taps_drawn"]).astype(int)
        b = notch_filter(np.atleast_1d(of["fc"]), np.atleast_1d(of["bw"]), drawn, float(of["G_dB"]))
        assert len(b) == of["taps"].sum() - of["taps"].size + 1
        np.testing.assert_allclose(b, of["b"], rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["x", "x_loud"])
def test_sub_steps(reference: Mapping[str, Any], name: str) -> None:
    x = reference[name]
    filtered = sum_of_filtered_powers(x, [reference["notch/0/b"]])
    np.testing.assert_allclose(filtered, reference[f"fir/{name}"], rtol=0, atol=EXACT)
    filters = []
    for power in range(5):
        of = {key: reference[f"lnl/{key}{power}"] for key in ("fc", "bw", "taps_drawn", "G_dB", "b")}
        filters.append(notch_filter(of["fc"], of["bw"], of["taps_drawn"].astype(int), float(of["G_dB"])))
        np.testing.assert_allclose(filters[-1], of["b"], rtol=0, atol=EXACT)
    total = sum_of_filtered_powers(x, filters)
    np.testing.assert_allclose(total, reference[f"lnl/{name}/sum"], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(peak_limited_without_mean(total), reference[f"lnl/{name}/out"], rtol=0, atol=CLOSE)
    places, u1, u2 = (reference[f"isd/{key}"] for key in ("positions", "u1", "u2"))
    hit = with_impulses(x, places, u1, u2, 2.0)
    assert hit.dtype == np.float32
    np.testing.assert_allclose(hit, reference[f"isd/{name}/out"], rtol=0, atol=1e-7)
    assert np.abs(hit).max() <= 1
    noisy = with_coloured_noise(x, reference["ssi/white"], reference["ssi/b"], float(reference["ssi/snr_dB"]))
    np.testing.assert_allclose(noisy, reference[f"ssi/{name}/out"], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("algorithm", range(1, 9))
@pytest.mark.parametrize(
    ("case", "waveform", "parameters"),
    [("e2e", "x", "defaults"), ("e2e_loud", "x_loud", "defaults"), ("e2e_custom", "x", "custom")],
)
def test_chains_draw_by_draw(
    reference: Mapping[str, Any], case: str, waveform: str, parameters: str, algorithm: int
) -> None:
    options = boost(algorithm=algorithm, **json.loads(str(reference[f"{parameters}_json"])))
    for seed in reference["seeds"].tolist() if case == "e2e" else reference["seeds"].tolist()[:1]:
        key, generator = f"{case}/algo{algorithm}/seed{seed}", np.random.RandomState(seed)
        y = rawboost(reference[waveform], options, generator)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, reference[key], rtol=0, atol=CLOSE, err_msg=key)
        if f"{key}/next" in reference:
            assert generator.random() == reference[f"{key}/next"], key


def test_the_defaults_are_the_released_ones(reference: Mapping[str, Any]) -> None:
    options = boost()
    for name, value in json.loads(str(reference["defaults_json"])).items():
        assert getattr(options, name) == value, name


@given(st.integers(1, 8), st.integers(1, 20_000), st.integers(0, 9), st.floats(0, 1, width=32))
def test_any_utterance_stays_one(algorithm: int, samples: int, seed: int, level: float) -> None:
    x = np.float32(level) * np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    before = x.copy()
    y = rawboost(x, boost(algorithm=algorithm), np.random.default_rng(seed))
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert np.array_equal(x, before)
    # The others end in stationary noise, which is not limited.
    if algorithm in (1, 2, 5, 8):
        assert np.abs(y).max() <= 1
    if not x.any():
        assert not y.any()


def test_long_filters_keep_their_largest_gain() -> None:
    """More taps than the spectrum that the gain is sought in has points."""
    generator = np.random.default_rng(0)
    b = notch_filter(generator.uniform(500, 7000, 9), np.full(9, 300.0), np.full(9, 301), -6.0)
    assert len(b) == 9 * 300 + 1
    response = np.abs(np.exp(-1j * np.pi * np.outer(np.arange(512) / 512, np.arange(len(b)))) @ b)
    assert response.max() == pytest.approx(10 ** (-6 / 20), rel=1e-9)
    x = generator.standard_normal(5000)
    expected = np.convolve(x, b)[(len(b) + 1) // 2 :][:5000]
    np.testing.assert_allclose(sum_of_filtered_powers(x, [b]), expected, atol=1e-12)


def test_stationary_noise_has_its_ratio() -> None:
    x = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * np.float32(0.1)
    options = boost(algorithm=3, SNRmin=12.0, SNRmax=12.0)
    noise = rawboost(x, options, np.random.default_rng(2)).astype(np.float64) - x
    assert 20 * np.log10(np.linalg.norm(x) / np.linalg.norm(noise)) == pytest.approx(12.0, abs=1e-3)


def test_impulses_hit_the_share_that_was_drawn() -> None:
    x = np.full(10_000, 0.25, dtype=np.float32)
    shares = []
    for seed in range(50):
        options = boost(algorithm=2, P=20.0)
        shares.append(np.count_nonzero(rawboost(x, options, np.random.default_rng(seed)) != x) / len(x))
    assert 0.15 < max(shares) <= 0.2
    assert min(shares) < 0.05


@pytest.mark.parametrize("samples", [1, 2, 9001])
def test_stationary_noise_from_own_seeds_is_white_and_normal(samples: int) -> None:
    """What the training path draws, in the place of the legacy generator's: the same distribution."""
    draws = np.stack([standard_normals(samples, np.random.default_rng(seed)) for seed in range(400)]).astype(np.float64)
    assert draws.shape == (400, samples)
    standard_error = 1 / np.sqrt(draws.size)
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        # The variance of a normal's power is that of twice the power less the square of its mean.
        spread = np.sqrt({1: 1, 2: 2, 3: 15, 4: 96}[power])
        assert abs((draws**power).mean() - moment) < 4 * spread * standard_error
    if samples > 2:
        assert stats.kstest(draws[:20].ravel(), "norm").pvalue > 1e-3
        # Neighbours, and the pairs that are drawn together, whose squares would tell.
        for lag in (1, (samples + 1) // 2):
            for values in (draws, draws**2 - 1):
                correlation = np.mean(values[:, lag:] * values[:, :-lag]) / values.var()
                assert abs(correlation) < 4 / np.sqrt(draws[:, lag:].size)


def test_impulses_from_own_seeds_fall_anywhere_and_once() -> None:
    x, found = np.full(1000, 0.25, dtype=np.float32), np.zeros(1000)
    counts = []
    for seed in range(2000):
        hit = rawboost(x, boost(algorithm=2, P=10.0), np.random.default_rng(seed)) != x
        counts.append(np.count_nonzero(hit))
        found += hit
    # As many as are drawn: uniform from 0 to 99, less the few that a draw of 0 leaves as they are.
    assert max(counts) <= 99
    assert abs(np.mean(counts) - 49.5) < 4 * np.sqrt(1000**2 / 12 / 2000 / 100)
    # Each place as often as any other; a chi-squared of 999 degrees of freedom.
    expected = found.mean()
    assert abs(np.sum((found - expected) ** 2 / expected) - 999) < 5 * np.sqrt(2 * 999)


def test_the_same_seed_gives_the_same_bytes() -> None:
    x = 0.1 * np.random.default_rng(0).standard_normal(9001).astype(np.float32)
    for algorithm in range(1, 9):
        one, same, other = (
            rawboost(x, boost(algorithm=algorithm), np.random.default_rng(s)) for s in ([3, 1], [3, 1], [3, 2])
        )
        assert one.tobytes() == same.tobytes()
        assert one.tobytes() != other.tobytes()
