"""What joined neighbours do (engines.torch_fused), in torch."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from engines.onnx_graph import Node
from engines.torch_functions import Arguments, conv, given, optional, symmetric_pads

Window = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Strides, pads and dilations of a convolution."""


def conv_relu(node: Node, arguments: Arguments) -> Tensor:
    """As `conv`, plus argument 3 if there is one, and no number below 0. cuDNN does all of it at once where it can."""
    x, weight, bias, added = *(given(arguments, i) for i in range(3)), optional(arguments, 3)
    if x.is_cuda and weight.ndim == 4 and node.integer("group", 1) == 1:
        window = (node.integers("strides", (1, 1)), symmetric_pads(node, 2), node.integers("dilations", (1, 1)))
        if _is_known_to_cudnn(tuple(x.shape), tuple(weight.shape), x.dtype, window, added is not None):
            return _at_once(x, weight, bias, added, window)
    found = conv(node, arguments[:3])
    return torch.relu_(found if added is None else found.add_(added))


def _at_once(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, window: Window) -> Tensor:
    """Raises RuntimeError if cuDNN has no kernel for it."""
    if added is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *window, 1)
    return torch.cudnn_convolution_add_relu(x, weight, added, 1.0, bias, *window, 1)


@cache
def _is_known_to_cudnn(
    x: tuple[int, ...], weight: tuple[int, ...], dtype: torch.dtype, window: Window, adds: bool
) -> bool:
    """Whether there is a kernel for these shapes; tried once, since nothing may fail while a graph is recorded."""
    try:
        picture, kernel = (torch.zeros(shape, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
                           for shape in (x, weight))  # fmt: skip
        bias = torch.zeros(weight[0], device="cuda", dtype=dtype)
        added = functional.conv2d(picture, kernel, bias, *window) if adds else None
        _at_once(picture, kernel, bias, added, window)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True


def linear(node: Node, arguments: Arguments) -> Tensor:
    """x [..., I] by weights [I, O], plus a bias [O]."""
    x, weight, bias = (given(arguments, i) for i in range(3))
    return functional.linear(x, weight.t(), bias)


def gelu(node: Node, arguments: Arguments) -> Tensor:
    return functional.gelu(given(arguments, 0))
