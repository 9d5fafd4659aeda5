"""Audio of several corpora: the samples, caches and messages of each; how often an epoch takes them."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2pecnet import parallel
from s2pecnet.audio.decoding import BadAudio
from s2pecnet.augment.chain import Augmentation
from s2pecnet.config.experiment import as_config
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.several import CorpusSource, find_corpora
from s2pecnet.corpora.trials import Split
from s2pecnet.data import loaders
from s2pecnet.data.loaders import SeededShuffle, make_loader, taken
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError
from s2pecnet.systems.inputs import Inputs
from tests.data.test_skipped import spoil
from tests.helpers.made_corpora import make_csv, make_folders, make_parquet
from tests.helpers.samples import TINIEST


def sources(corpus: Path, folder: Path, *weights: float) -> list[CorpusSource]:
    """LA, a CSV corpus and one of Parquet shards, of the same clips."""
    made = [corpus, make_csv(corpus, folder / "mine")]
    made += [make_parquet(corpus, folder / "shards")] if len(weights) == 3 else []
    named = zip(("LA", "B", "P"), made, weights, strict=False)
    return [CorpusSource(name, str(path), weight=weight) for name, path, weight in named]


@pytest.fixture
def split(corpus: Path, tmp_path: Path) -> Split:
    pytest.importorskip("pyarrow")
    return find_corpora(sources(corpus, tmp_path, 1, 1, 1))["train"]


def test_samples_are_those_of_the_corpora(corpus: Path, split: Split) -> None:
    single, joined = AudioFolder.of(find_split(corpus, "LA", "train")), AudioFolder.of(split)
    assert len(joined.utterances) == 72
    for index in (0, 23, 24, 47, 48, 71):
        assert np.array_equal(joined.complete(index), single.complete(index % 24))
        one, other = (
            audio.crop(index % len(audio.utterances), 2400, lambda spare: spare // 2) for audio in (joined, single)
        )
        assert np.array_equal(one, other)
    again = pickle.loads(pickle.dumps(joined))
    assert np.array_equal(again.complete(60), single.complete(12))


@pytest.mark.parametrize("audio_cache", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_no_cache_and_no_workers(
    split: Split, tmp_path: Path, audio_cache: bool, workers: int
) -> None:
    plain = list(make_loader(split, batch_size=9, seed=3))
    options: dict[str, Any] = {"num_workers": workers, "audio_cache": audio_cache, "cache_dir": tmp_path / "cache"}
    for (one, labels), (other, same) in zip(plain, make_loader(split, batch_size=9, seed=3, **options), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(labels, same)


def test_caches_are_those_of_each_corpus_alone(corpus: Path, split: Split, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 6, "seed": 1, "audio_cache": True, "cache_dir": tmp_path / "cache"}
    make_loader(find_split(corpus, "LA", "train"), **options)
    before = {path.name: path.stat().st_mtime_ns for path in options["cache_dir"].glob("*.bin")}
    loader: Any = make_loader(split, **options)
    now = {path.name: path.stat().st_mtime_ns for path in options["cache_dir"].glob("*.bin")}
    assert len(before) == 2
    assert len(now) == 6
    assert now | before == now
    assert len(loader.dataset.audio.headers) == 72


def test_messages_name_the_file_and_the_line_of_the_corpus(corpus: Path, tmp_path: Path) -> None:
    mine, other = make_csv(corpus, tmp_path / "mine"), make_folders(corpus, tmp_path / "folders")
    split = find_corpora([CorpusSource("F", str(other)), CorpusSource("B", str(mine))])["train"]
    victim = split.parts[1].split.trials
    path = AudioFolder.of(split).path(len(split.parts[0].split.trials) + 3)
    spoil(path, "truncated")
    with pytest.raises(BadAudio, match=rf"{path.name}: .*metadata\.csv:{victim.line[3]}\)"):
        AudioFolder.of(split).complete(24 + 3)
    with pytest.raises(InputError, match=rf"1 of 24 files that .*metadata\.csv names cannot be used: {path.name} \("):
        make_loader(split, batch_size=6, seed=1)
    path.unlink()
    with pytest.raises(InputError, match=r"1 of 24 files that .*metadata\.csv names are missing: "):
        make_loader(split, batch_size=6, seed=1)


# ---- weights -----------------------------------------------------------------------------------


def draws(shuffle: SeededShuffle) -> list[Any]:
    return list(shuffle)


def counts(items: np.ndarray) -> set[int]:
    return set(Counter(items.tolist()).values())


def test_weights_of_one_give_the_order_without_weights() -> None:
    for epoch in (0, 3):
        plain, weighted = SeededShuffle(range(30), 7), SeededShuffle(range(30), 7, weights=[(10, 1.0), (20, 1)])
        plain.set_epoch(epoch)
        weighted.set_epoch(epoch)
        assert plain.order(epoch).tolist() == np.random.default_rng([7, epoch]).permutation(30).tolist()
        assert draws(plain) == draws(weighted)


def test_a_weight_says_how_often_an_epoch_takes_an_utterance() -> None:
    shuffle = SeededShuffle(range(30), 7, weights=[(10, 2.0), (12, 0.5), (8, 2.25)])
    halves = []
    for epoch in range(4):
        items = shuffle.order(epoch)
        assert len(items) == len(shuffle) == shuffle.total == 20 + 6 + 18
        first, second, third = items[items < 10], items[(items >= 10) & (items < 22)], items[items >= 22]
        assert counts(first) == {2}
        assert counts(second) == {1}
        assert Counter(Counter(third).values()) == {2: 6, 3: 2}
        halves.append(frozenset(second))
    assert len(set(halves)) == 4
    assert taken(3, 0.1) == 0


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    one, other = (SeededShuffle(range(30), 7, weights=[(10, 2.0), (20, 0.5)]) for _ in range(2))
    first, second = draws(one), draws(one)
    assert first != second
    other.set_epoch(1)
    assert draws(other) == second
    other.set_epoch(1, skip=5)
    assert draws(other) == second[5:]
    assert draws(SeededShuffle(range(30), 8, weights=[(10, 2.0), (20, 0.5)])) != first


def test_the_same_utterance_has_other_seeds_each_time() -> None:
    shuffle = SeededShuffle(range(10), 7, weights=[(10, 3.0)])
    found = draws(shuffle)
    assert len({draw.seed for draw in found}) == 30
    # The first time as in a corpus alone.
    assert {draw.seed for draw in draws(SeededShuffle(range(10), 7))} < {draw.seed for draw in found}


def test_processes_share_a_weighted_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffle() -> SeededShuffle:
        return SeededShuffle(range(30), 7, 8, 4, weights=[(10, 2.0), (20, 0.5)])

    whole, shares = draws(shuffle())[:24], []
    for rank in range(2):
        group = parallel.Processes(rank, 2)
        monkeypatch.setattr(loaders, "processes", lambda group=group: group)
        shares.append(draws(shuffle()))
        assert len(shares[-1]) == len(shuffle()) == 12
    batches = [{*whole[begin : begin + 8]} for begin in range(0, 24, 8)]
    assert batches == [{*shares[0][begin : begin + 4], *shares[1][begin : begin + 4]} for begin in range(0, 12, 4)]


def test_training_hears_an_utterance_in_another_way_each_time(corpus: Path, tmp_path: Path) -> None:
    split = find_corpora(sources(corpus, tmp_path, 2, 0.5))["train"]
    steps = as_config(TINIEST | {"augment": [{"step": "gain"}]}).augment
    loader = make_loader(split, batch_size=60, seed=3, inputs=Inputs(2400), augmentation=Augmentation(steps))
    assert len(loader) == 1
    waveforms, _ = next(iter(loader))
    assert len({row.numpy().tobytes() for row in waveforms}) == 60


def test_the_length_of_an_epoch_follows_from_the_weights(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    joined = find_corpora(sources(corpus, tmp_path, 0.25, 1.5))
    assert len(make_loader(joined["train"], batch_size=6, seed=3)) == (6 + 36) // 6
    assert "train: 6 an epoch of 24 of LA, 36 an epoch of 24 of B" in caplog.text
    assert len(make_loader(joined["dev"], batch_size=6, seed=3).dataset) == 36  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"LA \+ B: 42 trials are less than one batch \(batch_size 43\)"):
        make_loader(joined["train"], batch_size=43, seed=3)
    few = [one._replace(weight=0.01) if one.name == "B" else one for one in sources(corpus, tmp_path / "more", 1, 1)]
    with pytest.raises(InputError, match=r"weight 0\.01 of B takes none of its 24 training trials"):
        make_loader(find_corpora(few)["train"], batch_size=6, seed=3)


def test_bad_audio_is_listed_by_the_name_of_its_corpus(corpus: Path, tmp_path: Path) -> None:
    found = sources(corpus, tmp_path, 1, 1)
    split, skipped = find_corpora(found)["dev"], tmp_path / "skipped.txt"
    audio = AudioFolder.of(split)
    loader: Any = make_loader(split, batch_size=6, seed=1, inputs=Inputs(2400), skip_list=skipped)
    loader.dataset.skip_list.trials = 1000
    spoil(audio.path(30), "silent")
    scored = [name for *_, names in loader for name in names]
    assert scored == list(split.trials.utterance)
    assert skipped.read_text().startswith(f"{scored[30]}\t")
    assert scored[30].startswith("B/")
