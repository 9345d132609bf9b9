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

    It holds a compiled graph for the shapes of the first call, one for each that it was to `meet`, and one that takes
    any shape and is slower by a fifth. Compiling for every new shape would stop the stream each time that another face
    appears.
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
        network = self._read()
        check_names(model.manifest, _names(network.inputs), _names(network.outputs))
        self._any_shape: Any = self._compile(network)
        self._made_for: dict[_Shapes, Any] = {}
        self._request: Any = None
        self._held: dict[str, Array] = {}
        self._bound: dict[str, Array] = {}
        self._closed = False

    def _read(self) -> Any:
        try:
            return _core().read_model(self._model.path)
        except Exception as error:  # openvino raises RuntimeError and others, by cause
            raise self._error("cannot load", error) from error

    def _compile(self, network: Any) -> Any:
        """An inference request on a graph for the shapes that the network has now."""
        try:
            return _core().compile_model(network, "CPU", self._options).create_infer_request()
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

    def meet(self, inputs: Mapping[str, Array]) -> None:
        """See Meets."""
        check_inputs(self.manifest, inputs)
        self._specialise(_shapes(inputs))
        self._bound = {}  # what ran these shapes until now may be another graph
        self.infer(inputs)

    def _bind(self, inputs: Mapping[str, Array]) -> None:
        """Have the next call read these arrays where they lie. A session writes its crops to the same array again."""
        check_inputs(self.manifest, inputs)
        self._bound = {}
        shapes = _shapes(inputs)
        if not self._made_for:
            self._specialise(shapes)
        self._request = self._made_for.get(shapes, self._any_shape)
        held = {name: np.require(array, requirements=["C", "W"]) for name, array in inputs.items()}
        try:
            for name, array in held.items():
                self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        except Exception as error:  # see above
            raise self._error("failed on", error) from error
        self._held = held
        if all(held[name] is array for name, array in inputs.items()):  # what had to be copied is copied anew each time
            self._bound = dict(inputs)

    def _specialise(self, shapes: _Shapes) -> None:
        """Compile a graph for these shapes, if there is none."""
        if shapes in self._made_for:
            return
        network = self._read()
        for name, shape in shapes:
            own = network.input(name).get_partial_shape()
            # Reshaping would override sizes that the network itself fixes, and answer with memory that is not its own.
            if not own.compatible(openvino.PartialShape(list(shape))):
                raise EngineError(f"openvino: {self.manifest.name} takes {name} as {own}, not {list(shape)}")
        try:
            network.reshape({name: list(shape) for name, shape in shapes})
        except Exception as error:  # see above
            raise self._error(f"cannot take {dict(shapes)} in", error) from error
        self._made_for[shapes] = self._compile(network)

    def close(self) -> None:
        self._closed = True
        self._any_shape = self._request = None
        self._made_for, self._held, self._bound = {}, {}, {}


_Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Of every input, by name."""


def _shapes(inputs: Mapping[str, Array]) -> _Shapes:
    return tuple(sorted((name, array.shape) for name, array in inputs.items()))


def _names(ports: Iterable[Any]) -> set[str]:
    return {name for port in ports for name in port.get_names()}
