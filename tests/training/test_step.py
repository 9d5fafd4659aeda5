"""A step is the same step in pieces, with maps computed again, and nearly so in other precisions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import Checkpointed
from s2pecnet.systems import build
from s2pecnet.systems.registry import utterance_feature
from s2pecnet.training.loop import prepare_for_training
from s2pecnet.training.step import NonFiniteLoss, TrainingStep
from tests.helpers.samples import TINIEST, TINY

CPU = torch.device("cpu")
SYSTEMS: dict[str, dict[str, Any]] = {
    "S2pecNet": TINY["model_config"],
    "AASIST": {key: value for key, value in TINY["model_config"].items() if key != "nb_frames"}
    | {"architecture": "AASIST", "temperatures": [2.0, 2.0, 100.0], "pool_ratios": [0.5, 0.7, 0.5]},
}


def config_of(system: str, **changes: Any) -> Config:
    return as_config(TINY | {"model_config": SYSTEMS[system]} | changes)


def batch(system: str, size: int = 7) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(3)
    waveforms = 0.1 * torch.randn(size, 4800, generator=generator)
    feature = utterance_feature(SYSTEMS[system])
    labels = (torch.arange(size) % 3 == 0).long()
    return [waveforms] if feature is None else [waveforms, feature(waveforms)], labels


def stepped(
    system: str, prepare: Callable[[nn.Module], Any] = lambda model: None, steps: int = 2, **changes: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of the last step's loss, and the state after it."""
    config = config_of(system, **changes)
    torch.manual_seed(0)
    model = prepare_for_training(build.get_model(config.model_config, CPU), config).train()
    prepare(model)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config, CPU)
    terms = [step(*batch(system)) for _ in range(steps)][-1]
    return terms, model.state_dict()


def without_batch_effects(model: nn.Module) -> None:
    """What looks at a whole batch or draws at random is switched off; what is left is a sum over utterances."""
    for module in model.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            module.eval()


@pytest.mark.parametrize("system", ["AASIST", "S2pecNet"])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_pieces_of_a_batch_add_up_to_the_batch(system: str, size: int) -> None:
    terms, state = stepped(system, without_batch_effects, steps=1)
    terms_of_pieces, state_of_pieces = stepped(system, without_batch_effects, steps=1, micro_batch_size=size)
    assert list(terms) == list(terms_of_pieces)
    for name in terms:
        torch.testing.assert_close(terms[name], terms_of_pieces[name], rtol=1e-5, atol=1e-6)
    for name in state:
        torch.testing.assert_close(state[name], state_of_pieces[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("system", ["AASIST", "S2pecNet"])
def test_computing_maps_again_changes_nothing(system: str) -> None:
    terms, state = stepped(system)
    terms_again, state_again = stepped(system, activation_checkpointing=True)
    assert all(torch.equal(terms[name], terms_again[name]) for name in terms)
    assert all(torch.equal(state[name], state_again[name]) for name in state)


@pytest.mark.parametrize("system", ["AASIST", "S2pecNet"])
def test_maps_that_are_computed_again_are_not_kept(system: str) -> None:
    def kept(**changes: Any) -> int:
        config = config_of(system, **changes)
        model = prepare_for_training(build.get_model(config.model_config, CPU), config).train()
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model(*batch(system)[0])
        assert outputs[1].requires_grad
        return sum(storages.values())

    assert kept(activation_checkpointing=True) < 0.5 * kept()


def test_blocks_keep_no_maps_for_scoring() -> None:
    config = config_of("AASIST", activation_checkpointing=True)
    model = prepare_for_training(build.get_model(config.model_config, CPU), config)
    assert any(isinstance(module, Checkpointed) and module.recompute for module in model.modules())
    inputs, _ = batch("AASIST")
    plain = build.get_model(config.model_config, CPU)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(*inputs)[1], plain.eval()(*inputs)[1])


def test_a_system_without_such_blocks_is_reported() -> None:
    with pytest.raises(InputError, match="no block that is a s2pecnet"):
        prepare_for_training(nn.Linear(2, 2), config_of("AASIST", activation_checkpointing=True))
    with pytest.raises(InputError, match="compile: does not work together with activation_checkpointing"):
        config_of("AASIST", activation_checkpointing=True, compile=True)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_other_precisions_take_nearly_the_same_step(precision: str) -> None:
    terms, state = stepped("S2pecNet", without_batch_effects, steps=1)
    near_terms, near_state = stepped("S2pecNet", without_batch_effects, steps=1, precision=precision)
    for name in terms:
        torch.testing.assert_close(near_terms[name], terms[name], rtol=2e-3, atol=0)
    assert all(near_state[name].dtype == state[name].dtype for name in state)
    moved = max(float((near_state[name] - state[name]).abs().max()) for name in state)
    # bfloat16 has eight bits; which of them are lost depends on the instructions of the processor.
    assert moved < 4e-3
    assert (precision == "tf32") == (moved == 0)


class Overflowing(nn.Module):
    """Its gradient is beyond float16 until the scale of the loss has been lowered."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.out(x[:, :1])

    def loss(self, outputs: Any, inputs: Any, labels: Tensor, criterion: Any) -> Tensor:
        return 1e34 * criterion(outputs[1], labels)


def test_a_step_that_overflows_is_not_taken_and_the_schedule_waits() -> None:
    config = config_of("AASIST", precision="fp16")
    torch.manual_seed(0)
    model = Overflowing()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-35)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    step = TrainingStep(model, optimizer, scheduler, config, CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scale = step.scaler.get_scale()
    step(*batch("AASIST"))
    assert step.scaler.get_scale() < scale
    assert scheduler.last_epoch == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    while scheduler.last_epoch == 0:
        step(*batch("AASIST"))
    assert not torch.equal(before["out.weight"], model.state_dict()["out.weight"])


class Poisoned(nn.Module):
    """The loss of a batch that holds a NaN is a NaN, and so would BatchNorm's statistics be."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(x)
        return hidden, self.out(hidden)


def poisoned_step(allowed: int) -> tuple[TrainingStep, list[Tensor], list[Tensor], Tensor]:
    torch.manual_seed(0)
    model = Poisoned().train()
    config = config_of("AASIST", skip_nonfinite=allowed)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config, CPU)
    good, bad = torch.randn(6, 4), torch.randn(6, 4)
    bad[2, 1] = float("nan")
    return step, [good], [bad], torch.arange(6) % 2


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    step, good, bad, labels = poisoned_step(allowed=0)
    assert set(step(good, labels)) == {"classification"}
    with pytest.raises(NonFiniteLoss, match="the loss is nan"):
        step(bad, labels)


