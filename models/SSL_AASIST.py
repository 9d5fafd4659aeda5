"""Self-supervised front end and the graph back end of AASIST; with XLS-R 300M the published system.

Source: Tak et al., "Automatic speaker verification spoofing and deepfake detection using wav2vec 2.0 and data
augmentation", Odyssey 2022, arXiv:2202.12233. Loads the published checkpoints under a map of names.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.options import NUMBER, read_model_options
from s2pecnet.errors import InputError
from s2pecnet.nn.back_ends import GraphBackEnd
from s2pecnet.nn.blocks import encoder_channels
from s2pecnet.systems.self_supervised import SelfSupervisedOptions, SelfSupervisedSystem

Channels = Annotated[int, Field(ge=1, le=1024), NUMBER]
Pair = tuple[Channels, Channels]
Ratio = Annotated[float, Field(gt=0, le=1), NUMBER]
Temperature = Annotated[float, Field(gt=0), NUMBER]


@dataclass(frozen=True)
class SSLAASISTOptions(SelfSupervisedOptions):
    """What SSL_AASIST reads of its `model_config`."""

    filts: tuple[Channels, Pair, Pair, Pair, Pair] = Field(
        default=(128, (1, 32), (32, 32), (32, 64), (64, 64)),
        description="bands that the front end's output is reduced to, then channels in and out of the residual blocks "
        "(the last pair serves 3 blocks)",
    )
    gat_dims: Pair = Field(
        default=(64, 32), description="node features of the first and of the heterogeneous graph layers"
    )
    pool_ratios: tuple[Ratio, ...] = Field(
        default=(0.5, 0.5, 0.5), description="share of nodes kept: spectral graph, temporal graph, heterogeneous graphs"
    )
    temperatures: tuple[Temperature, ...] = Field(
        default=(2.0, 2.0, 100.0), description="softmax temperatures: spectral, temporal, heterogeneous attention"
    )
    architecture: str = "SSL_AASIST"


class Model(SelfSupervisedSystem):
    """Waveform (B, samples) -> (embedding (B, 160), logits (B, 2))."""

    def __init__(self, model_config: Mapping[str, Any]):
        options = read_model_options(SSLAASISTOptions, model_config, "SSL_AASIST")
        super().__init__(options)
        if self.frames < 3 or options.filts[0] < 3:
            raise InputError(
                f"model_config: {options.nb_samp} samples (nb_samp) are {self.frames} frames of the front end, and "
                f"filts[0] is {options.filts[0]}; expected at least 3 of both"
            )
        self.back_end = GraphBackEnd(
            self.front_end.width, options.filts[0], encoder_channels(options.filts[1:]), options.gat_dims,
            options.pool_ratios, options.temperatures,
        )  # fmt: skip
