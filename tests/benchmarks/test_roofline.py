"""What a network has to do is counted rightly, and rates are set against ceilings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.onnx_work import work_of
from benchmarks.roofline import Ceilings, Work, ceilings_of, reached
from engines.base import EngineError
from engines.spec import load_model_file


def write(folder: Path, nodes: list[Any], weights: dict[str, tuple[int, ...]], x: list[str | int]) -> Path:
    """A network of `nodes` that takes x and gives y."""
    value = helper.make_tensor_value_info
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    constants.append(numpy_helper.from_array(np.array([0, -1], np.int64), "flat"))
    graph = helper.make_graph(
        nodes, "counted", [value("x", TensorProto.FLOAT, x)], [value("y", TensorProto.FLOAT, None)], constants
    )
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    return path


def test_operations_and_numbers_of_a_small_network(tmp_path: Path) -> None:
    """A 3 x 3 convolution of 2 -> 6 channels in 2 groups with bias on 8 x 8, then 384 -> 10, both by hand."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["seen"], pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["seen"], ["active"]),
        helper.make_node("Reshape", ["active", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "v", "c"], ["y"], transB=1),
    ]
    weights = {"w": (6, 1, 3, 3), "b": (6,), "v": (10, 384), "c": (10,)}
    found = work_of(write(tmp_path, nodes, weights, ["faces", 2, 8, 8]), {"x": (1, 2, 8, 8)})
    assert found == Work(
        operations=2 * (64 * 6 * 9 + 384 * 10),
        weights=54 + 6 + 3840 + 10,
        ports=128 + 10,
        activations=384 + 10,
    )


@pytest.mark.parametrize(
    ("op", "attributes", "x", "weight", "adds"),
    [
        ("MatMul", {}, (2, 3, 4), (4, 7), 2 * 3 * 4 * 7),
        ("Gemm", {"transA": 1}, (4, 3), (4, 7), 3 * 4 * 7),
        ("ConvTranspose", {"strides": [2, 2]}, (1, 4, 3, 3), (4, 5, 2, 2), 9 * 4 * 5 * 4),
        ("Einsum", {"equation": "bkr, kdr -> bkd"}, (2, 3, 4), (3, 5, 4), 2 * 3 * 5 * 4),
        ("Conv", {"strides": [2], "dilations": [2]}, (1, 4, 11), (8, 4, 3), 4 * 8 * 4 * 3),
    ],
)
def test_each_product_is_counted(
    op: str, attributes: dict[str, Any], x: tuple[int, ...], weight: tuple[int, ...], adds: int, tmp_path: Path
) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    assert work_of(write(tmp_path, [node], {"w": weight}, [*x]), {"x": x}).operations == 2 * adds


def test_the_network_that_ships_is_counted_whole_and_grows_with_the_faces() -> None:
    path = load_model_file("agcm-live").path
    one, three = (work_of(path, {"crop": (faces, 1, 112, 112)}) for faces in (1, 3))
    assert three == Work(3 * one.operations, one.weights, 3 * one.ports, 3 * one.activations)
    assert 4 * one.weights == pytest.approx(path.stat().st_size, rel=0.05), "a file is little but weights"


def test_a_shape_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": (4, 7)}, ["n", "m"])
    with pytest.raises(EngineError, match=r"model\.onnx does not take {'x': \(2, 5\)}") as told:
        work_of(path, {"x": (2, 5)})
    assert "\n" not in str(told.value)
    unknown = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Cast", ["places"], ["y"], to=1)]
    with pytest.raises(EngineError, match="the shape of y does not follow from the inputs"):
        work_of(write(tmp_path, unknown, {}, [2, 5]), {"x": (2, 5)})


def test_rates_are_those_of_the_best_call_and_shares_are_of_the_ceilings() -> None:
    work = Work(operations=1_000_000, weights=500_000, ports=1_000, activations=10_000)
    assert work.bytes_of(1, "fp32") == 4 * 500_000 + 4 * 1_000 + 2 * 4 * 10_000
    assert work.bytes_of(10, "fp16") == 2 * 500_000 + 10 * (4 * 1_000 + 2 * 2 * 10_000)
    found = reached("torch/fp16", "fp16", 10, 0.5, work, Ceilings(operations_per_s=1e11, bytes_per_s=1e10))
    assert found.operations_per_s == pytest.approx(10 * 1e6 / 0.5e-3)
    assert found.operations_share == pytest.approx(0.2)
    assert found.bytes_per_face == pytest.approx(144_000)
    assert found.bytes_share == pytest.approx(1_440_000 / 0.5e-3 / 1e10)


@pytest.mark.gpu
def test_the_ceilings_of_a_gpu_are_those_of_a_gpu() -> None:
    """Looser than any GPU of the last ten years: that the units are right, and halves are not slower."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no NVIDIA GPU here")
    exact, half = ceilings_of("fp32"), ceilings_of("fp16")
    assert 1e12 < exact.operations_per_s < half.operations_per_s < 1e17
    assert 1e10 < half.bytes_per_s < 1e14
