"""Each system has the released keys, outputs, losses and gradients; shapes follow from the config."""

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.S2pecNet import Model as S2pecNet
from models.S2pecNet import WaveformDecoder
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import BatchNorm2d, max_of_threes
from s2pecnet.nn.sinc import SincFilterBank, filter_by_fft, sinc_filters
from s2pecnet.systems.build import get_model
from s2pecnet.systems.registry import available, find_model, utterance_feature
from s2pecnet.systems.scorer import Scorer
from s2pecnet.training.step import loss_terms
from tests.helpers import ROOT

CONFIG = ROOT / "config"
SYSTEMS = {
    "AASIST": "AASIST",
    "AASIST-L": "AASIST-L",
    "RawNet2": "RawNet2_baseline",
    "RawGATST": "RawGATST_baseline",
    "S2pecNet": "S2pecNet",
}
SMALL = {
    "architecture": "S2pecNet",
    "nb_samp": 8000,
    "nb_frames": 60,
    "first_conv": 128,
    "filts": [70, [1, 8], [8, 8], [8, 8], [8, 8]],
    "gat_dims": [8, 8],
    "pool_ratios": [0.5, 0.7, 0.5, 0.5],
    "temperatures": [2.0, 2.0, 100.0, 100.0],
}
LABELS = torch.tensor([0, 1])


def build(config: str) -> nn.Module:
    """A system as `main.py` builds it, memory format included."""
    return get_model(load_config(CONFIG / f"{config}.conf").model_config, "cpu")


def criterion(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.CrossEntropyLoss(weight=torch.tensor([0.1, 0.9], dtype=dtype))


class Golden:
    """What the released code gave for one system, and the system built by us with the same weights."""

    def __init__(self, reference: Path, name: str):
        self.described = json.loads((reference / "models" / f"{name}.json").read_text())
        self.tensors = torch.load(reference / "models" / f"{name}.pt", weights_only=True)
        self.model = build(SYSTEMS[name])
        spec = importlib.util.spec_from_file_location("fill", reference / "fill.py")
        assert spec is not None
        assert spec.loader is not None
        fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fill)
        self.model.load_state_dict(fill.fill_state(self.model.state_dict(), seed=0))
        self.inputs = [self.tensors[key] for key in ("x", "lfcc") if key in self.tensors]

    def without_dropout(self) -> nn.Module:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return self.model.train()


@pytest.fixture(params=SYSTEMS)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    return Golden(shared / "reference", request.param)


def test_keys_shapes_and_parameter_count(golden: Golden) -> None:
    ours = {name: list(tensor.shape) for name, tensor in golden.model.state_dict().items()}
    assert ours == golden.described["state"]
    assert sum(p.numel() for p in golden.model.parameters()) == golden.described["parameters"]


