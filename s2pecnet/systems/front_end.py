"""Self-supervised front ends: waveforms (B, samples) to the outputs of a transformer, (B, frames, width).

    FrontEnd                 a model that transformers opens, or a wav2vec 2.0 of fairseq, as a front end
    finished_model_config    the `model_config` of a system whose trained weights are at hand: no other file is needed

wav2vec 2.0 (XLS-R with it), HuBERT and WavLM take the waveform, w2v-BERT 2.0 and Whisper's encoder log-mel spectrograms
that are computed here. Nothing is downloaded, ever: a missing model is an error that says how to get it.

Sources: Baevski et al., "wav2vec 2.0", NeurIPS 2020; Babu et al., "XLS-R", Interspeech 2022; Hsu et al., "HuBERT",
TASLP 2021; Chen et al., "WavLM", JSTSP 2022; Barrault et al., "Seamless", 2023 (w2v-BERT 2.0); Radford et al., "Robust
speech recognition via large-scale weak supervision", ICML 2023 (Whisper).
"""

import contextlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from s2pecnet.config.options import NUMBER, Bool
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.nn.packed_front_end import FourierConvolution, PackedEncoder
from s2pecnet.precision import float32_region, is_exporting
from s2pecnet.systems.fairseq import configuration_of, read_fairseq
from s2pecnet.text import clipped, first_line

LEAST_SAMPLES = 400
# Families by the `model_type` of transformers, and the samples between two frames.
HOPS = {"wav2vec2": 320, "hubert": 320, "wavlm": 320, "wav2vec2-bert": 320, "whisper": 320}
# The published systems are built on it and their weights say nothing of its configuration but shapes.
XLSR_300M = {
    "model_type": "wav2vec2",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
KNOWN = {"facebook/wav2vec2-xls-r-300m": XLSR_300M}
# What the published systems are fine-tuned without, in the families' own words.
RANDOM = ("dropout", "layerdrop", "mask_time_prob", "mask_feature_prob")
# Paths and versions of the machine that a configuration comes from.
OF_A_MACHINE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation")

KEY = "model_config.front_end.model"

Layer = Annotated[int, Field(ge=0, le=1000), NUMBER]


@dataclass(frozen=True)
class FrontEndOptions:
    """What is read of `model_config.front_end`."""

    model: str | dict[str, Any] = Field(
        description="an id of the Hugging Face Hub, a folder that transformers opens, a checkpoint of fairseq (.pt), "
        "or a configuration of transformers (an object with `model_type`: random weights)"
    )
    layers: Literal["last", "weighted", "all"] | Annotated[tuple[Layer, ...], Field(min_length=1)] = Field(
        default="last",
        description="the model's output; a learned weighted sum of what its first layer gets and of all layers; all "
        "layers; or a list, 0 = what the first layer gets",
    )
    trainable: Literal["all", "none"] | Annotated[int, Field(ge=1), NUMBER] = Field(
        default="all", description="what training moves: everything, nothing, or so many of the top layers"
    )
    normalise: Bool = Field(
        default=False, description="bring each waveform to mean 0 and variance 1, as most models were pre-trained"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="values of the model's configuration; dropouts, layer drop and masking are 0 where it names none",
    )
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa", description="torch's fused attention where the model has it, or one product after the other"
    )


