"""An ONNX graph as a list of steps for inputs of one shape, and their run.

Everything that follows from the shapes and the weights alone is worked out once, when the steps are made. What is left
needs no answer from the device before its end, so that a GPU can record it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from engines.base import EngineError
from engines.onnx_graph import Graph, Node
from engines.torch_fused import fused
from engines.torch_operators import Operator, operator_of

Named = dict[str, Tensor]

_ELEMENTWISE: Final = ("Add", "Mul", "Sub")
"""Of which a single number takes the precision of the other argument, where it has no axes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a network. arguments: the names of values that come from steps before it or from outside, and
    what is known already. frees: values that nobody needs after it."""

    node: Node
    operator: Operator
    arguments: tuple[str | Tensor | None, ...]
    frees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Steps:
    """What runs for inputs of one shape. known: outputs that follow from the shapes alone."""

    steps: tuple[Step, ...]
    known: Mapping[str, Tensor]


class Program:
    """A network on one device, in float32 or in half precision."""

    def __init__(self, graph: Graph, device: torch.device, low: torch.dtype = torch.float32) -> None:
        """low: of the operators that cost most; inputs and outputs are float32. Raises EngineError at an operator that
        is not known."""
        self._graph = graph if low == torch.float32 else fused(graph)
        self._device, self._low = device, low
        self._operators = [operator_of(node, graph.opset) for node in self._graph.nodes]
        self._constants = {name: torch.from_numpy(array) for name, array in graph.constants.items()}
        self._placed: dict[tuple[str, torch.dtype], Tensor] = {}

    def steps_for(self, inputs: Mapping[str, Tensor]) -> Steps:
        """The steps for inputs of these shapes, found by running the network once."""
        known, values = dict(self._constants), dict(inputs)
        steps = []
        for node, operator in zip(self._graph.nodes, self._operators, strict=True):
            if all(name in known for name in node.inputs if name):
                arguments = [known[name] if name else None for name in node.inputs]
                known.update(_named(node, operator.function(node, arguments)))
            elif node.op == "Shape":
                known.update(_named(node, operator.function(node, [values[name] for name in node.inputs])))
            else:
                step = Step(node, operator, tuple(self._arguments(node, operator, known)))
                values.update(self._run(step, values))
                steps.append(step)
        wanted = {name: known[name].to(self._device) for name in self._graph.outputs if name in known}
        return Steps(_freeing(steps, self._graph.outputs), wanted)

    def run(self, steps: Steps, inputs: Mapping[str, Tensor]) -> Named:
        """The outputs; no array of the caller is changed."""
        values: Named = {**inputs, **steps.known}
        for step in steps.steps:
            values.update(self._run(step, values))
            for name in step.frees:
                values.pop(name, None)
        return {name: _at(values[name], torch.float32).contiguous() for name in self._graph.outputs}

    def _run(self, step: Step, values: Mapping[str, Tensor]) -> Named:
        arguments = [values[each] if isinstance(each, str) else each for each in step.arguments]
        if self._low != torch.float32 and step.operator.precision != "any":
            dtype = self._low if step.operator.precision == "low" else torch.float32
            arguments = [None if each is None else _at(each, dtype) for each in arguments]
        return _named(step.node, step.operator.function(step.node, arguments))

    def _arguments(self, node: Node, operator: Operator, known: Mapping[str, Tensor]) -> Sequence[str | Tensor | None]:
        """What is known is put where it is needed; what is not keeps its name."""
        found: list[str | Tensor | None] = []
        for index, name in enumerate(node.inputs):
            if name not in known:
                if name and index in operator.host:
                    raise EngineError(
                        f"operator {node.op} ({node.name}) takes {name} from what the network computes, "
                        "which this version cannot"
                    )
                found.append(name or None)
            elif index in operator.host:
                found.append(known[name])
            else:
                low = operator.precision == "low" and known[name].is_floating_point()
                value = self._on_device(name, known[name], self._low if low else known[name].dtype)
                found.append(value.reshape(()) if node.op in _ELEMENTWISE and value.shape == (1,) else value)
        return found

    def _on_device(self, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
        """A known value on the device; weights are put there once for all shapes."""
        place = (name, dtype)
        if name not in self._constants:
            return value.to(self._device, dtype)
        if place not in self._placed:
            # Half-precision convolutions are fastest with the channels of a pixel side by side, and pass that on.
            last = value.ndim == 4 and dtype != torch.float32
            layout = torch.channels_last if last else torch.preserve_format
            self._placed[place] = value.to(self._device, dtype, memory_format=layout)
        return self._placed[place]


def _named(node: Node, found: Tensor | tuple[Tensor, ...]) -> Named:
    """By the names of the node's outputs."""
    results = found if isinstance(found, tuple) else (found,)
    if len(results) != len(node.outputs):
        raise EngineError(f"operator {node.op} ({node.name}) has {len(node.outputs)} outputs here, not known")
    return dict(zip(node.outputs, results, strict=True))


def _at(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of numbers at that precision; anything else as it is."""
    return value.to(dtype) if value.is_floating_point() else value


def _freeing(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[Step, ...]:
    """The steps, each of which frees what it is the last to need."""
    needed, found = set(outputs), []
    for step in reversed(steps):
        names = {each for each in step.arguments if isinstance(each, str)} | set(step.node.outputs)
        found.append(replace(step, frees=tuple(sorted(names - needed))))
        needed |= names
    return tuple(reversed(found))