@torch.no_grad()
def test_outputs_are_the_released_ones(golden: Golden) -> None:
    model, inputs = golden.model.eval(), golden.inputs
    outputs = model(*inputs, reconstruct=True) if len(inputs) > 1 else model(*inputs)
    names = ["embedding", "logits", "dec_raw", "dec_lfcc"][: len(outputs)]
    for name, output in zip(names, outputs, strict=True):
        torch.testing.assert_close(output, golden.tensors[name], atol=1e-4, rtol=0)
    scores = Scorer(model, torch.device("cpu"))(*inputs)
    torch.testing.assert_close(scores, golden.tensors["logits"][:, 1], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_first_step_gradients_are_the_released_ones(golden: Golden) -> None:
    model = golden.without_dropout().double()
    inputs = [tensor.double() for tensor in golden.inputs]
    terms = loss_terms(model, inputs, LABELS, criterion(torch.float64), freq_aug=False)
    loss = torch.stack(list(terms.values())).sum()
    assert loss.item() == pytest.approx(golden.described["loss_step0_float64"], rel=1e-4)
    loss.backward()
    norms = golden.described["grad_norms_step0"]
    gradients = dict(model.named_parameters())
    assert [name for name in norms if gradients[name].grad is None] == [n for n in norms if norms[n] is None]
    errors = sorted(
        abs(float(gradients[name].grad.norm()) - norm) / norm  # type: ignore[union-attr]
        for name, norm in norms.items()
        if norm is not None and norm > 1e-3
    )
    assert errors[len(errors) // 2] < 1e-3
    assert errors[-1] < 0.05


@pytest.mark.slow
def test_three_adam_steps_lose_as_the_released_code(golden: Golden) -> None:
    model = golden.without_dropout()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    tolerances = [1e-4, 0.05, 0.2 if type(model).__module__.endswith("GatSpoofST") else 0.05]
    for step, tolerance in enumerate(tolerances):
        terms = loss_terms(model, golden.inputs, LABELS, criterion(), freq_aug=False)
        loss = torch.stack(list(terms.values())).sum()
        assert loss.item() == pytest.approx(golden.tensors["train_losses"][step].item(), rel=tolerance)
        if step == 0 and len(terms) == 3:
            parts = golden.tensors["train_loss_parts"][0].tolist()
            assert [term.item() for term in terms.values()] == pytest.approx(
                [parts[0], 0.1 * parts[1], 0.1 * parts[2]], rel=1e-3
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["AASIST", "AASIST-L"])
def test_published_weights_load_strictly(shared: Path, name: str) -> None:
    state = torch.load(shared / "reference" / "weights" / f"{name}.pth", weights_only=True, map_location="cpu")
    build(name).load_state_dict(state, strict=True)


@pytest.mark.parametrize(("key", "bands", "taps"), [("aasist_70x129", 70, 128), ("rawnet2_20x1025", 20, 1024)])
def test_sinc_filters_are_the_released_ones(shared: Path, key: str, bands: int, taps: int) -> None:
    released = torch.load(shared / "reference" / "models" / "sinc_filters.pt", weights_only=True)[key]
    torch.testing.assert_close(sinc_filters(bands, taps), released, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("taps", "samples"), [(129, 129), (129, 1024), (129, 1025), (129, 8000), (1025, 30001), (2, 9)]
)
def test_filtering_by_transforms_is_a_convolution(taps: int, samples: int) -> None:
    torch.manual_seed(0)
    x, filters = torch.randn(3, samples, dtype=torch.float64), torch.randn(5, taps, dtype=torch.float64)
    torch.testing.assert_close(filter_by_fft(x, filters), nn.functional.conv1d(x[:, None], filters[:, None]))


def test_frequency_masking_zeroes_one_band() -> None:
    bank = SincFilterBank(70, 128)
    x = torch.randn(2, 1000)
    plain = bank(x)
    widths = set()
    for seed in range(30):
        torch.manual_seed(seed)
        masked = bank(x, mask=True)
        zero = [i for i in range(70) if not masked[:, i].any()]
        assert zero == list(range(zero[0], zero[-1] + 1)) if zero else True
        kept = [i for i in range(70) if i not in zero]
        assert torch.equal(masked[:, kept], plain[:, kept])
        widths.add(len(zero))
    assert max(widths) < 20
    assert len(widths) > 8


@pytest.mark.parametrize("config", sorted(path.stem for path in CONFIG.glob("*.conf")))
def test_every_shipped_config_builds_and_takes_a_step(config: str) -> None:
    model_config = dict(load_config(CONFIG / f"{config}.conf").model_config)
    if "front_end" in model_config:
        # In the place of a pre-trained model that nobody may have here.
        small = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 32, "conv_dim": [16] * 7}
        model_config["front_end"] = model_config["front_end"] | {"model": {"model_type": "wav2vec2", **small}}
    model_config["nb_samp"] = min(model_config["nb_samp"], 12000)
    model = get_model(model_config, "cpu").train()
    x = torch.randn(2, model_config["nb_samp"]) * 0.1
    feature = utterance_feature(model_config)
    inputs = [x] if feature is None else [x, feature(x)]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    torch.stack(
        list(loss_terms(model, inputs, LABELS, criterion(), freq_aug="front_end" not in model_config).values())
    ).sum().backward()
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("orders", "reconstruction", "second_order"),
    [
        *itertools.product(("both", "first", "second"), ("released", "spectrogram", "none"), ("lfcc",)),
        *itertools.product(("both",), ("released", "spectrogram"), ("power", "log_power")),
    ],
)
def test_s2pecnet_options(orders: str, reconstruction: str, second_order: str) -> None:
    options = SMALL | {"orders": orders, "reconstruction": reconstruction, "second_order": second_order}
    model = S2pecNet(options)
    x = torch.randn(1, 8000) * 0.1
    outputs = model.train().forward(x.repeat(2, 1))
    if reconstruction == "none":
        assert len(outputs) == 2
        assert not any(key.startswith(("decoder", "raw_decoder")) for key in model.state_dict())
    else:
        first, second = outputs[2:]
        bins = 60 if second_order == "lfcc" else 257
        shape = (2, 8000) if reconstruction == "released" else (2, 1, 23, 2624)
        assert first is None if orders == "second" else first.shape == shape
        assert second is None if orders == "first" else second.shape == (2, 1, bins, 60)
    terms = model.loss(outputs, [x.repeat(2, 1)], LABELS, criterion())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "encoder" not in name or "bn1" not in name)
    scored = model.eval()(x)
    assert len(scored) == 2
    assert scored[1].shape == (1, 2)
    assert (utterance_feature(options) is None) == (orders == "first")


