"""Self-supervised front end, all of whose layers are weighted by what they hold (SLS); fixed length.

Source: Zhang, Wen and Hu, "Audio deepfake detection with self-supervised XLS-R and SLS classifier", ACM Multimedia
2024. The logits are log-probabilities. Loads the published checkpoints under a map of names.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import Int, read_model_options
from s2pecnet.nn.back_ends import SLS
from s2pecnet.systems.self_supervised import SelfSupervisedOptions, SelfSupervisedSystem


@dataclass(frozen=True)
class SLSOptions(SelfSupervisedOptions):
    """What SSL_SLS reads of its `model_config`."""

    hidden: Int = Field(default=1024, ge=1, le=16384, description="width of the hidden layer")
    architecture: str = "SSL_SLS"


class Model(SelfSupervisedSystem):
    """Waveform (B, nb_samp) -> (embedding (B, hidden), log-probabilities (B, 2)); `front_end.layers` "all"."""

    def __init__(self, model_config: Mapping[str, Any]):
        options = read_model_options(SLSOptions, model_config, "SSL_SLS")
        super().__init__(options, takes_layers=True)
        self.back_end = SLS(self.front_end.width, self.frames, options.hidden)
