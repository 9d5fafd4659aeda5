"""AASIST: audio anti-spoofing with integrated spectro-temporal graph attention networks.

Waveform -> sinc filter bank -> residual encoder -> a spectral and a temporal graph -> two branches of heterogeneous
graph attention -> logits. AASIST-L is the same with other widths (config/AASIST-L.conf).

Source: Jung et al., ICASSP 2022, arXiv:2110.01200. Loads the published checkpoints unchanged.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.config.options import NUMBER, Int, read_model_options
from s2pecnet.conventions import CROP, LONGEST_CROP
from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import RawSpectrogram, encoder_channels, residual_encoder
from s2pecnet.nn.graphs import GraphAttention, GraphPool, HeterogeneousGraphAttention
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


class AASISTBase(nn.Module):
    """Encoder and graph classifier of AASIST; S2pecNet puts its fusion between the two."""

    def __init__(self, options: AASISTOptions):
        super().__init__()
        # Shapes that cannot work, before torch says so in its own words.
        if len(options.pool_ratios) < 3 or len(options.temperatures) < 3:
            raise InputError("model_config.pool_ratios and model_config.temperatures need at least 3 values")
        bins, frames = options.map_shape
        if bins < 1:
            raise InputError(f"model_config.filts[0]: got {options.filts[0]} sinc filters, expected at least 3")
        if frames < 1:
            raise InputError(
                f"model_config.nb_samp: {options.nb_samp} samples leave no frame after the encoder; "
                f"expected at least {3**7 + options.first_conv}"
            )
        size, hidden = options.gat_dims
        spectral_ratio, temporal_ratio, ratio = options.pool_ratios[:3]
        spectral_temperature, temporal_temperature, temperature = options.temperatures[:3]

        self.raw_spectrogram = RawSpectrogram(options.filts[0], options.first_conv)
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder = residual_encoder(encoder_channels(options.filts[1:]))

        channels = options.channels
        self.pos_S = nn.Parameter(torch.randn(1, bins, channels))
        self.master1 = nn.Parameter(torch.randn(1, 1, size))
        self.master2 = nn.Parameter(torch.randn(1, 1, size))
        self.GAT_layer_S = GraphAttention(channels, size, spectral_temperature)
        self.GAT_layer_T = GraphAttention(channels, size, temporal_temperature)
        self.pool_S = GraphPool(spectral_ratio, size)
        self.pool_T = GraphPool(temporal_ratio, size)

        self.HtrgGAT_layer_ST11 = HeterogeneousGraphAttention(size, hidden, temperature)
        self.HtrgGAT_layer_ST12 = HeterogeneousGraphAttention(hidden, hidden, temperature)
        self.HtrgGAT_layer_ST21 = HeterogeneousGraphAttention(size, hidden, temperature)
        self.HtrgGAT_layer_ST22 = HeterogeneousGraphAttention(hidden, hidden, temperature)
        self.pool_hS1, self.pool_hT1 = GraphPool(ratio, hidden), GraphPool(ratio, hidden)
        self.pool_hS2, self.pool_hT2 = GraphPool(ratio, hidden), GraphPool(ratio, hidden)

        self.drop_way = nn.Dropout(0.2)
        self.drop = nn.Dropout(0.5)
        self.out_layer = nn.Linear(5 * hidden, 2)

    def encode(self, spectrogram: Tensor) -> Tensor:
        """Raw spectrogram (B, 1, F, T) to the encoded map (B, C, F, T')."""
        return self.encoder(functional.selu(self.first_bn(spectrogram)))

    def classify(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded map (B, C, F, T') to embedding (B, 5 * gat_dims[1]) and logits (B, 2)."""
        # In every precision the graphs, a small part of the work, are computed in float32.
        with float32_region(encoded.device):
            magnitude = widened(encoded).abs()
            out_S = self.pool_S(self.GAT_layer_S(magnitude.amax(dim=3).transpose(1, 2) + self.pos_S))
            out_T = self.pool_T(self.GAT_layer_T(magnitude.amax(dim=2).transpose(1, 2)))
            branches = [self._branch(number, out_T, out_S) for number in (1, 2)]
            # Pair by pair (T1, T2, S1, S2, M1, M2): the order of the dropout draws.
            T, S, M = (torch.maximum(*map(self.drop_way, pair)) for pair in zip(*branches, strict=True))
            parts = [T.abs().amax(dim=1), T.mean(dim=1), S.abs().amax(dim=1), S.mean(dim=1), M.squeeze(1)]
            embedding = self.drop(torch.cat(parts, dim=1))
            return embedding, self.out_layer(embedding)

    def _branch(self, number: int, T: Tensor, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_branch = self.get_submodule
        T, S, master = of_branch(f"HtrgGAT_layer_ST{number}1")(T, S, self.get_parameter(f"master{number}"))
        T, S = of_branch(f"pool_hT{number}")(T), of_branch(f"pool_hS{number}")(S)
        more_T, more_S, more_master = of_branch(f"HtrgGAT_layer_ST{number}2")(T, S, master)
        return T + more_T, S + more_S, master + more_master


class Model(AASISTBase):
    """AASIST: waveform (B, samples) -> (embedding, logits)."""

    def __init__(self, model_config: Mapping[str, Any]):
        super().__init__(read_model_options(AASISTOptions, model_config, "AASIST"))

    def forward(self, x: Tensor, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        """x float32 (B, samples) at 16 kHz; `Freq_aug` masks a random band of sinc filters."""
        return self.classify(self.encode(self.raw_spectrogram(x, mask=Freq_aug)))
