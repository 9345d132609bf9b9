"""For the tests of engines/: a tiny concept model made on the spot, and a real face."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from engines.base import Array, Engine
from engines.choose import load
from engines.preprocess import Luma
from engines.spec import ConceptSpec, CropSpec, HeadSpec, Manifest, ModelFile, TensorSpec, load_model_file

CONCEPTS, CHANNELS, EXPRESSIONS = 4, 6, 3
COLUMNS = 1 + EXPRESSIONS


def build_tiny(folder: Path, lift: float = 0.0) -> ModelFile:
    """A network with the inputs, outputs and arithmetic of a concept model, in `folder`.

    lift: added to the embeddings before the activations are read off them, and taken from the logits again; a large
    one costs the digits that bf16 does not have.
    """
    rng = np.random.default_rng(7)
    weights = {
        "pool": np.full((1, 1, 16, 16), 1 / 256),
        "look": rng.normal(size=(CONCEPTS, 1, 1, 1)),
        "see": rng.normal(size=(CHANNELS, 1, 3, 3)),
        "is_active": rng.normal(size=(CHANNELS, 1)),
        "to_active": rng.normal(size=(CONCEPTS, CHANNELS, COLUMNS)),
        "to_inactive": rng.normal(size=(CONCEPTS, CHANNELS, COLUMNS)),
        "bias": rng.normal(size=COLUMNS),
        "one": np.ones(1),
    }
    weights |= {"lift": np.full(1, lift), "lifted_logit": lift * weights["is_active"].sum(keepdims=True)}
    shapes = {"flat": [0, 0, -1], "grid": [0, 0, 7, 7], "row": [0, 0, 1, CHANNELS], "split": [0, 0, COLUMNS]}
    node = helper.make_node
    nodes = [
        node("Conv", ["crop", "pool"], ["small"], strides=[16, 16]),
        node("Conv", ["small", "look"], ["looks"]),
        node("Reshape", ["looks", "flat"], ["looks_flat"]),
        node("Softmax", ["looks_flat"], ["weights"], axis=-1),
        node("Reshape", ["weights", "grid"], ["maps"]),
        node("Conv", ["small", "see"], ["seen"], pads=[1, 1, 1, 1]),
        node("Reshape", ["seen", "flat"], ["seen_flat"]),
        node("Transpose", ["seen_flat"], ["seen_places"], perm=[0, 2, 1]),
        node("MatMul", ["weights", "seen_places"], ["embedding"]),
        node("Add", ["embedding", "lift"], ["lifted"]),
        node("MatMul", ["lifted", "is_active"], ["high_logit"]),
        node("Sub", ["high_logit", "lifted_logit"], ["logit"]),
        node("Sigmoid", ["logit"], ["p"]),
        node("Squeeze", ["p", "last"], ["activation"]),
        node("Reshape", ["embedding", "row"], ["rows"]),
        node("MatMul", ["rows", "to_active"], ["active_rows"]),
        node("MatMul", ["rows", "to_inactive"], ["inactive_rows"]),
        node("Reshape", ["active_rows", "split"], ["active"]),
        node("Reshape", ["inactive_rows", "split"], ["inactive"]),
        node("Sub", ["one", "p"], ["not_p"]),
        node("Mul", ["p", "active"], ["share_active"]),
        node("Mul", ["not_p", "inactive"], ["share_inactive"]),
        node("Add", ["share_active", "share_inactive"], ["shares"]),
        node("ReduceSum", ["shares", "concept_axis"], ["sum"], keepdims=0),
        node("Add", ["sum", "bias"], ["heads"]),
    ]
    integers = {**shapes, "last": [2], "concept_axis": [1]}
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in integers.items()]
    outputs = {
        "activation": (CONCEPTS,),
        "active": (CONCEPTS, COLUMNS),
        "inactive": (CONCEPTS, COLUMNS),
        "maps": (CONCEPTS, 7, 7),
        "heads": (COLUMNS,),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("crop", TensorProto.FLOAT, ["faces", 1, 112, 112])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["faces", *shape]) for name, shape in outputs.items()],
        constants,
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(network)
    content = network.SerializeToString()
    mean = rng.normal(size=(CONCEPTS, COLUMNS)).astype(np.float32).astype(float)
    manifest = Manifest(
        name=folder.name,
        file="model.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=(TensorSpec("crop", "float32", (-1, 1, 112, 112)),),
        outputs=tuple(TensorSpec(name, "float32", (-1, *shape)) for name, shape in outputs.items()),
        crop=CropSpec(112, 0.5, 0.25),
        concepts=tuple(ConceptSpec(f"AU{k}", "au", "a test") for k in range(CONCEPTS)),
        heads=HeadSpec(
            ("a", "b", "c"),
            tuple((weights["bias"].astype(np.float32) + mean.sum(axis=0)).tolist()),
            tuple(map(tuple, mean.tolist())),
            (),
        ),
    )
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return load_model_file(folder.name, folder.parent)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def touchy(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A tiny model whose activations bf16 gets wrong."""
    return build_tiny(tmp_path_factory.mktemp("models") / "touchy", lift=64.0)


@pytest.fixture
def sample() -> dict[str, Array]:
    """One call of the tiny network."""
    ramp = np.linspace(-1, 1, 112, dtype=np.float32)
    return {"crop": np.ascontiguousarray(np.broadcast_to(ramp, (1, 1, 112, 112)))}


@pytest.fixture(scope="session")
def astronaut() -> Luma:
    """A real picture [512, 512] with one face; luma, read-only."""
    luma = np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    luma.setflags(write=False)
    return luma


@pytest.fixture(scope="session")
def detector_file() -> ModelFile:
    return load_model_file("centerface")


@pytest.fixture(scope="session")
def detector(detector_file: ModelFile) -> Iterator[Engine]:
    """CenterFace in onnxruntime fp32."""
    engine = load("onnxruntime", detector_file, "fp32", 1, {"luma": np.zeros((1, 1, 64, 64), np.float32)})
    yield engine
    engine.close()
