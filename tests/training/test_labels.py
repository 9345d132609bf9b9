"""Concept columns, their mirror images, and what a teacher is believed to know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.material import BLENDSHAPES, write_teacher
from training.concepts import CONCEPTS, EXPRESSIONS, INDEX, MIRRORED, NAMES, head_concepts, lips_part
from training.data.pictures import DataError
from training.teachers.labels import WEAK_WEIGHT, apply, read, scale_of

few = settings(max_examples=30, deadline=None)
ANGLES = st.floats(-180, 180)


def test_names_are_unique_and_the_index_is_their_order() -> None:
    assert len(set(NAMES)) == len(NAMES) == 26
    assert [INDEX[name] for name in NAMES] == list(range(26))
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS) == 8


def test_the_mirror_swaps_left_and_right_and_nothing_else() -> None:
    mirrored = [NAMES[i] for i in MIRRORED]
    swapped = {NAMES[i]: name for i, name in enumerate(mirrored) if NAMES[i] != name}
    assert swapped == {
        "head_left": "head_right",
        "head_right": "head_left",
        "gaze_left": "gaze_right",
        "gaze_right": "gaze_left",
    }
    assert [MIRRORED[i] for i in MIRRORED] == list(range(len(NAMES)))


def test_the_sides_of_a_shape_are_the_mirror_of_each_other() -> None:
    """What moves for gaze_left on one eye moves for gaze_right on the other; every AU moves both sides."""
    swap = str.maketrans({"L": "R", "R": "L"})
    for concept, mirrored in zip(CONCEPTS, (CONCEPTS[i] for i in MIRRORED), strict=True):
        other = {
            name[:-1] + name[-1].translate(swap) if name[-2:] in ("_L", "_R") else name for name in concept.ict_shapes
        }
        assert other == set(mirrored.ict_shapes), concept.name


@few
@given(ANGLES, ANGLES)
def test_head_concepts_are_one_sided_and_mirror(yaw: float, pitch: float) -> None:
    here, there = head_concepts(yaw, pitch), head_concepts(-yaw, pitch)
    assert all(0 <= value <= 1 for value in here.values())
    assert min(here["head_left"], here["head_right"]) == min(here["head_up"], here["head_down"]) == 0
    assert (here["head_left"], here["head_up"]) == (there["head_right"], there["head_up"])
    assert (here["head_left"] > 0) == (yaw > 0)


def test_full_angles_and_gaps() -> None:
    assert head_concepts(40, -30) == {"head_left": 1.0, "head_right": 0.0, "head_up": 0.0, "head_down": 1.0}
    assert head_concepts(-20, 15) == {"head_left": 0.0, "head_right": 0.5, "head_up": 0.5, "head_down": 0.0}
    assert lips_part(17.5, 100) == pytest.approx(0.5)
    assert [lips_part(gap, 100) for gap in (-3, 0, 99)] == [0, 0, 1]
    assert lips_part(5, 0) == 0


def test_each_column_is_the_mean_of_its_own_shapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(size=5) for name in BLENDSHAPES}
    write_teacher(
        tmp_path / "t.npz", np.ones(5, bool), **values, yaw_deg=np.full(5, -20.0), pitch_deg=np.full(5, 15.0),
        lips_gap=np.full(5, 7.0), eye_distance=np.full(5, 40.0),
    )  # fmt: skip
    teacher = read(tmp_path / "t.npz")
    for column, concept in enumerate(CONCEPTS):
        if concept.blendshapes:
            expected = np.mean([values[name] for name in concept.blendshapes], axis=0)
            np.testing.assert_allclose(teacher.raw[:, column], expected, rtol=1e-5, err_msg=concept.name)
    measured = {"AU25": 0.5, "head_left": 0.0, "head_right": 0.5, "head_up": 0.5, "head_down": 0.0}
    for name, value in measured.items():
        np.testing.assert_allclose(teacher.raw[:, INDEX[name]], value, atol=1e-6)
    assert not np.isnan(teacher.raw).any()


def test_scaling_takes_the_ends_from_the_faces_that_were_found(tmp_path: Path) -> None:
    rows = np.arange(1000)
    found = rows % 2 == 0
    smile = np.where(found, rows / 2000, 5.0)
    write_teacher(tmp_path / "t.npz", found, mouthSmileLeft=smile, mouthSmileRight=smile, lips_gap=np.full(1000, 3.5))
    teacher = read(tmp_path / "t.npz")
    scale = scale_of(teacher)
    column = INDEX["AU12"]
    assert scale.low[column] == pytest.approx(0.05, abs=1e-3)
    assert scale.high[column] == pytest.approx(0.495, abs=1e-3)
    labels = apply(teacher, scale)
    seen = labels.activations[found, column]
    assert ((labels.activations >= 0) & (labels.activations <= 1)).all()
    assert (np.diff(seen) >= 0).all()
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert labels.activations[found, INDEX["AU25"]] == pytest.approx(3.5 / (0.35 * 50)), "measured: no scaling"


def test_a_shape_that_never_moves_stays_at_rest(tmp_path: Path) -> None:
    """Its quantiles coincide; the noise of a dead column must not be blown up to activations."""
    noise = np.random.default_rng(0).uniform(0, 0.004, 200)
    write_teacher(tmp_path / "t.npz", np.ones(200, bool), browInnerUp=noise)
    teacher = read(tmp_path / "t.npz")
    assert apply(teacher, scale_of(teacher)).activations[:, INDEX["AU1"]].max() < 0.25


def test_weights_say_how_far_the_teacher_is_to_be_believed(tmp_path: Path) -> None:
    write_teacher(tmp_path / "t.npz", np.array([True, False, True]))
    teacher = read(tmp_path / "t.npz")
    labels = apply(teacher, scale_of(teacher))
    for concept in CONCEPTS:
        blind = concept.name in ("AU6", "AU9")
        expected = 0.0 if blind else 1.0 if concept.teacher_reliable else WEAK_WEIGHT
        assert labels.weights[0, INDEX[concept.name]] == pytest.approx(expected), concept.name
    assert 0 < WEAK_WEIGHT < 1
    assert not next(concept for concept in CONCEPTS if concept.name == "AU1").teacher_reliable
    assert not labels.weights[1].any(), "a row without a face weighs nothing"
    assert np.isfinite(labels.activations).all()
    np.testing.assert_array_equal(labels.weights[0], labels.weights[2])


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run python -m training\.teachers\.mediapipe_faces first"):
        read(tmp_path / "none.npz")


@pytest.mark.parametrize("lacking", ["found", "names", "blendshapes", "yaw_deg", "eye_distance"])
def test_another_file_is_refused_by_what_it_lacks(tmp_path: Path, lacking: str) -> None:
    write_teacher(tmp_path / "t.npz", np.ones(2, bool))
    with np.load(tmp_path / "t.npz") as file:
        np.savez(tmp_path / "t.npz", **{name: file[name] for name in file if name != lacking})
    with pytest.raises(DataError, match=f"no array {lacking}"):
        read(tmp_path / "t.npz")


def test_a_teacher_without_a_blendshape_is_refused_by_its_name(tmp_path: Path) -> None:
    write_teacher(tmp_path / "t.npz", np.ones(2, bool))
    with np.load(tmp_path / "t.npz") as file:
        content = dict(file)
    content["names"][content["names"] == "jawOpen"] = "other"
    np.savez(tmp_path / "t.npz", **content)
    with pytest.raises(DataError, match="jawOpen"):
        read(tmp_path / "t.npz")


def test_a_corpus_without_a_found_face_cannot_scale(tmp_path: Path) -> None:
    write_teacher(tmp_path / "t.npz", np.zeros(3, bool))
    with pytest.raises(DataError, match="no face"):
        scale_of(read(tmp_path / "t.npz"))
