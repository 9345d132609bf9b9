"""The Concept Embedding Model (Espinosa Zarlenga et al., NeurIPS 2022): AGCM without attention, on the pooled face."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.backbones import Backbone
from training.agcm.system import LinearConcepts, Output, mixed, randint

RANDINT = 0.25
"""Probability with which a concept's label takes the place of its activation in a training batch."""


class Cem(LinearConcepts):
    """h = mean of the features; [c+_k; c-_k] = LeakyReLU(W_k h + b_k); p_k = sigmoid(v . [c+_k; c-_k] + b)."""

    def __init__(self, backbone: Backbone, concepts: int, embedding: int, outputs: int) -> None:
        super().__init__(backbone, concepts, embedding, outputs)
        d = backbone.channels
        self.embed = nn.Parameter(torch.randn(concepts, 2 * embedding, d) * (2 / d) ** 0.5)
        self.embed_bias = nn.Parameter(torch.zeros(concepts, 2 * embedding))
        self.score = nn.Linear(2 * embedding, 1)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels and known are used by RandInt, in training only."""
        h = self.backbone(luma).float().mean((2, 3))
        z = F.leaky_relu(torch.einsum("bd,ked->bke", h, self.embed) + self.embed_bias, 0.01)
        logits = self.score(z).squeeze(-1)
        p = logits.sigmoid()
        if self.training:
            p = randint(p, labels, known, RANDINT)
        active, inactive = z.chunk(2, dim=-1)
        embedding = mixed(p, active, inactive)
        return Output(self.read(embedding), logits, embedding, active, inactive)
