"""Back ends of the self-supervised systems: the outputs of a front end to (embedding, logits).

Shapes: B batch, K layers, N frames, D width of the front end. `GraphBackEnd`, `Nes2NetX` and `StatisticsBackEnd` take
one sequence (B, N, D); `SLS` and `MHFA` take layers (B, K, N, D). Names of parameters are those of the published files.

Sources: Tak et al., "Automatic speaker verification spoofing and deepfake detection using wav2vec 2.0 and data
augmentation", Odyssey 2022; Zhang, Wen and Hu, "Audio deepfake detection with self-supervised XLS-R and SLS
classifier", ACM Multimedia 2024; Liu et al., "Nes2Net: a lightweight nested architecture for foundation model driven
speech anti-spoofing", 2025; Okabe, Koshinaka and Shinoda, "Attentive statistics pooling for deep speaker embedding",
Interspeech 2018; Peng et al., "An attention-based backend allowing efficient fine-tuning of transformer models for
speaker verification", SLT 2022.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.errors import InputError
from s2pecnet.nn.blocks import BatchNorm2d, max_of_threes, residual_encoder
from s2pecnet.nn.graphs import SpectroTemporalGraphs
from s2pecnet.precision import float32_region, widened


class GraphBackEnd(SpectroTemporalGraphs):
    """AASIST on a front end's output: (B, N, D) to embedding (B, 5 * gat_dims[1]) and logits (B, 2); N at least 3.

    Unlike AASIST on waveforms: the residual blocks keep the number of frames, and nodes are sums over an axis of the
    encoded map, weighted by an attention map, in the place of maxima.

    Args:
        width: D.
        bands: what D is reduced to; every three of them become one spectral node.
        channels: in and out of the residual blocks.
    """

    def __init__(
        self,
        width: int,
        bands: int,
        channels: list[tuple[int, int]],
        gat_dims: tuple[int, int],
        pool_ratios: Sequence[float],
        temperatures: Sequence[float],
    ):
        super().__init__()
        size = channels[-1][1]
        self.LL = nn.Linear(width, bands)
        self.first_bn = nn.BatchNorm2d(1)
        self.first_bn1 = BatchNorm2d(size)
        self.encoder = residual_encoder(channels, pooled=False)
        self.attention = nn.Sequential(
            nn.Conv2d(size, 2 * size, 1), nn.SELU(), BatchNorm2d(2 * size), nn.Conv2d(2 * size, size, 1)
        )
        self.add_graphs(size, bands // 3, gat_dims, pool_ratios, temperatures)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sequence (B, N, D) to embedding and logits."""
        bands = self.LL(x).transpose(1, 2).unsqueeze(1)
        encoded = self.encoder(functional.selu(self.first_bn(max_of_threes(bands, 2, 3))))
        encoded = functional.selu(self.first_bn1(encoded))
        scores = self.attention(encoded)
        # In every precision the graphs are computed in float32, and so are the sums that become their nodes.
        with float32_region(x.device):
            encoded, scores = widened(encoded), widened(scores)
            spectral = (encoded * scores.softmax(dim=3)).sum(dim=3).transpose(1, 2)
            temporal = (encoded * scores.softmax(dim=2)).sum(dim=2).transpose(1, 2)
            return self.classify_nodes(spectral, temporal)


