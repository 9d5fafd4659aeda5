"""S2pecNet: fusion of spectrograms of two orders, regularised by reconstructing them.

First order: AASIST's encoder on the waveform. Second order: a residual network on a spectral feature of the complete
utterance (LFCC as released, power spectrogram as in the paper). Temporal-spectral fusion of the two maps, AASIST's
graph classifier on the fused map, and in training two decoders that reconstruct both inputs from it.

The defaults are the released system. `model_config` options select the system that the paper describes
(config/S2pecNet_paper.conf) and the ablations. Where a size is not the published one, it follows from `nb_samp`,
`nb_frames` and `filts`.

Source: "Robust Audio Anti-Spoofing with Fusion-Reconstruction Learning on Multi-Order Spectrograms",
Interspeech 2023, arXiv:2308.09302.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.config.options import Bool, Float, Int, read_model_options
from s2pecnet.errors import InputError
from s2pecnet.features import LFCC, FixedFrames, PowerSpectrogram
from s2pecnet.nn.blocks import BatchNorm2d, Checkpointed, fold
from s2pecnet.nn.sinc import MOST_FRAMES
from s2pecnet.precision import float32_region, widened

from .AASIST import AASISTBase, AASISTOptions

# A second-order feature with more bins than this is strided in frequency by the first layer.
BINS_OF_STRIDE_ONE = 60
CONV5_FRAMES = 8


@dataclass(frozen=True)
class S2pecNetOptions(AASISTOptions):
    """What S2pecNet reads of its `model_config`, beside AASIST's keys."""

    second_order: Literal["lfcc", "power", "log_power"] = Field(default="lfcc", description="second-order feature")
    nb_frames: Int = Field(
        default=750, ge=1, le=MOST_FRAMES, description="frames of the second-order feature (10 ms each)"
    )
    orders: Literal["both", "first", "second"] = Field(default="both", description="orders that the classifier sees")
    fusion: Literal["attention", "coarse"] = Field(
        default="attention", description="attention maps on the joined map, or the joined map alone"
    )
    fusion_pooling: Literal["mean", "max"] = Field(
        default="mean", description="what the attention maps are computed from: mean of h, or max of |h|"
    )
    fusion_residual: Bool = Field(
        default=True, description="fused = A * h + h (true, as released) or A * h (false, as in the paper)"
    )
    classifier: Literal["graphs", "statistics"] = Field(
        default="graphs",
        description="AASIST's graphs, or mean and deviation over time of the fused map and a linear layer",
    )
    reconstruction: Literal["released", "spectrogram", "none"] = Field(
        default="released",
        description="targets of the decoders: waveform and LFCC with the released output ranges, the two spectrograms "
        "with unbounded outputs, or no decoders",
    )
    reconstruction_weight: Float = Field(
        default=0.1, ge=0, le=1e6, description="weight of each reconstruction error in the loss"
    )
    architecture: str = "S2pecNet"


class PreActivationBlock(Checkpointed):
    """Pre-activation residual block of the second-order encoder: BN-ReLU-conv 1x1, BN-ReLU-conv 3x3.

    A 1x1 convolution with a stride sees every n-th place alone; here these places are taken first and both
    convolutions run without a stride. (oneDNN's strided 1x1 convolution also corrupts memory in its backward pass for
    few channels in channels-last order: torch 2.11, 4 -> 8 channels.)
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.bn1 = BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2: nn.Module = BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def fold_batch_norm(self) -> None:
        """For scoring alone: put `bn2` into the weights of `conv1`; `bn1` has no convolution before it."""
        self.conv1, self.bn2 = fold(self.conv1, self.bn2), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, F, T) -> (B, C_out, F / stride, T / stride)."""
        activated = functional.relu(self.bn1(x))[..., :: self.stride, :: self.stride]
        # A projecting shortcut starts from the activation, an identity from the input itself.
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(functional.relu(self.bn2(self.conv1(activated)))) + shortcut


