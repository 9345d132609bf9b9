"""torch: on an NVIDIA GPU as one recorded CUDA graph a call, else on the CPU. Taken only where it is asked for by name.

Nothing is compiled: the operators of the ONNX file run as they are (engines.torch_program).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from engines.base import Array, Device, DeviceError, EngineError, Tensors, check_inputs, check_names
from engines.onnx_graph import read_graph
from engines.spec import Manifest, ModelFile
from engines.torch_program import Named, Program

PRECISIONS: Final[Mapping[Device, Mapping[str, torch.dtype]]] = {
    "cpu": {"fp32": torch.float32},
    "gpu": {"fp32": torch.float32, "fp16": torch.float16},
}
_MOST_SHAPES: Final = 16
"""Shapes that are kept ready at once; on a GPU each holds memory of its own."""


class TorchEngine:
    """An ONNX model run by torch on the first GPU, or on the CPU where there is none."""

    def __init__(
        self, model: ModelFile, precision: str = "fp32", threads: int = 1, device: Device | None = None
    ) -> None:
        """threads: of a CPU. device: None for the GPU where there is one."""
        self._device: Device = device or ("gpu" if torch.cuda.is_available() else "cpu")
        levels = PRECISIONS[self._device]
        if precision not in levels:
            raise EngineError(f"torch runs {', '.join(levels)} on a {self._device.upper()}, not {precision}")
        self._model, self._precision, self._threads = model, precision, threads
        with self._told("cannot load"):
            graph = read_graph(model.path)
            place = torch.device("cuda" if self._device == "gpu" else "cpu")
            self._program: Program | None = Program(graph, place, levels[precision])
            self._gpu = _Gpu.opened() if self._device == "gpu" else None
        check_names(model.manifest, set(graph.inputs), set(graph.outputs))
        self._ready: dict[tuple[tuple[int, ...], ...], _Listed | _Recorded] = {}

    @property
    def manifest(self) -> Manifest:
        return self._model.manifest

    @property
    def backend(self) -> str:
        return f"torch/{self._precision}"

    @property
    def device(self) -> Device:
        return self._device

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        if self._program is None:
            raise EngineError("the torch engine is closed")
        check_inputs(self.manifest, inputs)
        shapes = tuple(inputs[spec.name].shape for spec in self.manifest.inputs)
        with self._told("failed on"), torch.inference_mode():
            torch.set_num_threads(self._threads)  # it is the process', in which another engine may have set it
            ready = self._ready.pop(shapes, None) or self._prepare(self._program, inputs)
            self._ready[shapes] = ready  # the last is the one that was used last
            found = ready.run(inputs)
        return {spec.name: found[spec.name] for spec in self.manifest.outputs}

    def _prepare(self, program: Program, inputs: Mapping[str, Array]) -> _Listed | _Recorded:
        if len(self._ready) >= _MOST_SHAPES:
            del self._ready[next(iter(self._ready))]
        return _Listed(program, inputs) if self._gpu is None else _Recorded(program, self._gpu, inputs)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn torch's errors, and those of the network's operators, into one line."""
        name = f"{self._model.path.parent.name}/{self._model.path.name}"
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"torch {what} {name}: the GPU is out of memory; close other programs that use it"
            ) from error
        except torch.AcceleratorError as error:
            raise DeviceError(f"torch {what} {name}: the GPU failed: {str(error).strip().splitlines()[0]}") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # by operator; EngineError is one of them
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise EngineError(f"torch {what} {name}: {lines[0]}") from error

    def close(self) -> None:
        if self._program is None:
            return
        self._program = None
        self._ready.clear()
        if self._gpu is not None:
            torch.cuda.empty_cache()


class _Listed:
    """Inputs of one shape on the CPU: one operator after the other."""

    def __init__(self, program: Program, inputs: Mapping[str, Array]) -> None:
        self._program, self._steps = program, program.steps_for(_tensors(inputs))

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """The outputs, which belong to the caller."""
        return _arrays(self._program.run(self._steps, _tensors(inputs)))


class _Recorded:
    """Inputs of one shape on a GPU: memory on both sides, and upload, network and download, recorded as one graph."""

    def __init__(self, program: Program, gpu: _Gpu, inputs: Mapping[str, Array]) -> None:
        self._program, self._stream = program, gpu.stream
        self._sent = {name: tensor.pin_memory() for name, tensor in _tensors(inputs).items()}
        self._inputs = {name: torch.empty_like(tensor, device="cuda") for name, tensor in self._sent.items()}
        with torch.cuda.stream(gpu.stream):
            self._upload()
            self._steps = program.steps_for(self._inputs)
            # What is chosen or allocated on a first run must not be recorded.
            outputs = program.run(self._steps, self._inputs)
            self._received = {name: torch.empty(each.shape, pin_memory=True) for name, each in outputs.items()}
            del outputs
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # What other threads of the process do in the meantime does not matter.
        with torch.cuda.graph(self._graph, gpu.pool, gpu.stream, capture_error_mode="thread_local"):
            self._upload()
            for name, value in program.run(self._steps, self._inputs).items():
                self._received[name].copy_(value, non_blocking=True)

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """The outputs, which belong to the caller."""
        for name, tensor in self._sent.items():
            np.copyto(tensor.numpy(), inputs[name])
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return _arrays(self._received)

    def _upload(self) -> None:
        for name, tensor in self._sent.items():
            self._inputs[name].copy_(tensor, non_blocking=True)


@dataclass(frozen=True, slots=True)
class _Gpu:
    """What the graphs of an engine share: they never run at once, so that one can use the memory of another. pool: its
    type is private to torch."""

    stream: torch.cuda.Stream
    pool: Any

    @classmethod
    def opened(cls) -> _Gpu:
        """Products in fp32 keep all 24 binary digits, for the whole process: TF32 keeps 11, which is not fp32."""
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # a stub lacks it
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cudnn.benchmark = True
        return cls(torch.cuda.Stream(), torch.cuda.graph_pool_handle())  # type: ignore[no-untyped-call]


def _tensors(inputs: Mapping[str, Array]) -> Named:
    """Copies, since torch takes no array that is read-only or runs backwards."""
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in inputs.items()}


def _arrays(outputs: Mapping[str, Tensor]) -> Tensors:
    return {name: np.array(tensor.numpy(), order="C") for name, tensor in outputs.items()}
