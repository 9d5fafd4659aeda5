"""Losses are what their papers say, train, and rank; the centres go wherever the weights go."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.cli import train
from s2pecnet.config.experiment import Config, as_config
from s2pecnet.errors import InputError
from s2pecnet.export.check import make_graphs
from s2pecnet.export.graphs import from_pt2, to_pt2
from s2pecnet.systems.build import System, get_model
from s2pecnet.systems.losses import CentreHead, mean_loss, utterance_loss
from s2pecnet.systems.weights import save_weights
from s2pecnet.training.step import TrainingStep
from tests.helpers.samples import TINIEST, TINY

CPU = torch.device("cpu")
LOSSES = ("CCE", "focal", "OC-Softmax", "AM-Softmax")


def config_of(loss: str, **changes: Any) -> Config:
    return as_config(TINIEST | {"loss": loss} | changes)


def test_focal_is_cross_entropy_that_easy_utterances_count_less_in() -> None:
    logits, labels = torch.randn(9, 2), torch.arange(9) % 2
    probability = torch.softmax(logits, dim=1)[torch.arange(9), labels]
    expected = -((1 - probability) ** 3) * probability.log()
    found = utterance_loss(config_of("focal", loss_config={"gamma": 3}))(logits, labels)
    torch.testing.assert_close(found, expected)
    plain = utterance_loss(config_of("focal", loss_config={"gamma": 0}))(logits, labels)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, labels, reduction="none"))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_where_an_utterance_is_certain(gamma: float) -> None:
    logits = torch.tensor([[-40.0, 40.0], [0.5, -0.5]], requires_grad=True)
    utterance_loss(config_of("focal", loss_config={"gamma": gamma}))(logits, torch.tensor([1, 1])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().max() < 1e-6 < logits.grad[1].abs().min()


def test_oc_softmax_by_hand() -> None:
    head = CentreHead(3, 1, 20.0)
    head.centres.data = torch.tensor([[0.0, 2.0, 0.0]])
    embedding = torch.tensor([[0.0, 5.0, 0.0], [3.0, 4.0, 0.0], [0.0, -1.0, 0.0]])
    logits = head(embedding)
    torch.testing.assert_close(logits[:, 1], torch.tensor([1.0, 0.8, -1.0]))
    losses = utterance_loss(config_of("OC-Softmax"))(logits, torch.tensor([1, 0, 0]))
    by_hand = [math.log1p(math.exp(20 * one)) for one in (0.9 - 1.0, 0.8 - 0.2, -1.0 - 0.2)]
    torch.testing.assert_close(losses, torch.tensor(by_hand), rtol=1e-5, atol=1e-6)


def test_am_softmax_by_hand() -> None:
    head = CentreHead(2, 2, 10.0)
    head.centres.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    config = config_of("AM-Softmax", loss_config={"alpha": 10, "margin": 0.3})
    losses = utterance_loss(config)(head(torch.tensor([[0.6, 0.8]]) * 7), torch.tensor([1]))
    # The class's own cosine is lowered by the margin.
    by_hand = -math.log(math.exp(10 * 0.5) / (math.exp(10 * 0.5) + math.exp(10 * 0.6)))
    torch.testing.assert_close(losses, torch.tensor([by_hand]))


def test_the_mean_counts_classes_by_their_weights() -> None:
    logits, labels = torch.randn(12, 2), torch.arange(12) % 3 // 2
    for loss in ("CCE", "focal"):
        one = utterance_loss(config_of(loss))(logits, labels)
        weights = torch.tensor([0.1, 0.9])[labels]
        assert mean_loss(config_of(loss), logits, labels) == pytest.approx(float((weights * one).sum() / weights.sum()))
    expected = functional.cross_entropy(logits, labels, weight=torch.tensor([0.1, 0.9]))
    assert mean_loss(config_of("CCE"), logits, labels) == pytest.approx(float(expected))
    one = utterance_loss(config_of("OC-Softmax"))(logits, labels)
    assert mean_loss(config_of("OC-Softmax"), logits, labels) == pytest.approx(float(one.mean()))


def made_batch(size: int = 16) -> tuple[Tensor, Tensor]:
    """Noise of two colours: bona fide is the darker one."""
    generator = torch.Generator().manual_seed(1)
    x, labels = 0.1 * torch.randn(size, 2400, generator=generator), torch.arange(size) % 2
    darker = functional.avg_pool1d(x[:, None], 5, stride=1, padding=2)[:, 0]
    return torch.where(labels[:, None] == 1, darker, x), labels


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "micro"), [*((loss, None) for loss in LOSSES), ("OC-Softmax", 8)])
def test_each_loss_trains_and_its_scores_rank(loss: str, micro: int | None) -> None:
    torch.manual_seed(0)
    config = config_of(loss, micro_batch_size=micro)
    system = System.build(config, CPU)
    optimizer = torch.optim.Adam(system.model.parameters(), lr=3e-3)
    step = TrainingStep(system.model.train(), optimizer, None, config, CPU)
    x, labels = made_batch()
    losses = [float(sum(step([x], labels).values())) for _ in range(45)]
    # BatchNorm's statistics catch up with the weights.
    optimizer.param_groups[0]["lr"] = 0.0
    losses += [float(sum(step([x], labels).values())) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    scores = system.scorer()(x)
    assert scores[labels == 1].min() > scores[labels == 0].max()
    if loss == "OC-Softmax":
        assert scores.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("loss", ["focal", "OC-Softmax", "AM-Softmax"])
def test_pieces_of_a_batch_add_up_to_the_batch(loss: str) -> None:
    def gradient(micro: int | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        config = config_of(loss, micro_batch_size=micro)
        model = System.build(config, CPU).model.train()
        for module in model.modules():
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
                module.eval()
        TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.0), None, config, CPU)([made_batch()[0]], labels)
        return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}

    labels = (torch.arange(16) % 3 == 0).long()
    whole, pieces = gradient(None), gradient(5)
    assert whole.keys() == pieces.keys()
    assert ("loss_head.centres" in whole) == (loss != "focal")
    for name, one in whole.items():
        torch.testing.assert_close(one, pieces[name], rtol=1e-3, atol=1e-6, msg=name)


def test_a_system_keeps_its_own_terms() -> None:
    config = as_config(TINY | {"loss": "OC-Softmax"})
    system = System.build(config, CPU)
    assert system.inputs.feature is not None
    x = 0.1 * torch.randn(4, 4800)
    step = TrainingStep(system.model.train(), torch.optim.SGD(system.model.parameters(), lr=0.1), None, config, CPU)
    terms = step([x, system.inputs.feature(x)], torch.tensor([0, 1, 0, 1]))
    assert list(terms) == ["classification", "first_order", "second_order"]
    assert system.model.loss_head.centres.grad is not None  # type: ignore[union-attr]


def test_other_systems_are_built_as_before() -> None:
    torch.manual_seed(0)
    plain = System.build(config_of("CCE"), CPU).model
    torch.manual_seed(0)
    with_head = System.build(config_of("AM-Softmax"), CPU).model
    assert set(with_head.state_dict()) - set(plain.state_dict()) == {"loss_head.centres"}
    assert all(torch.equal(value, with_head.state_dict()[name]) for name, value in plain.state_dict().items())
    assert with_head.training == plain.training


def test_weights_of_another_loss_are_refused_in_words(tmp_path: Path) -> None:
    for loss in LOSSES:
        save_weights(System.build(config_of(loss), CPU).model, tmp_path / f"{loss}.pth")
    for trained, wanted, message in (
        ("CCE", "OC-Softmax", "trained without centres of a loss on embeddings (CCE or focal), and the config's loss"),
        ("OC-Softmax", "CCE", "trained with OC-Softmax, and the config's loss is CCE; set loss=OC-Softmax"),
        ("OC-Softmax", "AM-Softmax", "trained with OC-Softmax, and the config's loss is AM-Softmax"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            System.load(config_of(wanted), tmp_path / f"{trained}.pth", CPU)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    for trained, wanted in (("CCE", "focal"), ("AM-Softmax", "AM-Softmax")):
        System.load(config_of(wanted), tmp_path / f"{trained}.pth", CPU)


def test_am_softmax_scores_with_the_scale_that_trained_it(tmp_path: Path) -> None:
    trained = {"config": TINIEST | {"loss": "AM-Softmax", "loss_config": {"alpha": 40}}}
    config = config_of("AM-Softmax", loss_config={"alpha": 40})
    save_weights(System.build(config, CPU).model, tmp_path / "w.pth", trained)
    assert System.load(config, tmp_path / "w.pth", CPU).model.loss_head.alpha == 40  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"trained with loss_config.alpha 40, .*20.0; set loss_config.alpha=40$"):
        System.load(config_of("AM-Softmax"), tmp_path / "w.pth", CPU)


def test_a_loop_without_the_centres_is_told_so() -> None:
    """As forks have it: `get_model` knows nothing of the loss."""
    model = get_model(TINIEST["model_config"], CPU)
    for loss in ("OC-Softmax", "AM-Softmax"):
        with pytest.raises(InputError, match=f"loss: {loss} has centres, and the model has none; make it by"):
            TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config_of(loss), CPU)


def test_a_system_without_an_embedding_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from s2pecnet.systems import losses

    monkeypatch.setattr(losses, "forward", lambda model, inputs: (torch.zeros(1, 3, 4), torch.zeros(1, 2)))
    with pytest.raises(InputError, match=r"OC-Softmax works on an embedding \(B, D\).*AASIST has none there"):
        System.build(config_of("OC-Softmax"), CPU)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["OC-Softmax", "AM-Softmax"])
def test_training_scoring_and_predicting_agree(loss: str, tiniest_config: Path, tmp_path: Path) -> None:
    options = ["--config", str(tiniest_config), "--set", f"loss={loss}", "--device", "cpu"]
    train.main([*options, "--output_dir", str(tmp_path / "a"), "--set", "num_epochs=1"])
    folder = tmp_path / "a" / "LA_tiniest_ep1_bs6"
    weights = folder / "weights" / "best.pth"
    train.main([*options, "--eval", "--output_dir", str(tmp_path / "b"), "--eval_model_weights", str(weights)])
    name = "eval_scores_using_best_dev_model.txt"
    assert (folder / name).read_text() == (tmp_path / "b" / "LA_tiniest_ep2_bs6" / name).read_text()
    history = json.loads((folder / "results.json").read_text())["history"]
    assert history[0]["dev_loss"] > 0
    # The exported graph has the centres too.
    system = System.load(config_of(loss), weights, CPU)
    score, _ = from_pt2(to_pt2(make_graphs(system, any_length=False)[-1], {}))
    x, _ = made_batch(3)
    torch.testing.assert_close(score(x), system.scorer()(x), rtol=1e-4, atol=1e-5)
