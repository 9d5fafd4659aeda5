"""Graph attention and graph pooling over nodes of spectral and temporal features.

Shapes: B batch, N graph nodes, D node features. Parameter names are the keys of the published checkpoints.

Sources: Jung et al., "AASIST", ICASSP 2022; Tak et al., "End-to-end spectro-temporal graph attention networks",
ASVspoof 2021 workshop.
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.errors import InputError


def attention_vector(size: int) -> nn.Parameter:
    """A learned vector (size, 1) that turns a node pair's features into one attention score."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(size, 1)))


def batch_norm_nodes(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """BatchNorm over nodes and batch together: (B, N, D) as (B * N, D)."""
    return norm(x.flatten(0, 1)).view_as(x)


class GraphAttention(nn.Module):
    """Graph attention over a fully connected graph, (B, N, D_in) -> (B, N, D_out).

    The score of a pair is symmetric: it sees the element-wise product of the two nodes.
    """

    def __init__(self, size_in: int, size_out: int, temperature: float = 1.0, dropout: float = 0.2):
        super().__init__()
        self.att_proj = nn.Linear(size_in, size_out)
        self.att_weight = attention_vector(size_out)
        self.proj_with_att = nn.Linear(size_in, size_out)
        self.proj_without_att = nn.Linear(size_in, size_out)
        self.bn = nn.BatchNorm1d(size_out)
        self.input_drop = nn.Dropout(dropout)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Attend, project, normalise."""
        x = self.input_drop(x)
        pairs = torch.tanh(self.att_proj(x.unsqueeze(2) * x.unsqueeze(1)))
        scores = (pairs @ self.att_weight).squeeze(-1)
        attention = torch.softmax(scores / self.temperature, dim=-1)
        y = self.proj_with_att(attention @ x) + self.proj_without_att(x)
        return functional.selu(batch_norm_nodes(self.bn, y))


class HeterogeneousGraphAttention(nn.Module):
    """Graph attention over two sets of nodes and a master node that reads them all.

    Pairs within the first set, within the second and across have attention vectors of their own.
    """

    def __init__(self, size_in: int, size_out: int, temperature: float = 1.0, dropout: float = 0.2):
        super().__init__()
        self.proj_type1 = nn.Linear(size_in, size_in)
        self.proj_type2 = nn.Linear(size_in, size_in)
        self.att_proj = nn.Linear(size_in, size_out)
        self.att_projM = nn.Linear(size_in, size_out)
        self.att_weight11 = attention_vector(size_out)
        self.att_weight22 = attention_vector(size_out)
        self.att_weight12 = attention_vector(size_out)
        self.att_weightM = attention_vector(size_out)
        self.proj_with_att = nn.Linear(size_in, size_out)
        self.proj_without_att = nn.Linear(size_in, size_out)
        self.proj_with_attM = nn.Linear(size_in, size_out)
        self.proj_without_attM = nn.Linear(size_in, size_out)
        self.bn = nn.BatchNorm1d(size_out)
        self.input_drop = nn.Dropout(dropout)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes (B, N1, D_in), (B, N2, D_in) and master (B or 1, 1, D_in) to the same with D_out."""
        size1 = first.shape[1]
        x = self.input_drop(torch.cat([self.proj_type1(first), self.proj_type2(second)], dim=1))
        scores = torch.tanh(self.att_projM(x * master)) @ self.att_weightM
        weights = torch.softmax(scores / self.temperature, dim=1)
        new_master = self.proj_with_attM(weights.transpose(1, 2) @ x) + self.proj_without_attM(master)
        pairs = torch.tanh(self.att_proj(x.unsqueeze(2) * x.unsqueeze(1)))
        vectors = torch.cat([self.att_weight11, self.att_weight12, self.att_weight22], dim=1)
        within1, across, within2 = (pairs @ vectors).unbind(-1)
        in_first = torch.arange(x.shape[1], device=x.device) < size1
        # torch.compile (2.11) stumbles over an equality of truth values; this says the same.
        differ = in_first.unsqueeze(0) ^ in_first.unsqueeze(1)
        scores = torch.where(differ, across, torch.where(in_first, within1, within2))
        attention = torch.softmax(scores / self.temperature, dim=-1)
        y = self.proj_with_att(attention @ x) + self.proj_without_att(x)
        y = functional.selu(batch_norm_nodes(self.bn, y))
        return y[:, :size1], y[:, size1:], new_master


class GraphPool(nn.Module):
    """Keeps the best-scored share of the nodes, each multiplied by its score: (B, N, D) -> (B, k, D), best first."""

    def __init__(self, ratio: float, size: int, at_least: int = 1, dropout: float = 0.3):
        super().__init__()
        self.proj = nn.Linear(size, 1)
        self.drop = nn.Dropout(dropout)
        self.ratio, self.at_least = ratio, at_least

    def kept(self, nodes: int) -> int:
        """How many of `nodes` nodes survive."""
        if not isinstance(nodes, int):
            # While a graph with any number of nodes is traced, which can neither round nor compare them.
            share = Fraction(str(self.ratio))
            return torch.sym_max(self.at_least, nodes * share.numerator // share.denominator)
        return min(nodes, max(int(nodes * self.ratio), self.at_least))

    def forward(self, h: Tensor) -> Tensor:
        """Score, select, gate."""
        scores = torch.sigmoid(self.proj(self.drop(h)))
        best = scores.topk(self.kept(h.shape[1]), dim=1).indices
        return torch.gather(h * scores, 1, best.expand(-1, -1, h.shape[2]))


class SpectroTemporalGraphs(nn.Module):
    """Graph classifier of AASIST: a spectral and a temporal graph, two branches of heterogeneous attention, a readout.

    A base class: its parameters are those of the system itself, whose `__init__` calls `add_graphs`.
    """

    def add_graphs(
        self,
        channels: int,
        bins: int,
        gat_dims: tuple[int, int],
        pool_ratios: Sequence[float],
        temperatures: Sequence[float],
    ) -> None:
        """Make the layers.

        Args:
            channels, bins: features and number of the spectral nodes.
            gat_dims: node features of the first and of the heterogeneous graph layers.
            pool_ratios, temperatures: spectral, temporal, heterogeneous; more of them are ignored.

        Raises:
            InputError: fewer than three ratios or temperatures.
        """
        # What cannot work, before torch says so in its own words.
        if len(pool_ratios) < 3 or len(temperatures) < 3:
            raise InputError("model_config.pool_ratios and model_config.temperatures need at least 3 values")
        size, hidden = gat_dims
        spectral_ratio, temporal_ratio, ratio = pool_ratios[:3]
        spectral_temperature, temporal_temperature, temperature = temperatures[:3]

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

    def classify_nodes(self, spectral: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (B, bins, C), (B, frames, C) to embedding (B, 5 * gat_dims[1]) and logits (B, 2)."""
        out_S = self.pool_S(self.GAT_layer_S(spectral + self.pos_S))
        out_T = self.pool_T(self.GAT_layer_T(temporal))
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
