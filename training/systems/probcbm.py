"""The Probabilistic Concept Bottleneck Model (Kim et al. 2023): a concept is a distribution, and knows how wide it is.

z_i ~ N(mu_i(x), diag sigma_i^2) with mu of length 1; p_i = mean over samples of the softmax over +, - of
-a ||z_i - anchor||, anchors learnt; an expression's probability is the mean over samples of the softmax of how near the
projected concat of all z is to its embedding, and its head is the logarithm; uncertainty = exp(mean log sigma_i). The
score, which is no class, is linear in the projection. Distances are not linear, so there are no exact contributions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.backbones import Backbone
from training.agcm.system import Output, System, needed

_SAMPLES = 8
_PRIOR = 5e-5
"""Weight of KL(N(mu, sigma^2) || N(0, 1)), without which sigma would go to zero."""
_LOG_SIGMA = (-4.0, 2.0)


class ProbCbm(System):
    """In training z is drawn anew for every picture; afterwards the same fixed draws serve all, so that a picture has
    one answer."""

    names = ("activation", "uncertainty", "heads")
    head = ("project.weight", "project.bias", "classes", "class_scale", "score.weight", "score.bias")

    def __init__(self, backbone: Backbone, concepts: int, embedding: int, outputs: int) -> None:
        super().__init__(backbone)
        d, m = backbone.channels, embedding
        self.mean = nn.Parameter(torch.randn(concepts, m, d) * d**-0.5)
        self.log_sigma = nn.Parameter(torch.randn(concepts, m, d) * 0.01 * d**-0.5)
        self.log_sigma_bias = nn.Parameter(torch.full((concepts, m), -1.5))
        self.anchors = nn.Parameter(F.normalize(torch.randn(2, concepts, m), dim=-1))
        self.scale = nn.Parameter(torch.tensor(5.0))
        width = 8 * outputs
        self.project = nn.Linear(concepts * m, width)
        self.classes = nn.Parameter(torch.randn(outputs - 1, width) * width**-0.5)
        self.class_scale = nn.Parameter(torch.tensor(5.0))
        self.score = nn.Linear(width, 1)
        self.register_buffer("draws", torch.randn(_SAMPLES, 1, concepts, m))
        self.draws: Tensor

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels are not used."""
        h = self.backbone(luma).float().mean((2, 3))
        mu = F.normalize(torch.einsum("bd,kmd->bkm", h, self.mean), dim=-1)
        log_sigma = torch.einsum("bd,kmd->bkm", h, self.log_sigma) + self.log_sigma_bias
        log_sigma = log_sigma.clamp(*_LOG_SIGMA)
        noise = torch.randn(_SAMPLES, *mu.shape, device=mu.device) if self.training else self.draws
        z = mu + log_sigma.exp() * noise
        far = [_distance(z, anchor) for anchor in self.anchors]  # from absent, from present: [S, B, K]
        p = (self.scale * (far[0] - far[1])).sigmoid().mean(0)
        projected = self.project(z.flatten(2))
        near = -self.class_scale * _distance(projected.unsqueeze(2), self.classes)  # [S, B, E]
        classes = near.log_softmax(-1).logsumexp(0) - math.log(_SAMPLES)
        heads = torch.cat([self.score(projected).mean(0), classes], dim=1)
        prior = 0.5 * (log_sigma.mul(2).exp() + mu**2 - 1 - 2 * log_sigma).sum(-1).mean()
        uncertainty = log_sigma.mean(-1).exp()
        return Output(heads, p.logit(1e-6), uncertainty=uncertainty, own_loss=_PRIOR * prior)

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """activation [B, K], uncertainty [B, K], heads [B, O]."""
        return needed(out.logits).sigmoid(), needed(out.uncertainty), out.heads


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, over the last dimension; smooth at zero."""
    return ((a - b) ** 2).sum(-1).add(1e-8).sqrt()
