"""The Attention-Guided Concept Model (Li & Mahmoud, arXiv 2502.10145), vectorised over its K concepts.

Per concept k, over features X [D, n] on n grid cells:

* multi-scale spatial attention (MSSA): a_h = softmax(conv3x3 + conv5x5 + conv7x7), H heads, A = mean over heads;
* channel attention (CACM): s = sigmoid(W2 relu(W1 avg) + W2 relu(W1 max)) of the gated features gates channels;
* attention pooling: e = A exp(u . (s * X)) normalised over the grid, z = LeakyReLU(W (s * sum_cells e X)) = [c+; c-];
* activation p = sigmoid(v . z + b) with v, b shared; embedding c = p c+ + (1 - p) c-;
* heads: one linear layer on all c. Column 0 is the engagement score, the others are expression logits.

The features may be mixed down linearly before the spatial attention reads them (AgcmConfig.attention_channels).
e is the published map: it is exactly the weight with which each cell's features enter the concept. `ViewedAgcm` is the
same model with a defect of the authors' released code, to show what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.backbones import BACKBONES
from training.agcm.landmarks import Landmarks
from training.agcm.system import LinearConcepts, Output, mixed, randint


@dataclass(frozen=True, slots=True)
class AgcmConfig:
    """concepts: K. embedding: m, length of c+ and c-. attention_heads: H. outputs: score and expression columns.

    squeeze: reduction of channel attention. backbone, deep_channels: see BACKBONES. randint: probability with
    which a training batch replaces a concept's activation by its label (RandInt, Espinosa Zarlenga et al. 2022).
    landmarks: whether it also says where the face lies in the crop; landmark_channels: `hidden` of Landmarks.
    attention_channels: channels that the features are mixed down to before the spatial attention reads them; 0 for all.
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
    landmarks: bool = False
    landmark_channels: int = 0
    attention_channels: int = 0


