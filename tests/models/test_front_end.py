"""Front ends of every family: opened from folders, their layers, what trains, and what is wrong said in one line."""

import argparse
import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from s2pecnet.config.experiment import as_config
from s2pecnet.errors import InputError
from s2pecnet.nn.packed_front_end import FourierConvolution, PackedEncoder
from s2pecnet.systems.build import System, get_model
from s2pecnet.systems.front_end import FrontEnd, FrontEndOptions, finished_model_config
from s2pecnet.systems.scorer import fold_batch_norms
from s2pecnet.systems.weights import save_weights
from tests.helpers.ssl import FAMILIES, GOLDEN_TINY, TINY_XLSR, filled, golden, model_config

X = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 6400)).astype(np.float32))


def front_end(model: Any, **options: Any) -> FrontEnd:
    return FrontEnd(FrontEndOptions(model=model, **options))


def saved(tmp_path: Path, family: str, head: bool = False) -> Path:
    """A folder as `save_pretrained` makes it, of a random model; dropouts and masking as the library has them."""
    values = dict(FAMILIES[family])
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    kind = transformers.AutoModelForPreTraining if head else transformers.AutoModel
    kind.from_config(config).save_pretrained(tmp_path / family)
    return tmp_path / family


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_folder_of_each_family_gives_layers_and_output(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path, family)
    model = front_end(str(folder), layers=(0, 1, 2)).eval()
    layers = model(X)
    frames = 20 if family in ("whisper", "wav2vec2-bert") else 19
    if family == "wav2vec2-bert":
        frames = 19
    assert layers.shape == (2, 3, frames, 16)
    assert model.frames(6400) == frames
    assert torch.isfinite(layers).all()
    assert not torch.equal(layers[:, 1], layers[:, 2])
    last = front_end(str(folder)).eval()
    output = last(X)
    assert output.shape == (2, frames, 16)
    # Where there is a norm behind the last layer, it is in the output alone.
    encoder = model.model if family == "whisper" else model.model.encoder
    if family in ("wav2vec2", "whisper"):
        torch.testing.assert_close(encoder.layer_norm(layers[:, 2]), output, atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(layers[:, 2], output, atol=1e-5, rtol=0)
    # One utterance at a time, the shortest input, and nothing random in training.
    torch.testing.assert_close(last(X[:1]), output[:1], atol=1e-5, rtol=0)
    assert last(X[:, :400]).shape[1] >= 1
    torch.testing.assert_close(last.train()(X), output, atol=1e-6, rtol=0)
    # The configuration builds the same model, and weights come back into it.
    again = front_end(model.configuration).eval()
    again.load_state_dict(last.state_dict())
    assert torch.equal(again(X), last.eval()(X))


def test_heads_of_a_pre_training_are_left_out(tmp_path: Path) -> None:
    folder = saved(tmp_path, "wav2vec2", head=True)
    model = front_end(str(folder))
    assert not any("quantizer" in name for name in model.state_dict())


def test_layers_by_name() -> None:
    assert front_end(TINY_XLSR).picked == ()
    assert front_end(TINY_XLSR, layers="all").picked == (1, 2)
    assert front_end(TINY_XLSR, layers="weighted").picked == (0, 1, 2)
    with pytest.raises(InputError, match=r"front_end.layers: 3, and the model has 2 layers"):
        front_end(TINY_XLSR, layers=(3,))
    with pytest.raises(InputError, match=r"front_end.layers: \[2, 0, 2\] names a layer twice"):
        front_end(TINY_XLSR, layers=(2, 0, 2))


def test_a_learned_sum_of_layers_starts_as_their_mean() -> None:
    config = model_config("SSL_Linear") | {"front_end": {"model": TINY_XLSR, "layers": "weighted"}}
    model: Any = get_model(config, "cpu").eval()
    mean = model.front_end(X).mean(dim=1)
    torch.testing.assert_close(model.layer_sum(model.front_end(X)), mean)
    model(X)[1].sum().backward()
    assert model.layer_sum.weights.grad.abs().min() > 0


@pytest.mark.parametrize(("trainable", "expected"), [("all", {"0", "1", "rest"}), (1, {"1"}), ("none", set())])
def test_what_trains(trainable: Any, expected: set[str]) -> None:
    model = front_end(TINY_XLSR, trainable=trainable).train()
    model(X).sum().backward() if trainable != "none" else model(X)
    moved = {
        found[1] if (found := re.search(r"encoder\.layers\.(\d)", name)) else "rest"
        for name, one in model.named_parameters()
        if one.grad is not None and "encoder.layer_norm" not in name
    }
    assert moved == expected
    norm = model.model.encoder.layer_norm.weight
    assert norm.requires_grad == (trainable != "none")
    assert model.model.training == (trainable != "none")
    assert model(X).requires_grad == (trainable != "none")
    with pytest.raises(InputError, match=r"front_end.trainable: 9, and the model has 2 layers"):
        front_end(TINY_XLSR, trainable=9)


def test_normalising_takes_away_level_and_offset() -> None:
    plain, normal = front_end(TINY_XLSR).eval(), front_end(TINY_XLSR, normalise=True).eval()
    normal.load_state_dict(plain.state_dict())
    scaled = 0.25 * X + 0.1
    torch.testing.assert_close(normal(scaled), normal(X), atol=1e-3, rtol=0)
    assert (plain(scaled) - plain(X)).abs().max() > 1e-2
    standard = (X - X.mean(dim=1, keepdim=True)) / X.std(dim=1, keepdim=True, correction=0)
    torch.testing.assert_close(normal(X), plain(standard), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [400, 5999, 48000])
def test_spectrograms_are_those_of_transformers(samples: int) -> None:
    x = np.random.default_rng(2).normal(0, 0.1, samples).astype(np.float32)
    given = torch.from_numpy(x)[None]
    whisper = front_end(FAMILIES["whisper"])
    expected = transformers.WhisperFeatureExtractor()(x, sampling_rate=16000, return_tensors="pt").input_features
    torch.testing.assert_close(whisper.prepared(given), expected, atol=2e-4, rtol=0)
    if samples > 560:
        bert = front_end(FAMILIES["wav2vec2-bert"])
        extractor = transformers.SeamlessM4TFeatureExtractor()
        expected = extractor(x, sampling_rate=16000, return_tensors="pt", pad_to_multiple_of=1).input_features
        found = bert.prepared(given)
        torch.testing.assert_close(found, expected[:, : found.shape[1]], atol=2e-3, rtol=0)


def test_settings_are_the_only_source_of_randomness(tmp_path: Path) -> None:
    folder = saved(tmp_path, "wav2vec2")
    assert transformers.AutoConfig.from_pretrained(folder).hidden_dropout > 0
    quiet = front_end(str(folder))
    assert quiet.model.config.layerdrop == quiet.model.config.hidden_dropout == 0
    assert not quiet.model.config.apply_spec_augment
    noisy = front_end(str(folder), settings={"hidden_dropout": 0.5})
    assert noisy.model.config.hidden_dropout == 0.5
    assert (noisy.train()(X) - quiet.train()(X)).abs().max() > 0.01
    masked = front_end(str(folder), settings={"mask_time_prob": 0.5, "mask_time_length": 2})
    assert (masked.train()(X) - quiet(X)).abs().max() > 0.01
    with pytest.raises(InputError, match=r"front_end.settings: wav2vec2 has no 'hiden_dropout'"):
        front_end(str(folder), settings={"hiden_dropout": 0.5})
    with pytest.raises(InputError, match=r"settings.layerdrop: 0.5, and layers are taken out of the model"):
        front_end(str(folder), layers="weighted", settings={"layerdrop": 0.5})
    assert front_end(str(folder), settings={"layerdrop": 0.5}).train()(X).requires_grad
    # A frozen one has nothing random, before anybody says in what mode it is.
    frozen = front_end(str(folder), trainable="none", settings={"hidden_dropout": 0.5})
    assert torch.equal(frozen(X), frozen.eval()(X))


def test_settings_that_the_configuration_refuses_are_one_line() -> None:
    with pytest.raises(InputError, match=r"model_config.front_end.settings.hidden_dropout: '0.1' does not fit: "):
        front_end(TINY_XLSR, settings={"hidden_dropout": "0.1"})


def test_copies_are_independent_and_fold_the_positional_convolution() -> None:
    model = front_end(TINY_XLSR, layers=(0, 2)).eval()
    expected = model(X)
    other = copy.deepcopy(model)
    other.fold_batch_norm()
    torch.testing.assert_close(other(X), expected, atol=1e-5, rtol=0)
    assert any("parametrizations" in name for name in model.state_dict())
    assert not any("parametrizations" in name for name in other.state_dict())
    assert torch.equal(model(X), expected)


@pytest.mark.parametrize("samples", [400, 6401, 48_000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2), (torch.float16, 0.02)])
@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.inference_mode()
def test_packed_for_scoring_the_outputs_stay(family: str, dtype: torch.dtype, tolerance: float, samples: int) -> None:
    """In float32 those of the library's modules, and in the formats of autocast as near to float32 as theirs."""
    torch.manual_seed(0)
    model = front_end(FAMILIES[family]).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            # Biases and norms that are to be seen.
            torch.nn.init.normal_(parameter, 1, 0.3)
    x = 0.1 * torch.randn(2, samples)
    expected = model(x)
    packed = fold_batch_norms(model, dtype)
    assert isinstance(packed, FrontEnd)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = packed(x)
    torch.testing.assert_close(output.float(), expected, atol=tolerance, rtol=0)
    convolutions = [isinstance(module, (PackedEncoder, FourierConvolution)) for module in packed.modules()]
    assert sum(convolutions) == (0 if family in ("whisper", "wav2vec2-bert") else 2)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize(("taps", "groups", "bias"), [(128, 16, True), (15, 1, False), (2, 4, True)])
