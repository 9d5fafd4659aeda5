"""Outputs of a frozen front end that are kept: the same training, made once, and never a wrong score."""

import json
import multiprocessing
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2pecnet.cli import train
from s2pecnet.config.experiment import as_config
from s2pecnet.corpora.detect import find_split
from s2pecnet.data import outputs
from s2pecnet.data.loaders import make_loader
from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import read_cm_scores
from s2pecnet.systems.build import System
from s2pecnet.systems.front_end import FrontEnd
from s2pecnet.training import trainer
from tests.helpers import ROOT
from tests.helpers.made_corpora import make_csv
from tests.helpers.ssl import BACK_ENDS, TINY_XLSR
from tests.training.test_parallel import torchrun

CPU = torch.device("cpu")
EVAL = "eval_scores_using_best_dev_model.txt"


def content(corpus: Path, architecture: str = "SSL_Linear", layers: Any = "weighted", **changes: Any) -> dict[str, Any]:
    front_end = {"model": TINY_XLSR, "layers": layers, "trainable": "none"}
    model = {"architecture": architecture, "nb_samp": 4000, **BACK_ENDS[architecture], "front_end": front_end}
    return {
        "database_path": str(corpus), "batch_size": 6, "num_epochs": 2, "train_crop": "first", "model_config": model,
        "optim_config": {"base_lr": 0.01}, "feature_cache": "float32",
    } | changes  # fmt: skip


def run(folder: Path, given: dict[str, Any], *words: str, cache: Path | None = None) -> Path:
    """Train; the folder of the run. Caches are in the folder `cache`, or one of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.conf").write_text(json.dumps(given))
    own = ["--config", str(folder / "own.conf"), "--output_dir", str(folder), "--cache_dir", str(cache or folder / "c")]
    assert train.main([*own, *words]) == 0
    return folder / f"LA_own_ep{given['num_epochs']}_bs6"


def test_several_corpora_are_kept_as_one(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighted: an utterance that is taken twice has one output."""
    mine = {"path": str(make_csv(corpus, tmp_path / "mine")), "weight": 1.5}
    given = content(corpus, database_path=[{"path": str(corpus), "weight": 0.5}, mine])
    plain = run(tmp_path / "plain", given | {"feature_cache": None})
    seen = count_passes(monkeypatch)
    kept = run(tmp_path / "kept", given)
    # Each trial of the three splits of both once.
    assert sum(seen) == 2 * (24 + 18 + 18)
    assert losses(kept) == pytest.approx(losses(plain), rel=1e-5)
    np.testing.assert_allclose(scores(kept), scores(plain), atol=1e-5)


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "results.json").read_text())["history"]
    return [epoch[name] for epoch in history for name in ("loss", "dev_loss")]