@pytest.mark.parametrize("orders", ["both", "first", "second"])
def test_a_classifier_of_statistics(orders: str) -> None:
    """Its embedding is mean and deviation over time of the fused map, normalised over the batch."""
    model = S2pecNet(SMALL | {"classifier": "statistics", "orders": orders, "reconstruction": "none"})
    assert not any("GAT" in key or key.startswith(("pool_", "master", "pos_S")) for key in model.state_dict())
    maps: list[Tensor] = []
    model.statistics.register_forward_pre_hook(lambda _, given: maps.append(given[0]))
    embedding, logits = model.train()(torch.randn(5, 8000))
    nodes = maps[0].detach().double().flatten(1, 2).numpy()
    expected = np.concatenate([nodes.mean(axis=2), np.sqrt(nodes.var(axis=2).clip(1e-6))], axis=1)
    expected = (expected - expected.mean(axis=0)) / np.sqrt(expected.var(axis=0) + model.statistics.norm.eps)
    assert embedding.shape == (5, 2 * 8 * 23)
    torch.testing.assert_close(embedding, torch.from_numpy(expected).float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.statistics.out_layer(embedding), logits)
    logits.sum().backward()
    # A map without any change over time has no derivative of its deviation.
    still = torch.ones(2, 8, 23, 4, requires_grad=True)
    model.statistics(still)[1].sum().backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize("nb_samp", [2400, 7000, 8001, 12345, 16000])
@pytest.mark.parametrize("nb_frames", [49, 60, 61, 62, 100])
def test_s2pecnet_reconstructs_any_geometry(nb_samp: int, nb_frames: int) -> None:
    model = S2pecNet(SMALL | {"nb_samp": nb_samp, "nb_frames": nb_frames}).eval()
    _, _, first, second = model(torch.randn(1, nb_samp), reconstruct=True)
    assert first.shape == (1, nb_samp)
    assert second.shape == (1, 1, 60, nb_frames)


def test_s2pecnet_computes_the_lfcc_itself() -> None:
    model, x = S2pecNet(SMALL).eval(), torch.randn(2, 8000)
    feature = utterance_feature(SMALL)
    assert feature is not None
    torch.testing.assert_close(model(x), model(x, feature(x)))


