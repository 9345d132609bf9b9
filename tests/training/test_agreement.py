"""Halves of annotators against each other and against a model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import typer
from typer.testing import CliRunner

from engines.spec import available
from training.agreement import agreement, dealt, main, named
from training.concepts import EXPRESSIONS


def votes(row: dict[int, int], times: int) -> np.ndarray:
    counts = np.zeros((times, 10), np.int64)
    for column, count in row.items():
        counts[:, column] = count
    return counts


def test_annotators_who_all_say_the_same_agree_and_a_model_is_right_or_wrong() -> None:
    counts = votes({3: 10}, 50)
    assert agreement(counts, np.full(50, 3), 3) == (1.0, 0.0, 1.0)
    assert agreement(counts, np.full(50, 2), 3) == (1.0, 0.0, 0.0)


def test_halves_that_differ_are_right_about_each_other_as_often_as_chance_says() -> None:
    """Six of ten say one thing and four another. Of the 252 ways to deal five, 120 give both halves three of the six,
    so that they agree; elsewhere the six are split 4 to 2 or 5 to 1, and one half names the one thing, not both."""
    people, spread, model = agreement(votes({0: 6, 1: 4}, 4000), np.zeros(4000, np.int64), 2)
    assert people == pytest.approx(120 / 252, abs=0.02)
    assert spread < 0.02
    assert model == pytest.approx((120 + 66) / 252, abs=0.02)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 6), min_size=10, max_size=10))
def test_a_half_is_part_of_the_whole(seed: int, row: list[int]) -> None:
    counts = np.array([row, row])
    half = dealt(counts, np.random.default_rng(seed))
    assert (half >= 0).all() and (half <= counts).all()
    assert (half.sum(1) == sum(row) // 2).all()


def test_of_as_many_votes_one_is_named_at_random() -> None:
    found = named(votes({2: 5, 6: 5}, 400), np.random.default_rng(0))
    assert set(found.tolist()) == {2, 6}
    assert 120 < (found == 2).sum() < 280


@pytest.mark.skipif("agcm-live" not in available(), reason="models/agcm-live is not there")
def test_the_command_writes_what_it_shows(tmp_path: Path) -> None:
    grey = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)[30:200, 140:310]
    pictures = np.stack([cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA)] * 2)
    columns = [*EXPRESSIONS, "unknown", "not_face"]
    path, out = tmp_path / "ferplus.npz", tmp_path / "out.json"
    np.savez(path, images=pictures, votes=votes({1: 10}, 2), split=["valid"] * 2, vote_columns=columns)
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [str(path), "--json", str(out), "--deals", "2"])
    assert done.exit_code == 0, done.output
    assert "100.0%" in done.output
    told = json.loads(out.read_text())
    assert (told["pictures"], told["halves"], told["model_half"]) == (2, 1.0, 1.0), "the astronaut smiles"
    missing = CliRunner().invoke(app, [str(path), "--split", "test"])
    assert missing.exit_code == 2
