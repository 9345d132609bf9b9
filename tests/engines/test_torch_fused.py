"""Neighbours in a graph are joined where nobody else reads what lies between them, and say what they said apart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engines.base import Array
from engines.onnx_graph import Attribute, Graph, Node, read_graph
from engines.spec import load_model_file
from engines.torch_fused import CONV, GELU, LINEAR, fused
from engines.torch_program import Program

WINDOW: dict[str, Attribute] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
dice = np.random.default_rng(0)
WEIGHTS: dict[str, Array] = {
    "w": dice.normal(size=(8, 8, 3, 3)).astype(np.float32),
    "b": dice.normal(size=8).astype(np.float32),
    "plane": dice.normal(size=(1, 8, 4, 4)).astype(np.float32),
    "matrix": dice.normal(size=(4, 5)).astype(np.float32),
    "five": dice.normal(size=5).astype(np.float32),
    "root": np.array([2**0.5], np.float32),
    "one": np.array([1.0], np.float32),
    "half": np.array([0.5], np.float32),
    "third": np.array([1 / 3], np.float32),
}


def node(op: str, inputs: str, output: str, **attributes: Attribute) -> Node:
    return Node(op, output, tuple(inputs.split()), (output,), attributes)


def graph(*nodes: Node, outputs: tuple[str, ...] = ()) -> Graph:
    """x in; the last node's answer out, and `outputs`."""
    return Graph(nodes, ("x",), (*nodes[-1].outputs, *outputs), WEIGHTS, 18)


def run(network: Graph, x: torch.Tensor) -> list[torch.Tensor]:
    """In float32, in which a Program joins nothing by itself."""
    program = Program(network, torch.device("cpu"))
    with torch.inference_mode():
        return list(program.run(program.steps_for({"x": x}), {"x": x}).values())


GELU_OF_X = (
    node("Div", "x root", "scaled"), node("Erf", "scaled", "erf"), node("Add", "erf one", "more"),
    node("Mul", "half more", "half_more"), node("Mul", "x half_more", "gelu"),
)  # fmt: skip
BLOCK = (
    node("Conv", "x w b", "c1", **WINDOW), node("Relu", "c1", "r1"), node("Conv", "r1 w b", "c2", **WINDOW),
    node("Add", "x c2", "sum"), node("Relu", "sum", "r2"),
)  # fmt: skip
PRODUCT = (node("MatMul", "x matrix", "product"), node("Add", "product five", "linear"))


@pytest.mark.parametrize(
    ("nodes", "ops", "shape"),
    [
        (BLOCK, [CONV, CONV], (2, 8, 4, 4)),
        (PRODUCT, [LINEAR], (2, 3, 4)),
        (GELU_OF_X, [GELU], (2, 8, 4, 4)),
        ((*GELU_OF_X, node("MatMul", "gelu matrix", "product"), PRODUCT[1]), [GELU, LINEAR], (2, 3, 4)),
    ],
)
def test_neighbours_are_joined_and_say_what_they_said_apart(
    nodes: tuple[Node, ...], ops: list[str], shape: tuple[int, ...]
) -> None:
    apart = graph(*nodes)
    together = fused(apart)
    assert [each.op for each in together.nodes] == ops
    assert together.outputs == apart.outputs
    x = torch.randn(shape)
    (want,), (have,) = run(apart, x), run(together, x)
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (BLOCK[:2], ("c1",)),  # what lies between leaves the network
        ((*BLOCK[:2], node("Add", "c1 r1", "both")), ()),  # or is read by another
        ((BLOCK[0], node("Add", "c1 plane", "moved"), node("Relu", "moved", "r")), ()),  # no shortcut
        ((node("Conv", "x w", "bare", **WINDOW), node("Relu", "bare", "r")), ()),  # no bias
        ((node("MatMul", "x x", "square"), node("Add", "square five", "r")), ()),  # no weights
        ((PRODUCT[0], node("Add", "product x", "r")), ()),  # no bias
        ((*GELU_OF_X[:3], node("Mul", "third more", "half_more"), GELU_OF_X[4]), ()),  # no GELU
        ((*GELU_OF_X[:4], node("Mul", "plane half_more", "r")), ()),
    ],
)
def test_what_others_need_or_what_is_something_else_stays_apart(
    nodes: tuple[Node, ...], outputs: tuple[str, ...]
) -> None:
    apart = graph(*nodes, outputs=outputs)
    assert fused(apart) == apart


def test_a_network_that_ships_has_a_third_of_its_steps_less_and_the_same_answers() -> None:
    apart = read_graph(load_model_file("agcm-live").path)
    together = fused(apart)
    ops = Counter(each.op for each in together.nodes)
    assert ops[CONV] == 29 and len(apart.nodes) - len(together.nodes) > 40
    crops = {"crop": torch.randn(2, 1, 112, 112)}
    said = []
    for network in (apart, together):
        program = Program(network, torch.device("cpu"))
        with torch.inference_mode():
            said.append(program.run(program.steps_for(crops), crops))
    for name, want in said[0].items():
        torch.testing.assert_close(said[1][name], want, rtol=1e-4, atol=1e-5)
