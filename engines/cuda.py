"""The GPU as pycuda gives it: the context of the process, a stream, pinned memory, and work that is recorded once.

pycuda checks every call and raises; here that becomes one EngineError that says what failed, a DeviceError where the
GPU was there before. It has no CUDA graphs, so these five functions of the driver are called directly, and checked
alike. Giving back never fails: after a GPU was lost every call does, and why was said by the first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engines.base import Array, DeviceError, EngineError

_RELAXED: Final = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: what other threads of the process do in the meantime does not matter."""


def driver() -> Any:
    """pycuda's driver interface, initialised. Raises EngineError where there is no GPU, no driver or no pycuda."""
    try:
        import pycuda.driver as found  # a machine without a GPU has no libcuda to import it with
    except ImportError as error:
        raise EngineError(
            f"the GPU cannot be used ({error}); pycuda needs NVIDIA's driver: pip install pycuda"
        ) from error
    try:
        found.init()
        if found.Device.count() < 1:
            raise EngineError("the GPU cannot be used: the driver finds none")
    except found.Error as error:
        raise EngineError(f"the GPU cannot be used: {_line(error)}") from error
    return found


def device_name() -> str:
    """The GPU, its kind and its driver, on which compiled engines depend. Raises EngineError."""
    cuda = driver()
    with told("be asked for its name", cuda):
        device = cuda.Device(0)
        major, minor = device.compute_capability()
        return f"{device.name()} sm{major}{minor} driver {cuda.get_driver_version()}"


@contextmanager
def told(what: str, cuda: Any) -> Iterator[None]:
    """Turn a driver's error into one line."""
    try:
        yield
    except cuda.MemoryError as error:
        raise DeviceError(f"the GPU is out of memory and cannot {what}: close other programs that use it") from error
    except cuda.Error as error:
        raise DeviceError(f"the GPU cannot {what}: {_line(error)}") from error


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor in pinned memory, and its place on the GPU."""

    host: Array
    device: Any


@dataclass(frozen=True, slots=True)
class Resident:
    """A tensor that lies on the GPU already, where several engines of one Gpu read it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: Any


class Shown:
    """The picture that engines of one Gpu read: it goes up once, whoever reads it. shape is that of the last one."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._buffer: Buffer | None = None

    def show(self, picture: Array) -> Resident:
        """Begin to copy a picture to the GPU, in the order of the Gpu's work. It may be changed once this returns."""
        if self._buffer is None or self._buffer.host.shape != picture.shape:
            self.close()
            self._buffer = self._gpu.buffer(picture.shape, picture.dtype)
        self._gpu.wait()  # the last picture may still be on its way out of the same memory
        np.copyto(self._buffer.host, picture)
        self._gpu.upload(self._buffer)
        return Resident(picture.shape, picture.dtype, self._buffer.device)

    def close(self) -> None:
        """Give the memory back. Calling it twice is allowed."""
        if self._buffer is not None:
            self._gpu.free({"picture": self._buffer})
            self._buffer = None


class Gpu:
    """The first GPU, for the engines of this process that share a stream. Raises EngineError, as all of this does."""

    def __init__(self) -> None:
        self.cuda = driver()
        self.name = device_name()
        with told("be used", self.cuda):
            # The primary context is the one in which TensorRT works.
            self._context = self.cuda.Device(0).retain_primary_context()
            self._context.push()
        self._open = True
        try:
            with told("be used", self.cuda):
                self.stream = self.cuda.Stream()
        except DeviceError:
            self.close()
            raise

    def buffer(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Buffer:
        """A tensor of that shape on both sides."""
        with told("give memory", self.cuda):
            host = self.cuda.pagelocked_empty(shape, np.dtype(dtype))
            return Buffer(host, self.cuda.mem_alloc(max(1, host.nbytes)))

    def upload(self, buffer: Buffer) -> None:
        """Begin to copy to the GPU."""
        with told("take what is copied to it", self.cuda):
            self.cuda.memcpy_htod_async(buffer.device, buffer.host, self.stream)

    def download(self, buffer: Buffer) -> None:
        """Begin to copy from the GPU."""
        with told("give what is copied from it", self.cuda):
            self.cuda.memcpy_dtoh_async(buffer.host, buffer.device, self.stream)

    def wait(self) -> None:
        """Until the stream has done all of it."""
        with told("finish its work", self.cuda):
            self.stream.synchronize()

    def free(self, buffers: Mapping[str, Buffer]) -> None:
        """Give memory back, once nothing reads or writes it any more."""
        with suppress(self.cuda.Error):
            self.stream.synchronize()
        for buffer in buffers.values():
            with suppress(self.cuda.Error):
                buffer.device.free()

    def close(self) -> None:
        """Leave the context. Calling it twice is allowed."""
        if self._open:
            self._open = False
            for leave in (self._context.pop, self._context.detach):
                with suppress(self.cuda.Error):
                    leave()


class Stopwatch:
    """How long a stream took for what was begun between `start` and `stop`, by the clock of the GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        with told("tell the time", gpu.cuda):
            self._begin, self._end = gpu.cuda.Event(), gpu.cuda.Event()

    def start(self) -> None:
        """From here on, in the order of the stream."""
        with told("tell the time", self._gpu.cuda):
            self._begin.record(self._gpu.stream)

    def stop(self) -> None:
        """Up to here."""
        with told("tell the time", self._gpu.cuda):
            self._end.record(self._gpu.stream)

    def read_ms(self) -> float:
        """Once the stream was waited for."""
        with told("tell the time", self._gpu.cuda):
            return float(self._end.time_since(self._begin))


class Recorded:
    """Work of a stream that was recorded once and runs again as a whole: one call instead of dozens."""

    def __init__(self, gpu: Gpu, work: Callable[[], None]) -> None:
        self._gpu, self._library = gpu, ctypes.CDLL(_NAME)
        self._stream = ctypes.c_void_p(gpu.stream.handle)
        graph, self._run = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_RELAXED))
        try:
            work()
        except BaseException:
            self._library.cuStreamEndCapture(self._stream, ctypes.byref(graph))  # why it failed is on its way
            raise
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._run), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.cuGraphDestroy(graph)

    def __call__(self) -> None:
        """Begin to run it."""
        self._call("cuGraphLaunch", self._run, self._stream)

    def close(self) -> None:
        """Give it back."""
        self._library.cuGraphExecDestroy(self._run)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise DeviceError(f"the GPU cannot run recorded work: {name} returned CUDA error {code}")


_NAME: Final = "libcuda.so.1"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
