"""What `benchmarks.engine` measures: every backend and precision in turns, and how far each lies from fp32."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import Machine
from engines.backends import BACKENDS, load
from engines.base import Array, Engine, EngineError
from engines.concept import ConceptReadout, read
from engines.spec import HeadSpec, ModelFile

REFERENCE = ("onnxruntime", "fp32")
TURN_RUNS = 5


class Difference(msgspec.Struct, frozen=True):
    """Largest absolute differences from onnxruntime in fp32 over all faces; score and contribution in score units."""

    activation: float
    score: float
    contribution: float


class Row(msgspec.Struct, frozen=True):
    """One candidate. call_ms: per call of `batch` faces; missing: why nothing was measured, "" if it was."""

    backend: str
    precision: str
    threads: int
    batch: int
    call_ms: Quantiles | None = None
    faces_per_s: float | None = None
    difference: Difference | None = None
    missing: str = ""

    @property
    def engine(self) -> str:
        """As results name it."""
        return f"{self.backend}/{self.precision}"


class EngineReport(msgspec.Struct, frozen=True):
    """All of it. faces: how many crops the differences are over. gpu: why its column is empty, "" if it is not."""

    machine: Machine
    model: str
    faces: int
    seconds: float
    rows: tuple[Row, ...]
    gpu: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that runs, and the number of faces that it gets in one call. times_ms grows while it is measured."""

    engine: Engine
    backend: str
    precision: str
    threads: int
    batch: int
    times_ms: list[float] = field(default_factory=list)


def engine_count(threads: Sequence[int]) -> int:
    """How many engines `open_engines` tries."""
    return len(threads) * sum(len(described.precisions) for described in BACKENDS.values())


def open_engines(model: ModelFile, threads: Sequence[int], face: Array) -> Iterator[tuple[Row, Engine | None]]:
    """Every backend, precision and number of threads; a row that says why where one cannot run.

    face: one face [1, 1, S, S], on which each engine is warmed up as the live path does it.
    """
    for backend, described in BACKENDS.items():
        for precision in described.precisions:
            for count in threads:
                row = Row(backend, precision, count, 1)
                try:
                    yield row, load(backend, model, precision, count, {"crop": face})
                except EngineError as error:
                    yield msgspec.structs.replace(row, missing=str(error)), None


def turns(count: int, rounds: Callable[[], bool], seed: int = 0) -> Iterator[int]:
    """Indices below `count`, each once a round, in a new order every round, while `rounds()` says to go on.

    What the machine does meanwhile, and whoever ran before, hits every candidate alike.
    """
    dice = random.Random(seed)
    while rounds():
        yield from dice.sample(range(count), count)


def take_turn(candidate: Candidate, faces: Array) -> None:
    """A few timed calls after one that is not: it finds the caches as another engine left them."""
    batch = np.ascontiguousarray(faces[: candidate.batch])
    candidate.engine.infer({"crop": batch})
    for _ in range(TURN_RUNS):
        start_ns = time.perf_counter_ns()
        candidate.engine.infer({"crop": batch})
        candidate.times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)


def readouts(engine: Engine, faces: Array, batch: int, heads: HeadSpec) -> list[ConceptReadout]:
    """What an engine says of every face, `batch` of them a call."""
    parts = [np.ascontiguousarray(faces[at : at + batch]) for at in range(0, len(faces), batch)]
    return [each for part in parts for each in read(engine.infer({"crop": part}), heads)]


def difference(found: Sequence[ConceptReadout], reference: Sequence[ConceptReadout]) -> Difference:
    """Over faces in the same order."""
    pairs = list(zip(found, reference, strict=True))
    return Difference(
        activation=max(float(np.abs(a.activation - b.activation).max()) for a, b in pairs),
        score=max(abs(a.score - b.score) for a, b in pairs),
        contribution=max(float(np.abs(a.contributions[:, 0] - b.contributions[:, 0]).max()) for a, b in pairs),
    )


def row_of(candidate: Candidate, away: Difference) -> Row:
    """The figures of a candidate that had its turns."""
    times_ms = candidate.times_ms
    return Row(
        candidate.backend,
        candidate.precision,
        candidate.threads,
        candidate.batch,
        call_ms=quantiles(times_ms),
        faces_per_s=1e3 * candidate.batch * len(times_ms) / sum(times_ms) if times_ms else None,
        difference=away,
    )