class FrontEnd(nn.Module):
    """Callable: waveforms (B, samples), float32, 16 kHz, in [-1, 1], to outputs of a pre-trained transformer.

    One sequence (B, frames, width) with `layers` "last"; else (B, layers, frames, width), the outputs of the layers
    before any norm behind the last one. Any length from 400 samples; Whisper's encoder ends at 30 s.

    Attributes:
        configuration: what the model was built from, JSON-like; saved with trained weights, so that these are enough.
        width: size of an output.
        picked: which layers are given, 0 = what the first one gets; empty: the output alone.
        frozen: nothing of it is trained; it then stays in evaluation mode and keeps nothing for a backward pass.

    Raises:
        InputError: the model is not here, damaged, of an unknown family, or the options do not fit it.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, options: FrontEndOptions):
        super().__init__()
        self.model, self.configuration = _open(options)
        config, self.family = self.model.config, self.configuration["model_type"]
        self.normalise, self.frozen = options.normalise, options.trainable == "none"
        self.width = int(config.hidden_size)
        count = len(self._layers())
        chosen = {"last": (), "weighted": range(count + 1), "all": range(1, count + 1)}
        self.picked = tuple(chosen[options.layers] if isinstance(options.layers, str) else options.layers)
        if len(set(self.picked)) < len(self.picked):
            raise InputError(f"model_config.front_end.layers: {list(self.picked)} names a layer twice")
        if any(layer > count for layer in self.picked):
            raise InputError(f"model_config.front_end.layers: {max(self.picked)}, and the model has {count} layers")
        self.longest = config.max_source_positions * 320 if self.family == "whisper" else None
        if self.family in ("whisper", "wav2vec2-bert"):
            window, mel = _spectral(self.family, config)
            self.register_buffer("window", window, persistent=False)
            self.register_buffer("mel", mel, persistent=False)
        if options.trainable != "all":
            self.model.requires_grad_(False)
            if hasattr(self.model, "feature_extractor"):
                # Else it asks for the gradient of the waveform.
                self.model.feature_extractor._requires_grad = False
        if isinstance(options.trainable, int):
            if options.trainable > count:
                raise InputError(
                    f"model_config.front_end.trainable: {options.trainable}, and the model has {count} layers"
                )
            top: list[nn.Module] = list(self._layers())[-options.trainable :]
            last_norm = getattr(self._encoder(), "layer_norm", None)
            for module in (*top, last_norm) if getattr(config, "do_stable_layer_norm", True) else top:
                if module is not None:
                    module.requires_grad_(True)
        if self.frozen:
            self.model.eval()
        elif getattr(config, "layerdrop", 0) and self.picked:
            raise InputError(
                f"model_config.front_end.settings.layerdrop: {config.layerdrop}, and layers are taken out of the model "
                '(layers "weighted", "all" or a list), which a dropped one does not give; set 0, or layers "last"'
            )

    def _encoder(self) -> Any:
        return self.model if self.family == "whisper" else self.model.encoder

    def _layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self._encoder().layers
        return layers

    def frames(self, samples: int) -> int:
        """Frames of a waveform.

        Raises:
            InputError: it is too short or too long.
        """
        with torch.no_grad(), torch.random.fork_rng([]):
            device = next(self.parameters()).device
            return int(self.prepared(torch.zeros(1, samples, device=device), count_only=True).shape[1])

    def train(self, mode: bool = True) -> "FrontEnd":
        """Training mode, which a frozen model does not take part in."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def checkpoint_layers(self) -> int:
        """Recompute each layer in the backward pass instead of keeping what is inside of it; how many there are."""
        if self.frozen:
            return 0
        # Its earlier name, for earlier releases of transformers.
        enable = getattr(self.model, "activation_checkpointing_enable", None)
        (enable or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
        return len(self._layers())

    def fold_batch_norm(self) -> None:
        """For scoring alone: one weight of the positional convolution in the place of its direction and length."""
        positions = getattr(self._encoder(), "pos_conv_embed", None)
        old: Any = getattr(positions, "conv", None)
        if positions is None or not isinstance(old, nn.Conv1d) or not parametrize.is_parametrized(old):
            return
        # Another module, and not torch's `remove_parametrizations`: that changes the class, which copies share.
        with torch.no_grad():
            new = nn.Conv1d(
                old.in_channels, old.out_channels, old.kernel_size[0], padding=int(old.padding[0]), groups=old.groups,
                bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype,
            )  # fmt: skip
            new.weight.copy_(old.weight)
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
        positions.conv = new

    def pack_weights(self, dtype: torch.dtype) -> None:
        """For scoring alone, after `fold_batch_norm`: convolutions as products, the positional one by its spectrum.

        Args:
            dtype: what autocast, if any, computes in; weights of products are brought to it once and not at each call.
        """
        positions = getattr(self._encoder(), "pos_conv_embed", None)
        if positions is not None and FourierConvolution.available(getattr(positions, "conv", None)):
            positions.conv = FourierConvolution(positions.conv)
        encoder = getattr(self.model, "feature_extractor", None)
        if PackedEncoder.available(encoder):
            self.model.feature_extractor = PackedEncoder(encoder, dtype)
        for module in self.model.modules():
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def prepared(self, x: Tensor, count_only: bool = False) -> Tensor:
        """What the model takes: the waveform, or its log-mel spectrogram; with `count_only`, (1, frames, ...)."""
        samples = x.shape[-1]
        if samples < LEAST_SAMPLES or (self.longest is not None and samples > self.longest):
            limits = f"at least {LEAST_SAMPLES}" + (f" and at most {self.longest}" if self.longest else "")
            raise InputError(f"the front end got {samples} samples (model_config.nb_samp), it takes {limits}")
        if self.normalise:
            x = (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(x.var(dim=-1, keepdim=True, correction=0) + 1e-7)
        if self.family == "whisper":
            return x[:, ::320] if count_only else self._whisper_mel(x)
        if self.family == "wav2vec2-bert":
            return self._kaldi_mel(x)
        if count_only:
            for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
                samples = (samples - kernel) // stride + 1
            return x[:, :1].expand(-1, samples)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms to the output, or the outputs of layers."""
        with float32_region(x.device):
            given = self.prepared(x)
        caught: dict[int, Tensor] = {}

        def catch(number: int, module: nn.Module, inputs: Any, output: Any) -> None:
            caught[number] = output[0] if isinstance(output, tuple) else output

        hooks = []
        layers = self._layers()
        for number in self.picked:
            if number:
                hooks.append(layers[number - 1].register_forward_hook(partial(catch, number)))
            else:
                hooks.append(layers[0].register_forward_pre_hook(lambda module, inputs: catch(0, module, (), inputs)))
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen), self._undrawn():
                output: Tensor = self.model(given).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        if self.picked:
            output = torch.stack([caught[number] for number in self.picked], dim=1)
        if self.family == "whisper":
            # Of the 30 s that its encoder always gets, the frames that have sound.
            output = output[..., : (x.shape[-1] + 319) // 320, :]
        return output

    def _undrawn(self) -> contextlib.AbstractContextManager[Any]:
        """A frozen model changes no draw of the others: transformers draws for layers that are never dropped."""
        if not self.frozen or is_exporting() or torch.compiler.is_compiling():
            return contextlib.nullcontext()
        return torch.random.fork_rng([])

    # ---- log-mel spectrograms ------------------------------------------------------------------

    def _kaldi_mel(self, x: Tensor) -> Tensor:
        """As w2v-BERT 2.0 takes it: 80 bands a frame, each to mean 0 and variance 1, two frames side by side."""
        # Two frames at least.
        x = functional.pad(x, (0, max(0, 560 - x.shape[-1]))) * 2**15
        frames = x.unfold(-1, 400, 160)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        frames = torch.cat([frames[..., :1] * 0.03, frames[..., 1:] - 0.97 * frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft(frames * self.window.to(x.dtype), n=512)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = (power @ self.mel.to(x.dtype)).clamp_min(1.192092955078125e-07).log()
        mel = (mel - mel.mean(dim=1, keepdim=True)) / torch.sqrt(mel.var(dim=1, keepdim=True) + 1e-7)
        pairs = mel.shape[1] // 2
        return mel[:, : 2 * pairs].reshape(mel.shape[0], pairs, 160)

    def _whisper_mel(self, x: Tensor) -> Tensor:
        """As Whisper takes it: (B, bands, 3000), 30 s whatever the length, silence behind the end."""
        assert self.longest is not None
        padded = functional.pad(x, (0, self.longest - x.shape[-1]))
        frames = functional.pad(padded, (200, 200), mode="reflect").unfold(-1, 400, 160)[:, :-1]
        spectrum = torch.fft.rfft(frames * self.window.to(x.dtype))
        power = spectrum.real.square() + spectrum.imag.square()
        mel = (power @ self.mel.to(x.dtype)).clamp_min(1e-10).log10().transpose(1, 2)
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8)
        return (mel + 4) / 4


class LayerSum(nn.Module):
    """Learned weighted sum of layers, (B, K, N, D) -> (B, N, D); the weights are a softmax, equal at the start.

    Source: Yang et al., "SUPERB", Interspeech 2021.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: Tensor) -> Tensor:
        """The sum."""
        return torch.einsum("k,bknd->bnd", self.weights.softmax(dim=0), layers)


def finished_model_config(
    model_config: Mapping[str, Any], about: Mapping[str, Any], state: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The `model_config` of a system with trained weights: its front end by its configuration, without a file.

    Args:
        about: the description of the weights, which has the configuration where they are ours.
        state: the weights; published ones have shapes, which tell enough.
    """
    result = dict(model_config)
    given = model_config.get("front_end")
    if not isinstance(given, Mapping) or not isinstance(given.get("model"), str):
        return result
    configuration = about.get("front_end") or KNOWN.get(given["model"])
    published = {
        name.removeprefix("module.").removeprefix("ssl_model.model."): tensor
        for name, tensor in state.items()
        if "ssl_model.model." in name
    }
    if published:
        configuration = configuration_of(published)
    if isinstance(configuration, Mapping):
        result["front_end"] = {**given, "model": dict(configuration)}
    return result


def _open(options: FrontEndOptions) -> tuple[Any, dict[str, Any]]:
    """The model, and the configuration that builds it again."""
    transformers: Any = require("transformers", "ssl", "a self-supervised front end")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config, folder, state = _configuration(transformers, options)
    kind = transformers.AutoModel._model_mapping[type(config)]
    attention = options.attention if getattr(kind, "_supports_sdpa", False) else "eager"
    try:
        if folder is None:
            model = transformers.AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32)
        else:
            model, loaded = transformers.AutoModel.from_pretrained(
                folder, config=config, attn_implementation=attention, dtype=torch.float32, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
            lacking = sorted(name for name in loaded["missing_keys"] if "masked_spec_embed" not in name)
            if lacking:
                raise InputError(
                    f"{KEY}: {folder}: weights of another model than its config.json says: {len(lacking)} are missing "
                    f"({lacking[0]}); fetch it again"
                )
    except InputError:
        raise
    except OSError as error:
        raise InputError(_not_here(str(folder), first_line(error))) from None
    except Exception as error:
        # Damaged weights and impossible configurations fail there in every way that a program can fail.
        where = f"{folder}: " if folder else ""
        raise InputError(f"{KEY}: {where}transformers cannot build this model: {first_line(error)}") from None
    if config.model_type == "whisper":
        model = model.encoder
    if state is not None:
        missing, unexpected = model.load_state_dict(state, strict=False)
        missing = [name for name in missing if name != "masked_spec_embed"]
        if missing or unexpected:
            raise InputError(f"{KEY}: {options.model}: not the weights of XLS-R's kind: {(missing + unexpected)[0]}")
    model.train()
    configuration = json.loads(json.dumps({**config.to_dict(), "model_type": config.model_type}, default=str))
    return model, {name: value for name, value in configuration.items() if name not in OF_A_MACHINE}


def _configuration(transformers: Any, options: FrontEndOptions) -> tuple[Any, str | None, dict[str, Tensor] | None]:
    """The configuration with what the options say of it; where the weights are: by which name, or of fairseq."""
    given = options.model
    state: dict[str, Tensor] | None = None
    folder: str | None = None
    try:
        if isinstance(given, str) and Path(given).suffix in (".pt", ".pth"):
            if not os.path.isfile(given):
                raise InputError(f"{KEY}: {given}: no such file; expected a checkpoint of fairseq")
            given, state = read_fairseq(given)
        if isinstance(given, str):
            folder = given
            config = transformers.AutoConfig.from_pretrained(given, local_files_only=True)
        else:
            values = dict(given)
            family = values.pop("model_type", None)
            if family not in HOPS:
                raise InputError(_unknown_family(family))
            config = transformers.AutoConfig.for_model(family, **values)
    except InputError:
        raise
    except Exception as error:
        # Configurations are checked by a package of their own, with exceptions of its own.
        if isinstance(given, str):
            raise InputError(_not_here(given, first_line(error))) from None
        raise InputError(f"{KEY}: transformers makes no model of this configuration: {first_line(error)}") from None
    if config.model_type not in HOPS:
        raise InputError(_unknown_family(config.model_type))
    for name, value in config.to_dict().items():
        if (any(word in name for word in RANDOM)) and isinstance(value, (int, float)):
            setattr(config, name, 0.0)
    if hasattr(config, "apply_spec_augment"):
        config.apply_spec_augment = any(options.settings.get(name) for name in ("mask_time_prob", "mask_feature_prob"))
    known = config.to_dict()
    for name, value in options.settings.items():
        if name not in known:
            raise InputError(f"model_config.front_end.settings: {config.model_type} has no {clipped(repr(name))}")
        try:
            setattr(config, name, value)
        except Exception as error:
            # As above: checked by a package of its own.
            key = f"model_config.front_end.settings.{name}"
            raise InputError(f"{key}: {clipped(repr(value))} does not fit: {first_line(error)}") from None
    return config, folder, state


def _unknown_family(family: Any) -> str:
    return f"{KEY}: model_type {clipped(repr(family))} is none that is known here (have: {', '.join(HOPS)})"


def _not_here(name: str, reason: str) -> str:
    if os.path.isdir(name):
        return f"{KEY}: {name}: transformers cannot open this folder: {reason}"
    from huggingface_hub import constants

    return (
        f"{KEY}: {clipped(repr(name))} is not here: no folder of that name, and not in the "
        f"cache of the Hugging Face Hub ({constants.HF_HUB_CACHE}); where there is a network, run `hf download {name}`"
    )


def _spectral(family: str, config: Any) -> tuple[Tensor, Tensor]:
    """Window (400,) and mel filters (bins, bands) of a family's spectrograms, float64."""
    from transformers.audio_utils import mel_filter_bank

    if family == "whisper":
        window = torch.hann_window(400, dtype=torch.float64)
        filters = mel_filter_bank(201, config.num_mel_bins, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    else:
        window = torch.hann_window(400, periodic=False, dtype=torch.float64) ** 0.85
        filters = mel_filter_bank(
            257, 80, 20.0, 8000.0, SAMPLE_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
        )
    return window, torch.from_numpy(np.asarray(filters, np.float64))
