"""Candidates take fair turns, and a difference is found wherever it lies."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from benchmarks import engine_figures
from benchmarks.engine_figures import (
    Candidate,
    Difference,
    EngineReport,
    Row,
    best_on_gpu,
    difference,
    open_engines,
    open_reference,
    readouts,
    repeated,
    take_turn,
    turns,
)
from benchmarks.engine_memory import Memory
from benchmarks.engine_tables import gpu_missing, medians_ms, notes, tables
from benchmarks.figures import quantiles
from benchmarks.machine import look
from benchmarks.roofline import Ceilings, Reached
from engines.base import Array, Device, EngineError, Tensors
from engines.concept import ConceptReadout
from engines.spec import load_model_file

GPU_ROW = Row("tensorrt", "fp16", 1, 1, device="gpu", call_ms=quantiles([0.5]), faces_per_s=2000.0)
FACES = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)


class Recorder:
    """An engine that notes what it gets, and takes its time."""

    manifest = None
    backend = "imagined/fp32"

    def __init__(self, device: Device, call_s: float = 0.0) -> None:
        self.device, self.call_s = device, call_s
        self.calls: list[list[float]] = []

    def infer(self, inputs: dict[str, Array]) -> Tensors:
        self.calls.append(inputs["crop"].ravel().tolist())
        time.sleep(self.call_s)
        return {}

    def close(self) -> None: ...


def rounds(count: int) -> Callable[[], bool]:
    left = iter([True] * count)
    return lambda: next(left, False)


def readout(score: float) -> ConceptReadout:
    zeros = np.zeros((3, 2))
    return ConceptReadout(np.zeros(3), zeros, zeros, zeros.copy(), score, np.ones(1), np.zeros((3, 2)))


def test_everybody_has_one_turn_a_round_in_an_order_that_changes() -> None:
    order = list(turns(6, rounds(20)))
    by_round = [order[at : at + 6] for at in range(0, len(order), 6)]
    assert len(by_round) == 20
    assert all(sorted(each) == list(range(6)) for each in by_round)
    assert len({tuple(each) for each in by_round}) > 10
    assert list(turns(6, rounds(0))) == []


def test_the_largest_difference_is_over_all_faces() -> None:
    contributions = np.zeros((3, 2))
    contributions[1] = -0.25, 9.0  # the second column is an expression's, in other units
    other = replace(readout(1.5), activation=np.array([0.0, 0.1, 0.0]), contributions=contributions)
    found = difference([readout(1.0), other], [readout(1.0), readout(1.0)])
    assert found == Difference(activation=0.1, score=0.5, contribution=0.25)
    with pytest.raises(ValueError, match="no whole rounds of 0"):
        difference([readout(1.0)], [])


def test_faces_come_again_where_a_call_takes_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repeated(FACES, 6) is FACES
    assert repeated(FACES, 7).ravel().tolist() == [*range(6), *range(6)]
    monkeypatch.setattr(engine_figures, "read", lambda outputs, heads: [])
    engine = Recorder("cpu")
    readouts(engine, FACES, 4, None)  # type: ignore[arg-type]  # nothing is read
    readouts(engine, FACES, 12, None)  # type: ignore[arg-type]
    assert engine.calls == [[0, 1, 2, 3], [4, 5], [*range(6), *range(6)]]


def test_the_reference_comes_again_with_the_faces() -> None:
    reference = [readout(1.0), readout(2.0)]
    again = [readout(1.0), readout(2.0), readout(1.0), readout(2.25)]
    assert difference(again, reference) == Difference(0.0, 0.25, 0.0)
    with pytest.raises(ValueError, match="3 readouts are no whole rounds of 2 faces"):
        difference(again[:3], reference)


def test_a_turn_is_five_calls_or_as_many_as_half_a_second_holds() -> None:
    for call_s, timed in ((0.0, 5), (0.3, 2)):
        candidate = Candidate(Recorder("cpu", call_s), "imagined", "fp32", 1, 2)
        take_turn(candidate, FACES)
        assert len(candidate.times_ms) == timed
        assert candidate.engine.calls == [[0, 1]] * (timed + 1)  # type: ignore[attr-defined]


def test_threads_are_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(backend: str, model: object, precision: str, threads: int, sample: object) -> Recorder:
        if precision == "int8":
            raise EngineError("there is none")
        return Recorder("gpu" if backend == "torch" else "cpu")

    monkeypatch.setattr(engine_figures, "load", load)
    opened = list(open_engines(None, (1, 2), FACES[:1]))  # type: ignore[arg-type]
    of = {
        name: [row for row, engine in opened if engine and row.engine == name]
        for name in ("torch/fp32", "openvino/fp32")
    }
    assert [(row.threads, row.device) for row in of["torch/fp32"]] == [(1, "gpu")]
    assert [(row.threads, row.device) for row in of["openvino/fp32"]] == [(1, "cpu"), (2, "cpu")]
    assert {row.missing for row, engine in opened if engine is None} == {"there is none"}


def test_the_reference_is_torch_on_the_cpu_or_onnxruntime_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, face = load_model_file("agcm-live"), np.zeros((1, 1, 112, 112), np.float32)
    engine = open_reference(model, face)
    assert (engine.backend, engine.device) == ("torch/fp32", "cpu")
    engine.close()
    monkeypatch.setitem(sys.modules, "engines.backend_torch", None)
    engine = open_reference(model, face)
    assert engine.backend == "onnxruntime/fp32"
    engine.close()


def test_the_best_call_of_each_engine_on_a_gpu_is_the_one_with_most_faces_a_second() -> None:
    rows = [
        replace_row(GPU_ROW, batch=batch, precision=precision, faces_per_s=speed)
        for precision, speeds in (("fp16", (2e3, 9e3, 8e3)), ("fp32", (1e3, 3e3, 4e3)))
        for batch, speed in zip((1, 16, 64), speeds, strict=True)
    ]
    on_cpu = Row("openvino", "fp32", 1, 1, device="cpu", call_ms=quantiles([0.01]), faces_per_s=1e5)
    found = best_on_gpu([*rows, on_cpu, replace_row(GPU_ROW, batch=256, faces_per_s=None, call_ms=None)])
    assert [(row.engine, row.batch) for row in found] == [("tensorrt/fp16", 16), ("tensorrt/fp32", 64)]


def replace_row(row: Row, **change: object) -> Row:
    return msgspec.structs.replace(row, **change)


def test_what_was_not_measured_says_so_and_why() -> None:
    here = msgspec.structs.replace(look(), gpu=None)
    measured = Row(
        "openvino", "fp32", 1, 1, "cpu", quantiles([2.0, 4.0]), 250.0, Memory(81.6), Difference(1e-7, 2e-7, 3e-7)
    )
    missing = [Row("openvino", "bf16", 1, batch, missing="this CPU has no bf16") for batch in (1, 4)]
    no_gpu = Row("tensorrt", "fp16", 1, 1, missing="no driver")
    gpu = gpu_missing(here, [measured, *missing])
    report = EngineReport(here, "agcm-live@0", 16, "onnxruntime/fp32", 1.0, (measured, *missing, no_gpu), gpu, (), gpu)
    assert gpu == "this machine has no NVIDIA GPU"
    side, everything, roofline = tables(report)
    assert side.columns == ("call", "openvino/fp32", "openvino/bf16", "GPU")
    assert side.rows[0] == ("1 face, 1 thread", "3.00", "not measured", "not measured")
    assert everything.rows[0][7:] == ("82", "1.0e-07", "2.0e-07", "3.0e-07")
    assert everything.rows[1:] == (("openvino/bf16", *("not measured",) * 10),), "once, however many were to be"
    assert roofline.rows == (("GPU", *("not measured",) * 9),)
    said = "\n".join(notes(report))
    assert "openvino/bf16: not measured, this CPU has no bf16." in said
    assert "Roofline: not measured, this machine has no NVIDIA GPU." in said
    assert "from onnxruntime/fp32 on the CPU" in said and "torch, with which engines are compared" in said
    assert medians_ms(report) == {"openvino/fp32, 1 thread": {1: 3.0}}
    assert gpu_missing(here, [GPU_ROW]) == ""


def test_a_gpu_has_its_memory_and_its_roofline_in_the_report() -> None:
    away = Difference(1e-3, 2e-3, 3e-3)
    on_gpu = msgspec.structs.replace(
        GPU_ROW, memory=Memory(900.0, 512.4), difference=away, device_ms=quantiles([0.0414])
    )
    silent = msgspec.structs.replace(on_gpu, batch=4, memory=None, device_ms=None)
    refused = Row("tensorrt", "fp16", 1, 256, "gpu", missing="it was not compiled for so many")
    on_cpu = Row("openvino", "fp32", 1, 1, "cpu", quantiles([2.0]), 500.0, Memory(80.0), away)
    near = Reached("tensorrt/fp16", 1, 476_000_000, 2e6, 4e13, 1e12, Ceilings(8e14, 4e12))
    report = EngineReport(look(), "agcm-live@0", 16, "torch/fp32", 1.0, (on_gpu, silent, on_cpu, refused), "", (near,))
    side, everything, roofline = tables(report)
    assert side.columns == ("call", "tensorrt/fp16", "openvino/fp32")
    assert everything.columns[7:10] == ("MB", "GPU's own p50 ms", "GPU MB")
    assert [row[7:10] for row in everything.rows] == [
        ("900", "0.041", "512"),
        ("not measured", "–", "not measured"),
        ("80", "–", "–"),
        ("not measured",) * 3,
    ]
    assert "tensorrt/fp16, 256 faces: not measured, it was not compiled for so many." in notes(report)
    assert roofline.rows == (
        ("tensorrt/fp16", "1", "476", "2.00", "40.00", "800.0", "5.0%", "1000", "4000", "25.0%"),
    )  # fmt: skip
    assert not any("not installed here" in note or "Roofline" in note for note in notes(report))
