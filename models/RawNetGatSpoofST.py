"""RawGAT-ST: spectro-temporal graph attention on raw waveforms, fused by a product of the two graphs.

Source: Tak et al., ASVspoof 2021 workshop, arXiv:2107.12710.
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
from s2pecnet.nn.graphs import GraphAttention, GraphPool
from s2pecnet.nn.sinc import MOST_CHANNELS, MOST_TAPS, frames_after_encoder
from s2pecnet.precision import float32_region, widened

Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS), NUMBER]
Pair = tuple[Channels, Channels]

# Sizes that the paper fixes and the released config does not name.
NODE_SIZE, FUSED_SIZE = 32, 16
FUSED_NODES = 12
RATIO_T, RATIO_S, RATIO_ST = 0.64, 0.81, 0.64


@dataclass(frozen=True)
class RawGATSTOptions:
    """What RawGAT-ST reads of its `model_config`."""

    filts: tuple[Channels, Pair, Pair, Pair, Pair] = Field(
        description="number of sinc filters, then channels in and out of the residual blocks (the last pair serves 3 "
        "blocks)"
    )
    first_conv: Int = Field(
        default=128, ge=1, le=MOST_TAPS, description="taps of the sinc filters; an even number becomes the next odd one"
    )
    nb_samp: Int = Field(
        default=CROP, ge=1, le=LONGEST_CROP, description="samples of a crop; the sizes of the graphs follow from it"
    )
    architecture: str = "RawNetGatSpoofST"


class Model(nn.Module):
    """RawGAT-ST: waveform (B, nb_samp) -> (embedding (B, 7), logits (B, 2))."""

    def __init__(self, model_config: Mapping[str, Any]):
        super().__init__()
        options = read_model_options(RawGATSTOptions, model_config, "RawGAT-ST")
        bands, *pairs = options.filts
        channels = encoder_channels(pairs)
        bins, frames = bands // 3, frames_after_encoder(options.nb_samp, options.first_conv, blocks=6)
        if min(bins, frames) < 2:
            raise InputError(
                f"model_config: nb_samp {options.nb_samp} and {bands} sinc filters leave {bins} bins and {frames} "
                "frames after the encoder; expected at least 2 of each"
            )
        self.nb_samp = options.nb_samp
        self.raw_spectrogram = RawSpectrogram(bands, options.first_conv)
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder_T = residual_encoder(channels)
        self.encoder_S = residual_encoder(channels)
        self.GAT_layer_T = GraphAttention(channels[-1][1], NODE_SIZE)
        self.GAT_layer_S = GraphAttention(channels[-1][1], NODE_SIZE)
        self.GAT_layer_ST = GraphAttention(NODE_SIZE, FUSED_SIZE)
        self.pool_T = GraphPool(RATIO_T, NODE_SIZE, at_least=2)
        self.pool_S = GraphPool(RATIO_S, NODE_SIZE, at_least=2)
        self.pool_ST = GraphPool(RATIO_ST, FUSED_SIZE, at_least=2)
        self.proj_T = nn.Linear(self.pool_T.kept(bins), FUSED_NODES)
        self.proj_S = nn.Linear(self.pool_S.kept(frames), FUSED_NODES)
        self.proj_ST = nn.Linear(FUSED_SIZE, 1)
        self.out_layer = nn.Linear(self.pool_ST.kept(FUSED_NODES), 2)

    def forward(self, x: Tensor, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        """x float32 (B, nb_samp) at 16 kHz; `Freq_aug` masks a random band of sinc filters."""
        spectrogram = functional.selu(self.first_bn(self.raw_spectrogram(x, mask=Freq_aug)))
        over_time = self.encoder_T(spectrogram).abs().amax(dim=3).transpose(1, 2)
        over_frequency = self.encoder_S(spectrogram).abs().amax(dim=2).transpose(1, 2)
        # In every precision the graphs, a small part of the work, are computed in float32.
        with float32_region(x.device):
            nodes_T = self.proj_T(self.pool_T(self.GAT_layer_T(widened(over_time))).transpose(1, 2))
            nodes_S = self.proj_S(self.pool_S(self.GAT_layer_S(widened(over_frequency))).transpose(1, 2))
            fused = self.pool_ST(self.GAT_layer_ST((nodes_T * nodes_S).transpose(1, 2)))
            embedding = torch.flatten(self.proj_ST(fused), start_dim=1)
            return embedding, self.out_layer(embedding)