class SpatialAttention(nn.Module):
    """MSSA: the three convolutions are linear, so their kernels are summed into one 7x7 before they are applied.

    mixtures: see AgcmConfig.attention_channels. They are all that a kernel of that rank reads of the features.
    """

    def __init__(self, channels: int, concepts: int, heads: int, mixtures: int = 0) -> None:
        super().__init__()
        self.concepts, self.heads = concepts, heads
        self.mix = nn.Conv2d(channels, mixtures, 1, bias=False) if mixtures else None
        read = mixtures or channels
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(concepts * heads, read, side, side) * (read * side * side) ** -0.5)
            for side in (3, 5, 7)
        )
        self.norm = nn.BatchNorm2d(concepts * heads)
        self.register_buffer("folded", None, persistent=False)
        self.folded: Tensor | None

    def fold(self) -> None:
        """Keep the summed kernel, for a network that is not trained further."""
        self.folded = self.kernel().detach()

    def kernel(self) -> Tensor:
        """The summed 7x7 kernel [K * H, D, 7, 7], or of as many channels as are read."""
        if self.folded is not None:
            return self.folded
        small, middle, large = self.kernels
        kernel: Tensor = large + F.pad(middle, (1,) * 4) + F.pad(small, (2,) * 4)
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> A [B, K, h * w]; every row sums to 1."""
        read = x if self.mix is None else self.mix(x)
        scores = self.norm(F.conv2d(read, self.kernel(), padding=3))
        attention: Tensor = scores.reshape(len(x), self.concepts, self.heads, -1).float().softmax(-1).mean(2)
        return attention


class Agcm(LinearConcepts):
    """Luma crops [B, 1, S, S] -> Output with concepts, embeddings and maps."""

    def __init__(self, config: AgcmConfig) -> None:
        backbone = BACKBONES[config.backbone](config.deep_channels)
        super().__init__(backbone, config.concepts, config.embedding, config.outputs)
        self.config = config
        d, k, m = backbone.channels, config.concepts, config.embedding
        reduced = d // config.squeeze
        self.attention = SpatialAttention(d, k, config.attention_heads, config.attention_channels)
        self.squeeze = nn.Parameter(torch.randn(k, reduced, d) * (2 / d) ** 0.5)
        self.excite = nn.Parameter(torch.randn(k, d, reduced) * reduced**-0.5)
        self.query = nn.Parameter(torch.randn(k, d) * d**-0.5)
        self.embed = nn.Parameter(torch.randn(k, 2 * m, d) * (2 / d) ** 0.5)
        self.embed_bias = nn.Parameter(torch.zeros(k, 2 * m))
        self.score = nn.Linear(2 * m, 1)
        self.landmarks = Landmarks(d, config.landmark_channels) if config.landmarks else None
        if config.landmarks:
            self.names = (*LinearConcepts.names, "landmarks")

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """labels [B, K] and known [B, K] (bool) are used by RandInt, in training only."""
        x = self.backbone(luma)
        pooled, maps = self._pooled(x)
        z = F.leaky_relu(torch.einsum("bkd,ked->bke", pooled, self.embed) + self.embed_bias, 0.01)
        logits = self.score(z).squeeze(-1)
        p = logits.sigmoid()
        if self.training:
            p = randint(p, labels, known, self.config.randint)
        active, inactive = z.chunk(2, dim=-1)
        embedding = mixed(p, active, inactive)
        heads = self.read(F.dropout(embedding, self.config.head_dropout, self.training))
        maps = maps.reshape(*maps.shape[:2], *x.shape[-2:])
        points = None if self.landmarks is None else self.landmarks(x)
        return Output(heads, logits, embedding, active, inactive, maps, landmarks=points)

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """Those of every linear bottleneck, and the landmarks [B, 5, 2] where the network has them."""
        said = super().published(out)
        return said if out.landmarks is None else (*said, out.landmarks)

    def fold(self) -> None:
        """Sum the attention's three kernels for good."""
        self.attention.fold()

    def _pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What each concept takes of the features [B, K, D], and from where [B, K, n]."""
        gate = self.attention(x)
        # Channels last, which is how the features of one cell lie together in memory once convolutions are fast.
        cells = F.leaky_relu(x.flatten(2).transpose(1, 2).float(), 0.01)
        channels = self._channel_attention(cells, gate)
        focus = torch.einsum("bkd,bnd->bkn", self.query * channels, cells)
        maps = (gate.clamp_min(1e-12).log() + focus).softmax(-1)
        return torch.einsum("bkn,bnd->bkd", maps, cells) * channels, maps

    def _channel_attention(self, cells: Tensor, gate: Tensor) -> Tensor:
        """CACM gates [B, K, D] from the gated features' average and maximum; cells [B, n, D], gate [B, K, n]."""
        average = torch.einsum("bkn,bnd->bkd", gate, cells)
        peak = gate / gate.amax(-1, keepdim=True)
        highest = (peak.unsqueeze(-1) * cells.unsqueeze(1)).amax(2)
        return self._excited(average, highest)

    def _excited(self, average: Tensor, highest: Tensor) -> Tensor:
        both = torch.stack([average, highest])
        hidden = torch.einsum("sbkd,krd->sbkr", both, self.squeeze).relu().sum(0)
        return torch.einsum("bkr,kdr->bkd", hidden, self.excite).sigmoid()


class ViewedAgcm(Agcm):
    """AGCM as the authors' released code runs it: token-major features [B, n, D] are viewed, not transposed, as
    [B, D, h, w] before the spatial attention, so that its gate falls on channel d of cell t as if that were place
    (t D + d) mod n. The published map is what such a model shows; it is not where the concept looks. An ablation.
    """

    def _pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.attention(viewed(x))
        cells = F.leaky_relu(x.flatten(2).float(), 0.01)
        fallen = scattered(gate, cells.shape[1])
        average = (fallen * cells.unsqueeze(1)).sum(-1)
        highest = (fallen / gate.amax(-1)[..., None, None] * cells.unsqueeze(1)).amax(-1)
        channels = self._excited(average, highest)
        focus = torch.einsum("bkd,bdn->bkn", self.query * channels, cells)
        weights = (fallen.clamp_min(1e-12).log() + focus.unsqueeze(2)).softmax(-1)
        maps = (gate.clamp_min(1e-12).log() + focus).softmax(-1)
        return (weights * cells.unsqueeze(1)).sum(-1) * channels, maps


def viewed(x: Tensor) -> Tensor:
    """Features [B, D, h, w] laid out token by token and read back channel by channel: what a view without transpose
    makes of them."""
    return x.flatten(2).transpose(1, 2).reshape(x.shape)


def scattered(gate: Tensor, channels: int) -> Tensor:
    """Where a gate [B, K, n] on viewed features falls: [B, K, D, n], on channel d of cell t."""
    n = gate.shape[-1]
    place = (torch.arange(n)[None, :] * channels + torch.arange(channels)[:, None]) % n
    return gate[..., place.to(gate.device)]
