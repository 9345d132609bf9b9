"""A GPU and its driver, as far as our own code touches them: memory with addresses, and a stream on which nothing
happens before somebody waits for it."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[], None]


@dataclass
class FakeGpu:
    """State of the machine: what is allocated, streams by their handle, and recorded graphs. fail: the call that
    raises; "lost": all do. foreign: engines do not fit. old_driver: the library cannot start. room: how many pieces of
    memory there are; None for any. records: whether the library lets its work be recorded. launches: of recorded work.
    copies: bytes that went up and down. moved: bytes of every copy, upwards > 0. makes_kernels: as tensorrt_rtx does
    when an engine first runs; kernels_made: how often."""

    memory: dict[int, bytearray] = field(default_factory=dict)
    streams: dict[int, FakeStream] = field(default_factory=dict)
    graphs: dict[int, list[Work]] = field(default_factory=dict)
    handles: itertools.count[int] = field(default_factory=lambda: itertools.count(0x1000, 0x1000))
    contexts: int = 0
    launches: int = 0
    copies: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    moved: list[int] = field(default_factory=list)
    fail: str = ""
    foreign: bool = False
    old_driver: bool = False
    room: int | None = None
    records: bool = True
    makes_kernels: bool = False
    kernels_made: int = 0

    def check(self, name: str, error: type[Exception]) -> None:
        """lost: every call fails from then on."""
        if self.fail in (name, "lost"):
            raise error(f"{name} failed: an illegal memory access was encountered")


class CudaError(Exception):
    """What pycuda raises."""


class CudaMemoryError(CudaError):
    """The same, when there is no memory left."""


class FakeStream:
    """Work in order, done when it is waited for; while it is recorded nothing is done."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu, self.handle = gpu, next(gpu.handles)
        self.queue: list[Work] = []
        self.recording: list[Work] | None = None
        gpu.streams[self.handle] = self

    def add(self, work: Work) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def synchronize(self) -> None:
        assert self.recording is None, "waited while recording"
        self.gpu.check("synchronize", CudaError)
        for work in self.queue:
            work()
        self.queue.clear()


class FakeMemory:
    """Memory of the GPU."""

    def __init__(self, gpu: FakeGpu, count: int) -> None:
        self.gpu, self.address = gpu, next(gpu.handles)
        gpu.memory[self.address] = bytearray(count)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.gpu.check("free", CudaError)
        del self.gpu.memory[self.address]


def driver_of(gpu: FakeGpu) -> Any:
    """What `pycuda.driver` has of it."""

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        @staticmethod
        def count() -> int:
            return 1

        def name(self) -> str:
            return "Imagined GPU"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 6

        def retain_primary_context(self) -> Any:
            def push() -> None:
                gpu.contexts += 1

            def pop() -> None:
                gpu.contexts -= 1
                gpu.check("pop", CudaError)

            return SimpleNamespace(push=push, pop=pop, detach=lambda: gpu.check("detach", CudaError))

    def mem_alloc(count: int) -> FakeMemory:
        gpu.check("mem_alloc", CudaMemoryError)
        if gpu.room is not None and len(gpu.memory) >= gpu.room:
            raise CudaMemoryError("out of memory")
        return FakeMemory(gpu, count)

    def stream() -> FakeStream:
        gpu.check("stream", CudaError)
        return FakeStream(gpu)

    def up(target: FakeMemory, source: np.ndarray, stream: FakeStream) -> None:
        gpu.check("up", CudaError)

        def work() -> None:
            gpu.memory[target.address][:] = source.tobytes()
            gpu.copies["up"] += source.nbytes
            gpu.moved.append(source.nbytes)

        stream.add(work)

    def down(target: np.ndarray, source: FakeMemory, stream: FakeStream) -> None:
        gpu.check("down", CudaError)

        def work() -> None:
            target[...] = np.frombuffer(bytes(gpu.memory[source.address]), target.dtype).reshape(target.shape)
            gpu.copies["down"] += target.nbytes
            gpu.moved.append(-target.nbytes)

        stream.add(work)

    class Event:
        """The work of a stream that was done when it was reached."""

        done = 0

        def record(self, stream: FakeStream) -> None:
            gpu.check("record", CudaError)

            def work() -> None:
                self.done = len(gpu.moved)

            stream.add(work)

        def time_since(self, other: Event) -> float:
            gpu.check("time_since", CudaError)
            return float(self.done - other.done)

    return SimpleNamespace(
        Error=CudaError, MemoryError=CudaMemoryError, Device=Device, init=lambda: gpu.check("init", CudaError),
        Event=Event, get_driver_version=lambda: 13000, Stream=stream, mem_alloc=mem_alloc,
        pagelocked_empty=lambda shape, dtype: np.full(shape, 7, dtype), memcpy_htod_async=up, memcpy_dtoh_async=down,
    )  # fmt: skip


def libcuda_of(gpu: FakeGpu) -> Any:
    """What libcuda has of graphs, by its C interface."""

    def begin(stream: Any, mode: Any) -> int:
        assert gpu.streams[stream.value].recording is None
        gpu.streams[stream.value].recording = []
        return 0

    def end(stream: Any, graph: Any) -> int:
        recorded, gpu.streams[stream.value].recording = gpu.streams[stream.value].recording, None
        assert recorded
        handle = next(gpu.handles)
        gpu.graphs[handle] = recorded
        ctypes.cast(graph, ctypes.POINTER(ctypes.c_void_p))[0] = handle
        return 0

    def instantiate(run: Any, graph: Any, flags: Any) -> int:
        if gpu.fail == "instantiate":
            return 2
        handle = next(gpu.handles)
        gpu.graphs[handle] = gpu.graphs[graph.value]
        ctypes.cast(run, ctypes.POINTER(ctypes.c_void_p))[0] = handle
        return 0

    def launch(run: Any, stream: Any) -> int:
        if gpu.fail in ("launch", "lost"):
            return 700
        gpu.launches += 1
        for work in gpu.graphs[run.value]:
            gpu.streams[stream.value].add(work)
        return 0

    def destroy(handle: Any) -> int:
        if gpu.fail == "lost":
            return 700  # as every call after it
        del gpu.graphs[handle.value]
        return 0

    return SimpleNamespace(
        cuStreamBeginCapture_v2=begin, cuStreamEndCapture=end, cuGraphInstantiateWithFlags=instantiate,
        cuGraphLaunch=launch, cuGraphDestroy=destroy, cuGraphExecDestroy=destroy,
    )  # fmt: skip