def test_unbounded_decoders_can_reach_what_the_released_cannot() -> None:
    """A bias alone moves the paper's decoder anywhere; the released one is caught in [0.5, 1)."""
    x = torch.randn(2, 8000)
    released = S2pecNet(SMALL).eval()(x, reconstruct=True)[3]
    assert released.min() >= 0.5
    assert released.max() < 1
    paper = S2pecNet(SMALL | {"reconstruction": "spectrogram"}).eval()
    nn.init.constant_(paper.decoder.decoder_conv[-1].bias, -20.0)  # type: ignore[arg-type]
    assert paper(x, reconstruct=True)[3].mean() < -15


@pytest.mark.slow
def test_rows_summed_first_is_the_same_decoder() -> None:
    """The fast tail of the waveform decoder against the layers one after the other, as the released code runs them."""
    torch.manual_seed(0)
    for nb_samp in (8000, 12345):
        decoder = S2pecNet(SMALL | {"nb_samp": nb_samp}).raw_decoder.double().eval()
        assert isinstance(decoder, WaveformDecoder)
        fused = torch.randn(2, 8, *_map_shape(nb_samp), dtype=torch.float64)
        layer_by_layer = decoder.decoder_conv(fused)[:, 0, 0, :nb_samp]
        torch.testing.assert_close(decoder(fused), layer_by_layer)


def _map_shape(nb_samp: int) -> tuple[int, int]:
    frames = nb_samp - 128
    for _ in range(7):
        frames //= 3
    return 23, frames


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filts": None}, r"model_config.filts: got null, expected a list"),
        ({"gat_dim": [8, 8]}, r"unknown key 'model_config.gat_dim'; did you mean 'model_config.gat_dims'"),
        ({"nb_samp": 500}, r"model_config.nb_samp: 500 samples leave no frame"),
        ({"nb_frames": 20}, r"60 bins and 20 frames \(nb_frames\) is too small"),
        ({"filts": [70, [1, 8], [16, 8], [8, 8], [8, 8]]}, r"a block gives 8 channels and the next takes 16"),
        ({"filts": [70, [1, 8], [8, 8], [8, 12], [12, 12]]}, r"multiple of 8, got 12"),
        ({"orders": "third"}, r'model_config.orders: got "third", expected one of "both", "first", "second"'),
        ({"pool_ratios": [0.5]}, r"pool_ratios and model_config.temperatures need at least 3"),
        ({"filts": [70, [2, 8], [8, 8], [8, 8], [8, 8]]}, r"the first block takes 2 channels, expected 1"),
        ({"filts": [70, [1, 0], [0, 8], [8, 8], [8, 8]]}, r"model_config.filts\[\d\].*: got .* from 1 to"),
        (
            {"filts": [70, [1, 10**9], [10**9, 8], [8, 8], [8, 8]]},
            r"model_config.filts\[\d\].*: got .* from 1 to",
        ),
        ({"gat_dims": [8, 10**9]}, r"model_config.gat_dims\[1\]: got 1000000000, expected .* from 1 to 1,024"),
        ({"nb_frames": 10**9}, r"model_config.nb_frames: got 1000000000, expected an integer from 1 to 60,000"),
        ({"nb_samp": 10**12}, r"model_config.nb_samp: got 1000000000000, expected an integer from 1 to 9,600,000"),
        ({"first_conv": 10**9}, r"model_config.first_conv: got 1000000000, expected an integer from 1 to 16,384"),
    ],
)
def test_model_config_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        S2pecNet(SMALL | changes)


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        (
            "RawNet2Spoof",
            {"filts": [8, [8, -8], [-8, 8], [8, 8]]},
            r"model_config.filts\[\d\].*: got .* from 1 to",
        ),
        ("RawNet2Spoof", {"filts": [0, [0, 8], [8, 8], [8, 8]]}, r"model_config.filts\[\d\].*: got .* from 1 to"),
        (
            "RawNet2Spoof",
            {"gru_node": 10**6},
            r"model_config.gru_node: got 1000000, expected an integer from 1 to 4,096",
        ),
        ("RawNet2Spoof", {"nb_gru_layer": 10**6}, r"model_config.nb_gru_layer: got 1000000, .* from 1 to 8"),
        ("RawNet2Spoof", {"nb_fc_node": 10**9}, r"model_config.nb_fc_node: got 1000000000, .* from 1 to 4,096"),
        ("RawNetGatSpoofST", {"filts": [70, [1, 8], [9, 8], [8, 8], [8, 8]]}, r"gives 8 channels and the next takes 9"),
        ("RawNetGatSpoofST", {"filts": [70, [4, 8], [8, 8], [8, 8], [8, 8]]}, r"takes 4 channels, expected 1"),
    ],
)
def test_sizes_of_other_systems(architecture: str, changes: dict[str, Any], message: str) -> None:
    config = {"architecture": architecture, "nb_samp": 8000, "filts": [8, [8, 8], [8, 8], [8, 8]]}
    with pytest.raises(InputError, match=message):
        find_model(architecture)(config | changes)


