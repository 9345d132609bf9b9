"""Losses: task (expression, engagement) + lambda_c concept + lambda_m map. Rows without a label do not count.

A system that gives no concepts, maps or attention has no such term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.agcm.system import Output
from training.concepts import EXPRESSIONS, INDEX

AUS_OF_EXPRESSION: Mapping[str, tuple[str, ...]] = {
    "happiness": ("AU6", "AU12", "AU25"),
    "surprise": ("AU1", "AU2", "AU5", "AU26"),
    "sadness": ("AU1", "AU4", "AU6", "AU15", "AU17"),
    "anger": ("AU4", "AU5", "AU7", "AU10", "AU17", "AU23", "AU25", "AU26"),
    "disgust": ("AU9", "AU10", "AU17", "AU25", "AU26"),
    "fear": ("AU1", "AU2", "AU4", "AU5", "AU20", "AU25", "AU26"),
}
"""Belharbi et al. (2402.00281), less AU16, AU24 and AU27, which are no concepts here. Others have no AU map."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each term; see the functions of this module, and training.agcm.evidence for its own."""

    expression: float = 1.0
    concept: float = 1.0
    map: float = 0.1
    score: float = 0.0
    attention: float = 0.0
    evidence: float = 0.0
    landmarks: float = 0.0


class Targets(NamedTuple):
    """votes [B, E] (NaN rows: unknown); concepts [B, K] in [0, 1] and their weights [B, K] (0: unknown);
    score [B] (NaN: unknown) and its weight [B]; points [B, 5, 2], where the face lies in the crop (NaN: unknown).
    """

    votes: Tensor
    concepts: Tensor
    concept_weights: Tensor
    score: Tensor
    score_weights: Tensor
    points: Tensor


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
    return (w * (y - t) ** 2).sum() * 4.0 + 0.25 * (1 - concordance(y, t, w))


def concordance(y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """CCC (Lin 1989) of answers and labels [N] with weights [N] that sum to 1."""
    mean_y, mean_t = (w * y).sum(), (w * t).sum()
    covariance = (w * (y - mean_y) * (t - mean_t)).sum()
    spread = (w * (y - mean_y) ** 2).sum() + (w * (t - mean_t) ** 2).sum() + (mean_y - mean_t) ** 2
    return 2 * covariance / spread.clamp_min(1e-6)


def expression_maps(regions: Tensor) -> Tensor:
    """Regions of concepts [K, h, w] -> of expressions [E, h, w]: the maximum over an expression's AUs, blurred over
    3 x 3 cells (Belharbi et al., FG 2024); all zero for an expression without AUs.
    """
    maps = torch.zeros(len(EXPRESSIONS), *regions.shape[1:], device=regions.device)
    for row, name in enumerate(EXPRESSIONS):
        if name in AUS_OF_EXPRESSION:
            maps[row] = regions[[INDEX[au] for au in AUS_OF_EXPRESSION[name]]].amax(0)
    return F.avg_pool2d(maps[None], 3, 1, 1)[0]


def attention_loss(attention: Tensor, votes: Tensor, regions: Tensor, found: Tensor) -> Tensor:
    """1 - cos(attention, AU map of the expression with most votes), over the rows whose expression has such a map.

    attention [B, h, w]; votes [B, E] (NaN rows: unknown); regions [K, h, w]; found [B]: faces that the teacher saw,
    since nobody knows where the AUs of the others are.
    """
    targets = expression_maps(regions)[votes.nan_to_num().argmax(1)].flatten(1)
    counted = ~votes.isnan().any(1) & (targets.sum(1) > 0) & found
    if not counted.any():
        return attention.sum() * 0.0
    return 1 - F.cosine_similarity(attention.flatten(1)[counted], targets[counted], dim=-1).mean()


def landmark_loss(points: Tensor, target: Tensor) -> Tensor:
    """Mean distance along either axis, in shares of the crop's side, over the faces whose place is known."""
    known = ~target.flatten(1).isnan().any(1)
    if not known.any():
        return points.sum() * 0.0
    return (points[known] - target[known]).abs().mean()


def total_loss(out: Output, targets: Targets, regions: Tensor, weights: LossWeights) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each term's value for the log."""
    terms = {
        "expression": expression_loss(out.heads[:, 1:].float(), targets.votes) * weights.expression,
        "score": score_loss(out.heads[:, 0].float(), targets.score, targets.score_weights) * weights.score,
    }
    if out.logits is not None:
        terms["concept"] = concept_loss(out.logits.float(), targets.concepts, targets.concept_weights) * weights.concept
    if out.maps is not None:
        terms["map"] = map_loss(out.maps, regions, targets.concepts, targets.concept_weights) * weights.map
    if out.attention is not None and weights.attention:
        found = (targets.concept_weights > 0).any(1)
        terms["attention"] = attention_loss(out.attention, targets.votes, regions, found) * weights.attention
    if out.landmarks is not None and weights.landmarks:
        terms["landmarks"] = landmark_loss(out.landmarks, targets.points) * weights.landmarks
    if out.own_loss is not None:
        terms["own"] = out.own_loss
    return torch.stack(list(terms.values())).sum(), {name: float(term.detach()) for name, term in terms.items()}
