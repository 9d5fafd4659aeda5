"""Self-supervised front ends of a few thousand parameters, one of each family, and the published names' golden data."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CONV = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "wav2vec2": {"model_type": "wav2vec2", **_SMALL, **_CONV, "feat_extract_norm": "layer", "conv_bias": True,
                 "do_stable_layer_norm": True},
    "wav2vec2-base": {"model_type": "wav2vec2", **_SMALL, **_CONV},
    "hubert": {"model_type": "hubert", **_SMALL, **_CONV},
    "wavlm": {"model_type": "wavlm", **_SMALL, **_CONV},
    "wav2vec2-bert": {"model_type": "wav2vec2-bert", **_SMALL, "feature_projection_input_dim": 160,
                      "conv_depthwise_kernel_size": 5, "left_max_position_embeddings": 8,
                      "right_max_position_embeddings": 4},
    "whisper": {"model_type": "whisper", "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
                "encoder_ffn_dim": 24, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8,
                "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
                "decoder_start_token_id": 0},
}  # fmt: skip
TINY_XLSR = FAMILIES["wav2vec2"]
# Of the golden data.
GOLDEN_TINY: dict[str, Any] = {
    "model_type": "wav2vec2", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 96, "conv_dim": [32] * 7, "feat_extract_norm": "layer", "conv_bias": True,
    "do_stable_layer_norm": True,
}  # fmt: skip
BACK_ENDS: dict[str, dict[str, Any]] = {
    "SSL_AASIST": {"filts": [24, [1, 4], [4, 4], [4, 8], [8, 8]], "gat_dims": [8, 8]},
    "SSL_SLS": {"hidden": 16, "front_end": {"model": TINY_XLSR, "layers": "all"}},
    "SSL_Nes2Net": {"groups": [4, 2]},
    "SSL_MHFA": {"heads": 4, "compressed": 8, "embedding": 12, "front_end": {"model": TINY_XLSR, "layers": [0, 1, 2]}},
    "SSL_Linear": {"hidden": 8},
}


def model_config(architecture: str, samples: int = 4000) -> dict[str, Any]:
    """A system of a few thousand parameters with random weights."""
    return {"architecture": architecture, "nb_samp": samples, "front_end": {"model": TINY_XLSR}} | BACK_ENDS[
        architecture
    ]


def filled(shared: Path, shapes: Mapping[str, list[int]], seed: int) -> dict[str, Tensor]:
    """The weights of the golden data, under the published names."""
    spec = importlib.util.spec_from_file_location("fill", shared / "reference" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    empty = {name: torch.empty(size, dtype=torch.float32 if size else torch.long) for name, size in shapes.items()}
    state: dict[str, Tensor] = fill.fill_state(empty, seed=seed)
    return state


def golden(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the released code gave: the description (empty where there is none) and the tensors."""
    folder = shared / "reference" / "ssl"
    if not folder.is_dir():
        import pytest

        pytest.skip(f"no reference data at {folder}")
    described = folder / f"{name}.json"
    tensors: dict[str, Any] = torch.load(folder / f"{name}.pt", weights_only=True)
    return json.loads(described.read_text()) if described.is_file() else {}, tensors
