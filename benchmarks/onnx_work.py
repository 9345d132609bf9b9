"""Operations and numbers of a network, counted in its ONNX file by the shapes that ONNX itself infers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper, shape_inference

from benchmarks.roofline import Work
from engines.base import EngineError

Shape = tuple[int, ...]
Counter = Callable[[Any, list[Shape], Shape], int]


def work_of(path: Path, inputs: Mapping[str, Shape]) -> Work:
    """Of a call with inputs of these shapes, which are of one face. Raises EngineError, one line, if a shape that is
    needed does not follow from them."""
    graph = _inferred(path, inputs)
    shapes = {each.name: _shape_of(each) for each in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {each.name: tuple(each.dims) for each in graph.initializer}

    def shape(name: str) -> Shape:
        found = shapes.get(name)
        if found is None:
            raise EngineError(f"{path.parent.name}/{path.name}: the shape of {name} does not follow from the inputs")
        return found

    counted = [node for node in graph.node if node.op_type in MULTIPLY_ADDS]
    adds = sum(
        MULTIPLY_ADDS[node.op_type](node, [shape(name) for name in node.input], shape(node.output[0]))
        for node in counted
    )
    weights = {each.name for each in graph.initializer}
    ports = [each.name for each in (*graph.input, *graph.output) if each.name not in weights]
    return Work(
        operations=2 * adds,
        weights=sum(math.prod(each.dims) for each in graph.initializer if each.data_type == TensorProto.FLOAT),
        ports=sum(math.prod(shape(name)) for name in ports),
        activations=sum(math.prod(shape(node.output[0])) for node in counted),
    )


def _inferred(path: Path, inputs: Mapping[str, Shape]) -> Any:
    """The graph with the shapes of all values that follow from those of the inputs."""
    model = onnx.load(path)
    for port in model.graph.input:
        if port.name in inputs:
            port.type.CopyFrom(helper.make_tensor_type_proto(port.type.tensor_type.elem_type, inputs[port.name]))
    # What the file says of other values has names in place of sizes.
    del model.graph.value_info[:]
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    try:
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as error:
        line = " ".join(str(error).split())
        raise EngineError(f"{path.parent.name}/{path.name} does not take {dict(inputs)}: {line}") from error


def _shape_of(value: Any) -> Shape | None:
    """None if a size is not known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    return tuple(axis.dim_value for axis in tensor.shape.dim)


def _conv(node: Any, inputs: list[Shape], output: Shape) -> int:
    """Every number of the output is a sum over a window [C / group, k, ...] of weights [O, C / group, k, ...]."""
    return math.prod(output) * math.prod(inputs[1][1:])


def _conv_transpose(node: Any, inputs: list[Shape], output: Shape) -> int:
    """Every number of the input goes into a window [O / group, k, ...] of weights [C, O / group, k, ...]."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _gemm(node: Any, inputs: list[Shape], output: Shape) -> int:
    """[M, K] x [K, N]; the first may be given transposed."""
    turned = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "transA"), 0)
    return math.prod(output) * inputs[0][0 if turned else 1]


def _matmul(node: Any, inputs: list[Shape], output: Shape) -> int:
    return math.prod(output) * inputs[0][-1]


def _einsum(node: Any, inputs: list[Shape], output: Shape) -> int:
    """One for every value of all indices together."""
    equation = next(helper.get_attribute_value(each) for each in node.attribute if each.name == "equation").decode()
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    pairs = (zip(term, shape, strict=True) for term, shape in zip(terms, inputs, strict=True))
    sizes = dict(chain.from_iterable(pairs))
    return math.prod(sizes.values())


MULTIPLY_ADDS: Final[Mapping[str, Counter]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
}
"""Operators whose multiply-adds are counted; the others are sums, maxima and functions of single numbers."""
