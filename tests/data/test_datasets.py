"""Loaders give the same batches whatever their workers; crops and features are of the right samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.audio.crops import pad, pad_random
from s2pecnet.audio.decoding import read_audio
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.data.datasets import Dataset_ASVspoof2019_devNeval, Dataset_ASVspoof2019_train, genSpoof_list
from s2pecnet.data.loaders import make_loader
from s2pecnet.errors import InputError
from s2pecnet.features import LFCC, FixedFrames
from s2pecnet.systems.inputs import Inputs


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 9))
def test_pad_and_pad_random(length: int, wanted: int, seed: int) -> None:
    x = np.arange(length)
    head = pad(x, wanted)
    assert head.tolist() == [i % length for i in range(wanted)]
    crop = pad_random(x, wanted, np.random.default_rng(seed))
    assert len(crop) == wanted
    if length >= wanted:
        assert crop.tolist() == list(range(crop[0], crop[0] + wanted))
    else:
        assert crop.tolist() == head.tolist()


def test_pad_random_reaches_every_start() -> None:
    starts = {int(pad_random(np.arange(12), 10, np.random.default_rng(seed))[0]) for seed in range(60)}
    assert starts == {0, 1, 2}
    np.random.seed(0)
    assert len(pad_random(np.arange(64600))) == 64600


def test_datasets_as_forks_use_them(corpus: Path) -> None:
    split = find_split(corpus, "LA", "train")
    labels, utterances = genSpoof_list(split.protocol, is_train=True)
    x, y = Dataset_ASVspoof2019_train(list_IDs=utterances, labels=labels, base_dir=split.audio)[0]
    assert x.shape == (64600,)
    assert x.dtype == torch.float32
    assert y == labels[utterances[0]]
    x, utterance = Dataset_ASVspoof2019_devNeval(list_IDs=utterances, base_dir=split.audio)[1]
    assert utterance == utterances[1]
    samples = read_audio(split.audio / "flac" / f"{utterance}.flac")
    np.testing.assert_array_equal(x.numpy()[: len(samples)], samples[:64600])


def test_features_are_of_the_complete_utterance(corpus: Path) -> None:
    split = find_split(corpus, "LA", "dev")
    loader = make_loader(split, batch_size=4, seed=0, inputs=Inputs(1600, FixedFrames(LFCC(), 90)))
    waveforms, features, utterances = next(iter(loader))
    assert waveforms.shape == (4, 1600)
    assert features.shape == (4, 60, 90)
    samples = torch.from_numpy(read_audio(split.audio / "flac" / f"{utterances[2]}.flac"))
    torch.testing.assert_close(features[2], LFCC()(samples)[:, :90])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(corpus: Path, workers: int) -> None:
    def two_epochs(num_workers: int) -> list[torch.Tensor]:
        loader = make_loader(
            find_split(corpus, "LA", "train"),
            batch_size=5,
            seed=3,
            inputs=Inputs(4000, FixedFrames(LFCC(), 50)),
            num_workers=num_workers,
        )
        return [torch.cat([part.flatten().float() for part in batch]) for _ in range(2) for batch in loader]

    reference, parallel = two_epochs(0), two_epochs(workers)
    assert len(reference) == 8
    for one, other in zip(reference, parallel, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(reference[0], reference[4])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named_from_a_worker_too(corpus: Path, tmp_path: Path, workers: int) -> None:
    import shutil

    root = tmp_path / "LA"
    shutil.copytree(corpus, root)
    split = find_split(root, "LA", "dev")
    broken = split.audio / "flac" / f"{read_protocol(split.protocol)[7].utterance}.flac"
    # Its end is there, so that only decoding it shows the damage.
    content = bytearray(broken.read_bytes())
    content[300:1300] = bytes(1000)
    broken.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(make_loader(split, batch_size=4, seed=0, num_workers=workers))
    assert str(caught.value).startswith(f"{broken}: cannot be decoded")
    assert "\n" not in str(caught.value)


def test_less_than_a_batch_is_refused(corpus: Path) -> None:
    with pytest.raises(InputError, match=r"24 trials are less than one batch \(batch_size 25\)"):
        make_loader(find_split(corpus, "LA", "train"), batch_size=25, seed=0)
