"""The Attention-Guided Concept Model (Li & Mahmoud, arXiv 2502.10145), vectorised over its K concepts.

Per concept k, over features X [D, n] on n grid cells:

* multi-scale spatial attention (MSSA): a_h = softmax(conv3x3 + conv5x5 + conv7x7), H heads, A = mean over heads;
* channel attention (CACM): s = sigmoid(W2 relu(W1 avg) + W2 relu(W1 max)) of the gated features gates channels;
* attention pooling: e = A exp(u . (s * X)) normalised over the grid, z = LeakyReLU(W (s * sum_cells e X)) = [c+; c-];
* activation p = sigmoid(v . z + b) with v, b shared; embedding c = p c+ + (1 - p) c-;
* heads: one linear layer on all c. Column 0 is the engagement score, the others are expression logits.

e is the published map: it is exactly the weight with which each cell's features enter the concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.backbones import BACKBONES


@dataclass(frozen=True, slots=True)
class AgcmConfig:
    """concepts: K. embedding: m, length of c+ and c-. attention_heads: H. outputs: score and expression columns.

    squeeze: reduction of channel attention. backbone, deep_channels: see BACKBONES. randint: probability with
    which a training batch replaces a concept's activation by its label (RandInt, Espinosa Zarlenga et al. 2022).
    """

    concepts: int
    outputs: int
    embedding: int = 16
    attention_heads: int = 3
    squeeze: int = 8
    deep_channels: int = 96
    randint: float = 0.25
    head_dropout: float = 0.1
    backbone: str = "efficientnet-lite0"


class AgcmOutput(NamedTuple):
    """activation logits [B, K]; embeddings c [B, K, m], c+ and c-; maps [B, K, h, w]; heads [B, outputs]."""

    logits: Tensor
    embedding: Tensor
    active: Tensor
    inactive: Tensor
    maps: Tensor
    heads: Tensor


class SpatialAttention(nn.Module):
    """MSSA: the three convolutions are linear, so their kernels are summed into one 7x7 before they are applied."""

    def __init__(self, channels: int, concepts: int, heads: int) -> None:
        super().__init__()
        self.concepts, self.heads = concepts, heads
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(concepts * heads, channels, side, side) * (channels * side * side) ** -0.5)
            for side in (3, 5, 7)
        )
        self.norm = nn.BatchNorm2d(concepts * heads)
        self.register_buffer("folded", None, persistent=False)
        self.folded: Tensor | None

    def fold(self) -> None:
        """Keep the summed kernel, for a network that is not trained further."""
        self.folded = self.kernel().detach()

    def kernel(self) -> Tensor:
        """The summed 7x7 kernel [K * H, D, 7, 7]."""
        if self.folded is not None:
            return self.folded
        small, middle, large = self.kernels
        kernel: Tensor = large + F.pad(middle, (1,) * 4) + F.pad(small, (2,) * 4)
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> A [B, K, h * w]; every row sums to 1."""
        scores = self.norm(F.conv2d(x, self.kernel(), padding=3))
        attention: Tensor = scores.reshape(len(x), self.concepts, self.heads, -1).float().softmax(-1).mean(2)
        return attention


class Agcm(nn.Module):
    """Luma crops [B, 1, S, S] -> AgcmOutput."""

    def __init__(self, config: AgcmConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone](config.deep_channels)
        d, k, m = self.backbone.channels, config.concepts, config.embedding
        reduced = d // config.squeeze
        self.attention = SpatialAttention(d, k, config.attention_heads)
        self.squeeze = nn.Parameter(torch.randn(k, reduced, d) * (2 / d) ** 0.5)
        self.excite = nn.Parameter(torch.randn(k, d, reduced) * reduced**-0.5)
        self.query = nn.Parameter(torch.randn(k, d) * d**-0.5)
        self.embed = nn.Parameter(torch.randn(k, 2 * m, d) * (2 / d) ** 0.5)
        self.embed_bias = nn.Parameter(torch.zeros(k, 2 * m))
        self.score = nn.Linear(2 * m, 1)
        self.weight = nn.Parameter(torch.randn(k, m, config.outputs) * (k * m) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(config.outputs))

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> AgcmOutput:
        """labels [B, K] and known [B, K] (bool) are used by RandInt, in training only."""
        x = self.backbone(luma)
        gate = self.attention(x)
        cells = F.leaky_relu(x.flatten(2).float(), 0.01)
        channels = self._channel_attention(cells, gate)
        focus = torch.einsum("bkd,bdn->bkn", self.query * channels, cells)
        maps = (gate.clamp_min(1e-12).log() + focus).softmax(-1)
        pooled = torch.einsum("bkn,bdn->bkd", maps, cells) * channels
        z = F.leaky_relu(torch.einsum("bkd,ked->bke", pooled, self.embed) + self.embed_bias, 0.01)
        logits = self.score(z).squeeze(-1)
        p = self._intervened(logits.sigmoid(), labels, known).unsqueeze(-1)
        active, inactive = z.chunk(2, dim=-1)
        embedding = p * active + (1 - p) * inactive
        dropped = F.dropout(embedding, self.config.head_dropout, self.training)
        heads = torch.einsum("bkm,kmo->bo", dropped, self.weight) + self.bias
        return AgcmOutput(logits, embedding, active, inactive, maps.unflatten(-1, x.shape[-2:]), heads)

    def _channel_attention(self, cells: Tensor, gate: Tensor) -> Tensor:
        """CACM gates [B, K, D] from the gated features' average and maximum."""
        average = torch.einsum("bkn,bdn->bkd", gate, cells)
        peak = gate / gate.amax(-1, keepdim=True)
        highest = (peak.unsqueeze(2) * cells.unsqueeze(1)).amax(-1)
        both = torch.stack([average, highest])
        hidden = torch.einsum("sbkd,krd->sbkr", both, self.squeeze).relu().sum(0)
        return torch.einsum("bkr,kdr->bkd", hidden, self.excite).sigmoid()

    def _intervened(self, p: Tensor, labels: Tensor | None, known: Tensor | None) -> Tensor:
        """RandInt: one mask of concepts per batch; only labels that are known replace an activation."""
        if not self.training or labels is None or known is None:
            return p
        chosen = torch.rand(p.shape[1], device=p.device) < self.config.randint
        return torch.where(chosen & known, labels, p)


class AgcmExport(nn.Module):
    """The network as it ships: everything the readout needs, nothing that it can compute itself.

    Returns activation [B, K], active and inactive [B, K, outputs] (W_k . c+_k and W_k . c-_k), maps [B, K, h, w] and
    heads [B, outputs].
    """

    def __init__(self, model: Agcm) -> None:
        super().__init__()
        self.model = model.eval()
        self.model.attention.fold()

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        out = self.model(crop)
        active = torch.einsum("bkm,kmo->bko", out.active, self.model.weight)
        inactive = torch.einsum("bkm,kmo->bko", out.inactive, self.model.weight)
        return out.logits.sigmoid(), active, inactive, out.maps, out.heads
