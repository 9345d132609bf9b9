"""How much memory an engine takes, each in a fresh process of its own: libraries are loaded once a process, and never
given back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import msgspec
import numpy as np
import psutil

from benchmarks.machine import gpu_used_mb
from engines.base import Array, EngineError
from engines.choose import load
from engines.spec import ModelFile


class Memory(msgspec.Struct, frozen=True):
    """Growth, in 10^6 bytes. rss_mb: resident memory of the process; gpu_mb: what is in use on the GPU, None for an
    engine of the CPU and where the driver does not say."""

    rss_mb: float
    gpu_mb: float | None = None


def memory_of(
    backend: str, model: ModelFile, precision: str, threads: int, faces: Array, batches: Sequence[int]
) -> dict[int, Memory]:
    """Growth since before the engine's library was loaded, by number of faces in a call: once the engine has been
    loaded and warmed up, and has run calls of so many faces and all fewer ones in `batches`.

    faces: crops [F, 1, S, S], the most in a call. A number of faces that the engine refuses, and all above it, are left
    out; all of them if it cannot be loaded beside what runs already, or the system ends the process.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_grown, backend, model, precision, threads, faces, sorted(batches)).result()
        except (BrokenProcessPool, EngineError):
            return {}


def _grown(
    backend: str, model: ModelFile, precision: str, threads: int, faces: Array, batches: Sequence[int]
) -> dict[int, Memory]:
    """`memory_of`, inside its process."""
    before_mb, gpu_before_mb = _rss_mb(), gpu_used_mb()
    engine = load(backend, model, precision, threads, {"crop": faces[:1]})
    found: dict[int, Memory] = {}
    for batch in batches:
        try:
            engine.infer({"crop": np.ascontiguousarray(faces[:batch])})
        except EngineError:
            break
        gpu_mb = gpu_used_mb() if engine.device == "gpu" else None
        grown_mb = None if gpu_mb is None or gpu_before_mb is None else gpu_mb - gpu_before_mb
        found[batch] = Memory(_rss_mb() - before_mb, grown_mb)
    engine.close()
    return found


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6
