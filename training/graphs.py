"""From a torch module to an ONNX graph that says nothing of the machine that made it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

Ports = tuple[list[str], list[str]]
"""Names of the inputs and of the outputs."""
OPSET = 18


class GraphError(RuntimeError):
    """The module cannot be written as a graph."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself whatever it exports: that it tests for a class in a way it has
    deprecated, and that torchvision, which nothing here uses, is not installed."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        registry.setLevel(level)


def graph_of(module: nn.Module, example: tuple[Tensor, ...], ports: Ports, free: tuple[Any, ...]) -> onnx.ModelProto:
    """The graph of a module in evaluation mode. free: for each input its dimensions that vary, as torch.export takes
    them. Raises GraphError if torch gives none."""
    with _quiet():
        program = torch.onnx.export(
            module, example, dynamo=True, opset_version=OPSET, verbose=False, input_names=ports[0],
            output_names=ports[1], dynamic_shapes=free,
        )  # fmt: skip
    if program is None:
        raise GraphError("torch.onnx.export gave no program")
    return _bare(program.model_proto)


def _bare(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without the notes of the machine that made it: source paths, stack traces, shapes in between."""
    graph = network.graph
    del network.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return network
