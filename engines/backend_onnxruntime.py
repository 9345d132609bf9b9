"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from engines.base import Array, Device, EngineError, Tensors, check_inputs, check_names, int8_of
from engines.spec import Manifest, ModelFile

PRECISIONS = ("fp32", "int8")


class OnnxRuntimeEngine:
    """An ONNX model run by ONNX Runtime's CPU provider."""

    def __init__(self, model: ModelFile, precision: str = "fp32", threads: int = 1) -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"onnxruntime runs {', '.join(PRECISIONS)} on a CPU, not {precision}")
        if precision == "int8":
            model = int8_of(model, "u8")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle workers must sleep: a spinning pool takes the cores that capture and decoding need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a class of its own for each cause
            raise EngineError(
                f"onnxruntime cannot load {model.path.parent.name}/{model.path.name}: {_line(error)}"
            ) from error
        self._manifest, self._precision = model.manifest, precision
        self._outputs = [spec.name for spec in model.manifest.outputs]
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_names(model.manifest, {port.name for port in inputs}, {port.name for port in outputs})

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def backend(self) -> str:
        return f"onnxruntime/{self._precision}"

    @property
    def device(self) -> Device:
        return "cpu"

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        if self._session is None:
            raise EngineError("the onnxruntime engine is closed")
        check_inputs(self._manifest, inputs)
        try:
            results = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # see above
            raise EngineError(f"onnxruntime failed on {self._manifest.name}: {_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        self._session = None


def _line(error: Exception) -> str:
    """ONNX Runtime's message on one line."""
    return " ".join(str(error).split())
