"""TensorRT on the imagined GPU, as far as our own code touches it, and what a tiny network is asked. What an engine
computes, ONNX Runtime computes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from engines.base import Array
from tests.engines.fake_gpu import FakeGpu


def crops(batch: int, seed: int = 0) -> dict[str, Array]:
    """Inputs of a concept network."""
    return {"crop": np.random.default_rng(seed).normal(size=(batch, 1, 112, 112)).astype(np.float32)}


class FakeEngine:
    """An engine of TensorRT: a network that ONNX Runtime runs on the GPU's memory."""

    def __init__(self, gpu: FakeGpu, network: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # a weight that nobody uses is no news
        self.gpu = gpu
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.names = [port.name for port in (*self.session.get_inputs(), *self.session.get_outputs())]
        bytes_only = {port.name for port in self.session.get_inputs() if port.type == "tensor(uint8)"}
        self.dtypes = {name: np.uint8 if name in bytes_only else np.float32 for name in self.names}
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, i: int) -> str:
        return self.names[i]

    def create_execution_context(self, settings: Any = None) -> FakeContext:
        assert (settings is not None) == self.gpu.makes_kernels
        if settings is not None:
            assert settings.dynamic_shapes_kernel_specialization_strategy == "eager"
        if settings is not None and settings.cache.content is None:
            self.gpu.kernels_made += 1
            settings.cache.content = b"KERNELS"
        return FakeContext(self)

    def create_runtime_config(self) -> Any:
        return FakeSettings() if self.gpu.makes_kernels else object()


class FakeCache:
    """Kernels that were made, or brought from before."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def deserialize(self, content: bytes) -> bool:
        self.content = content if content.startswith(b"KERNELS") else None
        return self.content is not None

    def serialize(self) -> bytes | None:
        return self.content


class FakeSettings:
    """How an engine of tensorrt_rtx runs."""

    def __init__(self) -> None:
        self.cache = FakeCache()
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache()

    def set_runtime_cache(self, cache: FakeCache) -> None:
        self.cache = cache


class FakeContext:
    """An execution context."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return len(shape) == 1 or shape[0] <= 64

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        zeros = {each: np.zeros(shape, self.engine.dtypes[each]) for each, shape in self.shapes.items()}
        return tuple(self.engine.session.run([name], zeros)[0].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.places[name] = address
        return True

    def is_stream_capturable(self, handle: int) -> bool:
        return self.engine.gpu.records

    def execute_async_v3(self, handle: int) -> bool:
        gpu, session = self.engine.gpu, self.engine.session

        def work() -> None:
            inputs = {
                name: np.frombuffer(bytes(gpu.memory[self.places[name]]), self.engine.dtypes[name]).reshape(shape)
                for name, shape in self.shapes.items()
            }
            names = [port.name for port in session.get_outputs()]
            for name, value in zip(names, session.run(names, inputs), strict=True):
                gpu.memory[self.places[name]][:] = value.tobytes()

        gpu.streams[handle].add(work)
        return gpu.fail != "execute"


def tensorrt_of(gpu: FakeGpu) -> Any:
    """What `tensorrt` has of running engines; a serialised engine is the network itself, behind one word."""

    class Logger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

        def log(self, severity: int, text: str) -> None: ...

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            self.logger = logger
            if gpu.old_driver:
                logger.log(1, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
            if content.startswith(b"ENGINE") and not gpu.foreign:
                return FakeEngine(gpu, content[6:])
            self.logger.log(1, "The engine cannot run on this GPU,\n which has compute capability 9.0.")
            return None

    strategy = SimpleNamespace(EAGER="eager")
    return SimpleNamespace(
        __version__="0.0", Runtime=Runtime, ILogger=Logger, DynamicShapesKernelSpecializationStrategy=strategy
    )
