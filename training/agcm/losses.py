"""Losses: task (expression, engagement) + lambda_c concept + lambda_m map. Rows without a label do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.agcm.model import AgcmOutput


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each term; see the functions of this module."""

    expression: float = 1.0
    concept: float = 1.0
    map: float = 0.1
    score: float = 0.0


class Targets(NamedTuple):
    """votes [B, E] (NaN rows: unknown); concepts [B, K] in [0, 1] and their weights [B, K] (0: unknown);
    score [B] (NaN: unknown) and its weight [B].
    """

    votes: Tensor
    concepts: Tensor
    concept_weights: Tensor
    score: Tensor
    score_weights: Tensor


def expression_loss(logits: Tensor, votes: Tensor) -> Tensor:
    """Cross-entropy with the distribution of votes (Barsoum et al. 2016)."""
    known = ~votes.isnan().any(1)
    if not known.any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits[known], votes[known])


def concept_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross-entropy with soft targets, less the targets' own entropy, so that perfect is 0."""
    cross = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    own = -(torch.xlogy(targets, targets) + torch.xlogy(1 - targets, 1 - targets))
    return ((cross - own) * weights).sum() / weights.sum().clamp_min(1.0)


def map_loss(maps: Tensor, regions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - cos(map, region) per concept, averaged over concepts that are active (weighted by their activation).

    maps [B, K, h, w]; regions [K, h, w], all zero where a concept has no place of its own.
    """
    cosine = F.cosine_similarity(maps.flatten(2), regions.flatten(1)[None], dim=-1)
    share = targets * (weights > 0) * (regions.flatten(1).sum(1) > 0)
    return ((1 - cosine) * share).sum() / share.sum().clamp_min(1.0)


def score_loss(score: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error plus 1 - CCC (Lin 1989) over the rows of the batch that have an engagement label."""
    known = ~target.isnan()
    if int(known.sum()) < 2:
        return score.sum() * 0.0
    y, t, w = score[known], target[known], weights[known] / weights[known].sum()
    error = (w * (y - t) ** 2).sum()
    mean_y, mean_t = (w * y).sum(), (w * t).sum()
    covariance = (w * (y - mean_y) * (t - mean_t)).sum()
    spread = (w * (y - mean_y) ** 2).sum() + (w * (t - mean_t) ** 2).sum() + (mean_y - mean_t) ** 2
    return error * 4.0 + 0.25 * (1 - 2 * covariance / spread.clamp_min(1e-6))


def total_loss(
    out: AgcmOutput, targets: Targets, regions: Tensor, weights: LossWeights
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each term's value for the log."""
    terms = {
        "expression": expression_loss(out.heads[:, 1:].float(), targets.votes) * weights.expression,
        "concept": concept_loss(out.logits.float(), targets.concepts, targets.concept_weights) * weights.concept,
        "map": map_loss(out.maps, regions, targets.concepts, targets.concept_weights) * weights.map,
        "score": score_loss(out.heads[:, 0].float(), targets.score, targets.score_weights) * weights.score,
    }
    return torch.stack(list(terms.values())).sum(), {name: float(term.detach()) for name, term in terms.items()}
