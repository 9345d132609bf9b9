"""Concepts as a corpus names them: confusions are undone, and what has no label stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("scipy")

from tests.training import layouts
from training.concepts import INDEX, NAMES
from training.data import noxi
from training.timed.reading import fit, labels_of

F64 = npt.NDArray[np.float64]


def people(count: int, seed: int = 0) -> tuple[list[F64], list[F64]]:
    """What was shown [T, 4], and what is said of it: the first moves the second as well, the third stays, and each
    person has faces of their own."""
    rng = np.random.default_rng(seed)
    shown = [np.clip(rng.normal(0.3, 0.3, (400, 4)), 0, 1) for _ in range(count)]
    for each in shown:
        each[:, 2] = 0.0
    mixed = np.eye(4)
    mixed[0, 1], mixed[1, 0] = 0.7, 0.2
    said = [each @ mixed + rng.normal(0, 0.02, (400, 4)) + rng.normal(0, 0.03, 4) for each in shown]
    return said, shown


def test_what_moves_several_activations_is_one_concept_again() -> None:
    said, shown = people(8)
    reading = fit(said[:6], shown[:6], (0.9,) * 4)
    other, true = np.concatenate(said[6:]), np.concatenate(shown[6:])
    before, after = (np.abs(np.corrcoef(each[:, 1], true[:, 0])[0, 1]) for each in (other, reading.of(other)))
    assert before > 0.3 and after < 0.1
    assert np.corrcoef(reading.of(other)[:, 1], true[:, 1])[0, 1] > 0.95
    assert reading.trust[1] > 0.9
    assert reading.of(other)[:, 2] == pytest.approx(0.0, abs=1e-12), "by its labels it never moves"


def test_what_has_no_labels_keeps_its_activation_and_its_reliability() -> None:
    said, shown = people(3)
    for each in shown:
        each[:, 3] = np.nan
    for each in shown[1:]:
        each[:, 1] = np.nan  # one person alone: nobody could be left out
    reading = fit(said, shown, (0.9, 0.4, 0.5, 0.6))
    assert reading.of(said[0])[:, [1, 3]] == pytest.approx(said[0][:, [1, 3]])
    assert (reading.trust[1], reading.trust[3]) == (0.4, 0.6)


def test_labels_are_those_of_a_simulation_or_else_of_openface(tmp_path: Path) -> None:
    person = noxi.Person("007", "expert", tmp_path / "expert")
    assert labels_of(person, 5) is None
    path = tmp_path / "expert.video.openface2.stream"
    layouts.stream(path, layouts.openface_rows(50, AU12_r=np.linspace(0, 5, 50)), 50.0)
    found = labels_of(person, 25)
    assert found is not None
    assert found[:, INDEX["AU12"]] == pytest.approx(np.linspace(0, 1, 50)[::2], abs=1e-6)
    np.savez(tmp_path / "expert.truth.npz", concepts=np.full((30, len(NAMES)), 0.5, np.float32))
    told = labels_of(person, 25)
    assert told is not None and told.shape == (25, len(NAMES)) and (told == 0.5).all()
