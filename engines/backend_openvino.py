"""OpenVINO on the CPU, in fp32, in int8, or in bf16 where the CPU has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import openvino

from engines.base import Array, Device, EngineError, Tensors, check_inputs, check_names, int8_of
from engines.spec import Manifest, ModelFile

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
"""By name, what OpenVINO is asked for. What int8 leaves as it is runs in bf16 where the CPU has it, else in fp32."""


@cache
def _core() -> Any:
    """The one core of this process. On processors with AVX-512 a core gives its thread a signal stack, and one that is
    gone may leave the thread with a stack that is gone as well: then the next signal would end the process.
    """
    return openvino.Core()


class OpenVinoEngine:
    """An ONNX model run by OpenVINO's CPU device.

    It holds two compiled graphs. One is made for the shapes of the first call, which is what an engine nearly always
    runs, and is about a tenth faster than the other, which takes any shape. Compiling for every new shape would stop
    the stream each time that another face appears.
    """

    def __init__(self, model: ModelFile, precision: str = "fp32", threads: int = 1) -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"openvino runs {', '.join(PRECISIONS)} on a CPU, not {precision}")
        if precision == "int8":
            model = int8_of(model, "u8")
        has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise EngineError("openvino runs bf16 only on CPUs that have it, and this one does not; take fp32")
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision] if has_bf16 else "f32",
            # Pinned threads of several processes would share one core while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        self._model = model
        self._precision = precision
        try:
            self._network: Any = _core().read_model(model.path)
        except Exception as error:  # openvino raises RuntimeError and others, by cause
            raise self._error("cannot load", error) from error
        check_names(model.manifest, _names(self._network.inputs), _names(self._network.outputs))
        self._any_shape = self._compile()
        self._first_shape: Any = None
        self._first_shapes: dict[str, tuple[int, ...]] = {}
        self._request: Any = None
        self._held: dict[str, Array] = {}
        self._bound: dict[str, Array] = {}
        self._closed = False

    def _compile(self) -> Any:
        """An inference request on a graph for the shapes that the network has now."""
        try:
            return _core().compile_model(self._network, "CPU", self._options).create_infer_request()
        except Exception as error:  # see above
            raise self._error("cannot compile", error) from error

    def _error(self, what: str, error: Exception) -> EngineError:
        """OpenVINO's messages list the source files passed through; the cause is in the last line."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return EngineError(f"openvino {what} {self._model.path.parent.name}/{self._model.path.name}: {lines[-1]}")

    @property
    def manifest(self) -> Manifest:
        return self._model.manifest

    @property
    def backend(self) -> str:
        return f"openvino/{self._precision}"

    @property
    def device(self) -> Device:
        return "cpu"

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        return {name: array.copy() for name, array in self.lend(inputs).items()}

    def lend(self, inputs: Mapping[str, Array]) -> Tensors:
        """See Lends: the request writes its outputs again."""
        if self._closed:
            raise EngineError("the openvino engine is closed")
        as_before = self._bound and len(inputs) == len(self._bound)
        if not as_before or any(inputs.get(name) is not array for name, array in self._bound.items()):
            self._bind(inputs)
        try:
            # In this thread: another one would have to wake up first.
            self._request.infer(share_outputs=True)
            return {spec.name: self._request.get_tensor(spec.name).data for spec in self.manifest.outputs}
        except Exception as error:  # see above
            raise self._error("failed on", error) from error

    def _bind(self, inputs: Mapping[str, Array]) -> None:
        """Have the next call read these arrays where they lie. A session writes its crops to the same array again."""
        check_inputs(self.manifest, inputs)
        self._bound = {}
        shapes = {name: array.shape for name, array in inputs.items()}
        if self._first_shape is None:
            self._specialise(shapes)
        self._request = self._first_shape if shapes == self._first_shapes else self._any_shape
        held = {name: np.require(array, requirements=["C", "W"]) for name, array in inputs.items()}
        try:
            for name, array in held.items():
                self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        except Exception as error:  # see above
            raise self._error("failed on", error) from error
        self._held = held
        if all(held[name] is array for name, array in inputs.items()):  # what had to be copied is copied anew each time
            self._bound = dict(inputs)

    def _specialise(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Compile the graph for the shapes of the first call."""
        for name, shape in shapes.items():
            own = self._network.input(name).get_partial_shape()
            # Reshaping would override sizes that the network itself fixes, and answer with memory that is not its own.
            if not own.compatible(openvino.PartialShape(list(shape))):
                raise EngineError(f"openvino: {self.manifest.name} takes {name} as {own}, not {list(shape)}")
        try:
            self._network.reshape({name: list(shape) for name, shape in shapes.items()})
        except Exception as error:  # see above
            raise self._error(f"cannot take {shapes} in", error) from error
        self._first_shape, self._first_shapes = self._compile(), shapes
        self._network = None

    def close(self) -> None:
        self._closed = True
        self._any_shape = self._first_shape = self._request = self._network = None
        self._held, self._bound = {}, {}


def _names(ports: Iterable[Any]) -> set[str]:
    return {name for port in ports for name in port.get_names()}
