"""Self-supervised front end and Nes2Net-X, nested residual blocks without a reduction of the front end's width.

Source: Liu et al., "Nes2Net: a lightweight nested architecture for foundation model driven speech anti-spoofing", 2025,
arXiv:2504.05657. Loads the published checkpoints under a map of names.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import NUMBER, read_model_options
from s2pecnet.nn.back_ends import Nes2NetX
from s2pecnet.systems.self_supervised import SelfSupervisedOptions, SelfSupervisedSystem

Groups = Annotated[int, Field(ge=2, le=64), NUMBER]


@dataclass(frozen=True)
class Nes2NetOptions(SelfSupervisedOptions):
    """What SSL_Nes2Net reads of its `model_config`."""

    groups: tuple[Groups, Groups] = Field(default=(8, 8), description="groups of channels, and of each group")
    architecture: str = "SSL_Nes2Net"


class Model(SelfSupervisedSystem):
    """Waveform (B, samples) -> (embedding (B, width), logits (B, 2))."""

    published_prefix = "Nested_Res2Net_TDNN."

    def __init__(self, model_config: Mapping[str, Any]):
        options = read_model_options(Nes2NetOptions, model_config, "SSL_Nes2Net")
        super().__init__(options)
        self.back_end = Nes2NetX(self.front_end.width, options.groups)
