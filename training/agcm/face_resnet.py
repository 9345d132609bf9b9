"""The residual network of dlib's face recognition (King 2017) for one luma plane, with fine features kept.

29 layers with half the filters of a ResNet-34 (He et al. 2016), trained by its author to tell people apart by three
million faces. Its weights are CC0 and come with the PyPI package face_recognition_models 0.3.0. A network that knows
faces learns expressions from far fewer pictures than one that knows ImageNet, and its plain convolutions are quick.

dlib's 128-number description of a face is not computed here, and nothing of it is left after training: the features
of stride 16 (128 channels) keep the grid fine enough to point, those of stride 32 are laid over the same grid.

A wider network starts from the same weights (Net2Net: Chen, Goodfellow, Shlens 2016): every channel is there several
times, and what reads it shares its weight out among the copies, unevenly, so that they learn different things. Its
answers are those of the network that it was made from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.crop import CROP

# blocks, channels, halves the grid
_STAGES = ((3, 32, False), (4, 64, True), (3, 128, True), (3, 256, True))
_STEM_CHANNELS, _FINE_BLOCKS, _FINE_CHANNELS, _DEEP_CHANNELS = 32, 10, 128, 256
_UNEVEN = 0.5
"""How far the copies of a channel are from being read alike: relative deviation of the shares of a weight."""
_MEAN_RGB = (122.782, 117.001, 104.298)
"""What dlib subtracts from each colour plane, before it divides by 256."""


class ConvNorm(nn.Module):
    """Convolution and batch norm. dlib ships the norm as a plain scale and shift; see `settle`."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C, h / stride, w / stride]."""
        y: Tensor = self.norm(self.conv(x))
        return y

    @torch.no_grad()
    def settle(self, x: Tensor) -> Tensor:
        """Measure the norm's statistics on x and rescale it so that its answer stays what it was; returns the answer.

        Without this, a norm in training mode would divide by a deviation that the published scale knows nothing of.
        """
        y: Tensor = self.conv(x)
        answer: Tensor = self.norm.eval()(y)
        kept_mean, kept_variance = _statistics(self.norm)
        gain = self.norm.weight * (kept_variance + self.norm.eps).rsqrt()
        offset = self.norm.bias - gain * kept_mean
        mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
        self.norm.weight.copy_(gain * (variance + self.norm.eps).sqrt())
        self.norm.bias.copy_(offset + gain * mean)
        kept_mean.copy_(mean)
        kept_variance.copy_(variance)
        self.norm.train()
        return answer


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance that a norm has kept."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a norm that keeps no statistics cannot be settled")
    return mean, variance


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is averaged over 2x2 cells and padded with empty channels.

    inner: channels between the two.
    """

    def __init__(self, channels_in: int, channels: int, halves: bool, inner: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels_in, inner, 3, 2 if halves else 1)
        self.second = ConvNorm(inner, channels, 3, 1)
        self.halves, self.added = halves, channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C, h, w], or half of h and w rounded up."""
        return self._join(x, self.second(F.relu(self.first(x))))

    def settle(self, x: Tensor) -> Tensor:
        """See ConvNorm.settle."""
        return self._join(x, self.second.settle(F.relu(self.first.settle(x))))

    def shortcut(self, x: Tensor) -> Tensor:
        """What is added to the convolutions' answer to x."""
        short = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) if self.halves else x
        return F.pad(short, (0, 0, 0, 0, 0, self.added))

    def _join(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + y)


