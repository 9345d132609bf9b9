"""Systems whose explanation is a map of the face for each head, and no concepts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.agcm.backbones import Backbone
from training.agcm.system import Output, System, needed
from training.agcm.vit import LumaVit


class AuCam(System):
    """A classifier with class activation maps (Zhou et al. 2016), whose last layer is led to the AUs of the expression
    (Belharbi et al., FG 2024): attention = mean over the channels of the last layer, supervised by
    `training.agcm.losses.attention_loss`. A head is the mean of its class map, plus its bias.
    """

    names = ("class_maps", "attention", "heads")

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__(backbone)
        self.task = nn.Conv2d(backbone.channels, outputs, 1)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels are not used."""
        features = self.backbone(luma).float()
        maps = self.task(features)
        return Output(maps.mean((2, 3)), class_maps=maps, attention=features.mean(1))

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """class_maps [B, O, h, w], attention [B, h, w], heads [B, O]."""
        return needed(out.class_maps), needed(out.attention), out.heads


class TsCam(System):
    """TS-CAM (Gao et al. 2021): semantic maps of the patches by a 3x3 convolution, a head is the mean of its map; what
    is shown is the map times how the CLS token attends to each patch, summed over blocks.

    On a backbone without a CLS token that attention is 1 everywhere, and what is left is a class activation map.
    """

    names = ("class_maps", "attention", "heads")

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__(backbone)
        self.task = nn.Conv2d(backbone.channels, outputs, 3, padding=1)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels are not used."""
        if isinstance(self.backbone, LumaVit):
            features, attention = self.backbone.attended(luma)
        else:
            features = self.backbone(luma)
            attention = torch.ones_like(features[:, 0])
        semantic = self.task(features).float()
        shown = semantic * attention.float().unsqueeze(1)
        return Output(semantic.mean((2, 3)), class_maps=shown, attention=attention.float())

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """class_maps [B, O, h, w], attention [B, h, w], heads [B, O]."""
        return needed(out.class_maps), needed(out.attention), out.heads
