"""The self-supervised systems compute what the released ones compute, and read their published weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.nn.back_ends import SLS, Nes2NetX
from s2pecnet.nn.blocks import checkpoint_activations
from s2pecnet.systems.build import get_model
from s2pecnet.systems.fairseq import PRETRAINING, transformers_name
from s2pecnet.systems.front_end import XLSR_300M
from s2pecnet.systems.scorer import Scorer
from s2pecnet.systems.self_supervised import SelfSupervisedSystem
from s2pecnet.systems.weights import load_weights, save_weights
from s2pecnet.training.step import loss_terms
from tests.helpers.ssl import BACK_ENDS, GOLDEN_TINY, TINY_XLSR, filled, golden, model_config


class Tiny:
    """The golden system with the small front end."""

    def __init__(self, shared: Path, tmp_path: Path):
        self.described, self.tensors = golden(shared, "ssl_tiny")
        self.state = filled(shared, self.described["shapes"], self.described["weight_seed"])
        self.file = tmp_path / "published.pth"
        torch.save(self.state, self.file)
        self.model = built()
        load_weights(self.model, self.file)
        self.x = self.tensors["x_int16"].float() / 32768
        self.labels = self.tensors["labels"]

    def without_dropout(self) -> SelfSupervisedSystem:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return self.model.train()

    def criterion(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        return nn.CrossEntropyLoss(weight=self.tensors["class_weights"].to(dtype))


def built(configuration: Any = GOLDEN_TINY, **options: Any) -> SelfSupervisedSystem:
    front_end = {"model": configuration, **options}
    model = get_model({"architecture": "SSL_AASIST", "front_end": front_end}, "cpu")
    assert isinstance(model, SelfSupervisedSystem)
    return model


@pytest.fixture
def tiny(shared: Path, tmp_path: Path) -> Tiny:
    return Tiny(shared, tmp_path)


def close(found: Tensor, expected: Tensor, atol: float, rtol: float = 0) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=rtol)


@torch.no_grad()
def test_tiny_outputs_are_the_released_ones(tiny: Tiny) -> None:
    trace, model = tiny.tensors["trace"], tiny.model.eval()
    front_end = model.front_end
    front_end.picked = (0, 1, 2, 3)
    layers = front_end(tiny.x).unbind(1)
    front_end.picked = ()
    for name, found in zip(("encoder_input", "layer_0", "layer_1", "layer_2"), layers, strict=True):
        close(found, trace[name], 1e-4)
    output = front_end(tiny.x)
    close(output, trace["ssl_output"], 1e-4)
    close(model.back_end.get_submodule("LL")(output), trace["LL"], 1e-4)
    embedding, logits = model(tiny.x)
    close(embedding, trace["last_hidden"], 1e-3)
    close(logits, trace["logits"], 1e-3)
    close(Scorer(model, torch.device("cpu"))(tiny.x), trace["logits"][:, 1], 1e-3)
    short, first = tiny.tensors["short"], tiny.x[:, : tiny.tensors["short_samples"]]
    close(front_end(first), short["ssl_output"], 1e-4)
    for found, name in zip(model(first), ("last_hidden", "logits"), strict=True):
        close(found, short[name], 1e-3)


@torch.no_grad()
def test_fused_and_plain_attention_agree(tiny: Tiny) -> None:
    plain = built(attention="eager")
    load_weights(plain, tiny.file)
    assert plain.front_end.model.config._attn_implementation == "eager"
    assert tiny.model.front_end.model.config._attn_implementation == "sdpa"
    close(plain.eval()(tiny.x)[1], tiny.tensors["trace"]["logits"], 1e-3)


@pytest.mark.slow
def test_tiny_gradients_are_the_released_ones(tiny: Tiny) -> None:
    model = tiny.without_dropout().double()
    terms = loss_terms(model, [tiny.x.double()], tiny.labels, tiny.criterion(torch.float64))
    loss = torch.stack(list(terms.values())).sum()
    assert loss.item() == pytest.approx(tiny.tensors["loss_float64"], rel=1e-9)
    loss.backward()
    own: Any = model.from_published({name: name for name in tiny.described["shapes"]})
    published = {name: called for called, name in own.items()}
    parameters = dict(model.named_parameters())
    compared = 0
    for name, norm in tiny.described["grad_norms_step0"].items():
        gradient = parameters[published[name]].grad if name in published else None
        if norm is None:
            assert gradient is None
        elif norm > 1e-12:
            assert gradient is not None, name
            assert float(gradient.norm()) == pytest.approx(norm, rel=1e-9), name
            compared += 1
    assert compared > 200


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_three_adam_steps_lose_as_the_released_code(tiny: Tiny, recompute: bool) -> None:
    model = tiny.without_dropout()
    if recompute:
        assert checkpoint_activations(model) == 6 + 3
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    for step, tolerance in enumerate([1e-4, 1e-3, 1e-3]):
        loss = loss_terms(model, [tiny.x], tiny.labels, tiny.criterion())["classification"]
        assert loss.item() == pytest.approx(float(tiny.tensors["train_losses"][step]), rel=tolerance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 0:
            after, own = tiny.tensors["bn_after_step1"], model.back_end.state_dict()
            compared = [name for name in after if "running" in name and not name.startswith("encoder")]
            assert len(compared) == 4
            for name in compared:
                close(own[name], after[name], 1e-5, 1e-3)


def test_training_logits_are_the_released_ones(tiny: Tiny) -> None:
    close(tiny.without_dropout()(tiny.x)[1], tiny.tensors["train_logits_step0"], 1e-3)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_load_strictly(tiny: Tiny, tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "other.pth"
    state = {prefix + name: tensor for name, tensor in tiny.state.items()}
    torch.save(state, path)
    model = built()
    load_weights(model, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tiny.model.state_dict()[name])
    for changed in (
        {name: tensor for name, tensor in state.items() if not name.endswith("layers.1.fc1.bias")},
        {name: tensor for name, tensor in state.items() if not name.endswith("out_layer.bias")},
        state | {f"{prefix}ssl_model.model.decoder.weight": torch.zeros(2)},
        state | {f"{prefix}other.weight": torch.zeros(2)},
    ):
        torch.save(changed, path)
        with pytest.raises(InputError, match=r"another architecture .*(missing|unexpected): "):
            load_weights(model, path)


def test_names_are_those_of_transformers(shared: Path) -> None:
    golden(shared, "ssl_tiny")
    rows = json.loads((shared / "reference" / "ssl" / "ssl_key_map.json").read_text())["map"]
    assert len(rows) == 429
    for name, others in rows.items():
        if name in PRETRAINING:
            assert others["torchaudio"] is None
        else:
            assert transformers_name(name) == others["transformers"].removeprefix("wav2vec2.")
    assert set(PRETRAINING) < set(rows)


# ---- the other back ends -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prefix", "atol", "rtol"), [("sls", "", 1e-4, 1e-5), ("nes2net_x", "Nested_Res2Net_TDNN.", 1e-4, 0)]
)
def test_back_ends_are_the_released_ones(shared: Path, name: str, prefix: str, atol: float, rtol: float) -> None:
    described, tensors = golden(shared, name)
    shapes = {key: size for key, size in described["shapes"].items() if not key.startswith("ssl_model.")}
    state = {
        key.removeprefix(prefix): tensor for key, tensor in filled(shared, shapes, described["weight_seed"]).items()
    }
    back_end = SLS(1024, 201) if name == "sls" else Nes2NetX(1024)
    assert sum(parameter.numel() for parameter in back_end.parameters()) == described["parameters_back_end"]
    back_end.load_state_dict(state)
    drawn = np.random.RandomState(tensors["feature_seed"]).standard_normal(tensors["feature_shape"])
    features = torch.from_numpy(drawn.astype(np.float32))
    if name == "sls":
        features = features.transpose(0, 1).contiguous()
    with torch.no_grad():
        close(back_end.eval()(features)[1], tensors["logits"], atol, rtol)
    back_end.double().train()
    features = features.double().requires_grad_()
    logits = back_end(features)[1]
    close(logits.float(), tensors["train_logits"].float(), 1e-3, 1e-4)
    loss = nn.CrossEntropyLoss(weight=tensors["class_weights"].double())(logits, tensors["labels"])
    assert loss.item() == pytest.approx(tensors["train_loss_float64"], rel=1e-9)
    loss.backward()
    assert features.grad is not None
    assert float(features.grad.norm()) == pytest.approx(tensors["feature_grad_norm"], rel=1e-6)
    parameters = dict(back_end.named_parameters())
    for key, norm in described["grad_norms_step0_features_fixed"].items():
        if norm is not None and norm > 1e-12:
            gradient = parameters[key.removeprefix(prefix)].grad
            assert gradient is not None
            assert float(gradient.norm()) == pytest.approx(norm, rel=1e-8), key


@pytest.mark.slow
@torch.no_grad()
def test_full_size_systems_are_the_released_ones(shared: Path) -> None:
    """XLS-R 300M, filled once, with each of the three back ends; 1.3 GB of weights."""
    _, tensors = golden(shared, "ssl_full")
    x = tensors["x_int16"].float() / 32768
    described = json.loads((shared / "reference" / "ssl" / "ssl_aasist_full.json").read_text())
    assert len(described["shapes"]) == 674
    model = built(XLSR_300M)
    own = model.from_published(filled(shared, described["shapes"], tensors["weight_seed"]))
    model.load_state_dict(own)
    del own
    front_end = model.eval().front_end
    counted = sum(parameter.numel() for parameter in model.parameters())
    # The codebook and the mask of the pre-training are left out.
    left_out = sum(int(np.prod(described["shapes"][f"ssl_model.model.{name}"])) for name in PRETRAINING)
    assert counted + left_out == described["parameters"]
    front_end.picked = tuple(range(25))
    layers = front_end(x)
    front_end.picked = ()
    output = front_end(x)
    frames, channels = torch.tensor(tensors["frames"]), torch.tensor(tensors["channels"])

    def sampled(values: Tensor) -> Tensor:
        return values[:, frames][:, :, channels]

    close(sampled(output), tensors["ssl_output"], 1e-4)
    close(sampled(layers[:, 0]), tensors["encoder_input"], 1e-4)
    for number in range(24):
        close(sampled(layers[:, number + 1]), tensors["layers"][number], 1e-4, 1e-5)
    embedding, logits = model.back_end(output)
    close(embedding, tensors["last_hidden"], 1e-3)
    close(logits, tensors["logits"], 1e-3)
    for name, prefix, given in (("sls", "", layers[:, 1:]), ("nes2net_x", "Nested_Res2Net_TDNN.", output)):
        about, expected = golden(shared, name)
        shapes = {key: size for key, size in about["shapes"].items() if not key.startswith("ssl_model.")}
        state = filled(shared, shapes, about["weight_seed"])
        back_end = SLS(1024, 201) if name == "sls" else Nes2NetX(1024)
        back_end.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in state.items()})
        close(back_end.eval()(given)[1], expected["logits_full_system"], 1e-4, 1e-5)


@pytest.mark.parametrize("architecture", sorted(BACK_ENDS))
def test_systems_train_and_come_back_from_their_weights(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = model_config(architecture)
    model = get_model(config, "cpu").train()
    x = torch.randn(3, 4000) * 0.1
    loss = loss_terms(model, [x], torch.tensor([0, 1, 1]), nn.CrossEntropyLoss())["classification"]
    loss.backward()
    idle = ("bn1.", "encoder.layer_norm", "encoder.layers.")
    without = [name for name, one in model.named_parameters() if one.grad is None and not any(w in name for w in idle)]
    assert not without
    embedding, logits = model.eval()(x)
    assert embedding.dim() == 2
    assert logits.shape == (3, 2)
    for name in ("w.pth", "w.safetensors"):
        save_weights(model, tmp_path / name, {"seed": 3})
        again = get_model(config, "cpu").eval()
        load_weights(again, tmp_path / name)
        assert torch.equal(again(x)[1], logits)


def test_sls_says_that_its_length_is_fixed() -> None:
    model = get_model(model_config("SSL_SLS"), "cpu").eval()
    with pytest.raises(InputError, match=r"SLS was built for 12 frames .* and got 24; its input has a fixed length"):
        model(torch.zeros(1, 8000))
    with pytest.raises(InputError, match="freq_aug masks sinc filters"):
        model(torch.zeros(1, 4000), Freq_aug=True)
    log_probabilities = model(torch.randn(2, 4000))[1]
    close(log_probabilities.exp().sum(dim=1), torch.ones(2), 1e-5)


@pytest.mark.parametrize("architecture", ["SSL_AASIST", "SSL_Nes2Net", "SSL_MHFA", "SSL_Linear"])
def test_other_systems_take_any_length(architecture: str) -> None:
    model = get_model(model_config(architecture), "cpu").eval()
    for samples in (1040, 2001, 9000):
        assert model(torch.randn(1, samples))[1].shape == (1, 2)


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("SSL_AASIST", {"nb_samp": 700}, r"700 samples \(nb_samp\) are 1 frames of the front end.* at least 3"),
        ("SSL_AASIST", {"filts": [2, [1, 4], [4, 4], [4, 8], [8, 8]]}, r"filts\[0\] is 2; expected at least 3"),
        ("SSL_AASIST", {"pool_ratios": [0.5]}, r"need at least 3 values"),
        (
            "SSL_AASIST",
            {"front_ends": "x", "front_end": "none"},
            r"unknown key 'model_config.front_ends'; did you mean",
        ),
        ("SSL_Nes2Net", {"groups": [3, 8]}, r"a width of 16 is not divisible by 3 x 8"),
        ("SSL_SLS", {"front_end": {"model": GOLDEN_TINY}}, r'this back end takes layers; expected "all" or a list'),
        ("SSL_SLS", {"nb_samp": 700}, r"1 frames of the front end, and SLS needs at least 3"),
        ("SSL_Linear", {"front_end": "x"}, r'model_config.front_end: got "x", expected an object'),
        ("SSL_Linear", {"front_end": {"model": "x", "layer": 1}}, r"did you mean 'model_config.front_end.layers'"),
        ("SSL_Linear", {"front_end": {"model": "x", "layers": []}}, r"model_config.front_end.layers: got \[\]"),
        (
            "SSL_Linear",
            {"nb_samp": 2400, "front_end": {"model": TINY_XLSR, "settings": {"mask_time_prob": 0.05}}},
            r"settings.mask_time_prob: masks 10 in a row of 7 frames \(nb_samp\); set a shorter mask_time_length",
        ),
        ("SSL_MHFA", {"heads": 0}, r"model_config.heads: got 0, expected an integer from 1"),
        ("SSL_Linear", {"nb_samp": 300}, r"model_config.nb_samp: got 300, expected an integer from 400"),
    ],
)
def test_model_config_that_cannot_work(architecture: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_model(model_config(architecture) | changes, "cpu")


def test_a_front_end_is_needed() -> None:
    with pytest.raises(InputError, match=r"key 'model_config.front_end' is missing; expected an object"):
        get_model({"architecture": "SSL_Linear"}, "cpu")