def scores(folder: Path, name: str = EVAL) -> np.ndarray:
    return read_cm_scores(folder / name).scores


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that pass a front end from now on, without those that measure it."""
    seen: list[int] = []
    real = FrontEnd.forward

    def forward(self: FrontEnd, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return real(self, x)

    monkeypatch.setattr(FrontEnd, "forward", forward)
    return seen


def attached(corpus: Path, folder: Path, seed: int = 3, **changes: Any) -> Any:
    """The dev set of a system with a cache."""
    config = as_config(content(corpus, **changes))
    torch.manual_seed(seed)
    system = System.build(config, CPU)
    split = find_split(corpus, "LA", "dev")
    loader = make_loader(split, batch_size=6, seed=0, inputs=system.inputs, num_workers=0)
    outputs.use_feature_cache(system, {"dev": (loader, split.trials)}, folder)
    return loader.dataset


def test_what_is_kept_has_no_dropout(corpus: Path, tmp_path: Path) -> None:
    given = content(corpus)
    given["model_config"]["front_end"]["settings"] = {"hidden_dropout": 0.5, "feat_proj_dropout": 0.5}
    data = attached(corpus, tmp_path, model_config=given["model_config"])
    torch.manual_seed(3)
    system = System.build(as_config(given), CPU)
    waveform = data.inputs(data.audio.complete(0))[0]
    with torch.no_grad():
        fresh = system.model.eval().front_end(waveform[None])[0]  # type: ignore[operator]
    torch.testing.assert_close(torch.as_tensor(data[0][0]), fresh, atol=1e-5, rtol=0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads add up in another order, and what is rounded otherwise may be ranked otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("architecture", "layers"), [("SSL_Linear", "weighted"), ("SSL_AASIST", "last"), ("SSL_MHFA", "all")]
)
def test_the_training_is_the_same(
    architecture: str, layers: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not Adam: what has no gradient but rounding (biases before a BatchNorm) would move by that alone.
    optimizer = {"optimizer": "sgd", "momentum": 0.9, "base_lr": 0.01}
    given = content(corpus, architecture, layers, optim_config=optimizer)
    without = run(tmp_path / "without", given | {"feature_cache": None})
    passes = count_passes(monkeypatch)
    cached = run(tmp_path / "with", given)
    # Each utterance of 24, 18 and 18 once, eight at a time.
    assert sum(passes) == 60
    np.testing.assert_allclose(losses(cached), losses(without), rtol=1e-3)
    np.testing.assert_allclose(scores(cached), scores(without), atol=1e-3)
    # Another run finds it, and loading processes read it too.
    passes.clear()
    again = run(tmp_path / "again", given | {"num_workers": 2}, cache=tmp_path / "with" / "c")
    assert not passes
    assert (again / EVAL).read_bytes() == (cached / EVAL).read_bytes()
    # The weights are the complete system's: scored without the cache.
    words = ["--eval", "--eval_model_weights", str(cached / "weights" / "best.pth")]
    run(tmp_path / "scored", given, *words)
    found = next((tmp_path / "scored").rglob("eval_scores*.txt"))
    np.testing.assert_allclose(read_cm_scores(found).scores, scores(cached), atol=1e-5)


@pytest.mark.slow
def test_half_as_large_in_float16(corpus: Path, tmp_path: Path) -> None:
    full = run(tmp_path / "full", content(corpus))
    half = run(tmp_path / "half", content(corpus, feature_cache="float16"))
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name / "c").glob("outputs-*.bin")) for name in ("full", "half")
    ]
    assert 1.9 < sizes[0] / sizes[1] < 2.01
    assert (half / EVAL).read_bytes() != (full / EVAL).read_bytes()
    np.testing.assert_allclose(losses(half), losses(full), rtol=0.01)


class Killed(BaseException):
    """The process died."""


@pytest.mark.slow
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = content(corpus, "SSL_AASIST", "last", save_every_steps=1)
    whole = run(tmp_path / "whole", given)
    calls = iter(range(100))

    def cut(where: str) -> None:
        if where.startswith("after step") and next(calls) == 5:
            raise Killed

    monkeypatch.setattr(trainer, "raise_if_stop_requested", cut)
    with pytest.raises(Killed):
        run(tmp_path / "cut", given, "--resume")
    ended = run(tmp_path / "cut", given, "--resume")
    assert next(calls) > 6
    for name in (EVAL, "dev_scores.txt", "eval_scores_using_best_dev_model_swa.txt"):
        assert (ended / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_processes_that_share_a_training_share_the_cache(corpus: Path, tmp_path: Path) -> None:
    given = content(corpus)
    alone = run(tmp_path / "alone", given)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "own.conf").write_text(json.dumps(given))
    words = [ROOT / "main.py", "--config", shared / "own.conf", "--output_dir", shared, "--device", "cpu"]
    done = subprocess.run(torchrun(*words), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(list((shared / "cache").glob("outputs-*.bin"))) == 3
    np.testing.assert_allclose(scores(shared / "LA_own_ep2_bs6"), scores(alone), atol=1e-5)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"augment": [{"step": "gain"}]}, "does not work with augment"),
    ({"train_crop": "random"}, 'train_crop "first"'),
    ({"freq_aug": True}, "does not work with freq_aug"),
    ({"eval_crop": "windows"}, 'eval_crop "first"'),
    ({"model_config": {"architecture": "AASIST"}}, r"needs a system with model_config\.front_end"),
    ({"feature_cache": "int8"}, "int8"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_what_it_does_not_go_with(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"feature_cache: .*{reason}"):
        as_config(content(tmp_path) | changes)


@pytest.mark.parametrize("trainable", ["all", 1, None])
def test_a_front_end_that_is_trained_is_not_cached(trainable: Any, tmp_path: Path) -> None:
    given = content(tmp_path)
    given["model_config"]["front_end"]["trainable"] = trainable
    with pytest.raises(InputError, match=r"feature_cache: needs a frozen front end"):
        as_config(given)


def test_it_is_another_experiment_only_where_it_is_on(tmp_path: Path) -> None:
    off = content(tmp_path, feature_cache=None)
    assert "feature_cache" not in as_config(off).identity()
    assert as_config(off | {"feature_cache": "float16"}).identity()["feature_cache"] == "float16"


def test_outputs_of_other_weights_options_and_audio_are_others(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attached(corpus, tmp_path)
    passes = count_passes(monkeypatch)
    again = attached(corpus, tmp_path)
    assert torch.equal(first[5][0], again[5][0])
    assert not passes
    others: list[dict[str, Any]] = [
        {"seed": 4}, {"layers": "last"}, {"layers": [1, 2]}, {"precision": "bf16"}, {"feature_cache": "float16"},
    ]  # fmt: skip
    paths = {attached(corpus, tmp_path, **other).outputs.path for other in others}
    assert len(paths | {first.outputs.path}) == 1 + len(others)
    assert sum(passes) == 18 * len(others)
    # A file of the same size whose times have changed.
    name = first.audio.path(2)
    name.touch()
    passes.clear()
    assert attached(corpus, tmp_path).outputs.path == first.outputs.path
    assert sum(passes) == 18


@pytest.mark.parametrize("where", ["head", "table", "record", "cut", "gone"])
def test_damage_never_becomes_a_score(
    where: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = attached(corpus, tmp_path)
    kept, right = data.outputs, data[7][0]
    places = {"head": 3, "table": outputs.HEAD.itemsize + 5, "record": kept.begin + 7 * kept.size + 11}
    if where == "gone":
        kept.path.unlink()
    else:
        with open(kept.path, "r+b") as stream:
            if where == "cut":
                stream.truncate(kept.begin + 7 * kept.size + 11)
            else:
                stream.seek(places[where])
                byte = stream.read(1)
                stream.seek(places[where])
                stream.write(bytes([byte[0] ^ 16]))
    fresh = outputs.FrontEndOutputs(kept.path, kept.items, kept.shape, kept.dtype)
    with pytest.raises(InputError, match=r"feature_cache: .*: damaged"):
        fresh(7)
    if where == "record":
        # One that was open already.
        with pytest.raises(InputError, match=r"feature_cache: .*: damaged \(the outputs of item 7\)"):
            kept(7)
    passes = count_passes(monkeypatch)
    assert torch.equal(attached(corpus, tmp_path)[7][0], right)
    assert sum(passes) == 18


def test_bad_audio_that_may_be_skipped_has_no_score(corpus: Path, tmp_path: Path) -> None:
    config = as_config(content(corpus))
    system, split = System.build(config, CPU), find_split(corpus, "LA", "dev")
    loader = make_loader(
        split, batch_size=6, seed=0, inputs=system.inputs, num_workers=0, skip_list=tmp_path / "skipped.txt"
    )
    data: Any = loader.dataset
    data.skip_list.trials = 1000
    real = data.audio.crop
    data.audio.crop = lambda index, *more: outputs_refused(data, index) if index == 3 else real(index, *more)
    outputs.use_feature_cache(system, {"dev": (loader, split.trials)}, tmp_path)
    assert data[3][0].isnan().all()
    assert data[3][0].shape == data[4][0].shape
    assert not data[4][0].isnan().any()
    # It can be read again: but then all of it is to be.
    data.audio.crop, data.skip_list = real, None
    with pytest.raises(InputError, match="was bad audio when"):
        data[3]


def outputs_refused(data: Any, index: int) -> np.ndarray:
    from s2pecnet.audio.decoding import BadAudio

    raise BadAudio(f"{data.list_IDs[index]}: broken")


def test_what_float16_cannot_hold(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FrontEnd.forward
    monkeypatch.setattr(FrontEnd, "forward", lambda self, x: real(self, x) * 1e6)
    with pytest.raises(InputError, match=r"feature_cache: float16 cannot hold .*; use float32"):
        attached(corpus, tmp_path, feature_cache="float16")
    assert not list(tmp_path.glob("outputs-*.bin"))


def test_a_disk_that_is_too_small(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"feature_cache: .*free, and the outputs of 18 utterances need"):
        attached(corpus, tmp_path)


def _in_a_process(corpus: Path, folder: Path, passed: Any) -> None:
    real = FrontEnd.forward

    def forward(self: FrontEnd, x: torch.Tensor) -> torch.Tensor:
        passed.put(len(x))
        return real(self, x)

    FrontEnd.forward = forward  # type: ignore[method-assign]
    torch.set_num_threads(1)
    attached(corpus, folder)


def test_two_runs_at_once_make_it_once(corpus: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    passed = context.Queue()
    both = [context.Process(target=_in_a_process, args=(corpus, tmp_path, passed)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    sizes = []
    while not passed.empty():
        sizes.append(passed.get())
    assert sum(sizes) == 18
    assert len(list(tmp_path.glob("outputs-*.bin"))) == 1
    assert not list(tmp_path.glob("*.part"))
