"""Teach a concept to be read where its map points: hide what the map shows, and it must be missed; hide other places,
and it must not.

A map can only be believed if the activation hangs on the pixels under it. The cells of a convolutional network see far
beyond their own place, so nothing forces that; this term does. For some pictures of a batch an active concept j is
drawn, and either the highest cells of its map are hidden, after which j should be inactive, or as many cells outside
them, after which j should answer what it did. Every other concept should answer what it did as far as its own map does
not lie on hidden cells. The maps themselves are not trained by it. What is hidden becomes a blur of its surroundings,
as in `training.explain.occlusion`, which tests on held-out pictures whether this was learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARE = 0.2
"""Of the cells: how many are hidden."""
PICTURES = 1 / 3
"""Of a batch: pictures that are seen a second time, with cells hidden."""
ACTIVE = 0.5


@dataclass(frozen=True, slots=True)
class Hidden:
    """Crops [n, 1, S, S] with hidden cells, and what the concepts should answer there: targets and weights [n, K]."""

    crops: Tensor
    targets: Tensor
    weights: Tensor


def top_cells(weights: Tensor, share: float = SHARE) -> Tensor:
    """[n, h, w] -> bool [n, h, w]: the highest cells of each map, the same number in each."""
    flat = weights.flatten(1)
    found = torch.zeros_like(flat, dtype=torch.bool)
    found.scatter_(1, flat.topk(max(1, round(share * flat.shape[1]))).indices, True)
    return found.reshape(weights.shape)


def blur(pictures: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of [n, 1, S, S], mirrored at the edges."""
    reach = min(round(3 * sigma_px), pictures.shape[-1] - 1)
    at = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = (-0.5 * (at / sigma_px) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(pictures, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])


def covered(crops: Tensor, cells: Tensor) -> Tensor:
    """The crops [n, 1, S, S] with cells [n, h, w] replaced by their blurred surroundings, with soft edges."""
    side = crops.shape[-1]
    cell_px = side / cells.shape[-1]
    mask = blur(F.interpolate(cells[:, None].to(crops.dtype), size=(side, side)), cell_px / 8)
    return crops + mask * (blur(crops, cell_px) - crops)


@torch.no_grad()
def draw(crops: Tensor, logits: Tensor, maps: Tensor, placed: Tensor) -> Hidden | None:
    """Some pictures of a batch with cells hidden; None if no concept that has a place is active in them.

    crops [B, 1, S, S]; logits [B, K] and maps [B, K, h, w] of the first look; placed [K]: concepts that have a place
    (a turned head has none). Batches are in random order, so that the first pictures are as good as any.
    """
    activation = logits.float().sigmoid()[: max(1, round(len(crops) * PICTURES))]
    active = (activation >= ACTIVE) & placed
    rows = active.any(1).nonzero().squeeze(1)
    if not len(rows):
        return None
    activation, seen = activation[rows], maps[rows].float()
    chosen = torch.multinomial(active[rows].float(), 1).squeeze(1)
    each = torch.arange(len(rows), device=rows.device)
    own = top_cells(seen[each, chosen])
    noise = torch.rand(own.shape, device=own.device)
    own_is_hidden = torch.rand(len(rows), device=rows.device) < 0.5
    cells = torch.where(own_is_hidden[:, None, None], own, top_cells(noise.masked_fill(own, -1.0)))
    clear = 1 - (seen * cells[:, None]).flatten(2).sum(-1).clamp(0, 1)  # share of each map that is still to be seen
    targets, weights = activation.clone(), clear**2
    targets[each[own_is_hidden], chosen[own_is_hidden]] = 0.0
    weights[each, chosen] = float(weights.shape[1]) / 4  # the drawn concept counts as much as a quarter of all
    return Hidden(covered(crops[rows], cells), targets, weights)


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norms normalise by the batch and remember nothing of it: pictures with holes are not what comes live."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
