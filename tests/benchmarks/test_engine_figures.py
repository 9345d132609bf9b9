"""Candidates take fair turns, and a difference is found wherever it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.engine_figures import Difference, EngineReport, Row, difference, turns
from benchmarks.engine_tables import gpu_missing, medians_ms, tables
from benchmarks.figures import quantiles
from benchmarks.machine import look
from engines.concept import ConceptReadout

GPU_ROW = Row("tensorrt", "fp16", 1, 1, call_ms=quantiles([0.5]))


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
    with pytest.raises(ValueError, match="argument"):
        difference([readout(1.0)], [])


def test_what_was_not_measured_says_so_and_why() -> None:
    here = look()
    measured = Row("openvino", "fp32", 1, 1, quantiles([2.0, 4.0]), 250.0, Difference(1e-7, 2e-7, 3e-7))
    missing = Row("openvino", "bf16", 1, 1, missing="this CPU has no bf16")
    gpu = gpu_missing(here, [measured, missing])
    report = EngineReport(here, "agcm-live@0", 16, 1.0, (measured, missing), gpu)
    assert gpu
    side, everything = tables(report)
    assert side.columns == ("call", "openvino/fp32", "openvino/bf16", "GPU")
    assert side.rows == (("1 face, 1 thread", "3.00", "not measured", "not measured"),)
    assert everything.rows[1][3:] == ("not measured",) * 7
    assert medians_ms(report) == {"openvino/fp32, 1 thread": {1: 3.0}}
    assert gpu_missing(here, [GPU_ROW]) == ""
