"""AASIST: audio anti-spoofing with integrated spectro-temporal graph attention networks.

Waveform -> sinc filter bank -> residual encoder -> a spectral and a temporal graph -> two branches of heterogeneous
graph attention -> logits. AASIST-L is the same with other widths (config/AASIST-L.conf).

Source: Jung et al., ICASSP 2022, arXiv:2110.01200. Loads the published checkpoints unchanged.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.config.options import NUMBER, Int, read_model_options
from s2pecnet.conventions import CROP, LONGEST_CROP
from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import RawSpectrogram, encoder_channels, residual_encoder
from s2pecnet.nn.graphs import SpectroTemporalGraphs
from s2pecnet.nn.sinc import MOST_CHANNELS, MOST_TAPS, frames_after_encoder
from s2pecnet.precision import float32_region, widened

Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS), NUMBER]
Pair = tuple[Channels, Channels]
Ratio = Annotated[float, Field(gt=0, le=1), NUMBER]
Temperature = Annotated[float, Field(gt=0), NUMBER]


@dataclass(frozen=True)
class AASISTOptions:
    """What AASIST reads of its `model_config`."""

    filts: tuple[Channels, Pair, Pair, Pair, Pair] = Field(
        description="number of sinc filters, then channels in and out of the residual blocks (the last pair serves 3 "
        "blocks)"
    )
    gat_dims: Pair = Field(description="node features of the first and of the heterogeneous graph layers")
    pool_ratios: tuple[Ratio, ...] = Field(
        description="share of nodes kept: spectral graph, temporal graph, heterogeneous graphs"
    )
    temperatures: tuple[Temperature, ...] = Field(
        description="softmax temperatures: spectral, temporal, heterogeneous attention"
    )
    first_conv: Int = Field(
        default=128, ge=1, le=MOST_TAPS, description="taps of the sinc filters; an even number becomes the next odd one"
    )
    nb_samp: Int = Field(default=CROP, ge=1, le=LONGEST_CROP, description="samples of a crop")
    architecture: str = "AASIST"

    @property
    def channels(self) -> int:
        """Channels of the encoded map."""
        return self.filts[-1][1]

    @property
    def map_shape(self) -> Pair:
        """(frequency bins, time frames) of the encoded map."""
        return self.filts[0] // 3, frames_after_encoder(self.nb_samp, self.first_conv, blocks=6)


class AASISTBase(SpectroTemporalGraphs):
    """Encoder and graph classifier of AASIST; S2pecNet puts its fusion between the two.

    Args:
        graphs: without them a subclass brings a `classify` of its own.
    """

    def __init__(self, options: AASISTOptions, graphs: bool = True):
        super().__init__()
        bins, frames = options.map_shape
        if bins < 1:
            raise InputError(f"model_config.filts[0]: got {options.filts[0]} sinc filters, expected at least 3")
        if frames < 1:
            raise InputError(
                f"model_config.nb_samp: {options.nb_samp} samples leave no frame after the encoder; "
                f"expected at least {3**7 + options.first_conv}"
            )
        self.raw_spectrogram = RawSpectrogram(options.filts[0], options.first_conv)
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder = residual_encoder(encoder_channels(options.filts[1:]))
        if graphs:
            self.add_graphs(options.channels, bins, options.gat_dims, options.pool_ratios, options.temperatures)

    def encode(self, spectrogram: Tensor) -> Tensor:
        """Raw spectrogram (B, 1, F, T) to the encoded map (B, C, F, T')."""
        return self.encoder(functional.selu(self.first_bn(spectrogram)))

    def classify(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded map (B, C, F, T') to embedding (B, 5 * gat_dims[1]) and logits (B, 2)."""
        # In every precision the graphs, a small part of the work, are computed in float32.
        with float32_region(encoded.device):
            magnitude = widened(encoded).abs()
            return self.classify_nodes(magnitude.amax(dim=3).transpose(1, 2), magnitude.amax(dim=2).transpose(1, 2))


class Model(AASISTBase):
    """AASIST: waveform (B, samples) -> (embedding, logits)."""

    def __init__(self, model_config: Mapping[str, Any]):
        super().__init__(read_model_options(AASISTOptions, model_config, "AASIST"))

    def forward(self, x: Tensor, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        """x float32 (B, samples) at 16 kHz; `Freq_aug` masks a random band of sinc filters."""
        return self.classify(self.encode(self.raw_spectrogram(x, mask=Freq_aug)))