def test_a_few_such_batches_are_skipped_and_leave_no_trace() -> None:
    step, good, bad, labels = poisoned_step(allowed=2)
    other, *_ = poisoned_step(allowed=2)
    for _ in range(2):
        assert step(bad, labels) == {}
        step(good, labels)
        other(good, labels)
    assert step.skipped == 2
    state, clean = step.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(state[name], clean[name]) for name in state)
    with pytest.raises(NonFiniteLoss):
        step(bad, labels)


class Rooted(nn.Module):
    """A finite loss whose gradient is not, in batches with a large sum: the slope of a root at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(x)
        return hidden, self.out(hidden) + (self.out.weight.sum() * (0.0 if x.sum() > 100 else 1.0)).square().sqrt()


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_finite_loss_with_a_gradient_that_is_not_moves_nothing(allowed: int) -> None:
    torch.manual_seed(0)
    model = Rooted().train()
    config = config_of("AASIST", skip_nonfinite=allowed)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config, CPU)
    labels = torch.arange(6) % 2
    step([torch.randn(6, 4)], labels)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    bad = [torch.randn(6, 4) + 50]
    if not allowed:
        with pytest.raises(NonFiniteLoss, match=r"the loss is 0\.\d+, and its gradient is not finite"):
            step(bad, labels)
    else:
        assert step(bad, labels) == {}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_parameters())
    assert step([torch.randn(6, 4)], labels)


def test_a_micro_batch_too_small_for_batch_norm_is_reported() -> None:
    """One utterance whose map has one frame: BatchNorm has a single value."""
    config = as_config(TINIEST | {"batch_size": 3, "micro_batch_size": 2})
    model = build.get_model(config.model_config, CPU).train()
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, config, CPU)
    with pytest.raises(InputError, match=r"BatchNorm needs more than one value, and a batch of 1 .* micro_batch_size"):
        step([torch.randn(3, config.samples)], torch.tensor([0, 1, 0]))
