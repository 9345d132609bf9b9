"""torch's engine: every shipped network answers as with ONNX Runtime, whatever the shapes; the unknown is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backend_torch import TorchEngine
from engines.base import Array, EngineError, Tensors
from engines.choose import disagreement
from engines.onnx_graph import read_graph
from engines.spec import Manifest, ModelFile, TensorSpec, load_model_file
from engines.torch_program import Program

FP32_APART = 2e-5
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no NVIDIA GPU here")
DEVICES = ["cpu", pytest.param("gpu", marks=[pytest.mark.gpu, needs_gpu])]


def faces(batch: int, seed: int = 0) -> dict[str, Array]:
    return {"crop": np.random.default_rng(seed).normal(size=(batch, 1, 112, 112)).astype(np.float32)}


def luma(height: int, width: int) -> dict[str, Array]:
    """A picture [1, 1, height, width] of blocks, which has edges."""
    blocks = np.random.default_rng(0).uniform(0, 255, (height // 16, width // 16))
    return {"luma": np.kron(blocks, np.ones((16, 16))).astype(np.float32)[None, None]}


def agree(have: Tensors, want: Tensors, most: float) -> None:
    """Apart by no more than `most` of the largest value of an output, or of 1 where all are smaller."""
    assert list(have) == list(want)
    for name in want:
        assert have[name].dtype == want[name].dtype and have[name].shape == want[name].shape
        scale = max(1.0, float(np.abs(want[name]).max()))
        assert float(np.abs(have[name] - want[name]).max()) <= most * scale, name


@pytest.mark.parametrize("device", DEVICES)
def test_faces_read_as_onnxruntime_reads_them_however_many(device: str) -> None:
    model = load_model_file("agcm-live")
    engine, reference = TorchEngine(model, device=device), OnnxRuntimeEngine(model)
    for seed, batch in enumerate((1, 16, 3, 1, 2, 16)):
        agree(engine.infer(faces(batch, seed)), reference.infer(faces(batch, seed)), FP32_APART)
    engine.close()


@pytest.mark.parametrize("device", DEVICES)
def test_pictures_of_any_size_are_searched_as_onnxruntime_searches_them(device: str, detector_file: ModelFile) -> None:
    engine, reference = TorchEngine(detector_file, device=device), OnnxRuntimeEngine(detector_file)
    for size in ((192, 320), (64, 96), (192, 320), (352, 640)):
        agree(engine.infer(luma(*size)), reference.infer(luma(*size)), FP32_APART)
    engine.close()


@pytest.mark.parametrize("device", DEVICES)
def test_a_voice_is_heard_with_what_was_remembered_of_it(device: str) -> None:
    """The memory that each gives is given to it again."""
    model = load_model_file("agcm-voice")
    sound = 0.1 * np.random.default_rng(0).normal(size=(1, 160 * 40)).astype(np.float32)
    said = []
    for engine in (TorchEngine(model, device=device), OnnxRuntimeEngine(model)):
        memory, answers, at = np.zeros((1, 9012), np.float32), [], 0
        for steps in (2, 1, 4, 2, 31):
            outputs = engine.infer({"samples": sound[:, at : at + 160 * steps], "memory": memory})
            memory, at = outputs["memory_out"], at + 160 * steps
            answers.append(outputs)
        said.append(answers)
        engine.close()
    for have, want in zip(*said, strict=True):
        agree(have, want, 1e-4)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_answers_of_many_shapes_do_not_mix(precision: str) -> None:
    """More shapes than are kept, in turns: each is recorded, given up, and recorded again."""
    model = load_model_file("agcm-live")
    engine, reference = TorchEngine(model, precision), OnnxRuntimeEngine(model)
    assert (engine.device, engine.backend) == ("gpu", f"torch/{precision}")
    for seed, batch in enumerate((*range(1, 19), 1, 18, 2, 1)):
        have, want = engine.infer(faces(batch, seed)), reference.infer(faces(batch, seed))
        if precision == "fp32":
            agree(have, want, FP32_APART)
        assert disagreement(have, want) == ""
    engine.close()


def test_half_precision_is_close_and_small_numbers_are_not_lost() -> None:
    """The arithmetic of fp16 without a GPU: sums and logarithms in float32, so that 1e-12 is not 0."""
    graph = read_graph(load_model_file("agcm-live").path)
    crops = {"crop": torch.from_numpy(faces(2)["crop"])}
    said = []
    for low in (torch.float32, torch.float16):
        program = Program(graph, torch.device("cpu"), low)
        with torch.inference_mode():
            found = program.run(program.steps_for(crops), crops)
        assert {each.dtype for each in found.values()} == {torch.float32}
        said.append({name: each.numpy() for name, each in found.items()})
    want, have = said
    assert disagreement(have, want) == ""
    assert float(np.abs(have["heads"] - want["heads"]).max()) > 1e-5, "nothing was computed in half precision"


def test_a_cpu_has_no_fp16_and_a_gpu_no_int8(tiny: ModelFile) -> None:
    with pytest.raises(EngineError, match=r"^torch runs fp32 on a CPU, not fp16$"):
        TorchEngine(tiny, "fp16", device="cpu")
    with pytest.raises(EngineError, match=r"^torch runs fp32, fp16 on a GPU, not int8$"):
        TorchEngine(tiny, "int8", device="gpu")


def test_sixteen_shapes_are_kept_and_the_last_used_stay(tiny: ModelFile) -> None:
    engine = TorchEngine(tiny, device="cpu")
    for batch in range(1, 30):
        engine.infer(faces(batch))
        engine.infer(faces(1))
    assert [shapes[0][0] for shapes in engine._ready] == [*range(15, 30), 1]
    engine.close()


def test_each_engine_has_the_threads_that_it_was_given(tiny: ModelFile) -> None:
    before = torch.get_num_threads()
    engines = [TorchEngine(tiny, threads=threads, device="cpu") for threads in (1, 2)]
    for threads, engine in (*enumerate(engines, start=1), (1, engines[0])):
        engine.infer(faces(1))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_a_gpu_without_memory_is_one_line(tiny: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    engine = TorchEngine(tiny, device="cpu")
    monkeypatch.setattr(Program, "run", full)
    with pytest.raises(EngineError, match=r"failed on tiny/model\.onnx: the GPU is out of memory; close other") as told:
        engine.infer(faces(1))
    assert "\n" not in str(told.value)


def test_what_follows_from_the_shapes_is_worked_out_once_and_nothing_is_kept_longer_than_needed() -> None:
    graph = read_graph(load_model_file("agcm-voice").path)
    inputs = {"samples": torch.zeros(1, 320), "memory": torch.zeros(1, 9012)}
    program = Program(graph, torch.device("cpu"))
    steps = program.steps_for(inputs).steps
    assert "Shape" in {node.op for node in graph.nodes} and "Shape" not in {step.node.op for step in steps}
    made = {name for step in steps for name in step.node.outputs} | set(inputs)
    freed = [name for step in steps for name in step.frees]
    assert sorted(freed) == sorted(made - set(graph.outputs))


# One operator at a time ---------------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(1).normal(size=(2, 3, 7, 5)).astype(np.float32)


def network(folder: Path, nodes: list[Any], constants: dict[str, Array], opset: int = 18) -> ModelFile:
    """A model in `folder` that takes x, of NUMBERS' shape, and gives y."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "one", [value("x", TensorProto.FLOAT, [2, 3, 7, 5])], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    path = folder / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    ports = tuple((TensorSpec(name, "float32", (2, 3, 7, 5)),) for name in "xy")
    return ModelFile(path, Manifest("one", "model.onnx", "", *ports))


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