class SecondOrderEncoder(nn.Module):
    """Feature (B, 1, bins, frames) to a map of the first order's shape (B, C, F, T)."""

    def __init__(self, bins: int, frames: int, channels: int, map_shape: tuple[int, int]):
        super().__init__()
        map_bins, map_frames = map_shape
        self.stride = (max(1, bins // BINS_OF_STRIDE_ONE), 3)
        self.stem_shape = ((bins - 1) // self.stride[0] + 1, (frames - 7) // 3 + 1)
        halved_bins, halved_frames = ((size + 1) // 2 for size in self.stem_shape)
        self.conv5_kernel = (halved_bins - map_bins + 1, CONV5_FRAMES)
        self.joined_frames = halved_frames - CONV5_FRAMES + 1
        if self.conv5_kernel[0] < 1 or self.joined_frames < 1:
            raise InputError(
                f"model_config: a second-order feature of {bins} bins and {frames} frames (nb_frames) is too small "
                f"for a map of {map_bins} bins (filts[0] // 3); expected at least {2 * map_bins - 1} bins and 49 frames"
            )
        widths = [channels // 8, channels // 4, channels // 2, channels]
        self.conv1 = nn.Conv2d(1, widths[0], (3, 9), stride=self.stride, padding=(1, 1), bias=False)
        self.bn1: nn.Module = BatchNorm2d(widths[0])
        for index, (before, after) in enumerate(itertools.pairwise([widths[0], *widths]), start=1):
            blocks = PreActivationBlock(before, after, 2 if index == 2 else 1), PreActivationBlock(after, after)
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
        self.conv5 = nn.Conv2d(channels, channels, self.conv5_kernel, bias=False)
        self.bn5: nn.Module = BatchNorm2d(channels)
        self.fc = nn.Linear(self.joined_frames, map_frames)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight)

    def fold_batch_norm(self) -> None:
        """For scoring alone: put `bn1` and `bn5` into the weights of `conv1` and `conv5`."""
        self.conv1, self.bn1 = fold(self.conv1, self.bn1), nn.Identity()
        self.conv5, self.bn5 = fold(self.conv5, self.bn5), nn.Identity()

    def forward(self, feature: Tensor) -> Tensor:
        """Stem, four stages, a tall convolution down to the map's bins, a linear layer to its frames."""
        y = functional.relu(self.bn1(self.conv1(feature)))
        for index in range(1, 5):
            y = self.get_submodule(f"layer{index}")(y)
        y = functional.relu(self.bn5(self.conv5(y)))
        return self.fc(y)


class TemporalSpectralFusion(nn.Module):
    """Joins two maps of the same shape and weighs the result by a spectral and a temporal attention map."""

    def __init__(self, channels: int, options: S2pecNetOptions):
        super().__init__()
        self.coarse = options.fusion == "coarse"
        self.pooling, self.residual = options.fusion_pooling, options.fusion_residual
        self.conv0 = nn.Conv2d(2 * channels, channels, 1)
        self.norm0: nn.Module = BatchNorm2d(channels)
        if self.coarse:
            return
        self.fc1 = nn.Conv2d(channels, channels, 1)
        self.norm1: nn.Module = BatchNorm2d(channels)
        self.fc2 = nn.Conv2d(channels, channels, 1)
        self.fc3 = nn.Conv2d(channels, channels, 1)
        self.norm2: nn.Module = BatchNorm2d(channels)
        self.fc4 = nn.Conv2d(channels, channels, 1)

    def fold_batch_norm(self) -> None:
        """For scoring alone: put the BatchNorms into the convolutions before them."""
        self.conv0, self.norm0 = fold(self.conv0, self.norm0), nn.Identity()
        if not self.coarse:
            self.fc1, self.norm1 = fold(self.fc1, self.norm1), nn.Identity()
            self.fc3, self.norm2 = fold(self.fc3, self.norm2), nn.Identity()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two maps (B, C, F, T) to one."""
        h = functional.silu(self.norm0(self.conv0(torch.cat([first, second], dim=1))))
        if self.coarse:
            return h
        spectral = torch.sigmoid(self.fc2(functional.silu(self.norm1(self.fc1(self._pool(h, 3))))))
        temporal = torch.sigmoid(self.fc4(functional.silu(self.norm2(self.fc3(self._pool(h, 2))))))
        weighted = spectral * temporal * h
        return weighted + h if self.residual else weighted

    def _pool(self, h: Tensor, axis: int) -> Tensor:
        return h.mean(axis, keepdim=True) if self.pooling == "mean" else h.abs().amax(axis, keepdim=True)


class StatisticsClassifier(nn.Module):
    """Mean and standard deviation over time of each channel and bin, BatchNorm, a linear layer.

    The light alternative to AASIST's graphs: in a training of a few hundred steps it learns faster than they do
    (docs/results.md).
    """

    def __init__(self, channels: int, bins: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * channels * bins)
        self.out_layer = nn.Linear(2 * channels * bins, 2)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, F, T) to embedding (B, 2 * C * F) and logits (B, 2)."""
        with float32_region(encoded.device):
            nodes = widened(encoded).flatten(1, 2)
            variance = nodes.var(dim=2, correction=0)
            embedding = self.norm(torch.cat([nodes.mean(dim=2), variance.clamp_min(1e-6).sqrt()], dim=1))
            return embedding, self.out_layer(embedding)


class SecondOrderUpBlock(Checkpointed):
    """Block of the second-order decoder: ReLU(BN), transposed 3x3, ReLU(BN), transposed 1x1 that trims the border."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.bn1 = BatchNorm2d(channels_in)
        self.conv1 = nn.ConvTranspose2d(
            channels_in, channels_out, 3, stride=stride, output_padding=stride - 1, bias=False
        )
        self.bn2 = BatchNorm2d(channels_out)
        self.conv2 = nn.ConvTranspose2d(channels_out, channels_out, 1, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, F, T) -> (B, C_out, stride * F, stride * T)."""
        return self.conv2(functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x))))))


