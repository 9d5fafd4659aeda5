"""RawNet2 for anti-spoofing: sinc filters, 1-D residual blocks with filter-wise scaling, a GRU.

Source: Tak et al., "End-to-end anti-spoofing with RawNet2", ICASSP 2021, arXiv:2011.01108.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.config.options import NUMBER, Int, read_model_options
from s2pecnet.conventions import CROP, LONGEST_CROP
from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import BatchNorm2d, Checkpointed, fold, max_of_threes
from s2pecnet.nn.packed_gru import PackedGRU
from s2pecnet.nn.sinc import MOST_CHANNELS, MOST_TAPS, MOST_UNITS, SincFilterBank, frames_after_encoder
from s2pecnet.precision import is_exporting

Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS), NUMBER]
Pair = tuple[Channels, Channels]
BLOCKS = 6
MOST_LAYERS = 8


@dataclass(frozen=True)
class RawNet2Options:
    """What RawNet2 reads of its `model_config`."""

    filts: tuple[Channels, Pair, Pair, Pair] = Field(
        description="number of sinc filters, then the channels in and out of blocks 1-2, of block 3 and of blocks 4-6"
    )
    first_conv: Int = Field(
        default=1024,
        ge=1,
        le=MOST_TAPS,
        description="taps of the sinc filters; an even number becomes the next odd one",
    )
    nb_samp: Int = Field(default=CROP, ge=1, le=LONGEST_CROP, description="samples of a crop")
    gru_node: Int = Field(default=1024, ge=1, le=MOST_UNITS, description="size of the GRU's state")
    nb_gru_layer: Int = Field(default=3, ge=1, le=MOST_LAYERS, description="layers of the GRU")
    nb_fc_node: Int = Field(default=1024, ge=1, le=MOST_UNITS, description="size of the embedding")
    nb_classes: Literal[2] = Field(default=2, description="classes")
    architecture: str = "RawNet2Spoof"


class ConvolutionOverTime(nn.Conv1d):
    """`nn.Conv1d` on maps (B, C, 1, T), which it leaves in the order in memory that they come in."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C_in, 1, T) -> (B, C_out, 1, T')."""
        return functional.conv2d(input, self.weight.unsqueeze(2), self.bias, padding=(0, int(self.padding[0])))


class ResidualBlock1d(Checkpointed):
    """Residual block of RawNet2, (B, C_in, 1, T) -> (B, C_out, 1, T // 3)."""

    def __init__(self, channels_in: int, channels_out: int, first: bool = False):
        super().__init__()
        if not first:
            # In the published parameter count, but no part of the forward pass.
            self.bn1 = BatchNorm2d(channels_in)
        self.conv1: nn.Conv1d = ConvolutionOverTime(channels_in, channels_out, 3, padding=1)
        self.bn2: nn.Module = BatchNorm2d(channels_out)
        self.conv2 = ConvolutionOverTime(channels_out, channels_out, 3, padding=1)
        self.conv_downsample: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.conv_downsample = ConvolutionOverTime(channels_in, channels_out, 1)

    def fold_batch_norm(self) -> None:
        """For scoring alone: put `bn2` into the weights of `conv1`."""
        self.conv1, self.bn2 = fold(self.conv1, self.bn2), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch plus shortcut, then max-pooling by 3."""
        y = self.conv2(functional.leaky_relu(self.bn2(self.conv1(x)), 0.3, inplace=True))
        return max_of_threes(y + self.conv_downsample(x), 3)


class Model(nn.Module):
    """RawNet2: waveform (B, samples) -> (embedding (B, nb_fc_node), log-probabilities (B, 2))."""

    # The GRU reads all of its weights at each step, whatever the batch: many utterances share the reading.
    cpu_chunk = 32
    # Order in memory of the blocks' maps (B, C, 1, T) on a CPU.
    cpu_format = torch.channels_last

    def __init__(self, model_config: Mapping[str, Any]):
        super().__init__()
        options = read_model_options(RawNet2Options, model_config, "RawNet2")
        if frames_after_encoder(options.nb_samp, options.first_conv, BLOCKS) < 1:
            raise InputError(
                f"model_config.nb_samp: {options.nb_samp} samples leave no frame for the GRU; "
                f"expected at least {3 ** (BLOCKS + 1) + options.first_conv}"
            )
        bands, early, widening, late = options.filts
        if early[0] != bands or early[1] != widening[0] or widening[1] != late[0] or late[0] != late[1]:
            raise InputError(f"model_config.filts: the channels do not follow each other: {options.filts}")
        self.bank = SincFilterBank(bands, options.first_conv)
        self.first_bn = BatchNorm2d(bands)
        for index, pair in enumerate([early, (early[1], early[1]), widening, late, late, late]):
            self.add_module(f"block{index}", nn.Sequential(ResidualBlock1d(*pair, first=index == 0)))
            self.add_module(f"fc_attention{index}", nn.Sequential(nn.Linear(pair[1], pair[1])))
        self.bn_before_gru = BatchNorm2d(late[1])
        self.gru: nn.Module = nn.GRU(late[1], options.gru_node, options.nb_gru_layer, batch_first=True)
        self.fc1_gru = nn.Linear(options.gru_node, options.nb_fc_node)
        self.fc2_gru = nn.Linear(options.nb_fc_node, options.nb_classes)

    def pack_weights(self, dtype: torch.dtype) -> None:
        """For scoring in float32 alone: a GRU with packed weights, where there can be one."""
        if dtype == torch.float32 and isinstance(self.gru, nn.GRU) and PackedGRU.available(self.gru):
            self.gru = PackedGRU(self.gru)

    def forward(self, x: Tensor, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        """x float32 (B, samples) at 16 kHz; `Freq_aug` masks a random band of sinc filters."""
        x = self.bank(x, mask=Freq_aug)
        if is_exporting():
            # The pooling in one dimension would fix the length.
            x = functional.max_pool2d(x.abs().unsqueeze(2), (1, 3))
        else:
            # Without gradients it is several times as fast.
            x = functional.max_pool1d(x.abs_(), 3).unsqueeze(2)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=self.cpu_format)
        x = functional.selu(self.first_bn(x))
        for index in range(BLOCKS):
            x = self.get_submodule(f"block{index}")(x)
            scale = torch.sigmoid(self.get_submodule(f"fc_attention{index}")(x.mean(dim=(2, 3))))[:, :, None, None]
            x = torch.addcmul(scale, x, scale)
        x = functional.selu(self.bn_before_gru(x)).squeeze(2)
        last_step = self.gru(x.transpose(1, 2))[0][:, -1]
        embedding = self.fc1_gru(last_step)
        return embedding, functional.log_softmax(self.fc2_gru(embedding), dim=1)