@pytest.mark.parametrize("frames", [1, 17, 700])
def test_a_convolution_by_its_spectrum(taps: int, groups: int, bias: bool, frames: int) -> None:
    conv = torch.nn.Conv1d(32, 32, taps, padding=taps // 2, groups=groups, bias=bias)
    x = torch.randn(3, 32, frames)
    torch.testing.assert_close(FourierConvolution(conv)(x), conv(x), atol=1e-5, rtol=0)
    assert not FourierConvolution.available(torch.nn.Conv1d(4, 4, 3, stride=2))
    assert not FourierConvolution.available(torch.nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("facebook/nothing-here", r"'facebook/nothing-here' is not here: .* Hub \(.*\); .*`hf download facebook/noth"),
        ("no/such/model.pt", r"no/such/model.pt: no such file; expected a checkpoint of fairseq"),
        ({"model_type": "bert"}, r"model_type 'bert' is none that is known here \(have: wav2vec2, hubert, wavlm"),
        ({"hidden_size": 3}, r"model_type None is none that is known here"),
        (TINY_XLSR | {"hidden_size": 15}, r"transformers (cannot build|makes no) .*model"),
        (TINY_XLSR | {"conv_dim": "wide"}, r"transformers (cannot build|makes no) .*model"),
    ],
)
def test_models_that_cannot_be_had(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        front_end(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["no config", "no json", "cut weights", "other weights"])
def test_damaged_folders_are_one_line(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path, "wav2vec2")
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "no config":
        config.unlink()
    elif damage == "no json":
        config.write_text("{")
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:2000])
    else:
        config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(InputError, match=re.escape(str(folder))) as caught:
        front_end(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("samples", [399, 480_001])
def test_lengths_that_a_front_end_does_not_take(samples: int) -> None:
    model = front_end(FAMILIES["whisper"])
    with pytest.raises(InputError, match=rf"got {samples} samples .*at least 400 and at most 480000"):
        model(torch.zeros(1, samples))


def test_a_checkpoint_of_fairseq_is_a_front_end(shared: Path, tmp_path: Path) -> None:
    described, tensors = golden(shared, "ssl_tiny")
    state = {
        name.removeprefix("ssl_model.model."): tensor
        for name, tensor in filled(shared, described["shapes"], described["weight_seed"]).items()
        if name.startswith("ssl_model.")
    }
    path = tmp_path / "xlsr.pt"
    for about in (
        {"args": argparse.Namespace(encoder_attention_heads=4)},
        {"cfg": {"model": {"encoder_attention_heads": 4}}},
    ):
        torch.save({"model": state, "last_optimizer_state": None, **about}, path)
        model = front_end(str(path)).eval()
        x = tensors["x_int16"].float() / 32768
        with torch.no_grad():
            torch.testing.assert_close(model(x), tensors["trace"]["ssl_output"], atol=1e-4, rtol=0)
        assert model.configuration["num_attention_heads"] == 4
    for content, message in (
        ({"weights": state}, r'expected a dictionary with the weights under "model"'),
        ({"model": {"a": torch.zeros(2)}}, r"not a wav2vec 2.0 of fairseq .*: no post_extract_proj.weight"),
        ({"model": state | {"other": torch.zeros(1)}}, r"not the weights of XLS-R's kind: other"),
        ({"model": state, "cfg": FrontEndOptions(model="x")}, r"refused: it is a pickle that would execute code"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=message):
            front_end(str(path))


# ---- finished weights --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_finished_weights_need_no_other_file(tmp_path: Path, ending: str) -> None:
    folder = saved(tmp_path, "wavlm")
    given = {"architecture": "SSL_Linear", "nb_samp": 4000, "front_end": {"model": str(folder), "layers": "weighted"}}
    path = tmp_path / f"weights.{ending}"
    model = get_model(given, "cpu").eval()
    save_weights(model, path, {"seed": 1})
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(InputError, match=r"is not here"):
        get_model(given, "cpu")
    rest = {"database_path": "x", "batch_size": 2, "num_epochs": 1, "optim_config": {"base_lr": 0.1}}
    system = System.load(as_config(rest | {"model_config": given}), path, torch.device("cpu"))
    assert torch.equal(system.model.eval()(X)[1], model(X)[1])
    assert system.model.front_end.frozen is False  # type: ignore[union-attr]


def test_published_weights_tell_the_configuration(shared: Path) -> None:
    described, _ = golden(shared, "ssl_tiny")
    state = filled(shared, described["shapes"], 0)
    for prefix in ("", "module."):
        named = {prefix + name: tensor for name, tensor in state.items()}
        found = finished_model_config({"front_end": {"model": "facebook/wav2vec2-xls-r-300m"}}, {}, named)["front_end"][
            "model"
        ]
        assert {name: found[name] for name in GOLDEN_TINY if name != "num_attention_heads"} == {
            name: value for name, value in GOLDEN_TINY.items() if name != "num_attention_heads"
        }
    given = {"front_end": {"model": GOLDEN_TINY}}
    assert finished_model_config(given, {}, state) == given
    assert finished_model_config({"architecture": "AASIST"}, {}, {}) == {"architecture": "AASIST"}
