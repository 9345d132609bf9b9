"""Concept Bottleneck Models (Koh et al. 2020): the task reads one number of each concept."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from training.agcm.backbones import Backbone
from training.agcm.system import LinearConcepts, Output, needed

Learns = Literal["joint", "sequential", "independent"]


class Cbm(LinearConcepts):
    """Activations from the pooled face, heads linear in them: c_k = p_k, that is c+ = 1 and c- = 0.

    learns: what the heads see in training. joint: the activations, which the task then shapes too. sequential: the
    same, but the task never reaches them. independent: the labels, where they are known.
    """

    def __init__(self, backbone: Backbone, concepts: int, outputs: int, learns: Learns) -> None:
        super().__init__(backbone, concepts, 1, outputs)
        self.learns = learns
        self.concept = nn.Linear(backbone.channels, concepts)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class."""
        logits = self.concept(self.backbone(luma).float().mean((2, 3)))
        embedding = self._bottleneck(logits, labels, known).unsqueeze(-1)
        ones = torch.ones_like(embedding)
        return Output(self.read(embedding), logits, embedding, ones, torch.zeros_like(ones))

    def _bottleneck(self, logits: Tensor, labels: Tensor | None, known: Tensor | None) -> Tensor:
        """[B, K], what the heads read."""
        return self._learnt_from(logits.sigmoid(), labels, known)

    def _learnt_from(self, value: Tensor, labels: Tensor | None, known: Tensor | None) -> Tensor:
        if not self.training or self.learns == "joint":
            return value
        if self.learns == "independent" and labels is not None and known is not None:
            return torch.where(known, labels, value.detach())
        return value.detach()


class LogitCbm(Cbm):
    """The same, but the heads read logits: c_k = log(p_k / (1 - p_k)).

    Contributions are exact; but they are no linear function of p_k, so the readout's interventions do not apply and
    the shares are published instead of W_k . c+_k and W_k . c-_k.
    """

    names: tuple[str, ...] = ("activation", "shares", "heads")
    _CERTAIN = 0.02
    """Labels are moved this far from 0 and 1 before their logit is taken."""

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class."""
        logits = self.concept(self.backbone(luma).float().mean((2, 3)))
        embedding = self._bottleneck(logits, labels, known).unsqueeze(-1)
        return Output(self.read(embedding), logits, embedding)

    def _bottleneck(self, logits: Tensor, labels: Tensor | None, known: Tensor | None) -> Tensor:
        told = None if labels is None else labels.logit(self._CERTAIN)
        return self._learnt_from(logits, told, known)

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """activation [B, K], shares [B, K, O], heads [B, O]."""
        return needed(out.logits).sigmoid(), needed(self.shares(out)), out.heads
