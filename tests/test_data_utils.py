"""Protocols are parsed strictly, audio is decoded to mono 16 kHz, loaders give the same whatever their workers."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_utils import (
    Dataset_ASVspoof2019_devNeval,
    Dataset_ASVspoof2019_train,
    find_split,
    genSpoof_list,
    make_loader,
    pad,
    pad_random,
    read_audio,
    read_protocol,
    require_audio,
)
from errors import InputError
from features import LFCC, FixedFrames

GOOD = "LA_0079 LA_T_1 - - bonafide\nLA_0079 LA_T_2 - A01 spoof\n"


def protocol(folder: Path, text: str) -> Path:
    path = folder / "protocol.txt"
    path.write_text(text)
    return path


def test_protocols_are_read(tmp_path: Path) -> None:
    trials = read_protocol(protocol(tmp_path, GOOD))
    assert [(t.utterance, t.attack, t.key, t.label, t.line) for t in trials] == [
        ("LA_T_1", "-", "bonafide", 1, 1),
        ("LA_T_2", "A01", "spoof", 0, 2),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- A01 spoof", "A01 spoof", r"protocol.txt:2: got 4 columns, expected 5"),
        ("spoof", "spof", r"protocol.txt:2: key 'spof', expected one of bonafide, spoof"),
        ("LA_T_2", "LA_T_1", r"protocol.txt:2: utterance 'LA_T_1' stands already on line 1"),
        ("LA_T_2", "../LA_T_2", r"protocol.txt:2: utterance '../LA_T_2' is to be a name"),
        (GOOD, "\n", "the protocol is empty"),
    ],
)
def test_malformed_protocols_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_protocol(protocol(tmp_path, GOOD.replace(old, new)))


def test_missing_and_binary_protocols(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such protocol"):
        read_protocol(tmp_path / "nothing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        read_protocol(tmp_path / "binary")


@pytest.mark.parametrize(
    ("split", "count", "bonafide"), [("train", 25380, 2580), ("dev", 24844, 2548), ("eval", 71237, 7355)]
)
def test_real_protocols(shared: Path, tmp_path: Path, split: str, count: int, bonafide: int) -> None:
    import gzip

    name = f"ASVspoof2019.LA.cm.{split}.{'trn' if split == 'train' else 'trl'}.txt"
    path = tmp_path / name
    path.write_bytes(gzip.decompress((shared / "reference" / "protocols" / f"{name}.gz").read_bytes()))
    labels, utterances = genSpoof_list(path, is_train=True)
    assert len(utterances) == len(labels) == count
    assert sum(labels.values()) == bonafide
    assert genSpoof_list(path, is_eval=True) == utterances


def test_missing_audio_is_named_before_anything_starts(corpus: Path, tmp_path: Path) -> None:
    split = find_split(corpus, "LA", "dev")
    trials = read_protocol(split.protocol)
    require_audio(split, trials)
    ghost = trials[0]._replace(utterance="LA_D_0", line=99)
    with pytest.raises(InputError, match=r"1 of 19 files .* are missing: LA_D_0.flac \(line 99\)"):
        require_audio(split, [*trials, ghost])
    with pytest.raises(InputError, match="no such folder"):
        require_audio(split._replace(audio=tmp_path / "nowhere"), trials)


def test_other_rates_and_channels_become_mono_16_khz(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], axis=1) * 0.5
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    samples = read_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16000) <= 1
    middle = samples[2000:14000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * 16000 / len(middle) - 440) < 2
    assert middle.max() == pytest.approx(0.25, abs=0.01)


def test_audio_that_cannot_be_used(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "junk.flac").write_bytes(b"fLaC" + bytes(range(256)) * 4)
    whole = next((corpus / "ASVspoof2019_LA_dev" / "flac").glob("*.flac")).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    for name, message in [
        ("missing.flac", "no such audio file"),
        ("empty.flac", "the audio file is empty"),
        ("junk.flac", "cannot be decoded"),
        ("cut.flac", "cannot be decoded"),
        ("none.wav", "holds no samples"),
        ("nan.wav", "NaN or infinite"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            read_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


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


def test_features_are_of_the_whole_utterance(corpus: Path) -> None:
    split = find_split(corpus, "LA", "dev")
    loader = make_loader(split, batch_size=4, seed=0, cut=1600, feature=FixedFrames(LFCC(), 90))
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
            cut=4000,
            feature=FixedFrames(LFCC(), 50),
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
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(InputError) as caught:
        list(make_loader(split, batch_size=4, seed=0, num_workers=workers))
    assert str(caught.value).startswith(f"{broken}: cannot be decoded")
    assert "\n" not in str(caught.value)


def test_less_than_a_batch_is_refused(corpus: Path) -> None:
    with pytest.raises(InputError, match=r"24 trials are less than one batch \(batch_size 25\)"):
        make_loader(find_split(corpus, "LA", "train"), batch_size=25, seed=0)
