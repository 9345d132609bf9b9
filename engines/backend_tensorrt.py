"""TensorRT on an NVIDIA GPU: compiled once for this GPU, one upload, one recorded run and one download a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engines.base import Array, Device, DeviceError, EngineError, Tensors, check_inputs, int8_of
from engines.build import engine_of, keep, kept
from engines.cuda import Buffer, Gpu, Recorded, Resident, Stopwatch
from engines.spec import Manifest, ModelFile, TensorSpec
from engines.tensorrt_compile import CURRENT, PRECISIONS, Library, Log, library, started

_MOST_SHAPES: Final = 16
"""Shapes that are kept ready at once; each holds memory of its own."""


class TensorRtEngine:
    """An ONNX model compiled by TensorRT, or TensorRT-RTX, for the first GPU.

    because: why it was compiled when it was loaded; "" if an engine was kept and fits.
    """

    def __init__(self, model: ModelFile, precision: str = "fp32", threads: int = 1, gpu: Gpu | None = None) -> None:
        """threads: of CPU engines; nothing here has any. gpu: one that engines share, whose owner closes it."""
        if precision not in PRECISIONS:
            raise EngineError(f"tensorrt runs {', '.join(PRECISIONS)}, not {precision}")
        if precision == "int8":
            model = int8_of(model, "s8")
        found = library()
        self._model, self._precision, self._threads = model, precision, threads
        self._gpu, self._owns_gpu = gpu or Gpu(), gpu is None
        try:
            loaded = _loaded(model, precision, self._gpu.name, found)
        except Exception:
            if self._owns_gpu:
                self._gpu.close()
            raise
        self.because = loaded.because
        self._kernels = _Kernels(loaded, found)
        self._ready: dict[tuple[object, ...], _Ready] = {}
        self._closed = False

    @property
    def manifest(self) -> Manifest:
        return self._model.manifest

    @property
    def backend(self) -> str:
        return f"tensorrt/{self._precision}"

    @property
    def device(self) -> Device:
        return "gpu"

    def infer(self, inputs: Mapping[str, Array | Resident]) -> Tensors:
        """See Engine. What is resident, on the Gpu that this engine was given, is read where it lies."""
        return self._ready_for(inputs).run(inputs)

    def timed(self, inputs: Mapping[str, Array | Resident]) -> tuple[Tensors, float]:
        """The same, and the milliseconds that the GPU took by its own clock: upload, network, download."""
        watch = Stopwatch(self._gpu)
        outputs = self._ready_for(inputs).run(inputs, watch)
        return outputs, watch.read_ms()

    def _ready_for(self, inputs: Mapping[str, Array | Resident]) -> _Ready:
        if self._closed:
            raise EngineError("the tensorrt engine is closed")
        check_inputs(self.manifest, inputs)
        kind = tuple(_kind(inputs[spec.name]) for spec in self.manifest.inputs)
        ready = self._ready.pop(kind, None) or self._prepare(inputs)
        self._ready[kind] = ready  # the last is the one that was used last
        return ready

    def _prepare(self, inputs: Mapping[str, Array | Resident]) -> _Ready:
        if len(self._ready) >= _MOST_SHAPES:
            oldest = next(iter(self._ready))
            self._ready.pop(oldest).close()
        return _Ready(self._kernels, self._gpu, self.manifest, inputs)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for ready in self._ready.values():
            ready.close()
        self._ready.clear()
        self._kernels.close()
        if self._owns_gpu:
            self._gpu.close()


class _Kernels:
    """The engine of the library, and the kernels for this GPU that tensorrt_rtx makes when an engine first runs: they
    are kept beside the engine, so that the next session need not make them. In those of `tensorrt` they are inside."""

    def __init__(self, loaded: _Loaded, found: Library) -> None:
        self._engine, self.log = loaded.engine, loaded.log
        self._path = loaded.path.with_name(f"{loaded.path.stem}-kernels.cache")
        self._settings: Any = getattr(self._engine, "create_runtime_config", lambda: None)()
        self._cache: Any = None
        self._known: bytes | None = None
        if self._settings is not None and hasattr(self._settings, "create_runtime_cache"):
            # Kernels for a shape at once: what stands in for them until they are made would be recorded.
            when = found.module.DynamicShapesKernelSpecializationStrategy
            self._settings.dynamic_shapes_kernel_specialization_strategy = when.EAGER
            self._cache = self._settings.create_runtime_cache()
            self._known, _ = kept(self._path)
            if self._known is not None:
                self._cache.deserialize(self._known)  # what it does not take it makes anew
            self._settings.set_runtime_cache(self._cache)

    def context(self) -> Any:
        """Another execution context, or None if there is no memory for it."""
        if self._cache is None:
            return self._engine.create_execution_context()
        return self._engine.create_execution_context(self._settings)

    def close(self) -> None:
        """Keep what was made, and leave the engine."""
        made = None if self._cache is None else self._cache.serialize()
        if made is not None and bytes(made) != self._known:
            keep(self._path, bytes(made))
        self._engine = self._settings = self._cache = None


class _Ready:
    """All that is needed to run inputs of one shape: memory on both sides, and the work, recorded where the library
    says that it can be."""

    def __init__(self, kernels: _Kernels, gpu: Gpu, manifest: Manifest, inputs: Mapping[str, Array | Resident]) -> None:
        self._gpu, self._manifest, self._log = gpu, manifest, kernels.log
        self._context = kernels.context()
        if self._context is None:
            raise DeviceError(
                f"tensorrt has no memory on the GPU to run {manifest.name}: close other programs that use it"
            )
        for name, array in inputs.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(f"tensorrt: {manifest.name} was not compiled for {name} of {list(array.shape)}")
        resident = {name: each for name, each in inputs.items() if isinstance(each, Resident)}
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        self._recorded: Recorded | None = None
        try:
            for spec in manifest.inputs:
                if spec.name not in resident:
                    self._inputs[spec.name] = gpu.buffer(inputs[spec.name].shape, spec.dtype)
            for spec in manifest.outputs:
                self._outputs[spec.name] = self._output(spec)
            self._place({**self._inputs, **self._outputs, **resident})
            self._fill(inputs)
            self._enqueue()  # what is compiled or allocated on the first run must not be recorded
            gpu.wait()
            may_record = getattr(self._context, "is_stream_capturable", lambda _: True)
            if may_record(gpu.stream.handle):
                self._recorded = Recorded(gpu, self._enqueue)
        except EngineError:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Array | Resident], watch: Stopwatch | None = None) -> Tensors:
        """The outputs, which belong to the caller."""
        self._fill(inputs)
        if watch is not None:
            watch.start()
        (self._recorded or self._enqueue)()
        if watch is not None:
            watch.stop()
        self._gpu.wait()
        return {name: buffer.host.copy() for name, buffer in self._outputs.items()}

    def close(self) -> None:
        """Give everything back."""
        if self._recorded is not None:
            self._recorded.close()
        self._gpu.free(self._inputs | self._outputs)
        self._context = None

    def _place(self, tensors: Mapping[str, Buffer | Resident]) -> None:
        for name, lies in tensors.items():
            if self._context.set_tensor_address(name, int(lies.device)) is False:
                raise EngineError(f"tensorrt: {self._manifest.name} does not take the memory of {name}")

    def _output(self, spec: TensorSpec) -> Buffer:
        return self._gpu.buffer(tuple(self._context.get_tensor_shape(spec.name)), spec.dtype)

    def _fill(self, inputs: Mapping[str, Array | Resident]) -> None:
        for name, buffer in self._inputs.items():
            np.copyto(buffer.host, inputs[name])  # type: ignore[arg-type]  # no buffer is made for what is resident

    def _enqueue(self) -> None:
        for buffer in self._inputs.values():
            self._gpu.upload(buffer)
        if not self._context.execute_async_v3(self._gpu.stream.handle):
            why = self._log.last or "it gives no reason"
            raise DeviceError(f"tensorrt failed on {self._manifest.name}: it could not begin ({why})")
        for buffer in self._outputs.values():
            self._gpu.download(buffer)


def _kind(tensor: Array | Resident) -> object:
    """What recorded work depends on: the shape of what is copied; of what is resident, also where it lies."""
    return (tensor.shape, int(tensor.device)) if isinstance(tensor, Resident) else tensor.shape


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An engine of the library, its file, why it was compiled now, and what the library says of it."""

    engine: Any
    path: Path
    because: str
    log: Log


def _loaded(model: ModelFile, precision: str, device: str, found: Library) -> _Loaded:
    """The engine of this GPU, compiled if need be. One that was kept and does not fit is compiled again, once."""
    log = Log(found.module)
    runtime = started(found.module.Runtime, found, log)
    built = engine_of(model, precision, CURRENT, device, found)
    engine, because = runtime.deserialize_cuda_engine(built.engine), built.because
    if engine is None and not because:
        because = f"the one there was does not fit: {log.last or 'it gives no reason'}"
        built.path.unlink(missing_ok=True)
        engine = runtime.deserialize_cuda_engine(engine_of(model, precision, CURRENT, device, found).engine)
    if engine is None:
        raise EngineError(
            f"{found.name} {found.version} cannot run {model.manifest.name} on {device}: "
            f"{log.last or 'the engine that it compiled does not fit this GPU or its driver'}"
        )
    names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    if missing := {spec.name for spec in (*model.manifest.inputs, *model.manifest.outputs)} - names:
        raise EngineError(
            f"{model.manifest.name}: {model.path.name} has no {', '.join(sorted(missing))}; export it again"
        )
    return _Loaded(engine, built.path, because, log)
