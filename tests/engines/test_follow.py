"""Following a face by landmarks: what a crop was off by is made good, what is no face changes nothing.

The network is a known truth here, so that only the following is tested: it says where the template's points lie in
whatever crop was cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine
from engines.face import FaceFinder, Faces
from engines.follow import ByLandmarks, Track, glimpse, nudged
from engines.preprocess import TEMPLATE, Affine, Luma, Points, Smaller, inverse, similarity
from engines.spec import load_model_file
from tests.engines.test_face import FACE, FRAME_NS, moved, place, scene, still_life, wander


@pytest.fixture(scope="module")
def detector() -> Iterator[Engine]:
    engine = OnnxRuntimeEngine(load_model_file("centerface"))
    yield engine
    engine.close()


def track(points: Points) -> Track:
    return Track(1, points, np.zeros_like(points), np.array([0, 0, 1, 1], np.float32), 1.0)


def to_shares(points: Points) -> Affine:
    """The similarity from picture to shares of the crop of a face with these points."""
    return similarity(points, 1)


def said(true: Points, affine: Affine) -> Points:
    """Where the template's points lie in a crop if the face is at `true`."""
    places = moved(TEMPLATE, inverse(similarity(true, 1)))
    return moved(places, affine)


@given(
    st.floats(-8, 8), st.floats(-8, 8), st.floats(-0.15, 0.15), st.floats(0.9, 1.1)
)  # fmt: skip
def test_what_the_crop_was_off_by_is_made_good(x: float, y: float, turn: float, zoom: float) -> None:
    """Whole where it is large; where it is small, part of it, and never the wrong way."""
    middle = FACE.mean(axis=0)
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    true = np.asarray((FACE - middle) @ matrix.T + middle + (x, y), np.float32)
    affine = to_shares(FACE)
    found = nudged(track(FACE), affine, said(true, affine), 1 / 30)
    before, after = (np.linalg.norm(each - true, axis=1).mean() for each in (FACE, found.points))
    assert after <= before + 1e-3
    if before > 4:
        assert after < 0.1 * before


def test_noise_at_rest_moves_the_face_less_than_it_says() -> None:
    affine, rng = to_shares(FACE), np.random.default_rng(0)
    state, went = track(FACE), []
    for _ in range(200):
        noisy = said(FACE, to_shares(state.points)) + rng.normal(0, 0.003, (5, 2)).astype(np.float32)
        state = nudged(replace(state, drift=0j), to_shares(state.points), noisy, 1 / 30)
        went.append(state.points)
    crop_px = 112 * float(np.hypot(*affine[0, :2]))
    assert np.std(went, axis=0).max() * crop_px < 0.25


@pytest.mark.parametrize("wrong", [np.nan, 40.0])
def test_landmarks_of_no_face_change_nothing(wrong: float) -> None:
    before = track(FACE)
    assert nudged(before, to_shares(FACE), TEMPLATE * np.float32(wrong), 1 / 30) is before


def test_a_face_that_keeps_moving_is_expected_where_it_goes() -> None:
    state, step = track(FACE), np.array([3.0, -1.0], np.float32)
    for i in range(1, 25):
        state = ByLandmarks().advance(replace(state, glimpse=None), still_life(), 1 / 30)
        affine = to_shares(state.points)
        ahead = np.linalg.norm(state.points - (FACE + i * step), axis=1).mean()
        state = nudged(state, affine, said(FACE + i * step, affine), 1 / 30)
    assert ahead < 0.5
    assert np.array((state.drift.real, state.drift.imag)) / 30 == pytest.approx(step, abs=0.3)


def test_a_glimpse_needs_most_of_the_face_in_the_picture() -> None:
    picture = scene(place(320, 180))
    assert glimpse(picture, moved(FACE, place(320, 180)), Smaller()) is not None
    assert glimpse(picture, moved(FACE, place(-20, 180)), Smaller()) is None
    assert glimpse(picture, np.full((5, 2), np.nan, np.float32), Smaller()) is None


def follow_along(finder: FaceFinder, count: int, truth: bool = True) -> list[Faces]:
    """Locate and settle as the worker does, with a network that is always right, or one that says nothing."""
    results = []
    for i in range(count):
        luma, true = scene(wander(i), seed=i), moved(FACE, wander(i))
        found = finder.locate(luma, i * FRAME_NS)
        results.append(found)
        affines = {face.id: to_shares(face.points) for face in found.faces}
        if truth:
            finder.settle(luma, {face: (affine, said(true, affine)) for face, affine in affines.items()})
    return results


def test_a_face_is_followed_without_flow_and_without_more_detections(detector: Engine) -> None:
    results = follow_along(FaceFinder(detector, follower=ByLandmarks()), 60)
    assert [i for i, r in enumerate(results) if r.detected] == [0, 10, 20, 30, 40, 50]
    assert all([(f.id, f.status) for f in r.faces] == [(1, "tracked")] for r in results)
    errors = [np.linalg.norm(r.faces[0].points - moved(FACE, wander(i)), axis=1).mean() for i, r in enumerate(results)]
    assert max(errors[10:]) < 4.0  # the face speeds up and slows down, by up to 11 px a picture
    assert np.median(errors[10:]) < 2.0


def empty(kind: str) -> Luma:
    if kind == "landscape":
        return still_life()
    if kind == "noise":
        return np.random.default_rng(1).integers(0, 256, (360, 640), dtype=np.uint8)
    return np.zeros((360, 640), np.uint8)


@pytest.mark.parametrize("after", ["black", "noise", "landscape"])
def test_a_cut_to_no_face_ends_at_once(detector: Engine, after: str) -> None:
    finder = FaceFinder(detector, follower=ByLandmarks())
    follow_along(finder, 13)
    for i in range(13, 20):
        result = finder.locate(empty(after), i * FRAME_NS)
        assert result.faces == ()
        assert result.detected
