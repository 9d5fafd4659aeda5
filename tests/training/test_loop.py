"""The loop does what it says: losses, class weights, SWA, BatchNorm, honest selection."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from s2pecnet.config.experiment import as_config
from s2pecnet.errors import InputError
from s2pecnet.systems.registry import forward
from s2pecnet.training.loop import LossMeter, recompute_batch_norm, train_epoch
from s2pecnet.training.step import loss_terms
from tests.helpers.samples import TINY

CONFIG = as_config(TINY)
CPU = torch.device("cpu")


class Toy(nn.Module):
    """Two inputs, BatchNorm; written in the style of the released framework."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, momentum=0.1)
        self.out = nn.Linear(4, 2)
        self.masked = 0

    def forward(self, x: Tensor, feature: Tensor | None = None, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        self.masked += Freq_aug
        x = x if feature is None else x + feature
        hidden = self.norm(x)
        return hidden, self.out(hidden)


def batches(inputs: int, count: int = 6) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    items = [
        (*(torch.randn(4, generator=generator) * 3 + 1 for _ in range(inputs)), index % 2) for index in range(4 * count)
    ]
    return DataLoader(items, batch_size=4)  # type: ignore[arg-type]


def test_the_default_loss_is_weighted_cross_entropy() -> None:
    model, x, labels = Toy(), torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 0])
    weights = torch.tensor([0.1, 0.9])
    terms = loss_terms(model, [x], labels, nn.CrossEntropyLoss(weight=weights), freq_aug=False)
    log_probabilities = torch.log_softmax(model(x)[1], dim=1)
    by_hand = -(weights[labels] * log_probabilities[range(5), labels]).sum() / weights[labels].sum()
    torch.testing.assert_close(terms["classification"], by_hand)


@pytest.mark.parametrize("inputs", [1, 2])
def test_an_epoch_learns_and_steps_the_schedule(inputs: int) -> None:
    torch.manual_seed(0)
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    meter = LossMeter()
    loss = train_epoch(batches(inputs), model, optimizer, CPU, scheduler, CONFIG, meter)
    assert scheduler.last_epoch == 6
    assert meter.utterances == 24
    assert loss == pytest.approx(sum(meter.means().values()))
    assert model.masked == 0


def test_frequency_masking_only_when_the_config_says_so() -> None:
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_epoch(batches(1), model, optimizer, CPU, None, as_config(TINY | {"freq_aug": "True"}))
    assert model.masked == 6


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    model = Toy()
    with torch.no_grad():
        model.out.bias.fill_(float("inf"))
    with pytest.raises(InputError, match="the loss is nan"):
        train_epoch(batches(1), model, torch.optim.SGD(model.parameters(), lr=0.1), CPU, None, CONFIG)


def test_a_model_that_breaks_the_contract_is_reported() -> None:
    with pytest.raises(InputError, match="second element is logits"):
        forward(nn.Linear(4, 2), [torch.zeros(1, 4)])


@pytest.mark.parametrize("inputs", [1, 2])
def test_batch_norm_is_recomputed_from_all_inputs(inputs: int) -> None:
    model, loader = Toy(), batches(inputs)
    recompute_batch_norm(model, loader, CPU, freq_aug=False)
    # update_bn averages the batches' means with equal weight.
    means = torch.stack([torch.stack(list(batch[:-1])).sum(dim=0).mean(dim=0) for batch in loader])
    torch.testing.assert_close(model.norm.running_mean, means.mean(dim=0))
