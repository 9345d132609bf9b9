"""How near an engine comes to what its GPU can do: operations and bytes of a call (benchmarks.onnx_work counts them in
the network's file) against ceilings measured on the same GPU in the same run.

The model is that of Williams, Waterman and Patterson (Roofline, CACM 52(4), 2009): a program is held up by arithmetic
or by memory, whichever ceiling it is nearer to. One that is far from both is held up by neither, but by launches,
copies between host and GPU, or small work that does not fill the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Final

import msgspec

ITEM_BYTES: Final[Mapping[str, int]] = {"fp32": 4, "fp16": 2}
"""Of weights and activations, in the precisions that have ceilings; what goes in and out is float32 in both."""
_SIDE, _COPIED_BYTES = 8192, 2**30
_WARM_UP_RUNS, _RUNS = 3, 10


class Work(msgspec.Struct, frozen=True):
    """What a network has to do. weights: numbers that are read once a call. For each face, operations: two for every
    multiply-add of a convolution or product; ports: numbers that go into the network and out of it; activations:
    numbers that its convolutions and products give."""

    operations: int
    weights: int
    ports: int
    activations: int

    def bytes_of(self, faces: int, precision: str) -> int:
        """What a call of so many faces moves at least if no cache holds anything: weights and ports once, activations
        twice, since they are written and read. What lies between two products is taken to be done on the way."""
        item = ITEM_BYTES[precision]
        return item * self.weights + faces * (4 * self.ports + 2 * item * self.activations)


class Ceilings(msgspec.Struct, frozen=True):
    """The most that was seen of a GPU: operations in a large matrix product, bytes read and written in a large copy."""

    operations_per_s: float
    bytes_per_s: float


class Reached(msgspec.Struct, frozen=True):
    """What an engine does at one number of faces in a call, by the median time of a call, and the ceilings."""

    engine: str
    batch: int
    operations_per_face: int
    bytes_per_face: float
    operations_per_s: float
    bytes_per_s: float
    ceilings: Ceilings

    @property
    def operations_share(self) -> float:
        """Of the ceiling of arithmetic, 0 to 1."""
        return self.operations_per_s / self.ceilings.operations_per_s

    @property
    def bytes_share(self) -> float:
        """Of the ceiling of memory, 0 to 1; more where caches held what is counted as moved."""
        return self.bytes_per_s / self.ceilings.bytes_per_s


def reached(engine: str, precision: str, batch: int, call_ms: float, work: Work, ceilings: Ceilings) -> Reached:
    """Rates of calls of `batch` faces that take `call_ms`."""
    moved_bytes, calls_per_s = work.bytes_of(batch, precision), 1e3 / call_ms
    return Reached(
        engine=engine,
        batch=batch,
        operations_per_face=work.operations,
        bytes_per_face=moved_bytes / batch,
        operations_per_s=batch * work.operations * calls_per_s,
        bytes_per_s=moved_bytes * calls_per_s,
        ceilings=ceilings,
    )


def ceilings_of(precision: str) -> Ceilings:
    """Of the first GPU, now. Products are in that precision, in fp32 without TF32. Raises ImportError without torch,
    RuntimeError if the GPU cannot be used."""
    import torch  # for a GPU alone, and it takes seconds

    torch.backends.cuda.matmul.fp32_precision = "ieee"
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    left, right = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def median_s(work: Callable[[], object]) -> float:
        times_ms: list[float] = []
        for run in range(_WARM_UP_RUNS + _RUNS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            work()
            end.record()
            end.synchronize()
            if run >= _WARM_UP_RUNS:
                times_ms.append(begin.elapsed_time(end))
        return median(times_ms) / 1e3

    return Ceilings(
        operations_per_s=2 * _SIDE**3 / median_s(lambda: torch.matmul(left, right, out=product)),
        bytes_per_s=2 * _COPIED_BYTES / median_s(lambda: target.copy_(source)),
    )
