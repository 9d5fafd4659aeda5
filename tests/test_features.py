"""LFCC equals the organisers' extractor; the features keep what their shapes promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.features import (
    LFCC,
    FixedFrames,
    PowerSpectrogram,
    count_frames,
    dct_matrix,
    fix_frames,
    triangular_filters,
)

CLIPS = (480, 16000, 33333, 64600, 131072)


@pytest.mark.parametrize("samples", CLIPS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_lfcc_equals_the_matlab_extractor(shared: Path, samples: int, dtype: torch.dtype, tolerance: float) -> None:
    clip = np.load(shared / "reference" / "lfcc" / f"clip_{samples}.npz")
    ours = LFCC()(torch.from_numpy(clip["pcm"] / 32768.0).to(dtype))
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.numpy(), clip["lfcc"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("extractor", [LFCC(), PowerSpectrogram(), PowerSpectrogram(log=True)])
@given(samples=st.integers(1, 2000), batch=st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_batches_give_what_single_clips_give(
    extractor: LFCC | PowerSpectrogram, samples: int, batch: tuple[int, ...]
) -> None:
    waveforms = torch.randn(*batch, samples, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    feature = extractor(waveforms)
    assert feature.shape == (*batch, extractor.bins, count_frames(samples))
    first = extractor(waveforms.reshape(-1, samples)[0])
    torch.testing.assert_close(feature.reshape(-1, *feature.shape[-2:])[0], first)


def test_lfcc_is_differentiable() -> None:
    waveform = torch.randn(1, 800, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LFCC(), waveform, eps=1e-7, atol=1e-3)


def test_lfcc_of_silence_is_finite() -> None:
    assert torch.isfinite(LFCC()(torch.zeros(1, 16000))).all()


def test_power_spectrogram_finds_a_sine() -> None:
    time = torch.arange(16000) / 16000
    power = PowerSpectrogram()(torch.sin(2 * torch.pi * 1000 * time))
    assert (power.argmax(dim=0) == 1000 * 512 // 16000).all()


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        LFCC()(torch.zeros(0))


def test_features_stay_out_of_the_state_dict() -> None:
    assert not LFCC().state_dict()


def test_filters_are_triangles_of_height_one() -> None:
    filters = triangular_filters(20, 512)
    assert filters.shape == (257, 20)
    # Corners fall between bins, so that the tallest bin of a filter is near its peak, not on it.
    assert (filters.max(axis=0) > 0.9).all()
    assert filters.max() <= 1
    assert filters[0].max() == 0


def test_dct_is_orthonormal() -> None:
    matrix = dct_matrix(20, 20)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(20), atol=1e-12)


def test_fixed_frames_tile_and_crop() -> None:
    ramp = torch.arange(5.0).expand(2, 5)
    assert fix_frames(ramp, 7)[0].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert fix_frames(ramp, 3)[0].tolist() == [0, 1, 2]
    assert fix_frames(ramp, 3, start=2)[0].tolist() == [2, 3, 4]


def test_random_crop_only_with_a_generator() -> None:
    waveform = torch.randn(160 * 101)
    whole, feature = LFCC()(waveform), FixedFrames(LFCC(), 40)
    torch.testing.assert_close(feature(waveform), whole[:, :40])
    starts = set()
    for seed in range(20):
        crop = feature(waveform, rng=np.random.default_rng(seed))
        starts.add(next(s for s in range(61) if torch.equal(crop, whole[:, s : s + 40])))
    assert len(starts) > 10
    assert max(starts) <= 60
