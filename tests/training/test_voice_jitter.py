"""Jitter is what it is meant to be, and what the shipped network says of it is measured."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.spec import model_at
from training.voice.jitter import jittered, measured


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
def test_periods_differ_by_the_jitter_that_was_asked_for(spread: float) -> None:
    """Two normal periods differ by 2 / sqrt(pi) of their deviation on average; a steady drift adds little."""
    rng = np.random.default_rng(0)
    found = [jittered(spread, rng)[1] for _ in range(20)]
    assert np.mean(found) == pytest.approx(2 / np.sqrt(np.pi) * spread, abs=0.002)


def test_harmonicity_falls_with_jitter() -> None:
    rows = measured(OnnxRuntimeEngine(model_at("agcm-voice"), threads=1), 24, seed=1)
    assert len(rows) > 15
    assert np.corrcoef(rows[:, 0], rows[:, 2])[0, 1] < -0.3
