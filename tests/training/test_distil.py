"""Votes softened by the model that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from training import distil
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, blank, load, save


def samples(count: int = 3) -> Samples:
    side = 112 + 2 * MARGIN_PX
    crops = np.random.default_rng(2).integers(0, 256, (count, side, side), np.uint8)
    votes = np.eye(len(EXPRESSIONS), dtype=np.float32)[[0, 3, 1]][:count]
    return replace(blank(crops, np.ones(count, bool)), votes=votes)


@pytest.fixture(scope="module")
def teacher() -> distil.Teacher:
    return distil.opened("models/agcm-live=2")


def test_a_teacher_answers_a_picture_and_its_mirror_image_alike(teacher: distil.Teacher) -> None:
    known = samples()
    said = distil.answers([teacher], known.crops)
    mirrored = distil.answers([teacher], np.ascontiguousarray(known.crops[..., ::-1]))
    np.testing.assert_allclose(said.sum(1), 1.0, atol=1e-5)
    np.testing.assert_allclose(said, mirrored, atol=1e-5)
    assert np.ptp(said, axis=0).max() > 1e-3, "three pictures, one answer"


def test_two_teachers_count_by_their_weights(teacher: distil.Teacher) -> None:
    crops = samples().crops
    other = replace(teacher, weight=1.0)
    np.testing.assert_allclose(
        distil.answers([teacher, other], crops), distil.answers([teacher], crops), atol=1e-6
    )  # the same model twice is that model


def test_new_votes_lie_between_the_votes_and_the_answers() -> None:
    known = samples()
    said = np.full((3, len(EXPRESSIONS)), 1 / len(EXPRESSIONS), np.float32)
    mixed = distil.softened(known, said, 0.25).votes
    np.testing.assert_allclose(mixed, 0.75 * known.votes + 0.25 / len(EXPRESSIONS), atol=1e-6)
    none = replace(known, votes=np.full_like(known.votes, np.nan))
    assert np.isnan(distil.softened(none, said, 0.25).votes).all()


def test_pictures_without_votes_are_given_the_answers_where_that_is_asked_for(tmp_path: Path) -> None:
    known = samples()
    some = replace(known, votes=np.where(np.arange(3)[:, None] == 1, np.nan, known.votes).astype(np.float32))
    said = np.full((3, len(EXPRESSIONS)), 1 / len(EXPRESSIONS), np.float32)
    filled = distil.softened(some, said, 0.25, fill=True).votes
    np.testing.assert_allclose(filled[1], said[1])
    np.testing.assert_allclose(filled[[0, 2]], distil.softened(known, said, 0.25).votes[[0, 2]])
    path = tmp_path / "none.npz"
    save(path, replace(known, votes=np.full_like(known.votes, np.nan)))
    with pytest.raises(DataError, match="has no expression votes to soften; --fill takes"):
        distil.voted(path, fill=False)
    assert len(distil.voted(path, fill=True)) == 3


@pytest.mark.parametrize("text", ["models/agcm-live", "models/agcm-live=0", "=1", "models/agcm-live=many"])
def test_a_teacher_without_a_folder_or_a_weight_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="give a model's folder and its weight"):
        distil.opened(text)


def test_the_command_writes_the_crops_with_new_votes(tmp_path: Path) -> None:
    save(tmp_path / "crops.npz", samples())
    app = distil.typer.Typer()
    app.command()(distil.main)
    arguments = [str(tmp_path / "crops.npz"), "--teacher", "models/agcm-live=1", "--out", str(tmp_path / "soft.npz")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    before, after = samples(), load(tmp_path / "soft.npz")
    np.testing.assert_array_equal(after.crops, before.crops)
    np.testing.assert_allclose(after.votes.sum(1), 1.0, atol=1e-5)
    assert (after.votes.max(1) < 1.0).all()


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "crops.npz", samples())
    app = distil.typer.Typer()
    app.command()(distil.main)
    done = CliRunner().invoke(
        app, [str(tmp_path / "crops.npz"), "--teacher", "models/nobody=1", "--out", str(tmp_path / "soft.npz")]
    )
    assert done.exit_code == 2
    assert "unknown model 'nobody'" in done.output
    assert not (tmp_path / "soft.npz").exists()