class SecondOrderDecoder(nn.Module):
    """Fused map (B, C, F, T) to the second-order feature (B, 1, bins, frames): the second-order encoder, mirrored.

    Args:
        released: end in BN, ReLU and a sigmoid as the released decoder does (range [0.5, 1)); otherwise the last
            convolution's output stands as it is and can take any value.
    """

    def __init__(
        self, encoder: SecondOrderEncoder, shape: tuple[int, int], channels: int, map_frames: int, released: bool
    ):
        super().__init__()
        self.shape, self.released = shape, released
        self.dec_lin = nn.Linear(map_frames, encoder.joined_frames)
        c, half, quarter, eighth = channels, channels // 2, channels // 4, channels // 8
        widths = [c, c, half, half, quarter, quarter, eighth, eighth, eighth]
        layers: list[nn.Module] = [nn.ConvTranspose2d(c, c, encoder.conv5_kernel), BatchNorm2d(c), nn.ReLU()]
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            layers.append(SecondOrderUpBlock(before, after, stride=2 if index == 5 else 1))
        stem = nn.ConvTranspose2d(eighth, 1, (3, 9), stride=encoder.stride, padding=(1, 0), bias=not released)
        layers.append(stem)
        if released:
            layers += [BatchNorm2d(1), nn.ReLU()]
        self.decoder_conv = nn.Sequential(*layers)

    def forward(self, fused: Tensor) -> Tensor:
        """Reconstruct; what the strides overshoot is cut off."""
        y = self.decoder_conv(self.dec_lin(fused))
        bins, frames = self.shape
        y = y[..., :bins, :frames]
        return torch.sigmoid(y) if self.released else y


class FirstOrderUpBlock(Checkpointed):
    """Block of the first-order decoder, (B, C_in, F, T) -> (B, C_out, F, 3 T + 1)."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.bn1 = BatchNorm2d(channels_in)
        self.conv1 = nn.ConvTranspose2d(channels_in, channels_out, (2, 3), padding=(1, 1))
        self.bn2 = BatchNorm2d(channels_out)
        self.conv2 = nn.ConvTranspose2d(channels_out, channels_out, (2, 3), padding=(0, 1))
        self.conv3 = nn.ConvTranspose2d(channels_out, channels_out, (1, 4), stride=(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Residual-free mirror of the encoder's block."""
        y = self.conv1(functional.selu(self.bn1(x)))
        return self.conv3(self.conv2(functional.selu(self.bn2(y))))


