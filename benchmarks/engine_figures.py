"""What `benchmarks.engine` measures: every backend and precision in turns, and how far each lies from the reference."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import msgspec
import numpy as np

from benchmarks.engine_memory import Memory
from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import Machine
from benchmarks.roofline import Reached
from engines.backends import BACKENDS
from engines.base import Array, Clocked, Device, Engine, EngineError
from engines.choose import load
from engines.concept import ConceptReadout, read
from engines.spec import HeadSpec, ModelFile

BATCHES: Mapping[Device, tuple[int, ...]] = {"cpu": (1, 4, 16, 64), "gpu": (1, 4, 16, 64, 256, 1024)}
"""Faces in a call, by where an engine runs."""
TURN_RUNS, TURN_S = 5, 0.5


class Difference(msgspec.Struct, frozen=True):
    """Largest absolute differences from the reference over all faces; score and contribution in score units."""

    activation: float
    score: float
    contribution: float


class Row(msgspec.Struct, frozen=True):
    """One candidate. call_ms: per call of `batch` faces; device_ms: the same by the clock of a GPU; memory: once it has
    run calls of so many faces and fewer; missing: why nothing was measured, "" if it was. device: where it runs, None
    if it does not."""

    backend: str
    precision: str
    threads: int
    batch: int
    device: Device | None = None
    call_ms: Quantiles | None = None
    faces_per_s: float | None = None
    memory: Memory | None = None
    difference: Difference | None = None
    missing: str = ""
    device_ms: Quantiles | None = None

    @property
    def engine(self) -> str:
        """As results name it."""
        return f"{self.backend}/{self.precision}"


class EngineReport(msgspec.Struct, frozen=True):
    """All of it. faces: how many crops the differences are over. reference: the engine that they are from. gpu: why
    its column is empty, "" if it is not. roofline: of the engines on a GPU; no_roofline: why there is none, or ""."""

    machine: Machine
    model: str
    faces: int
    reference: str
    seconds: float
    rows: tuple[Row, ...]
    gpu: str
    roofline: tuple[Reached, ...] = ()
    no_roofline: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that runs, and the number of faces that it gets in one call. times_ms grows while it is measured, and
    device_ms, by the clock of its device, where that has one."""

    engine: Engine
    backend: str
    precision: str
    threads: int
    batch: int
    times_ms: list[float] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)


def open_reference(model: ModelFile, face: Array) -> Engine:
    """What all others are compared with: torch in fp32 on the CPU, or ONNX Runtime where torch is not installed."""
    try:
        from engines.backend_torch import TorchEngine  # takes seconds, and may not be there
    except ImportError:
        return load("onnxruntime", model, "fp32", 1, {"crop": face})
    return TorchEngine(model, "fp32", 1, "cpu")


def engine_count(threads: Sequence[int]) -> int:
    """How many engines `open_engines` tries."""
    return len(threads) * sum(len(described.precisions) for described in BACKENDS.values())


def open_engines(model: ModelFile, threads: Sequence[int], face: Array) -> Iterator[tuple[Row, Engine | None]]:
    """Every backend, precision and number of threads; a row that says why where one cannot run. On a GPU threads make
    no difference, so that only the first number is taken.

    face: one face [1, 1, S, S], on which each engine is warmed up as the live path does it.
    """
    for backend, described in BACKENDS.items():
        for precision in described.precisions:
            for count in threads:
                row = Row(backend, precision, count, 1)
                try:
                    engine = load(backend, model, precision, count, {"crop": face})
                except EngineError as error:
                    yield msgspec.structs.replace(row, missing=str(error)), None
                    if described.driver:
                        break
                    continue
                yield msgspec.structs.replace(row, device=engine.device), engine
                if engine.device == "gpu":
                    break


def turns(count: int, rounds: Callable[[], bool], seed: int = 0) -> Iterator[int]:
    """Indices below `count`, each once a round, in a new order every round, while `rounds()` says to go on.

    What the machine does meanwhile, and whoever ran before, hits every candidate alike.
    """
    dice = random.Random(seed)
    while rounds():
        yield from dice.sample(range(count), count)


def take_turn(candidate: Candidate, faces: Array) -> None:
    """A few timed calls after one that is not: it finds the caches as another engine left them. faces: at least as
    many as the candidate gets in a call. Long calls are fewer."""
    batch = np.ascontiguousarray(faces[: candidate.batch])
    engine = candidate.engine
    engine.infer({"crop": batch})
    if isinstance(engine, Clocked):
        candidate.device_ms.append(engine.timed({"crop": batch})[1])
    begin_s = time.monotonic()
    for _ in range(TURN_RUNS):
        start_ns = time.perf_counter_ns()
        engine.infer({"crop": batch})
        candidate.times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        if time.monotonic() - begin_s > TURN_S:
            break


def readouts(engine: Engine, faces: Array, batch: int, heads: HeadSpec) -> list[ConceptReadout]:
    """What an engine says of every face, `batch` of them a call; where that is more than there are, they come again."""
    faces = repeated(faces, batch)
    parts = [np.ascontiguousarray(faces[at : at + batch]) for at in range(0, len(faces), batch)]
    return [each for part in parts for each in read(engine.infer({"crop": part}), heads)]


def repeated(faces: Array, count: int) -> Array:
    """The faces again and again, in whole rounds, until there are at least `count`."""
    return np.concatenate([faces] * -(-count // len(faces))) if count > len(faces) else faces


def difference(found: Sequence[ConceptReadout], reference: Sequence[ConceptReadout]) -> Difference:
    """Over faces in the same order; the faces of the reference come again for as long as there are others."""
    if not reference or len(found) % len(reference):
        raise ValueError(f"{len(found)} readouts are no whole rounds of {len(reference)} faces")
    pairs = list(zip(found, cycle(reference), strict=False))
    return Difference(
        activation=max(float(np.abs(a.activation - b.activation).max()) for a, b in pairs),
        score=max(abs(a.score - b.score) for a, b in pairs),
        contribution=max(float(np.abs(a.contributions[:, 0] - b.contributions[:, 0]).max()) for a, b in pairs),
    )


def row_of(candidate: Candidate, away: Difference, memory: Memory | None) -> Row:
    """The figures of a candidate that had its turns."""
    times_ms = candidate.times_ms
    return Row(
        candidate.backend,
        candidate.precision,
        candidate.threads,
        candidate.batch,
        device=candidate.engine.device,
        call_ms=quantiles(times_ms),
        device_ms=quantiles(candidate.device_ms),
        faces_per_s=1e3 * candidate.batch * len(times_ms) / sum(times_ms) if times_ms else None,
        memory=memory,
        difference=away,
    )


def best_on_gpu(rows: Sequence[Row]) -> list[Row]:
    """Of every engine that ran on a GPU, the row with the most faces a second."""
    ran = [row for row in rows if row.device == "gpu" and row.faces_per_s is not None]
    engines = dict.fromkeys(row.engine for row in ran)
    return [max((row for row in ran if row.engine == each), key=lambda row: row.faces_per_s or 0.0) for each in engines]
