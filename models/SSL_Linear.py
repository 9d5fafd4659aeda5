"""Self-supervised front end, attentive statistics pooling and a linear layer: the least that a back end can be.

Source of the pooling: Okabe, Koshinaka and Shinoda, "Attentive statistics pooling for deep speaker embedding",
Interspeech 2018.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import Int, read_model_options
from s2pecnet.nn.back_ends import StatisticsBackEnd
from s2pecnet.systems.self_supervised import SelfSupervisedOptions, SelfSupervisedSystem


@dataclass(frozen=True)
class LinearOptions(SelfSupervisedOptions):
    """What SSL_Linear reads of its `model_config`."""

    hidden: Int = Field(default=128, ge=1, le=4096, description="width of the attention")
    architecture: str = "SSL_Linear"


class Model(SelfSupervisedSystem):
    """Waveform (B, samples) -> (embedding (B, 2 * width), logits (B, 2))."""

    def __init__(self, model_config: Mapping[str, Any]):
        options = read_model_options(LinearOptions, model_config, "SSL_Linear")
        super().__init__(options)
        self.back_end = StatisticsBackEnd(self.front_end.width, options.hidden)
