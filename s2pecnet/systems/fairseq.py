"""wav2vec 2.0 weights in fairseq's names, which the published files have: brought to those of transformers.

Only the kind of XLS-R and of the large models is known: layer norms in the extractor and before the attention.
"""

import re
from collections.abc import Mapping
from os import PathLike
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from s2pecnet.errors import InputError
from s2pecnet.systems.weights import load_plain

# In order; a name is changed by all that match.
RENAMED = (
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.weight_g$", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"^encoder\.pos_conv\.0\.weight_v$", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.pos_conv_embed.conv.bias"),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
# Of the pre-training alone: the mask, and the codebook with its projections. They are in every published file.
PRETRAINING = (
    "mask_emb", "quantizer.vars", "quantizer.weight_proj.weight", "quantizer.weight_proj.bias", "project_q.weight",
    "project_q.bias", "final_proj.weight", "final_proj.bias",
)  # fmt: skip
# What shapes do not tell.
STRIDES = [5, 2, 2, 2, 2, 2, 2]
HEAD_WIDTH = 64


def transformers_name(name: str) -> str:
    """fairseq's name of a wav2vec 2.0 parameter in transformers' `Wav2Vec2Model`.

    >>> transformers_name("encoder.layers.3.self_attn.q_proj.weight")
    'encoder.layers.3.attention.q_proj.weight'
    """
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A front end's weights under transformers' names, without those of the pre-training."""
    return {transformers_name(name): tensor for name, tensor in state.items() if name not in PRETRAINING}


def configuration_of(state: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
    """The configuration that weights in fairseq's names are of, as transformers has it.

    Args:
        heads: attention heads; None: of width 64 each, as in all models that were released.

    Raises:
        InputError: it is another kind of model.
    """
    convolutions = sorted(
        (int(found[1]), tensor.shape)
        for name, tensor in state.items()
        if (found := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.0\.weight", name))
    )
    layers = {found[1] for name in state if (found := re.match(r"encoder\.layers\.(\d+)\.", name))}
    needed = (
        "post_extract_proj.weight", "encoder.pos_conv.0.weight_v", "encoder.layers.0.fc1.weight",
        "feature_extractor.conv_layers.1.2.1.weight",
    )  # fmt: skip
    missing = [name for name in needed if name not in state]
    if missing or len(convolutions) != len(STRIDES):
        raise InputError(
            "not a wav2vec 2.0 of fairseq with layer norms in its extractor (XLS-R and the large models are)"
            + (f": no {missing[0]}" if missing else f": {len(convolutions)} convolutions, expected {len(STRIDES)}")
        )
    width = state["post_extract_proj.weight"].shape[0]
    positions = state["encoder.pos_conv.0.weight_v"].shape
    return {
        "model_type": "wav2vec2",
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads or max(1, width // HEAD_WIDTH),
        "intermediate_size": state["encoder.layers.0.fc1.weight"].shape[0],
        "conv_dim": [shape[0] for _, shape in convolutions],
        "conv_kernel": [shape[2] for _, shape in convolutions],
        "conv_stride": STRIDES,
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in state,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": positions[2],
        "num_conv_pos_embedding_groups": width // positions[1],
    }


def read_fairseq(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint of fairseq (weights under "model"): its configuration and its weights, as transformers has them.

    Nothing of the file is executed; it has to hold plain values.

    Raises:
        InputError: it is no such file.
    """
    # Its options, in the place of a class that does no more.
    plain = torch.serialization.safe_globals([(SimpleNamespace, "argparse.Namespace")])
    with open(path, "rb") as stream, plain:
        content = load_plain(stream, path)
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f'{path}: no checkpoint of fairseq: expected a dictionary with the weights under "model"')
    about = content.get("cfg") or content.get("args") or {}
    about = about.get("model", about) if isinstance(about, Mapping) else about
    about = about if isinstance(about, Mapping) else vars(about)
    heads = about.get("encoder_attention_heads")
    try:
        return configuration_of(state, heads if isinstance(heads, int) else None), renamed(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
