"""The operators of the networks that ship, in torch: ONNX operator -> function of tensors.

Meaning: https://onnx.ai/onnx/operators, of the opsets that the networks name. What an operator may say and no shipped
network says (an attribute, a mode) is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from engines.base import EngineError
from engines.onnx_graph import Node

Arguments = Sequence[Tensor | None]
Function = Callable[[Node, Arguments], Tensor | tuple[Tensor, ...]]

FLOAT32: Final = 1
"""TensorProto.FLOAT, the only type that anything is cast to."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of OPERATORS.

    attributes: those that it obeys. host: which of its arguments say what to do (axes, sizes); they must be known
    before the network runs, and stay on the host. precision: where the network runs in half precision, "low" takes and
    gives halves, "full" takes and gives float32, "any" takes what comes. since: the oldest opset with this meaning.
    """

    function: Function
    attributes: frozenset[str] = frozenset()
    host: tuple[int, ...] = ()
    precision: Literal["low", "any", "full"] = "any"
    since: int = 1


def refuse(node: Node, why: str) -> EngineError:
    """What is raised for a form of an operator that is not known here."""
    return EngineError(f"operator {node.op} ({node.name}) {why}, which this version does not know")


def _given(arguments: Arguments, index: int) -> Tensor:
    value = arguments[index]
    if value is None:
        raise EngineError(f"argument {index} of an operator is missing")
    return value


def _optional(arguments: Arguments, index: int) -> Tensor | None:
    return arguments[index] if index < len(arguments) else None


def _whole(arguments: Arguments, index: int) -> list[int]:
    """An argument on the host, as numbers."""
    return [int(each) for each in _given(arguments, index).reshape(-1).tolist()]


def _must_be(node: Node, **wanted: int | str) -> None:
    """Attributes that may only have the value at which the function ignores them."""
    for name, value in wanted.items():
        if node.attributes.get(name, value) != value:
            raise refuse(node, f"has {name} {node.attributes[name]!r}")


def _symmetric_pads(node: Node, places: int) -> tuple[int, ...]:
    """Padding of each spatial axis [places], which must be the same before and after."""
    _must_be(node, auto_pad="NOTSET")
    pads = node.integers("pads", (0,) * (2 * places))
    if pads[:places] != pads[places:]:
        raise refuse(node, f"has pads {pads}")
    return pads[:places]


# Networks in layers -----------------------------------------------------------------------------------------------


def _conv(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, ...], weights [O, C / group, ...], bias [O] -> [N, O, ...]."""
    x, weight, bias = _given(arguments, 0), _given(arguments, 1), _optional(arguments, 2)
    places = weight.ndim - 2
    if places not in (1, 2):
        raise refuse(node, f"has {places} spatial axes")
    ones = (1,) * places
    convolve = functional.conv1d if places == 1 else functional.conv2d
    return convolve(
        x, weight, bias, node.integers("strides", ones), _symmetric_pads(node, places),
        node.integers("dilations", ones), node.integer("group", 1),
    )  # fmt: skip


