"""What is said of landmarks: a right answer is off by nothing, a wrong one by what it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("sklearn")
pytest.importorskip("numba")

import typer
from hypothesis import given
from hypothesis import strategies as st

from engines.preprocess import TEMPLATE
from tests.training.material import learnable, without_landmarks
from training import landmarks
from training.data.samples import save


@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-0.3, 0.3), st.floats(0.8, 1.2))
def test_the_similarity_through_answers_averages_their_errors(x: float, y: float, turn: float, zoom: float) -> None:
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    truth = np.asarray(TEMPLATE @ matrix.T + (x, y), np.float32)[None]
    assert landmarks.placing(truth, truth, TEMPLATE).points == 0
    assert landmarks.placing(truth, truth, TEMPLATE).fitted == pytest.approx(0, abs=1e-5)
    noisy = np.repeat(truth, 400, 0) + np.random.default_rng(0).normal(0, 0.02, (400, 5, 2)).astype(np.float32)
    found = landmarks.placing(noisy, np.repeat(truth, 400, 0), TEMPLATE)
    assert found.points == pytest.approx(0.02 * 2**0.5, rel=0.1)
    # Four numbers are estimated from ten: the rest of the noise is left out.
    assert found.fitted == pytest.approx(0.02 * (2 * 0.4) ** 0.5, rel=0.15)


def test_moved_crops_are_off_and_untouched_ones_are_not() -> None:
    samples = learnable(12)
    still, moved = (landmarks.views_of(samples, how, 112, 0)[1] for how in (landmarks._STILL, landmarks.MOVED))
    assert landmarks.placing(still, still, TEMPLATE).before < 0.01, "a mirror is a pixel aside"
    assert landmarks.placing(moved, moved, TEMPLATE).before > 0.02


def test_a_model_without_landmarks_is_a_mistake_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "crops.npz", learnable(4))
    with pytest.raises(typer.Exit):
        landmarks.main(tmp_path / "crops.npz", str(without_landmarks(tmp_path / "bare").path.parent), 0)
    assert capsys.readouterr().err == "error: bare does not say where the face lies in its crop\n"
