"""BACKBONES: from luma to features of stride 16. A further one needs a row, and its name in the type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from training.agcm.backbone import LumaEfficientNetLite0
from training.agcm.face_resnet import LumaFaceResNet
from training.agcm.sface import LumaSFace
from training.agcm.vit import LumaVit, VitShape

Backbone = LumaEfficientNetLite0 | LumaFaceResNet | LumaSFace | LumaVit
"""channels: int. forward: luma [B, 1, S, S] -> [B, channels, S / 16, S / 16]. load(path): published weights; raises
KeyError, RuntimeError or ValueError if the file is another network's."""


def _vit(depth: int, width: int, heads: int) -> Callable[[int], LumaVit]:
    """A ViT has one resolution, so there are no deep channels to add."""
    return lambda deep_channels: LumaVit(VitShape(depth, width, heads))


BACKBONES: Mapping[str, Callable[[int], Backbone]] = {
    "efficientnet-lite0": LumaEfficientNetLite0,
    "face-resnet": LumaFaceResNet,
    "face-resnet-wide": partial(LumaFaceResNet, times=2),
    "face-resnet-slim": partial(LumaFaceResNet, slim=2),
    "sface": LumaSFace,
    "vit-b16": _vit(12, 768, 12),
    "vit-s16": _vit(12, 384, 6),
    "vit-tiny": _vit(12, 192, 3),
}
"""Kind -> backbone, made with the width of its stride-32 features (0: none)."""
