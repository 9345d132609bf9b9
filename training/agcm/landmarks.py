"""Where the five points of the face lie in the crop, read off the features of the concept network.

A crop that was cut where the face was a frame ago shows a face that has moved a little; these points say how far, so
that a followed face costs no network of its own. They are the points of `engines.preprocess.TEMPLATE` as the face in
the crop carries them: a similarity of the template, which is what alignment needs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POINTS = 5


class Landmarks(nn.Module):
    """Features [B, D, h, w] -> points [B, 5, 2], x and y in shares of the crop's sides.

    Each point is the mean place under a map of its own (integral regression: Sun et al., ECCV 2018), so that a place
    between two cells can be told on a coarse grid, and a grid of any size will do. hidden: channels of a 3x3 layer in
    between, for features that were learnt without landmarks; 0 for none.
    """

    def __init__(self, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.maps: nn.Module = nn.Conv2d(channels, POINTS, 1)
        if hidden:
            self.maps = nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, POINTS, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        rows, columns = x.shape[-2:]
        weights = self.maps(x).float().flatten(2).softmax(-1)
        down, across = torch.meshgrid(
            (torch.arange(rows, device=x.device, dtype=weights.dtype) + 0.5) / rows,
            (torch.arange(columns, device=x.device, dtype=weights.dtype) + 0.5) / columns,
            indexing="ij",
        )
        points: Tensor = weights @ torch.stack([across.flatten(), down.flatten()], dim=-1)
        return points
