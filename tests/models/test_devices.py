"""Every system on a GPU that is not there: tensors without content, which know their device.

    fake CUDA    forward, loss and scorer under torch's FakeTensorMode: a tensor that stays on the CPU is an error
    meta         the complete training step, backward and optimizer included: the autograd engine asks a CUDA device for
                 its streams, so that the step is taken on the device "meta"; a tensor that stays on the CPU is an error

In both, every operator that is called is looked up: it must have a kernel for CUDA, where this torch was built for it.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from s2pecnet.config.experiment import Config, load_config
from s2pecnet.systems.build import System, inputs_of
from s2pecnet.systems.losses import class_weights
from s2pecnet.systems.scorer import Scorer
from s2pecnet.training.optim import create_optimizer
from s2pecnet.training.step import TrainingStep, loss_terms
from tests.helpers import ROOT

CONFIGS = sorted(path.name for path in (ROOT / "config").glob("*.conf"))
CUDA = torch.device("cuda", 0)
META = torch.device("meta")


def move(model: nn.Module, device: torch.device) -> nn.Module:
    """Tensors without content in the place of parameters and buffers; what is neither stays where it is."""

    def like(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                setattr(module, name, nn.Parameter(like(parameter), requires_grad=parameter.requires_grad))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = like(buffer)
    return model


class CudaKernels(TorchDispatchMode):
    """Notes the operators that have no kernel for CUDA, composed ones left out: those call others."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: set[str] = set()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if name.startswith("prim::"):
            # Questions to a tensor, not to a device.
            return func(*args, **(kwargs or {}))
        self.seen.add(name)
        keys = ("CUDA", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional",
                "CompositeImplicitAutograd", "BackendSelect")  # fmt: skip
        if not any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys):
            self.missing.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> Config:
    """Every config that comes with the framework; a front-end whose weights are fetched is a tiny one here."""
    found = load_config(ROOT / "config" / request.param)
    if "front_end" not in found.model_config:
        return found
    tiny = load_config(ROOT / "config" / "SSL_tiny.conf").model_config["front_end"]
    # It has two layers, of which some systems take all and the input of the first.
    layers = found.model_config["front_end"].get("layers")
    wanted = [0, 1, 2] if isinstance(layers, list) else layers
    model = tiny["model"] | {"hidden_size": 64}
    return replace(found, model_config=found.model_config | {"front_end": tiny | {"model": model, "layers": wanted}})


def recurrent(module: nn.GRU, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """In the place of a GRU, whose CUDA kernels do not know tensors without content: the same devices and shapes."""
    total = x.sum() + torch.stack([weight.sum() for weight in module.parameters()]).sum()
    if state is not None:
        total = total + state.sum()
    hidden = x.new_empty(*x.shape[:-1], module.hidden_size) * total
    return hidden, x.new_empty(module.num_layers, x.shape[0], module.hidden_size) * total


@pytest.fixture
def kernels() -> Iterator[CudaKernels]:
    found = CudaKernels()
    yield found
    assert found.seen
    if torch.backends.cuda.is_built():
        assert not found.missing


def batch_of(config: Config) -> list[Tensor]:
    generator = np.random.default_rng(0)
    waveforms = [generator.normal(0, 0.1, config.samples).astype(np.float32) for _ in range(2)]
    return inputs_of(config).batch(waveforms)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_forward_pass_and_a_score_leave_nothing_on_the_cpu(
    config: Config, kernels: CudaKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = System.build(config, torch.device("cpu")).model, batch_of(config)
    monkeypatch.setattr(nn.GRU, "forward", recurrent)
    with FakeTensorMode(allow_non_fake_inputs=True), kernels:
        move(model, CUDA)
        inputs = [torch.empty_like(tensor, device=CUDA) for tensor in batch]
        labels = torch.zeros(2, dtype=torch.int64, device=CUDA)
        criterion = nn.CrossEntropyLoss(weight=class_weights(config, CUDA))
        terms = loss_terms(model.train(), inputs, labels, criterion)
        assert all(term.device == CUDA for term in terms.values())
        scores = Scorer(model, CUDA)(*inputs)
    assert scores.shape == (2,)
    assert scores.device.type == "cpu"


@pytest.mark.slow
def test_a_training_step_leaves_nothing_on_the_cpu(
    config: Config, kernels: CudaKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = System.build(config, torch.device("cpu")).model, batch_of(config)
    move(model, META).train()
    # There is no autocasting on "meta", and none is wanted.
    autocast = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *args, **options: nullcontext() if kind == "meta" else autocast(kind, *args, **options),
    )
    # Whether the loss is finite cannot be seen of tensors without content.
    monkeypatch.setattr(TrainingStep, "_is_finite", lambda self, terms: self._gradient_norm().device == META)
    schedule = {"optimizer": "adam", "base_lr": 0.001, "scheduler": "cosine", "steps_per_epoch": 2, "epochs": 1}
    optimizer, scheduler = create_optimizer(model.parameters(), schedule)
    step = TrainingStep(model, optimizer, scheduler, config, META)
    with kernels:
        terms = step([tensor.to(META) for tensor in batch], torch.zeros(2, dtype=torch.int64))
    assert terms
    assert all(term.device == META for term in terms.values())
    moved = [one for one in model.parameters() if one.grad is not None]
    assert moved
    assert all(one.grad is not None and one.grad.device == META for one in moved)
    assert len(optimizer.state) == len(moved)
    assert any("_backward" in name for name in kernels.seen)


# ---- the checks find what they are for ---------------------------------------------------------


class Forgetful(nn.Module):
    """A filter bank that is no buffer, as a beginner writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.window = torch.hann_window(160)
        self.out = nn.Linear(160, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = x[:, :160] * self.window
        return hidden, self.out(hidden)


@pytest.mark.parametrize("device", [CUDA, META], ids=str)
def test_a_tensor_left_on_the_cpu_is_found(device: torch.device) -> None:
    model = Forgetful()
    with FakeTensorMode(allow_non_fake_inputs=True) if device == CUDA else nullcontext():
        move(model, device)
        waveforms = torch.empty(2, 400, device=device)
        with pytest.raises(RuntimeError, match="cpu"):
            model(waveforms)


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no CUDA kernels")
def test_an_operator_without_a_cuda_kernel_is_found() -> None:
    with CudaKernels() as found:
        torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3))
        dense = torch.ones(2, 3).to_mkldnn()
    assert dense.is_mkldnn
    assert found.missing == {"aten::to_mkldnn"}
