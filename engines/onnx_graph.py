"""An ONNX file as typed nodes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.base import Array, EngineError

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]
OWN_DOMAINS: Final = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. inputs, outputs: names of values; "" is an input that is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise EngineError(f"{self.op} {self.name}: {name} is {value!r}, no whole number")
        return value

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers."""
        value = self.attributes.get(name, default)
        if not isinstance(value, tuple):
            raise EngineError(f"{self.op} {self.name}: {name} is {value!r}, no list")
        return tuple(int(each) for each in value)

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise EngineError(f"{self.op} {self.name}: {name} is {value!r}, no number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise EngineError(f"{self.op} {self.name}: {name} is {value!r}, no word")
        return value


@dataclass(frozen=True, slots=True)
class Graph:
    """A network. inputs, outputs: names. constants: its weights by name. opset: version of the operators' meaning."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]
    opset: int


def read_graph(path: Path) -> Graph:
    """Raises EngineError, one line, if the file is no network or has operators that ONNX itself does not define."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors have no class in common
        raise EngineError(f"it is no ONNX file: {' '.join(str(error).split())}") from error
    foreign = {node.domain for node in model.graph.node} - set(OWN_DOMAINS)
    if foreign:
        raise EngineError(f"it has operators of {', '.join(sorted(foreign))}, which are not ONNX's own")
    constants = {each.name: np.array(numpy_helper.to_array(each)) for each in model.graph.initializer}
    return Graph(
        nodes=tuple(_node(each) for each in model.graph.node),
        inputs=tuple(each.name for each in model.graph.input if each.name not in constants),
        outputs=tuple(each.name for each in model.graph.output),
        constants=constants,
        opset=max((each.version for each in model.opset_import if each.domain in OWN_DOMAINS), default=1),
    )


def _node(node: Any) -> Node:
    attributes = {each.name: _attribute(node.op_type, each) for each in node.attribute}
    name = node.name or next(iter(node.output), "")
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes)


def _attribute(op: str, attribute: Any) -> Attribute:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return tuple(value)
    raise EngineError(f"attribute {attribute.name} of {op} is neither a number, a word nor a list of numbers")
