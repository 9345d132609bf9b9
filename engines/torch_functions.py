"""What the operators of an ONNX network do, in torch.

Meaning: https://onnx.ai/onnx/operators. What an operator may say and no shipped network says (a mode, uneven padding)
is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.base import EngineError
from engines.onnx_graph import Node

Arguments = Sequence[Tensor | None]
Function = Callable[[Node, Arguments], Tensor | tuple[Tensor, ...]]

FLOAT32: Final = 1
"""TensorProto.FLOAT, the only type that anything is cast to."""


def refuse(node: Node, why: str) -> EngineError:
    """What is raised for a form of an operator that is not known here."""
    return EngineError(f"operator {node.op} ({node.name}) {why}, which this version does not know")


def given(arguments: Arguments, index: int) -> Tensor:
    value = arguments[index]
    if value is None:
        raise EngineError(f"argument {index} of an operator is missing")
    return value


def optional(arguments: Arguments, index: int) -> Tensor | None:
    return arguments[index] if index < len(arguments) else None


def whole(arguments: Arguments, index: int) -> list[int]:
    """An argument on the host, as numbers."""
    return [int(each) for each in given(arguments, index).reshape(-1).tolist()]


def must_be(node: Node, **wanted: int | str) -> None:
    """Attributes that may only have the value at which the function ignores them."""
    for name, value in wanted.items():
        if node.attributes.get(name, value) != value:
            raise refuse(node, f"has {name} {node.attributes[name]!r}")


def symmetric_pads(node: Node, places: int) -> tuple[int, ...]:
    """Padding of each spatial axis [places], which must be the same before and after."""
    must_be(node, auto_pad="NOTSET")
    pads = node.integers("pads", (0,) * (2 * places))
    if pads[:places] != pads[places:]:
        raise refuse(node, f"has pads {pads}")
    return pads[:places]


# Networks in layers -----------------------------------------------------------------------------------------------


def conv(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, ...], weights [O, C / group, ...], bias [O] -> [N, O, ...]."""
    x, weight, bias = given(arguments, 0), given(arguments, 1), optional(arguments, 2)
    places = weight.ndim - 2
    if places not in (1, 2):
        raise refuse(node, f"has {places} spatial axes")
    ones = (1,) * places
    convolve = functional.conv1d if places == 1 else functional.conv2d
    return convolve(
        x, weight, bias, node.integers("strides", ones), symmetric_pads(node, places),
        node.integers("dilations", ones), node.integer("group", 1),
    )  # fmt: skip


def conv_transpose(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, h, w], weights [C, O / group, ...], bias [O] -> [N, O, H, W]."""
    x, weight, bias = given(arguments, 0), given(arguments, 1), optional(arguments, 2)
    if weight.ndim != 4:
        raise refuse(node, f"has {weight.ndim - 2} spatial axes")
    return functional.conv_transpose2d(
        x, weight, bias, node.integers("strides", (1, 1)), symmetric_pads(node, 2), (0, 0),
        node.integer("group", 1), node.integers("dilations", (1, 1)),
    )  # fmt: skip


def batch_norm(node: Node, arguments: Arguments) -> Tensor:
    x, scale, shift, mean, variance = (given(arguments, i) for i in range(5))
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=node.number("epsilon", 1e-5))


def max_pool(node: Node, arguments: Arguments) -> Tensor:
    must_be(node, storage_order=0)
    return functional.max_pool2d(
        given(arguments, 0), node.integers("kernel_shape", ()), node.integers("strides", (1, 1)),
        symmetric_pads(node, 2), node.integers("dilations", (1, 1)), bool(node.integer("ceil_mode", 0)),
    )  # fmt: skip


def average_pool(node: Node, arguments: Arguments) -> Tensor:
    if any(each != 1 for each in node.integers("dilations", ())):
        raise refuse(node, "has dilations")
    return functional.avg_pool2d(
        given(arguments, 0), node.integers("kernel_shape", ()), node.integers("strides", (1, 1)),
        symmetric_pads(node, 2), bool(node.integer("ceil_mode", 0)), bool(node.integer("count_include_pad", 0)),
    )  # fmt: skip


def resize(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, h, w] and sizes [4] -> [N, C, H, W], bilinear, by the centres of pixels."""
    must_be(
        node, coordinate_transformation_mode="half_pixel", antialias=0, exclude_outside=0,
        keep_aspect_ratio_policy="stretch",
    )  # fmt: skip
    if (mode := node.text("mode", "nearest")) != "linear":
        raise refuse(node, f"has mode {mode!r}")
    x = given(arguments, 0)
    if len(arguments) != 4 or optional(arguments, 3) is None or x.ndim != 4:
        raise refuse(node, "has scales in place of sizes")
    sizes = whole(arguments, 3)
    if sizes[:2] != list(x.shape[:2]):
        raise refuse(node, "resizes channels")
    return functional.interpolate(x, size=sizes[2:], mode="bilinear", align_corners=False)


# Products and sums --------------------------------------------------------------------------------------------------


def einsum(node: Node, arguments: Arguments) -> Tensor:
    return torch.einsum(node.text("equation", ""), *(given(arguments, i) for i in range(len(arguments))))


