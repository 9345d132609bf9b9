"""Depthwise convolution whose backward pass runs at the memory's speed on a CPU.

torch's own CPU backward of a depthwise convolution takes two thirds of an EfficientNet training step. With channels
last, both gradients are one multiply-add per channel and kernel cell, which numba vectorises over the channels. The
forward pass and every other device use torch's own; the gradients are the same up to rounding (tested).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

F32 = npt.NDArray[np.float32]


@numba.njit(parallel=True, fastmath=True, cache=True)
def _gradients(x: F32, w: F32, gy: F32, stride: int, parts: int) -> tuple[F32, F32]:
    """x [B, H, W, C], w [k, k, C], gy [B, h, w, C] -> gradients of x and w; the batch is split into `parts`."""
    batch, height, width, channels = x.shape
    kernel = w.shape[0]
    pad = kernel // 2
    gx = np.zeros_like(x)
    gws = np.zeros((parts, kernel, kernel, channels), np.float32)
    for part in numba.prange(parts):
        gw = gws[part]
        for b in range(part * batch // parts, (part + 1) * batch // parts):
            for oy in range(gy.shape[1]):
                for ox in range(gy.shape[2]):
                    g = gy[b, oy, ox]
                    for ky in range(kernel):
                        iy = oy * stride + ky - pad
                        if iy < 0 or iy >= height:
                            continue
                        for kx in range(kernel):
                            ix = ox * stride + kx - pad
                            if ix < 0 or ix >= width:
                                continue
                            xs, gxs, ws, gs = x[b, iy, ix], gx[b, iy, ix], w[ky, kx], gw[ky, kx]
                            for c in range(channels):
                                gxs[c] += g[c] * ws[c]
                                gs[c] += g[c] * xs[c]
    return gx, gws.sum(0)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight.to(x.dtype), None, stride, weight.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        arrays = [t.permute(0, 2, 3, 1).float().contiguous().numpy() for t in (x, grads[0])]
        kernel = weight.detach()[:, 0].permute(1, 2, 0).float().contiguous().numpy()
        gx, gw = _gradients(arrays[0], kernel, arrays[1], ctx.stride, torch.get_num_threads())
        gradient_x = torch.from_numpy(gx).permute(0, 3, 1, 2).to(x.dtype)
        return gradient_x, torch.from_numpy(gw).permute(2, 0, 1).unsqueeze(1).to(weight.dtype), None


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d with one filter a channel, "same" padding and no bias; only its CPU backward pass differs."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        if input.device.type != "cpu" or not (self.training and torch.is_grad_enabled()):
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            input = input.to(torch.get_autocast_dtype("cpu"))
        out: Tensor = _Depthwise.apply(input, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return out
