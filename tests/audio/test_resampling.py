"""One resampler: what torchaudio computes, for waveforms of any length, in blocks of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2pecnet.audio.resampling import Resampler, filter_size, resample


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def resampled(waveform: np.ndarray, rate: int, lengths: list[int]) -> np.ndarray:
    """`waveform` through a `Resampler`, in blocks of `lengths` and a last one."""
    resampler = Resampler(rate)
    pieces, begin = [], 0
    for length in [*lengths, len(waveform)]:
        pieces += list(resampler.push(waveform[begin : begin + length]))
        begin += length
    return np.concatenate([*pieces, *resampler.flush()])


@settings(max_examples=25)
@given(
    st.sampled_from([8000, 11025, 22050, 44100, 48000, 96000, 192000, 16000, 15999, 7350]),
    st.lists(st.integers(0, 3000), max_size=6),
    st.integers(1, 9000),
)
def test_blocks_resampled_are_the_complete_waveform_resampled(rate: int, lengths: list[int], samples: int) -> None:
    waveform = noise(samples)
    blockwise = resampled(waveform, rate, lengths)
    np.testing.assert_array_equal(blockwise, resample(waveform, rate))
    assert len(blockwise) == -(-samples * 16000 // rate)


@pytest.mark.parametrize("rate", [100, 8000, 11025, 12000, 22050, 44100, 48000, 192000])
def test_resampling_is_torchaudios(rate: int) -> None:
    functional = pytest.importorskip("torchaudio.functional", reason="torchaudio is not installed")
    waveform = noise(rate // 4 + 500)
    exact = functional.resample(torch.from_numpy(waveform).double(), rate, 16000).numpy()
    np.testing.assert_allclose(resampled(waveform, rate, [77, 4000]), exact, atol=1e-6)


@pytest.mark.parametrize("rate", [44099, 15999])
def test_rates_without_a_common_divisor_take_little_memory(rate: int) -> None:
    # torchaudio's table for 44,099 Hz would have 16,000 x 44,133 values.
    assert filter_size(rate) == Resampler(rate).filters.size < 1e6
    time = np.arange(rate) / rate
    tone = resampled(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate, [1000])
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(tone[500:-500], expected[500:-500], atol=2e-3)
