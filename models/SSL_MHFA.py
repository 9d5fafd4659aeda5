"""Self-supervised front end and multi-head factorised attentive pooling over all of its layers.

Source: Peng et al., "An attention-based backend allowing efficient fine-tuning of transformer models for speaker
verification", SLT 2022, arXiv:2210.01273.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import Int, read_model_options
from s2pecnet.nn.back_ends import MHFA
from s2pecnet.systems.self_supervised import SelfSupervisedOptions, SelfSupervisedSystem


@dataclass(frozen=True)
class MHFAOptions(SelfSupervisedOptions):
    """What SSL_MHFA reads of its `model_config`."""

    heads: Int = Field(default=32, ge=1, le=1024, description="heads of the attention")
    compressed: Int = Field(default=128, ge=1, le=4096, description="what keys and values are reduced to")
    embedding: Int = Field(default=256, ge=1, le=16384, description="size of the embedding")
    architecture: str = "SSL_MHFA"


class Model(SelfSupervisedSystem):
    """Waveform (B, samples) -> (embedding (B, embedding), logits (B, 2)); `front_end.layers` "weighted" or a list."""

    def __init__(self, model_config: Mapping[str, Any]):
        options = read_model_options(MHFAOptions, model_config, "SSL_MHFA")
        super().__init__(options, takes_layers=True)
        layers = len(self.front_end.picked)
        self.back_end = MHFA(self.front_end.width, layers, options.heads, options.compressed, options.embedding)
