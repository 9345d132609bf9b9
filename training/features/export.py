"""A linear feature system as a file: columns in, heads and exact contributions out.

The network is y = base + sum_k contribution_k, contribution_k = w_k (x_k - mean x_k) + v_k (known_k - mean known_k),
with means over the training rows: the Shapley values of a linear model. Boosted trees are no sum and are not exported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.concepts import EXPRESSIONS, NAMES
from training.data.pictures import DataError
from training.data.writing import replaced
from training.features.experiment import Task
from training.features.fit import FeatureFigures

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
TOLERANCE = 1e-4
_NEVER = -30.0
"""Logit of an expression that no training row had."""


class FeatureModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes with the file. columns: concepts, in the order of the input's first half; the second half says which
    are known. outputs: expressions (logits), or "engagement" alone. figures: how it did where it was measured."""

    name: str
    task: Task
    file: str
    sha256: str
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    figures: FeatureFigures


def linear(model: Pipeline, task: Task) -> tuple[F64, F64, F64]:
    """Weights [2 K, O] of plain columns, their means [2 K] and the base [O]."""
    scaler, head = model[0], model[-1]
    weights, bias = np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_)
    if isinstance(head, LogisticRegression) and len(head.classes_) == 2:  # one logit, against a second of 0
        weights, bias = np.stack([0 * weights[0], weights[0]]), np.array([0.0, bias[0]])
    if task == "expression":
        rows = head.classes_.astype(int)
        full, base = np.zeros((len(EXPRESSIONS), weights.shape[1])), np.full(len(EXPRESSIONS), _NEVER)
        full[rows], base[rows] = weights, bias
        weights, bias = full, base
    return (weights / scaler.scale_).T, scaler.mean_, bias


def to_onnx(weights: F64, means: F64, base: F64) -> onnx.ModelProto:
    """columns [N, 2 K] -> heads [N, O], contributions [N, K, O]; see the module."""
    count, outputs = len(means) // 2, len(base)
    constants: dict[str, npt.NDArray[np.generic]] = {
        "means": means.astype(np.float32),
        "weights": weights.astype(np.float32)[None],
        "base": base.astype(np.float32),
        "last": np.array([2], np.int64),
        "parts": np.array([0, 2, count, outputs], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Sub", ["columns", "means"], ["centred"]),
        helper.make_node("Unsqueeze", ["centred", "last"], ["each"]),
        helper.make_node("Mul", ["each", "weights"], ["shares"]),
        helper.make_node("Reshape", ["shares", "parts"], ["paired"]),
        helper.make_node("ReduceSum", ["paired", "axis"], ["contributions"], keepdims=0),
        helper.make_node("ReduceSum", ["contributions", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "base"], ["heads"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "features",
        [value("columns", TensorProto.FLOAT, ["N", 2 * count])],
        [value("heads", TensorProto.FLOAT, ["N", outputs]),
         value("contributions", TensorProto.FLOAT, ["N", count, outputs])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(found, full_check=True)
    return found


def answer(network: bytes | str, columns: F64) -> tuple[F32, F32]:
    """heads [N, O] and contributions [N, K, O] of a file or its bytes."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    heads, shares = session.run(["heads", "contributions"], {"columns": columns.astype(np.float32)})
    return heads, shares


def export(folder: Path, name: str, task: Task, model: Pipeline, rows: F64, figures: FeatureFigures) -> Path:
    """Write model.onnx and features.json, or nothing: raises DataError if ONNX Runtime and scikit-learn differ by more
    than 1e-4 on `rows` [N, 2 K]."""
    network = to_onnx(*linear(model, task)).SerializeToString()
    heads, _ = answer(network, rows)
    if task == "expression":
        wanted = model.predict_log_proba(rows)
        shown = heads[:, model[-1].classes_.astype(int)]
        found = shown - np.logaddexp.reduce(shown, axis=1, keepdims=True)
    else:
        found, wanted = heads[:, 0], model.predict(rows)
    if not (off := float(np.abs(found - wanted).max())) <= TOLERANCE:
        raise DataError(f"{name} is not exported: ONNX Runtime and scikit-learn differ by {off:.1e}")
    outputs = EXPRESSIONS if task == "expression" else ("engagement",)
    about = FeatureModel(name, task, "model.onnx", hashlib.sha256(network).hexdigest(), NAMES, outputs, figures)
    with replaced(folder / about.file) as partial:
        partial.write_bytes(network)
    with replaced(folder / "features.json") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")
    return folder
