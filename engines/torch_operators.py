"""The operators of the networks that ship: ONNX operator -> function of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch

from engines import torch_functions as functions
from engines import torch_joined as joined
from engines.base import EngineError
from engines.onnx_graph import Node
from engines.torch_fused import CONV, GELU, LINEAR


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of OPERATORS.

    attributes: those that it obeys. host: which of its arguments say what to do (axes, sizes); they must be known
    before the network runs, and stay on the host. precision: where the network runs in half precision, "low" takes and
    gives halves, "full" takes and gives float32, "any" takes what comes. since: the oldest opset with this meaning.
    """

    function: functions.Function
    attributes: frozenset[str] = frozenset()
    host: tuple[int, ...] = ()
    precision: Literal["low", "any", "full"] = "any"
    since: int = 1


_WINDOW = frozenset({"auto_pad", "dilations", "kernel_shape", "pads", "strides"})
_REDUCTION = frozenset({"keepdims", "noop_with_empty_axes"})

OPERATORS: Final[Mapping[str, Operator]] = {
    "Abs": Operator(functions.plain(torch.abs, 1)),
    "Add": Operator(functions.plain(torch.add, 2)),
    "ArgMax": Operator(functions.arg_max, frozenset({"axis", "keepdims", "select_last_index"})),
    "AveragePool": Operator(functions.average_pool, _WINDOW | {"ceil_mode", "count_include_pad"}),
    "BatchNormalization": Operator(functions.batch_norm, frozenset({"epsilon", "momentum"}), precision="full"),
    "Cast": Operator(functions.cast, frozenset({"to"})),
    "Clip": Operator(functions.clip, host=(1, 2)),
    "Concat": Operator(functions.concat, frozenset({"axis"})),
    "Conv": Operator(functions.conv, _WINDOW | {"group"}, precision="low"),
    "ConvTranspose": Operator(functions.conv_transpose, _WINDOW | {"group"}, precision="low"),
    "Div": Operator(functions.divide, precision="full"),
    "Einsum": Operator(functions.einsum, frozenset({"equation"}), precision="low"),
    "Erf": Operator(functions.plain(torch.erf, 1), precision="full"),
    "Expand": Operator(functions.expand, host=(1,)),
    "Gather": Operator(functions.gather, frozenset({"axis"}), host=(1,)),
    "GreaterOrEqual": Operator(functions.plain(torch.ge, 2)),
    "LayerNormalization": Operator(functions.layer_norm, frozenset({"axis", "epsilon", "stash_type"}), precision="low"),
    "LeakyRelu": Operator(functions.leaky_relu, frozenset({"alpha"})),
    "LessOrEqual": Operator(functions.plain(torch.le, 2)),
    "Log": Operator(functions.plain(torch.log, 1), precision="full"),
    "MatMul": Operator(functions.plain(torch.matmul, 2), precision="low"),
    "MaxPool": Operator(functions.max_pool, _WINDOW | {"ceil_mode", "storage_order"}),
    "Mul": Operator(functions.plain(torch.mul, 2)),
    "Neg": Operator(functions.plain(torch.neg, 1)),
    "Not": Operator(functions.plain(torch.logical_not, 1)),
    "Pad": Operator(functions.pad, frozenset({"mode"}), host=(1, 2)),
    "Pow": Operator(functions.plain(torch.pow, 2), precision="full"),
    "ReduceMax": Operator(functions.reduced(torch.amax), _REDUCTION, host=(1,)),
    "ReduceMean": Operator(functions.reduced(torch.mean), _REDUCTION, host=(1,), precision="full"),
    "ReduceMin": Operator(functions.reduced(torch.amin), _REDUCTION, host=(1,)),
    "ReduceSum": Operator(functions.reduced(torch.sum), _REDUCTION, host=(1,), precision="full"),
    "Relu": Operator(functions.plain(torch.relu, 1)),
    "Reshape": Operator(functions.reshape, frozenset({"allowzero"}), host=(1,)),
    "Resize": Operator(functions.resize, frozenset({
        "antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
        "keep_aspect_ratio_policy", "mode", "nearest_mode",
    }), host=(3,)),
    "Shape": Operator(functions.shape, frozenset({"start", "end"})),
    "Sigmoid": Operator(functions.plain(torch.sigmoid, 1), precision="full"),
    "Slice": Operator(functions.sliced, host=(1, 2, 3, 4)),
    "Softmax": Operator(functions.softmax, frozenset({"axis"}), precision="full", since=13),
    "Split": Operator(functions.split, frozenset({"axis", "num_outputs"}), host=(1,)),
    "Squeeze": Operator(functions.squeeze, host=(1,)),
    "Sub": Operator(functions.plain(torch.sub, 2)),
    "Transpose": Operator(functions.transpose, frozenset({"perm"})),
    "Unsqueeze": Operator(functions.unsqueeze, host=(1,)),
    "Where": Operator(functions.plain(torch.where, 3)),
    CONV: Operator(joined.conv_relu, _WINDOW | {"group"}, precision="low"),
    GELU: Operator(joined.gelu, precision="low"),
    LINEAR: Operator(joined.linear, precision="low"),
}  # fmt: skip
"""Those of the networks under models/, of agcm-base, and of engines.torch_fused."""


def operator_of(node: Node, opset: int) -> Operator:
    """Raises EngineError, which names the operator, if it is not known or says what is not known."""
    found = OPERATORS.get(node.op)
    if found is None:
        raise EngineError(f"this version does not know the operator {node.op} ({node.name})")
    if opset < found.since:
        raise functions.refuse(node, f"is of opset {opset}")
    if unknown := set(node.attributes) - found.attributes:
        raise functions.refuse(node, f"has {', '.join(sorted(unknown))}")
    return found