def _first_order_up_blocks(options: S2pecNetOptions) -> list[nn.Module]:
    """AASIST's encoder channels walked backwards; the last block ends in one channel."""
    _, first, second, _, last = options.filts
    widths = [last[1]] * 4 + [second[1], first[1], 1]
    return [FirstOrderUpBlock(before, after) for before, after in itertools.pairwise(widths)]


class WaveformDecoder(nn.Module):
    """Fused map (B, C, F, T) to the waveform (B, nb_samp), as released (its SiLU never falls below -0.28).

    Behind the up-blocks the released decoder upsamples by 3 in both directions, convolves along time, and only then
    sums over the frequency rows. All three are linear and without bias, so the rows can be summed first: the same
    result with a seventieth of the work.
    """

    def __init__(self, options: S2pecNetOptions):
        super().__init__()
        self.samples = options.nb_samp
        blocks = _first_order_up_blocks(options)
        bins, frames = options.map_shape
        for _ in blocks:
            frames = 3 * frames + 1
        self.blocks = len(blocks)
        # The upsampling gives 3 * n + 1 rows and columns; the convolution along time adds the samples still missing.
        taps = max(1, self.samples - (3 * frames + 1) + 1)
        self.decoder_conv = nn.Sequential(
            *blocks,
            nn.ConvTranspose2d(1, 1, 3, stride=3, output_padding=1, bias=False),
            nn.ConvTranspose2d(1, 1, (1, taps), bias=False),
            nn.Conv2d(1, 1, (3 * bins + 1, 1), bias=False),
            BatchNorm2d(1),
            nn.SiLU(),
        )

    def forward(self, fused: Tensor) -> Tensor:
        """Reconstruct; what the strides overshoot is cut off."""
        layers: list[Any] = list(self.decoder_conv)
        upsampling, lengthening, row_weights = (layer.weight for layer in layers[self.blocks : self.blocks + 3])
        y = self.decoder_conv[: self.blocks](fused)
        # Row 3h + i, column 3w + j of the upsampled map is y[h, w] * upsampling[i, j]; its last row and column are the
        # output padding, zero without a bias. Of (B, 1, F, W) this is the weighted sum over rows, (B, 1, 3 W + 1).
        weights = row_weights[0, 0, : 3 * y.shape[2], 0].view(-1, 3) @ upsampling[0, 0]
        row = functional.pad((y[:, 0].transpose(1, 2) @ weights).flatten(1), (0, 1)).unsqueeze(1)
        row = functional.conv_transpose1d(row, lengthening[:, :, 0]).unsqueeze(2)
        return self.decoder_conv[self.blocks + 3 :](row)[:, 0, 0, : self.samples]


class RawSpectrogramDecoder(nn.Module):
    """Fused map (B, C, F, T) to the first-order spectrogram (B, 1, F, frames), unbounded."""

    def __init__(self, options: S2pecNetOptions):
        super().__init__()
        taps = options.first_conv + 1 - options.first_conv % 2
        self.frames = (options.nb_samp - taps + 1) // 3
        self.decoder_conv = nn.Sequential(*_first_order_up_blocks(options))

    def forward(self, fused: Tensor) -> Tensor:
        """Reconstruct; what the strides overshoot is cut off, what they miss is zero."""
        y = self.decoder_conv(fused)[..., : self.frames]
        return functional.pad(y, (0, self.frames - y.shape[-1]))