def test_keys_that_resemble_nothing_are_skipped() -> None:
    S2pecNet(SMALL | {"in_channels": 1, "blocks": [2, 4]})


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'AASIST'"):
        find_model("AASSIST")
    for name in ("../main", "a\nb", "x" * 5000):
        with pytest.raises(InputError, match="unknown architecture") as caught:
            find_model(name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert {"AASIST", "RawNet2Spoof", "RawNetGatSpoofST", "S2pecNet"} <= set(available())


def test_wrong_length_is_named() -> None:
    with pytest.raises(InputError, match="built for 8000 samples"):
        S2pecNet(SMALL)(torch.zeros(1, 9000))


def test_batch_of_one_equals_its_place_in_a_batch() -> None:
    model, x = S2pecNet(SMALL).eval(), torch.randn(3, 8000)
    together: Tensor = model(x)[1]
    torch.testing.assert_close(model(x[1:2])[1], together[1:2])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_is_accurate_in_channels_last_order(momentum: float | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 24, 9000) * 0.5 + 0.7
    gradient = torch.randn_like(x)

    def run(norm: nn.BatchNorm2d, given: Tensor) -> list[Tensor]:
        norm.load_state_dict({**norm.state_dict(), "weight": torch.arange(1.0, 9), "bias": torch.arange(8.0)})
        leaf = given.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        for _ in range(2):
            y = norm(leaf)
        y.backward(gradient.to(given))
        assert leaf.grad is not None
        assert norm.weight.grad is not None
        assert norm.bias.grad is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return [y.detach(), leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]

    exact = run(nn.BatchNorm2d(8, momentum=momentum).double(), x.double())
    ours = run(BatchNorm2d(8, momentum=momentum), x.contiguous(memory_format=torch.channels_last))
    for index, (one, other) in enumerate(zip(ours, exact, strict=True)):
        scale = float(other.abs().max())
        assert float((one.double() - other).abs().max()) < (1e-3 if index in (2, 3) else 2e-5) * scale


@pytest.mark.parametrize("axes", [(3,), (2, 3)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_pooling_without_gradients_is_that_with_them(axes: tuple[int, ...], order: torch.memory_format) -> None:
    x = torch.randn(2, 4, 10, 31).contiguous(memory_format=order)
    x[0, 1, 4, 9] = torch.nan
    with_gradients = max_of_threes(x.clone(memory_format=torch.preserve_format).requires_grad_(), *axes)
    without = max_of_threes(x, *axes)
    assert with_gradients.requires_grad
    assert without.is_contiguous(memory_format=order)
    torch.testing.assert_close(without, with_gradients.detach(), rtol=0, atol=0, equal_nan=True)


def test_too_few_filters_for_the_decoder_are_reported() -> None:
    config = load_config(CONFIG / "S2pecNet.conf").model_config | {"filts": [3, [1, 8], [8, 8], [8, 8], [8, 8]]}
    with pytest.raises(InputError, match="expected at least 6 for the decoder of the first order"):
        find_model("S2pecNet")(config | {"orders": "first"})
    find_model("S2pecNet")(config | {"orders": "first", "reconstruction": "none"})