def layer_norm(node: Node, arguments: Arguments) -> Tensor:
    """Over the axes from `axis` on; the deviation is worked out in float32 whatever comes."""
    must_be(node, stash_type=FLOAT32)
    x, scale, shift = given(arguments, 0), given(arguments, 1), optional(arguments, 2)
    axis = node.integer("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, shift, node.number("epsilon", 1e-5))


def divide(node: Node, arguments: Arguments) -> Tensor:
    """Whole numbers are divided to whole numbers, towards zero."""
    a, b = given(arguments, 0), given(arguments, 1)
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


def clip(node: Node, arguments: Arguments) -> Tensor:
    low, high = (optional(arguments, i) for i in (1, 2))
    return torch.clamp(given(arguments, 0), None if low is None else low.item(), None if high is None else high.item())


def reduced(over: Callable[[Tensor, list[int], bool], Tensor]) -> Function:
    """A reduction over the axes of argument 1, all where there is none."""

    def reduce(node: Node, arguments: Arguments) -> Tensor:
        must_be(node, noop_with_empty_axes=0)
        x = given(arguments, 0)
        axes = list(range(x.ndim)) if optional(arguments, 1) is None else whole(arguments, 1)
        return over(x, axes, bool(node.integer("keepdims", 1)))

    return reduce


def arg_max(node: Node, arguments: Arguments) -> Tensor:
    must_be(node, select_last_index=0)
    return torch.argmax(given(arguments, 0), node.integer("axis", 0), bool(node.integer("keepdims", 1)))


def softmax(node: Node, arguments: Arguments) -> Tensor:
    return torch.softmax(given(arguments, 0), node.integer("axis", -1))


def leaky_relu(node: Node, arguments: Arguments) -> Tensor:
    return functional.leaky_relu(given(arguments, 0), node.number("alpha", 0.01))


# Shapes ---------------------------------------------------------------------------------------------------------------


def shape(node: Node, arguments: Arguments) -> Tensor:
    x = given(arguments, 0)
    return torch.tensor(x.shape[node.integer("start", 0) : node.integer("end", x.ndim)], dtype=torch.int64)


def reshape(node: Node, arguments: Arguments) -> Tensor:
    x, sizes = given(arguments, 0), whole(arguments, 1)
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def expand(node: Node, arguments: Arguments) -> Tensor:
    """Both ways: an axis of 1 becomes as long as the other's."""
    x, sizes = given(arguments, 0), whole(arguments, 1)
    return x.expand(np.broadcast_shapes(x.shape, tuple(sizes)))


def squeeze(node: Node, arguments: Arguments) -> Tensor:
    x = given(arguments, 0)
    return x.squeeze() if optional(arguments, 1) is None else x.squeeze(tuple(whole(arguments, 1)))


def unsqueeze(node: Node, arguments: Arguments) -> Tensor:
    """The axes are those of the result."""
    x, axes = given(arguments, 0), whole(arguments, 1)
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def transpose(node: Node, arguments: Arguments) -> Tensor:
    x = given(arguments, 0)
    return x.permute(node.integers("perm", tuple(reversed(range(x.ndim)))))


def concat(node: Node, arguments: Arguments) -> Tensor:
    return torch.cat([given(arguments, i) for i in range(len(arguments))], node.integer("axis", 0))


def split(node: Node, arguments: Arguments) -> tuple[Tensor, ...]:
    """Into the sizes of argument 1, or into equal parts of which the last may be smaller."""
    x, axis = given(arguments, 0), node.integer("axis", 0)
    if optional(arguments, 1) is not None:
        return torch.split(x, whole(arguments, 1), axis)
    return torch.split(x, -(-x.shape[axis] // node.integer("num_outputs", len(node.outputs))), axis)


def gather(node: Node, arguments: Arguments) -> Tensor:
    """One place of an axis, which is then gone."""
    x, place = given(arguments, 0), given(arguments, 1)
    if place.ndim:
        raise refuse(node, "takes several places")
    return x.select(node.integer("axis", 0), int(place))


def sliced(node: Node, arguments: Arguments) -> Tensor:
    """A step below zero goes backwards, which torch does as a slice and a flip."""
    x, starts, ends = given(arguments, 0), whole(arguments, 1), whole(arguments, 2)
    axes = list(range(len(starts))) if optional(arguments, 3) is None else whole(arguments, 3)
    steps = [1] * len(starts) if optional(arguments, 4) is None else whole(arguments, 4)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken = range(x.shape[axis])[start:end:step]
        if not taken:
            x = x.narrow(axis, 0, 0)
            continue
        low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1])
        window = [slice(None)] * x.ndim
        window[axis] = slice(low, high + 1, abs(step))
        x = x[tuple(window)]
        x = x.flip(axis) if step < 0 else x
    return x


def pad(node: Node, arguments: Arguments) -> Tensor:
    """pads [2 * rank]: before every axis, then after every axis."""
    must_be(node, mode="constant")
    x, pads, value = given(arguments, 0), whole(arguments, 1), optional(arguments, 2)
    if len(pads) != 2 * x.ndim:
        raise refuse(node, "names its axes")
    if not any(pads):
        return x
    pairs = [pads[axis + side] for axis in reversed(range(x.ndim)) for side in (0, x.ndim)]
    return functional.pad(x, pairs, value=0.0 if value is None else value.item())


def cast(node: Node, arguments: Arguments) -> Tensor:
    if node.integer("to", 0) != FLOAT32:
        raise refuse(node, f"casts to type {node.integer('to', 0)}")
    return given(arguments, 0).to(torch.float32)


def plain(function: Callable[..., Tensor], count: int) -> Function:
    """A function of torch that does as ONNX says, of `count` tensors."""
    return lambda node, arguments: function(*(given(arguments, i) for i in range(count)))