class LumaFaceResNet(nn.Module):
    """Luma [B, 1, S, S] -> features [B, channels, S / 16, S / 16].

    deep_channels: width of the stride-32 features after their projection; 0 leaves them out. times: how many times as
    wide as dlib's network it is. slim: how many times fewer channels lie between the two convolutions of a block, whose
    answer is as wide as ever; such a network starts from a wider one (training.slim), not from dlib's file.
    """

    def __init__(self, deep_channels: int, times: int = 1, slim: int = 1) -> None:
        super().__init__()
        width = _STEM_CHANNELS * times
        self.stem = ConvNorm(1, width, 7, 2)
        blocks: list[Residual] = []
        for count, channels, halves in _STAGES:
            for i in range(count):
                blocks.append(Residual(width, channels * times, halves and i == 0, channels * times // slim))
                width = channels * times
        self.fine = nn.ModuleList(blocks[:_FINE_BLOCKS])
        self.deep = nn.ModuleList(blocks[_FINE_BLOCKS:] if deep_channels else ())
        self.lateral = ConvNorm(_DEEP_CHANNELS * times, deep_channels, 1, 1) if deep_channels else None
        self.channels, self.times, self.slim = _FINE_CHANNELS * times + deep_channels, times, slim
        self.register_buffer("settled", torch.ones((), dtype=torch.bool))
        self.settled: Tensor

    def forward(self, luma: Tensor) -> Tensor:
        """See the class. The first batch of a training that starts from published weights settles the norms."""
        if self.training and not self.settled:
            self._settle(luma)
        x = F.max_pool2d(F.relu(self.stem(luma)), 3, 2, 1)
        for block in self.fine:
            x = block(x)
        if self.lateral is None:
            return x
        deep = x
        for block in self.deep:
            deep = block(deep)
        wide = F.interpolate(F.relu(self.lateral(deep)), size=x.shape[-2:], mode="bilinear")
        return torch.cat([x, wide], dim=1)

    def load(self, path: Path) -> None:
        """Fill everything but the lateral layer from dlib's file. Raises ValueError if it is another one, or if this
        network is slim."""
        if self.slim != 1:
            raise ValueError("a slim network starts from a wide one (python -m training.slim)")
        layers = [self.stem, *(part for block in (*self.fine, *self.deep) for part in (block.first, block.second))]
        tensors = read_dlib(path)
        if len(tensors) < 2 * len(layers):
            raise ValueError(f"{path} is not dlib_face_recognition_resnet_model_v1.dat: {len(tensors)} layers in it")
        for i, layer in enumerate(layers):
            _fill(layer, tensors[2 * i], tensors[2 * i + 1], self.times)
        self.settled.fill_(False)

    def _settle(self, luma: Tensor) -> None:
        x = F.max_pool2d(F.relu(self.stem.settle(luma)), 3, 2, 1)
        for block in (*self.fine, *self.deep):
            x = block.settle(x)
        self.settled.fill_(True)


@torch.no_grad()
def _fill(layer: ConvNorm, kernel: Tensor, affine: Tensor, times: int) -> None:
    """One layer from dlib's parameters: filters then biases, and scales then shifts."""
    first = layer.conv.in_channels == 1
    out, side = layer.conv.out_channels // times, layer.conv.kernel_size[0]
    planes = 3 if first else layer.conv.in_channels // times
    if len(kernel) != out * (planes * side * side + 1) or len(affine) != 2 * out:
        raise ValueError(f"a layer of {len(kernel)} and {len(affine)} numbers is none of dlib's face network")
    weight, bias = kernel[:-out].reshape(out, planes, side, side), kernel[-out:]
    if first:
        weight, bias = _for_luma(weight, bias)
    layer.conv.weight.copy_(widened(weight, times, 1 if first else times))
    layer.conv.bias.copy_(bias.repeat_interleave(times))  # type: ignore[union-attr]  # made with a bias
    layer.norm.weight.copy_(affine[:out].repeat_interleave(times))
    layer.norm.bias.copy_(affine[out:].repeat_interleave(times))
    kept_mean, kept_variance = _statistics(layer.norm)
    kept_mean.zero_()
    kept_variance.fill_(1.0 - layer.norm.eps)


def widened(weight: Tensor, times: int, read: int) -> Tensor:
    """A kernel [O, I, h, w] with every filter `times` times, for an input whose every channel is there `read` times.

    The copies of a channel lie side by side, as a shortcut that is padded at its end needs them. The shares of a weight
    sum to it for each filter, so that copies that are equal are read as their original was.
    """
    wide = weight.repeat_interleave(times, 0)
    if read == 1:
        return wide
    wide = wide.unsqueeze(2).repeat(1, 1, read, 1, 1)
    uneven = torch.randn(wide.shape) * _UNEVEN
    shares = (1 + uneven - uneven.mean(2, keepdim=True)) / read
    return (wide * shares).flatten(1, 2)


def _for_luma(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer for normalised luma instead of three colour planes of 0..255 that hold the same grey."""
    offset = torch.tensor([CROP.mean * 255 - mean for mean in _MEAN_RGB]) / 256
    bias = bias + torch.einsum("oihw,i->o", weight, offset)
    return weight.sum(1, keepdim=True) * (CROP.std * 255 / 256), bias


def read_dlib(path: Path) -> list[Tensor]:
    """The parameters of every layer of a network that dlib serialised, in the order of the layers.

    Between them lie settings that are not needed here, so the file is searched for what a tensor looks like: the
    number 2 (the format's version), four sizes, and as many finite float32. dlib writes a number as its length in
    bytes, then its bytes, the lowest first.
    """
    data = path.read_bytes()
    found, at = [], 0
    while at < len(data):
        tensor, after = _tensor_at(data, at)
        if tensor is None:
            at += 1
        else:
            found.append(torch.from_numpy(tensor.astype(np.float32)))
            at = after
    return found


def _tensor_at(data: bytes, at: int) -> tuple[npt.NDArray[np.float32] | None, int]:
    """The tensor that starts at a byte, and where it ends."""
    if data[at : at + 2] != b"\x01\x02":
        return None, at
    at, count = at + 2, 1
    for _ in range(4):
        length = data[at] if at < len(data) else 0
        if not 1 <= length <= 8:
            return None, at
        count *= int.from_bytes(data[at + 1 : at + 1 + length], "little")
        at += 1 + length
    if count < 32 or at + 4 * count > len(data):
        return None, at
    values = np.frombuffer(data, "<f4", count, at)
    sane = bool(np.isfinite(values).all()) and 1e-8 < float(np.abs(values).max()) < 1e3
    return (values, at + 4 * count) if sane else (None, at)