class Model(AASISTBase):
    """S2pecNet: waveform (B, nb_samp) and feature (B, bins, nb_frames) -> (embedding, logits[, reconstructions])."""

    def __init__(self, model_config: Mapping[str, Any]):
        options = _read(model_config)
        super().__init__(options, graphs=options.classifier == "graphs")
        self.options = options
        first, second = options.orders != "second", options.orders != "first"
        if not first:
            del self.encoder, self.first_bn
        if second:
            self.second_order = _second_order_feature(options)
            shape = (self.second_order.bins, options.nb_frames)
            self.resnet = SecondOrderEncoder(*shape, options.channels, options.map_shape)
        if first and second:
            self.two = TemporalSpectralFusion(options.channels, options)
        if options.classifier == "statistics":
            self.statistics = StatisticsClassifier(options.channels, options.map_shape[0])
        if options.reconstruction == "none":
            return
        released = options.reconstruction == "released"
        if first:
            if options.map_shape[0] < 2:
                raise InputError(
                    f"model_config.filts[0]: got {options.filts[0]} sinc filters, expected at least 6 for the decoder "
                    "of the first order (or reconstruction 'none')"
                )
            self.raw_decoder = WaveformDecoder(options) if released else RawSpectrogramDecoder(options)
        if second:
            self.decoder = SecondOrderDecoder(self.resnet, shape, options.channels, options.map_shape[1], released)

    @staticmethod
    def utterance_feature(model_config: Mapping[str, Any]) -> FixedFrames | None:
        """The second input: the feature of the complete utterance that the loader is to compute."""
        options = _read(model_config)
        return None if options.orders == "first" else _second_order_feature(options)

    def forward(
        self, x: Tensor, feature: Tensor | None = None, Freq_aug: bool = False, reconstruct: bool | None = None
    ) -> tuple[Tensor, ...]:
        """Score a batch; in training also reconstruct.

        Args:
            x: waveforms, float32 (B, nb_samp) at 16 kHz.
            feature: second-order feature of the complete utterances, (B, bins, nb_frames); computed from `x`
                when absent.
            Freq_aug: mask a random band of sinc filters.
            reconstruct: run the decoders too; by default in training mode only.

        Returns:
            embedding (B, 5 * gat_dims[1]), or (B, 2 * channels * bins) of the classifier "statistics"; logits (B, 2);
            and with decoders the reconstruction of the first order and of the second (None for an order that the
            system does not have).

        Raises:
            InputError: `x` has not the length that the system was built for.
        """
        if x.shape[-1] != self.options.nb_samp:
            raise InputError(f"S2pecNet was built for {self.options.nb_samp} samples (nb_samp), got {x.shape[-1]}")
        orders = self.options.orders
        if orders != "second":
            fused = self.encode(self.raw_spectrogram(x, Freq_aug))
        if orders != "first":
            second = self.resnet((self.second_order(x) if feature is None else feature).unsqueeze(1))
            fused = second if orders == "second" else self.two(fused, second)
        embedding, logits = self.classify(fused)
        if not (self.training if reconstruct is None else reconstruct) or self.options.reconstruction == "none":
            return embedding, logits
        first = None if orders == "second" else self.raw_decoder(fused)
        second = None if orders == "first" else self.decoder(fused)
        return embedding, logits, first, second  # type: ignore[return-value]

    def classify(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, F, T) to embedding and logits, by the classifier that the options name."""
        return self.statistics(encoded) if self.options.classifier == "statistics" else super().classify(encoded)

    def loss(
        self, outputs: Sequence[Tensor | None], inputs: Sequence[Tensor], labels: Tensor, criterion: nn.Module
    ) -> dict[str, Tensor]:
        """Terms of the loss, weighted: classification, and the mean square error of each reconstruction."""
        terms = {"classification": criterion(outputs[1], labels)}
        if len(outputs) == 2:
            return terms
        weight, (first, second) = self.options.reconstruction_weight, outputs[2:]
        if first is not None:
            with torch.no_grad():
                released = self.options.reconstruction == "released"
                target = inputs[0] if released else self.raw_spectrogram(inputs[0])
            terms["first_order"] = weight * functional.mse_loss(first, target)
        if second is not None:
            with torch.no_grad():
                target = (inputs[1] if len(inputs) > 1 else self.second_order(inputs[0])).unsqueeze(1)
            terms["second_order"] = weight * functional.mse_loss(second, target)
        return terms


def _read(model_config: Mapping[str, Any]) -> S2pecNetOptions:
    options = read_model_options(S2pecNetOptions, model_config, "S2pecNet")
    if options.channels % 8:
        raise InputError(
            f"model_config.filts: S2pecNet's last channel count must be a multiple of 8, got {options.channels}"
        )
    return options


def _second_order_feature(options: S2pecNetOptions) -> FixedFrames:
    if options.second_order == "lfcc":
        return FixedFrames(LFCC(), options.nb_frames)
    return FixedFrames(PowerSpectrogram(log=options.second_order == "log_power"), options.nb_frames)
