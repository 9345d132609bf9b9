"""Labels of a teacher, kept by content: what was seen once is not looked at again, and nothing of it changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from training.teachers.kept import Seen, open_labels

FACE = Seen({"jawOpen": float(np.float32(0.1)), "mouthSmileLeft": 1 / 3}, (-12.5, 3.0, 1e-9, 41.7))


def picture(value: int = 0) -> np.ndarray:
    return np.full((4, 4), value, np.uint8)


def test_what_is_kept_is_given_back_to_the_last_bit(tmp_path: Path) -> None:
    with open_labels(tmp_path / "new" / "t.sqlite", "rule") as kept:
        assert kept.get(picture()) is None
        kept.put(picture(), FACE)
        kept.put(picture(1), Seen({}, ()))
    with open_labels(tmp_path / "new" / "t.sqlite", "rule") as kept:
        assert kept.get(picture()) == FACE
        assert list(FACE.scores) == list(kept.get(picture()).scores), "in the order of the teacher"
        assert kept.get(picture(1)) == Seen({}, ()), "that no face was found is an answer, too"
        assert kept.get(picture(2)) is None
        assert kept.get(picture().reshape(2, 8)) is None
    with open_labels(tmp_path / "new" / "t.sqlite", "another rule") as kept:
        assert kept.get(picture()) is None


def test_an_interruption_loses_nothing_that_was_put(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_labels(tmp_path / "t.sqlite", "rule") as kept:
        kept.put(picture(), FACE)
        raise KeyboardInterrupt
    with open_labels(tmp_path / "t.sqlite", "rule") as kept:
        assert kept.get(picture()) == FACE


def test_a_kill_loses_no_more_than_the_last_few(tmp_path: Path) -> None:
    with open_labels(tmp_path / "t.sqlite", "rule") as kept:
        for value in range(70):
            kept.put(picture(value), FACE)
        with open_labels(tmp_path / "t.sqlite", "rule") as other:
            there = sum(other.get(picture(value)) is not None for value in range(70))
    assert there == 64, "committed together, and seen by another process before the end"


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.sqlite").write_bytes(b"something else entirely, long enough to be looked at" * 40)
    with pytest.raises(sqlite3.Error), open_labels(tmp_path / "t.sqlite", "rule"):
        pass
