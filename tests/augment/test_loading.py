"""Augmented training: the same batches whatever loads them, and from where; dev and eval are never augmented."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from s2pecnet.augment.chain import Augmentation
from s2pecnet.cli import train
from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.corpora.detect import find_split
from s2pecnet.data.datasets import Dataset_ASVspoof2019_devNeval
from s2pecnet.data.loaders import make_loader
from s2pecnet.experiment import get_loader
from s2pecnet.features import LFCC, FixedFrames
from s2pecnet.systems.inputs import Inputs
from tests.helpers.samples import TINIEST
from tests.training.test_trainer import arguments, different, outcome, train_with_cuts

STEPS: list[dict[str, Any]] = [
    {"step": "rawboost", "algorithm": 4, "probability": 0.7},
    {"step": "speed"},
    {"step": "codec", "codecs": ["mp3", "mulaw", "vorbis"], "probability": 0.5},
]


def batches(corpus: Path, augment: list[dict[str, Any]] = STEPS, context: str | None = None, **options: Any) -> Any:
    """Two epochs, every number of them."""
    inputs = options.pop("inputs", Inputs(4000))
    chain = Augmentation(as_config(TINIEST | {"augment": augment}).augment)
    loader = make_loader(
        find_split(corpus, "LA", "train"), batch_size=5, seed=3, inputs=inputs, augmentation=chain, **options
    )
    if context is not None:
        loader.multiprocessing_context = context
    return [torch.cat([part.flatten().float() for part in batch]) for _ in range(2) for batch in loader]


@pytest.fixture(scope="module")
def plainly_loaded(corpus: Path) -> Any:
    return batches(corpus)


# There may be fewer cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 3}, {"num_workers": 2, "context": "spawn"}])
def test_batches_do_not_depend_on_who_loads_them(corpus: Path, plainly_loaded: Any, options: dict[str, Any]) -> None:
    found = batches(corpus, **options)
    assert len(found) == len(plainly_loaded) == 8
    assert all(torch.equal(one, other) for one, other in zip(plainly_loaded, found, strict=True))


def test_nor_on_the_cache(corpus: Path, plainly_loaded: Any, tmp_path: Path) -> None:
    for _ in range(2):
        found = batches(corpus, cache_dir=tmp_path, audio_cache=True)
        assert all(torch.equal(one, other) for one, other in zip(plainly_loaded, found, strict=True))


def test_what_is_augmented_is_the_complete_utterance(corpus: Path) -> None:
    """The second input, too, and crops are where they were."""
    gain = [{"step": "gain", "gain": [6.0205999, 6.0205999]}]
    plain, louder = (batches(corpus, steps, inputs=Inputs(4000)) for steps in ([], gain))
    for one, other in zip(plain, louder, strict=True):
        torch.testing.assert_close(2 * one[:-5], other[:-5])
    inputs = Inputs(4000, FixedFrames(LFCC(), 50))
    plain, louder = (batches(corpus, steps, inputs=inputs) for steps in ([], gain))
    assert not any(torch.equal(one[20000:-5], other[20000:-5]) for one, other in zip(plain, louder, strict=True))


def test_no_epoch_hears_an_utterance_as_the_one_before(corpus: Path) -> None:
    loader = make_loader(
        find_split(corpus, "LA", "train"), batch_size=24, seed=3, inputs=Inputs(4000), random_crop=False,
        augmentation=Augmentation(as_config(TINIEST | {"augment": STEPS}).augment),
    )  # fmt: skip
    (first, _), (second, _) = next(iter(loader)), next(iter(loader))
    assert len({tuple(row.tolist()) for row in [*first, *second]}) == 48


def test_first_crops_are_those_of_scoring(corpus: Path) -> None:
    split = find_split(corpus, "LA", "train")
    loader = make_loader(split, batch_size=24, seed=3, inputs=Inputs(4000), random_crop=False)
    order = loader.sampler.order(0).tolist()  # type: ignore[attr-defined]
    crops, _ = next(iter(loader))
    scored = Dataset_ASVspoof2019_devNeval(split.trials.utterance, split.audio, Inputs(4000))
    assert all(torch.equal(crop, scored[index][0]) for index, crop in zip(order, crops, strict=True))


def test_dev_and_eval_are_not_augmented(tiniest_config: Path, corpus: Path) -> None:
    plain = load_config(tiniest_config)
    augmented = load_config(tiniest_config, ["augment=" + json.dumps(STEPS)])
    ours, others = (get_loader(corpus, 1, config) for config in (plain, augmented))
    for index, equal in enumerate((False, True, True)):
        (one, *_), (other, *_) = next(iter(ours[index])), next(iter(others[index]))
        assert torch.equal(one, other) == equal


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--set=num_workers=2", "--set=audio_cache=true"]], ids=["plain", "workers"])
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    more: list[str], tiniest_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["main.py"])
    more = [*more, "--set=save_every_steps=1", "--set=augment=" + json.dumps(STEPS)]
    train.main(arguments(tiniest_config, tmp_path / "whole", *more))
    train_with_cuts(monkeypatch, arguments(tiniest_config, tmp_path / "cut", *more))
    whole, cut_run = (outcome(next((tmp_path / name).glob("LA_*"))) for name in ("whole", "cut"))
    assert whole.keys() == cut_run.keys()
    assert not different(whole, cut_run)
    train.main(arguments(tiniest_config, tmp_path / "clean", *more[:-1]))
    clean = outcome(next((tmp_path / "clean").glob("LA_*")))
    assert clean["history"][0]["loss"] != whole["history"][0]["loss"]
