"""Optical flow of a real face (scikit-image's astronaut, public domain) under motions that are known exactly."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from engines.preprocess import Luma, Points, inverse, similarity
from engines.track import Motion, eye_distance, fit, follow, likeness, look, on_face, view

FACE: Points = np.array([[203, 101.5], [247.5, 105], [223.5, 124.5], [203.5, 142], [241.5, 144.5]], np.float32)
CENTRE = (225.0, 120.0)


def astronaut() -> Luma:
    return np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def warp(luma: Luma, matrix: npt.NDArray[np.float64], size: tuple[int, int] | None = None) -> Luma:
    size = size or (luma.shape[1], luma.shape[0])
    return np.asarray(cv2.warpAffine(luma, matrix, size, flags=cv2.INTER_CUBIC), dtype=np.uint8)


def motion_matrix(degrees: float, zoom: float, dx: float, dy: float) -> npt.NDArray[np.float64]:
    matrix = np.asarray(cv2.getRotationMatrix2D(CENTRE, degrees, zoom), dtype=np.float64)
    matrix[:, 2] += (dx, dy)
    return matrix


def moved(points: Points, matrix: npt.NDArray[np.float64]) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def flow(before: Luma, after: Luma, points: Points) -> Motion | None:
    seen = look(before, points)
    assert seen is not None
    return follow(seen, view(after, seen), points)


@pytest.mark.parametrize(
    ("degrees", "zoom", "dx", "dy"),
    [(0, 1, 0, 0), (0, 1, 0.3, -0.4), (0, 1, 18, 7), (6, 1, -4, 3), (-4, 1.08, 5, 5), (0, 0.93, 0, -9)],
)
@pytest.mark.parametrize("size", [0.6, 1.0, 3.0])
def test_follows_a_known_motion(degrees: float, zoom: float, dx: float, dy: float, size: float) -> None:
    picture = cv2.resize(astronaut(), None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
    points = FACE * np.float32(size)
    centre = (CENTRE[0] * size, CENTRE[1] * size)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, degrees, zoom), dtype=np.float64)
    matrix[:, 2] += (dx * size, dy * size)
    motion = flow(picture, warp(picture, matrix), points)
    assert motion is not None
    assert motion.zoom == pytest.approx(zoom, abs=0.01)
    assert motion.quality > 0.6
    # 0.01 eye distances are 0.3 px of a crop of 112.
    error = np.linalg.norm(motion.move(points) - moved(points, matrix), axis=1)
    assert error.max() < 0.01 * eye_distance(points)


def test_a_jaw_that_drops_does_not_drag_the_alignment() -> None:
    before = astronaut()
    height, width = before.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    # Everything below the upper lip slides down by 6 px, a seventh of the distance between the eyes.
    drop = 6.0 * np.clip((ys - 132) / 10, 0, 1) * (np.abs(xs - 223) < 40)
    after = np.asarray(cv2.remap(before, xs, (ys - drop).astype(np.float32), cv2.INTER_CUBIC), dtype=np.uint8)
    motion = flow(before, after, FACE)
    assert motion is not None
    error = np.linalg.norm(motion.move(FACE) - FACE, axis=1)
    assert error.max() < 0.02 * eye_distance(FACE)


@pytest.mark.parametrize("after", ["black", "noise", "landscape", "elsewhere"])
def test_lost_when_the_face_is_gone(after: str) -> None:
    before = astronaut()
    pictures = {
        "black": np.zeros_like(before),
        "noise": np.random.default_rng(0).integers(0, 256, before.shape, dtype=np.uint8),
        "landscape": cv2.resize(cv2.cvtColor(data.coffee(), cv2.COLOR_RGB2GRAY), (512, 512)),
        "elsewhere": np.roll(before, 200, axis=1),
    }
    assert flow(before, np.asarray(pictures[after], dtype=np.uint8), FACE) is None


def test_a_lamp_switched_off_is_no_loss() -> None:
    before = astronaut()
    motion = flow(before, (before * 0.6 + 10).astype(np.uint8), FACE)
    assert motion is not None
    assert np.linalg.norm(motion.move(FACE) - FACE, axis=1).max() < 1.0


def test_the_view_does_not_grow_with_the_picture() -> None:
    sides = []
    for size in (1, 2, 4, 8):
        picture = cv2.resize(astronaut(), None, fx=size, fy=size)
        seen = look(np.asarray(picture, dtype=np.uint8), FACE * np.float32(size))
        assert seen is not None
        sides.append(max(seen.luma.shape))
    assert max(sides) <= 200


def test_view_coordinates_point_at_the_same_picture_content() -> None:
    picture = np.asarray(cv2.resize(astronaut(), None, fx=3, fy=3), dtype=np.uint8)
    points = FACE * np.float32(3)
    seen = look(picture, points)
    assert seen is not None
    assert seen.step > 1
    np.testing.assert_allclose(seen.out(seen.into(points)), points, atol=1e-3)
    from_picture = cv2.warpAffine(cv2.blur(picture, (seen.step, seen.step)), similarity(points, 32), (32, 32))
    from_view = cv2.warpAffine(seen.luma, similarity(seen.into(points), 32), (32, 32))
    assert np.abs(from_picture.astype(float) - from_view).mean() < 3.0


def test_a_face_at_rest_keeps_its_window_and_one_that_leaves_gets_a_new_one() -> None:
    picture = astronaut()
    seen = look(picture, FACE)
    assert seen is not None
    near, far = look(picture, FACE + 5, seen), look(picture, FACE + 60, seen)
    assert near is not None
    assert far is not None
    assert near.corner == seen.corner
    assert far.corner != seen.corner
    assert look(picture, FACE + 1000) is None


def test_the_view_is_a_copy() -> None:
    picture = astronaut()
    seen = look(picture, FACE)
    assert seen is not None
    kept = seen.luma.copy()
    picture[:] = 0
    np.testing.assert_array_equal(seen.luma, kept)


def test_fit_ignores_a_third_of_runaways() -> None:
    rng = np.random.default_rng(3)
    source = rng.uniform(0, 100, (42, 2)).astype(np.float32)
    turn, shift = 1.02 * np.exp(0.05j), 3 - 2j
    w = turn * (source[:, 0] + 1j * source[:, 1]) + shift
    target = np.stack([w.real, w.imag], axis=1) + rng.normal(0, 0.05, source.shape)
    target[:14] += rng.uniform(5, 15, (14, 2))
    got_turn, got_shift, agree = fit(source, target.astype(np.float32), 0.35)
    assert abs(got_turn - turn) < 2e-3
    assert abs(got_shift - shift) < 0.1
    assert not agree[:14].any()
    assert agree[14:].all()


def test_eye_distance_is_that_of_the_similarity() -> None:
    points = FACE + np.random.default_rng(1).normal(0, 4, FACE.shape).astype(np.float32)
    affine = similarity(points, 1)
    assert eye_distance(points) == pytest.approx(0.2832 / np.hypot(affine[0, 0], affine[1, 0]), rel=1e-3)
    assert eye_distance(FACE) == pytest.approx(float(np.linalg.norm(FACE[1] - FACE[0])), rel=0.15)


def test_places_on_the_face() -> None:
    back = inverse(similarity(FACE, 112))
    np.testing.assert_allclose(on_face(np.zeros((1, 2), np.float32), FACE)[0], back[:, 2], atol=1e-2)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(24, 24), (18, 32), (2, 5)]))
def test_likeness_is_the_correlation_of_two_pictures(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, shape).astype(np.uint8)
    other = ((one // 2 + rng.integers(0, 128, shape)) % 256).astype(np.uint8)
    assert likeness(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=1e-9)
    assert likeness(one, one) == pytest.approx(1.0)
    assert likeness(one, 255 - one) == pytest.approx(-1.0)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_nothing_is_like_a_flat_picture(level: int) -> None:
    flat = np.full((24, 24), level, np.uint8)
    assert likeness(flat, flat) == 0.0
    assert likeness(flat, np.arange(576, dtype=np.uint16).astype(np.uint8).reshape(24, 24)) == 0.0