def _conv_transpose(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, h, w], weights [C, O / group, ...], bias [O] -> [N, O, H, W]."""
    x, weight, bias = _given(arguments, 0), _given(arguments, 1), _optional(arguments, 2)
    if weight.ndim != 4:
        raise refuse(node, f"has {weight.ndim - 2} spatial axes")
    return functional.conv_transpose2d(
        x, weight, bias, node.integers("strides", (1, 1)), _symmetric_pads(node, 2), (0, 0),
        node.integer("group", 1), node.integers("dilations", (1, 1)),
    )  # fmt: skip


def _batch_norm(node: Node, arguments: Arguments) -> Tensor:
    x, scale, shift, mean, variance = (_given(arguments, i) for i in range(5))
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=node.number("epsilon", 1e-5))


def _max_pool(node: Node, arguments: Arguments) -> Tensor:
    _must_be(node, storage_order=0)
    return functional.max_pool2d(
        _given(arguments, 0), node.integers("kernel_shape", ()), node.integers("strides", (1, 1)),
        _symmetric_pads(node, 2), node.integers("dilations", (1, 1)), bool(node.integer("ceil_mode", 0)),
    )  # fmt: skip


def _average_pool(node: Node, arguments: Arguments) -> Tensor:
    if any(each != 1 for each in node.integers("dilations", ())):
        raise refuse(node, "has dilations")
    return functional.avg_pool2d(
        _given(arguments, 0), node.integers("kernel_shape", ()), node.integers("strides", (1, 1)),
        _symmetric_pads(node, 2), bool(node.integer("ceil_mode", 0)), bool(node.integer("count_include_pad", 0)),
    )  # fmt: skip


def _resize(node: Node, arguments: Arguments) -> Tensor:
    """x [N, C, h, w] and sizes [4] -> [N, C, H, W], bilinear, by the centres of pixels."""
    _must_be(
        node, mode="linear", coordinate_transformation_mode="half_pixel", antialias=0, exclude_outside=0,
        keep_aspect_ratio_policy="stretch",
    )  # fmt: skip
    x = _given(arguments, 0)
    if len(arguments) != 4 or _optional(arguments, 3) is None or x.ndim != 4:
        raise refuse(node, "has scales in place of sizes")
    sizes = _whole(arguments, 3)
    if sizes[:2] != list(x.shape[:2]):
        raise refuse(node, "resizes channels")
    return functional.interpolate(x, size=sizes[2:], mode="bilinear", align_corners=False)


# Products and sums --------------------------------------------------------------------------------------------------


def _einsum(node: Node, arguments: Arguments) -> Tensor:
    return torch.einsum(node.text("equation", ""), *(_given(arguments, i) for i in range(len(arguments))))


def _divide(node: Node, arguments: Arguments) -> Tensor:
    """Whole numbers are divided to whole numbers, towards zero."""
    a, b = _given(arguments, 0), _given(arguments, 1)
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


def _clip(node: Node, arguments: Arguments) -> Tensor:
    low, high = (_optional(arguments, i) for i in (1, 2))
    return torch.clamp(_given(arguments, 0), None if low is None else low.item(), None if high is None else high.item())


def _reduced(over: Callable[[Tensor, list[int], bool], Tensor]) -> Function:
    """A reduction over the axes of argument 1, all where there is none."""

    def reduce(node: Node, arguments: Arguments) -> Tensor:
        _must_be(node, noop_with_empty_axes=0)
        x = _given(arguments, 0)
        axes = list(range(x.ndim)) if _optional(arguments, 1) is None else _whole(arguments, 1)
        return over(x, axes, bool(node.integer("keepdims", 1)))

    return reduce


def _arg_max(node: Node, arguments: Arguments) -> Tensor:
    _must_be(node, select_last_index=0)
    return torch.argmax(_given(arguments, 0), node.integer("axis", 0), bool(node.integer("keepdims", 1)))


# Shapes ---------------------------------------------------------------------------------------------------------------


def _shape(node: Node, arguments: Arguments) -> Tensor:
    x = _given(arguments, 0)
    return torch.tensor(x.shape[node.integer("start", 0) : node.integer("end", x.ndim)], dtype=torch.int64)


def _reshape(node: Node, arguments: Arguments) -> Tensor:
    x, sizes = _given(arguments, 0), _whole(arguments, 1)
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _squeeze(node: Node, arguments: Arguments) -> Tensor:
    x = _given(arguments, 0)
    return x.squeeze() if _optional(arguments, 1) is None else x.squeeze(tuple(_whole(arguments, 1)))


def _unsqueeze(node: Node, arguments: Arguments) -> Tensor:
    """The axes are those of the result."""
    x, axes = _given(arguments, 0), _whole(arguments, 1)
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _transpose(node: Node, arguments: Arguments) -> Tensor:
    x = _given(arguments, 0)
    return x.permute(node.integers("perm", tuple(reversed(range(x.ndim)))))


def _concat(node: Node, arguments: Arguments) -> Tensor:
    return torch.cat([_given(arguments, i) for i in range(len(arguments))], node.integer("axis", 0))


def _split(node: Node, arguments: Arguments) -> tuple[Tensor, ...]:
    """Into the sizes of argument 1, or into equal parts of which the last may be smaller."""
    x, axis = _given(arguments, 0), node.integer("axis", 0)
    if _optional(arguments, 1) is not None:
        return torch.split(x, _whole(arguments, 1), axis)
    return torch.split(x, -(-x.shape[axis] // node.integer("num_outputs", len(node.outputs))), axis)


def _slice(node: Node, arguments: Arguments) -> Tensor:
    """A step below zero goes backwards, which torch does as a slice and a flip."""
    x, starts, ends = _given(arguments, 0), _whole(arguments, 1), _whole(arguments, 2)
    axes = list(range(len(starts))) if _optional(arguments, 3) is None else _whole(arguments, 3)
    steps = [1] * len(starts) if _optional(arguments, 4) is None else _whole(arguments, 4)
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


def _pad(node: Node, arguments: Arguments) -> Tensor:
    """pads [2 * rank]: before every axis, then after every axis."""
    _must_be(node, mode="constant")
    x, pads, value = _given(arguments, 0), _whole(arguments, 1), _optional(arguments, 2)
    if len(pads) != 2 * x.ndim:
        raise refuse(node, "names its axes")
    if not any(pads):
        return x
    pairs = [pads[axis + side] for axis in reversed(range(x.ndim)) for side in (0, x.ndim)]
    return functional.pad(x, pairs, value=0.0 if value is None else value.item())


def _cast(node: Node, arguments: Arguments) -> Tensor:
    if node.integer("to", 0) != FLOAT32:
        raise refuse(node, f"casts to type {node.integer('to', 0)}")
    return _given(arguments, 0).to(torch.float32)


def _plain(function: Callable[..., Tensor], count: int) -> Function:
    """A function of torch that does as ONNX says, of `count` tensors."""
    return lambda node, arguments: function(*(_given(arguments, i) for i in range(count)))


_WINDOW = frozenset({"auto_pad", "dilations", "kernel_shape", "pads", "strides"})
_REDUCTION = frozenset({"keepdims", "noop_with_empty_axes"})

OPERATORS: Final[Mapping[str, Operator]] = {
    "Abs": Operator(_plain(torch.abs, 1)),
    "Add": Operator(_plain(torch.add, 2)),
    "ArgMax": Operator(_arg_max, frozenset({"axis", "keepdims", "select_last_index"})),
    "AveragePool": Operator(_average_pool, _WINDOW | {"ceil_mode", "count_include_pad"}),
    "BatchNormalization": Operator(_batch_norm, frozenset({"epsilon", "momentum"}), precision="full"),
    "Cast": Operator(_cast, frozenset({"to"})),
    "Clip": Operator(_clip, host=(1, 2)),
    "Concat": Operator(_concat, frozenset({"axis"})),
    "Conv": Operator(_conv, _WINDOW | {"group"}, precision="low"),
    "ConvTranspose": Operator(_conv_transpose, _WINDOW | {"group"}, precision="low"),
    "Div": Operator(_divide, precision="full"),
    "Einsum": Operator(_einsum, frozenset({"equation"}), precision="low"),
    "GreaterOrEqual": Operator(_plain(torch.ge, 2)),
    "LeakyRelu": Operator(lambda node, a: functional.leaky_relu(_given(a, 0), node.number("alpha", 0.01)),
                          frozenset({"alpha"})),
    "LessOrEqual": Operator(_plain(torch.le, 2)),
    "Log": Operator(_plain(torch.log, 1), precision="full"),
    "MatMul": Operator(_plain(torch.matmul, 2), precision="low"),
    "MaxPool": Operator(_max_pool, _WINDOW | {"ceil_mode", "storage_order"}),
    "Mul": Operator(_plain(torch.mul, 2)),
    "Neg": Operator(_plain(torch.neg, 1)),
    "Not": Operator(_plain(torch.logical_not, 1)),
    "Pad": Operator(_pad, frozenset({"mode"}), host=(1, 2)),
    "Pow": Operator(_plain(torch.pow, 2), precision="full"),
    "ReduceMax": Operator(_reduced(torch.amax), _REDUCTION, host=(1,)),
    "ReduceMean": Operator(_reduced(torch.mean), _REDUCTION, host=(1,), precision="full"),
    "ReduceMin": Operator(_reduced(torch.amin), _REDUCTION, host=(1,)),
    "ReduceSum": Operator(_reduced(torch.sum), _REDUCTION, host=(1,), precision="full"),
    "Relu": Operator(_plain(torch.relu, 1)),
    "Reshape": Operator(_reshape, frozenset({"allowzero"}), host=(1,)),
    "Resize": Operator(_resize, frozenset({
        "antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
        "keep_aspect_ratio_policy", "mode", "nearest_mode",
    }), host=(3,)),
    "Shape": Operator(_shape, frozenset({"start", "end"})),
    "Sigmoid": Operator(_plain(torch.sigmoid, 1), precision="full"),
    "Slice": Operator(_slice, host=(1, 2, 3, 4)),
    "Softmax": Operator(lambda node, a: torch.softmax(_given(a, 0), node.integer("axis", -1)), frozenset({"axis"}),
                        precision="full", since=13),
    "Split": Operator(_split, frozenset({"axis", "num_outputs"}), host=(1,)),
    "Squeeze": Operator(_squeeze, host=(1,)),
    "Sub": Operator(_plain(torch.sub, 2)),
    "Transpose": Operator(_transpose, frozenset({"perm"})),
    "Unsqueeze": Operator(_unsqueeze, host=(1,)),
    "Where": Operator(_plain(torch.where, 3)),
}  # fmt: skip
"""Those of the networks under models/."""


def operator_of(node: Node, opset: int) -> Operator:
    """Raises EngineError, which names the operator, if it is not known or says what is not known."""
    found = OPERATORS.get(node.op)
    if found is None:
        raise EngineError(f"this version does not know the operator {node.op} ({node.name})")
    if opset < found.since:
        raise refuse(node, f"is of opset {opset}")
    if unknown := set(node.attributes) - found.attributes:
        raise refuse(node, f"has {', '.join(sorted(unknown))}")
    return found