class SLS(nn.Module):
    """Sensitive layer selection: layers (B, K, N, D) to embedding (B, hidden) and log-probabilities (B, 2).

    Each layer counts by a weight in (0, 1) that its own mean gives, for each utterance.

    Args:
        frames: N; the pooled map is flattened, so that it is fixed (N // 3 is).
    """

    def __init__(self, width: int, frames: int, hidden: int = 1024):
        super().__init__()
        if frames < 3 or width < 3:
            raise InputError(f"model_config.nb_samp: {frames} frames of the front end, and SLS needs at least 3")
        self.frames = frames
        self.first_bn = nn.BatchNorm2d(1)
        self.fc0 = nn.Linear(width, 1)
        self.fc1 = nn.Linear((frames // 3) * (width // 3), hidden)
        self.fc3 = nn.Linear(hidden, 2)

    def forward(self, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Layers to embedding and log-probabilities; the loss of these is that of logits."""
        if layers.shape[2] // 3 != self.frames // 3:
            raise InputError(
                f"SLS was built for {self.frames} frames (model_config.nb_samp) and got {layers.shape[2]}; its input "
                "has a fixed length"
            )
        weights = torch.sigmoid(self.fc0(layers.mean(dim=2)))
        mixed = (layers * weights.unsqueeze(2)).sum(dim=1, keepdim=True)
        pooled = max_of_threes(functional.selu(self.first_bn(mixed)), 2, 3)
        embedding = functional.selu(self.fc1(pooled.flatten(1)))
        outputs = functional.selu(self.fc3(embedding))
        with float32_region(layers.device):
            return embedding, widened(outputs).log_softmax(dim=1)


class _NestedBlock(nn.Module):
    """A Res2Net inside Nes2Net-X, (B, C, N) -> (B, C, N): groups of channels, each sum of their history weighted."""

    def __init__(self, channels: int, groups: int, kernel: int = 3, dilation: int = 2, squeeze: int = 1):
        super().__init__()
        self.groups, size = groups, channels // groups
        self.conv1, self.bn1 = nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels)
        padding = dilation * (kernel // 2)
        self.convs = nn.ModuleList(
            nn.Conv2d(size, size, (kernel, 1), padding=(padding, 0), dilation=(dilation, 1)) for _ in range(groups - 1)
        )
        self.bns = nn.ModuleList(BatchNorm2d(size) for _ in range(groups - 1))
        self.weighted_sum = nn.ParameterList(
            nn.Parameter(torch.full((1, 1, 1, columns), 1 / columns)) for columns in range(2, groups + 1)
        )
        self.conv3, self.bn3 = nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels)
        squeezed = channels // squeeze
        gate = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Conv1d(channels, squeezed, 1), nn.ReLU(), nn.Conv1d(squeezed, channels, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.se = nn.ModuleDict({"se": gate})

    def forward(self, u: Tensor) -> Tensor:
        """Columns (B, C / groups, N, columns) grow by one group a step; each step gives one sum over them."""
        *parts, last = self.bn1(functional.relu(self.conv1(u))).chunk(self.groups, dim=1)
        columns, sums = last.unsqueeze(-1), []
        for part, convolution, norm, weights in zip(parts, self.convs, self.bns, self.weighted_sum, strict=True):
            columns = norm(functional.relu(convolution(torch.cat([columns, part.unsqueeze(-1)], dim=-1))))
            sums.append((columns * weights).sum(dim=-1))
        y = self.bn3(functional.relu(self.conv3(torch.cat([*sums, last], dim=1))))
        return u + y * self.se["se"](y)


class Nes2NetX(nn.Module):
    """Nes2Net-X: (B, N, D) to embedding (B, D), the mean over frames, and logits (B, 2).

    Args:
        groups: D is split into so many nested blocks, and the channels of each into as many groups.
    """

    def __init__(self, width: int, groups: tuple[int, int] = (8, 8)):
        super().__init__()
        outer, inner = groups
        if width % (outer * inner):
            raise InputError(f"model_config.groups: a width of {width} is not divisible by {outer} x {inner}")
        size = width // outer
        self.outer = outer
        self.Build_in_Res2Nets = nn.ModuleList(_NestedBlock(size, inner) for _ in range(outer - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(size) for _ in range(outer - 1))
        self.bn = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sequence (B, N, D) to embedding and logits."""
        *parts, last = x.transpose(1, 2).chunk(self.outer, dim=1)
        outputs: list[Tensor] = []
        for part, block, norm in zip(parts, self.Build_in_Res2Nets, self.bns, strict=True):
            outputs.append(norm(functional.relu(block(part + outputs[-1] if outputs else part))))
        embedding = functional.relu(self.bn(torch.cat([*outputs, last], dim=1))).mean(dim=2)
        return embedding, self.fc(embedding)


class StatisticsBackEnd(nn.Module):
    """Attentive statistics pooling and a linear layer: (B, N, D) to embedding (B, 2 D) and logits (B, 2).

    Args:
        hidden: width of the attention.
    """

    def __init__(self, width: int, hidden: int = 128):
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.fc = nn.Linear(2 * width, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean and standard deviation over frames, then logits."""
        scores = self.attention(x)
        with float32_region(x.device):
            x = widened(x)
            weights = widened(scores).softmax(dim=1)
            mean = (weights * x).sum(dim=1)
            variance = (weights * (x - mean.unsqueeze(1)).square()).sum(dim=1)
            embedding = torch.cat([mean, variance.clamp_min(1e-6).sqrt()], dim=1)
        return embedding, self.fc(embedding)


class MHFA(nn.Module):
    """Multi-head factorised attentive pooling: layers (B, K, N, D) to embedding (B, size) and logits (B, 2).

    Keys, which say where to look, and values, which say what is there, are two sums over the layers with weights of
    their own; each head looks at other frames of the same values.

    Args:
        layers: K.
        compressed: what keys and values are reduced to.
    """

    def __init__(self, width: int, layers: int, heads: int = 32, compressed: int = 128, size: int = 256):
        super().__init__()
        self.weights_k, self.weights_v = (nn.Parameter(torch.zeros(layers)) for _ in range(2))
        self.key, self.value = nn.Linear(width, compressed), nn.Linear(width, compressed)
        self.attention = nn.Linear(compressed, heads)
        self.pooling = nn.Linear(heads * compressed, size)
        self.fc = nn.Linear(size, 2)

    def forward(self, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Layers to embedding and logits."""
        keys, values = (
            projection(torch.einsum("k,bknd->bnd", weights.softmax(dim=0), layers))
            for projection, weights in ((self.key, self.weights_k), (self.value, self.weights_v))
        )
        attention = self.attention(keys).softmax(dim=1)
        embedding = self.pooling((attention.transpose(1, 2) @ values).flatten(1))
        return embedding, self.fc(embedding)
