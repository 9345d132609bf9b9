"""Neighbours in a graph that one operator does together: fewer calls of the GPU, of which one face takes dozens.

A convolution with what follows it in a residual network, a product with its bias, and GELU, which ONNX writes as five
operators. What stands between them is rounded no more, so that this is for half precision alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from engines.onnx_graph import Graph, Node

CONV, LINEAR, GELU = "FusedConv", "FusedLinear", "FusedGelu"
"""Operators that ONNX does not have. FusedConv: x, weights, bias, and what is added before the ReLU, if anything."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a graph: who makes a value, who alone reads it, and the weights. A value that is read twice, or leaves the
    network, has no sole reader."""

    makers: Mapping[str, Node]
    readers: Mapping[str, Node]
    graph: Graph

    def reader(self, node: Node, op: str) -> Node | None:
        """Who alone reads what a node makes, if that is an `op`."""
        found = self.readers.get(node.outputs[0])
        return found if found is not None and found.op == op else None

    def constant(self, name: str, value: float) -> bool:
        """Whether a value is a weight of one number, and this one."""
        weight = self.graph.constants.get(name)
        return weight is not None and weight.size == 1 and bool(np.isclose(float(weight.reshape(-1)[0]), value))


def fused(graph: Graph) -> Graph:
    """The same network with such neighbours joined, each group where its last member was."""
    known = _known(graph)
    gone: set[str] = set()
    put: dict[str, Node] = {}
    for node in graph.nodes:
        for rule in _RULES:
            if (found := rule(node, known)) is not None and gone.isdisjoint(each.name for each in found[0]):
                members, joined = found
                gone |= {each.name for each in members}
                put[members[-1].name] = joined
                break
    nodes = tuple(put.get(node.name, node) for node in graph.nodes if node.name in put or node.name not in gone)
    return replace(graph, nodes=nodes)


def _known(graph: Graph) -> _Known:
    times = Counter(name for node in graph.nodes for name in node.inputs)
    times.update(graph.outputs)
    readers = {name: node for node in graph.nodes for name in node.inputs if times[name] == 1}
    return _Known({name: node for node in graph.nodes for name in node.outputs}, readers, graph)


Found = tuple[tuple[Node, ...], Node]
"""The members of a group in their order, and what stands for them."""


def _convolution(node: Node, known: _Known) -> Found | None:
    """Conv, Relu; or Conv, Add, Relu."""
    if node.op != "Conv" or len(node.inputs) != 3:
        return None
    added = known.reader(node, "Add")
    last = known.reader(added or node, "Relu")
    if last is None:
        return None
    other = () if added is None else tuple(name for name in added.inputs if name != node.outputs[0])
    if any(name in known.graph.constants for name in other):
        return None  # a number or a plane that is added is no shortcut
    members = (node, last) if added is None else (node, added, last)
    return members, replace(node, op=CONV, inputs=(*node.inputs, *other), outputs=last.outputs)


def _product(node: Node, known: _Known) -> Found | None:
    """MatMul by a weight [I, O], and Add of a bias [O]."""
    added = known.reader(node, "Add")
    weights = known.graph.constants
    if node.op != "MatMul" or added is None or node.inputs[1] not in weights:
        return None
    bias = next(name for name in added.inputs if name != node.outputs[0])
    if weights[node.inputs[1]].ndim != 2 or bias not in weights or weights[bias].ndim != 1:
        return None
    return (node, added), replace(node, op=LINEAR, inputs=(*node.inputs, bias), outputs=added.outputs)


def _gelu(node: Node, known: _Known) -> Found | None:
    """x / sqrt(2), Erf, + 1, and the product of that, of x and of one half."""
    erf = known.reader(node, "Erf")
    more = None if erf is None else known.reader(erf, "Add")
    times = None if more is None else known.reader(more, "Mul")
    last = None if times is None else known.reader(times, "Mul")
    if node.op != "Div" or erf is None or more is None or times is None or last is None:
        return None
    x = node.inputs[0]
    fits = (
        known.constant(node.inputs[1], 2**0.5)
        and any(known.constant(name, 1.0) for name in more.inputs)
        and any(known.constant(name, 0.5) for name in times.inputs)
        and x in last.inputs
    )
    return ((node, erf, more, times, last), replace(node, op=GELU, inputs=(x,), outputs=last.outputs)) if fits else None


_RULES: Final[tuple[Callable[[Node, _Known], Found | None], ...]] = (_convolution, _product, _gelu)