SAME = [
    ("Slice", {"from": whole(-1), "to": whole(-sys.maxsize), "axes": whole(2), "steps": whole(-2)}, {}),
    ("Slice", {"from": whole(1, -2), "to": whole(sys.maxsize, -1), "axes": whole(2, 3), "steps": whole(3, 1)}, {}),
    ("Pad", {"pads": whole(0, 0, 1, 0, 0, 2, 0, 3), "value": np.array(7, np.float32)}, {}),
    ("AveragePool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 0}),
    ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ReduceMean", {}, {"keepdims": 0}),
    ("ReduceMax", {"axes": whole(-1, 1)}, {}),
    ("Clip", {"low": np.array(-0.5, np.float32)}, {}),
    ("Unsqueeze", {"axes": whole(-1, 0)}, {}),
    ("Reshape", {"shape": whole(0, -1, 5)}, {}),
    ("Resize", {"roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), "sizes": whole(2, 3, 11, 4)},
     {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
    ("Softmax", {}, {"axis": 1}),
    ("Transpose", {}, {}),
    ("LeakyRelu", {}, {}),
    ("Erf", {}, {}),
    ("Gather", {"place": np.array(-2, np.int64)}, {"axis": 2}),
    ("Expand", {"sizes": whole(4, 1, 1, 7, 5)}, {}),
    ("LayerNormalization", {"scale": NUMBERS[0, 0, 0], "shift": NUMBERS[0, 0, 1]}, {"epsilon": 1e-3}),
    ("LayerNormalization", {"scale": NUMBERS[0, 0]}, {"axis": 2}),
    ("Mul", {"one": np.array([3.0], np.float32)}, {}),
    ("Conv", {"w": NUMBERS[:, :, :3, :2]}, {"pads": [1, 0, 1, 0], "dilations": [2, 1], "strides": [1, 2]}),
    ("Conv", {"w": NUMBERS[:1, :1, :3, :2].repeat(6, 0)}, {"group": 3}),
    ("ConvTranspose", {"w": NUMBERS[0, :, None, :3, :3]}, {"strides": [2, 2], "group": 3}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "constants", "attributes"), SAME, ids=lambda each: each if isinstance(each, str) else ""
)
def test_an_operator_does_as_in_onnxruntime(
    op: str, constants: dict[str, Array], attributes: dict[str, Any], tmp_path: Path
) -> None:
    model = network(tmp_path, [helper.make_node(op, ["x", *constants], ["y"], **attributes)], constants)
    have = TorchEngine(model, device="cpu").infer({"x": NUMBERS})["y"]
    (want,) = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"]).run(None, {"x": NUMBERS})
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)


def test_whole_numbers_are_divided_and_a_split_may_be_uneven(tmp_path: Path) -> None:
    """The size of a slice is computed from the shape, as exported networks do: (7 - 12) / 2 is -2, towards zero."""
    nodes = [
        helper.make_node("Shape", ["x"], ["seven"], start=2, end=3),
        helper.make_node("Sub", ["seven", "twelve"], ["less"]),
        helper.make_node("Div", ["less", "two"], ["end"]),
        helper.make_node("Slice", ["x", "zero", "end", "two"], ["part"]),
        helper.make_node("Split", ["part"], ["first", "second", "third"], axis=2, num_outputs=3),
        helper.make_node("Concat", ["third", "first"], ["y"], axis=2),
    ]
    constants = {"twelve": whole(12), "two": whole(2), "zero": whole(0)}
    have = TorchEngine(network(tmp_path, nodes, constants), device="cpu").infer({"x": NUMBERS})["y"]
    np.testing.assert_array_equal(have, np.concatenate([NUMBERS[:, :, 4:5], NUMBERS[:, :, :2]], axis=2))


UNKNOWN = [
    ("Asinh", {}, {}, 18, "does not know the operator Asinh"),
    ("Softmax", {}, {"axis": 1}, 11, "operator Softmax .* is of opset 11"),
    ("Squeeze", {}, {"axes": [0]}, 11, "operator Squeeze .* has axes"),
    ("Pad", {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1)}, {"mode": "reflect"}, 18, "operator Pad .* has mode 'reflect'"),
    ("MaxPool", {}, {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, 18, r"operator MaxPool .* has pads \(0, 0, 1, 1\)"),
    ("MaxPool", {}, {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}, 18, "has auto_pad 'SAME_UPPER'"),
    ("Resize", {"roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), "sizes": whole(2, 3, 9, 9)}, {}, 18,
     "operator Resize .* has mode 'nearest'"),
    ("Gather", {"places": whole(0, 2)}, {"axis": 1}, 18, "operator Gather .* takes several places"),
    ("Cast", {}, {"to": TensorProto.DOUBLE}, 18, "operator Cast .* casts to type 11"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "constants", "attributes", "opset", "says"), UNKNOWN)
def test_what_it_does_not_know_is_named_in_one_line(
    op: str, constants: dict[str, Array], attributes: dict[str, Any], opset: int, says: str, tmp_path: Path
) -> None:
    model = network(tmp_path, [helper.make_node(op, ["x", *constants], ["y"], **attributes)], constants, opset)
    with pytest.raises(EngineError, match=f"^torch .*model.onnx: .*{says}") as told:
        TorchEngine(model, device="cpu").infer({"x": NUMBERS})
    assert "\n" not in str(told.value)


def test_a_shape_that_the_network_computes_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["where"]), helper.make_node("Reshape", ["x", "where"], ["y"])]
    with pytest.raises(EngineError, match=r"operator Reshape \(y\) takes where from what the network computes"):
        TorchEngine(network(tmp_path, nodes, {}), device="cpu").infer({"x": NUMBERS})
