"""The face crop: where the points go, that fine texture does not alias, and what the network reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.preprocess import (
    TEMPLATE,
    Affine,
    CropBatch,
    Halves,
    Luma,
    Points,
    Smaller,
    crop,
    inverse,
    similarity,
    to_tensor,
)
from engines.spec import CropSpec

SIZE_PX = 112


def moved(side_px: float, angle: float, x: float, y: float) -> Points:
    """The template as a face of `side_px`, turned by `angle` (radians), with its crop's corner at x, y."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(TEMPLATE.astype(np.float64) * side_px @ turn.T + [x, y], dtype=np.float32)


def apply(affine: Affine, points: Points) -> Points:
    return np.asarray(points @ affine[:, :2].T + affine[:, 2], dtype=np.float32)


faces = st.builds(
    moved,
    side_px=st.floats(20, 2000),
    angle=st.floats(-np.pi, np.pi),
    x=st.floats(-500, 3000),
    y=st.floats(-500, 3000),
)


@given(faces)
def test_a_moved_template_comes_back_exactly(points: Points) -> None:
    np.testing.assert_allclose(apply(similarity(points, SIZE_PX), points), TEMPLATE * SIZE_PX, atol=0.02)


@given(faces)
def test_the_inverse_undoes_the_similarity(points: Points) -> None:
    affine = similarity(points, SIZE_PX)
    np.testing.assert_allclose(apply(inverse(affine), apply(affine, points)), points, atol=0.05)


@given(faces, st.integers(0, 4))
def test_a_similarity_keeps_angles_and_never_mirrors(points: Points, index: int) -> None:
    points[index] += np.float32(0.1) * (points[0] - points[4])
    (a, b), (c, d) = similarity(points, SIZE_PX)[:, :2]
    assert a == d
    assert b == -c
    assert a * d - b * c > 0


def test_other_points_are_met_as_well_as_a_similarity_can() -> None:
    """Least squares: no small turn, zoom or shift of the result brings the points closer to the template."""
    points = moved(200, 0.3, 50, 80) + np.array([[3, 0], [0, -4], [6, 2], [-2, 1], [0, 5]], np.float32)
    affine = similarity(points, SIZE_PX)

    def off(candidate: Affine) -> float:
        return float(np.sum((apply(candidate, points).astype(np.float64) - TEMPLATE * SIZE_PX) ** 2))

    for turn, zoom, x, y in [(0.01, 1, 0, 0), (0, 1.01, 0, 0), (0, 1, 0.2, 0), (0, 1, 0, 0.2)]:
        for sign in (1, -1):
            nudge = np.exp(sign * (np.log(zoom) + 1j * turn))
            matrix = np.array([[nudge.real, -nudge.imag], [nudge.imag, nudge.real]])
            shift = np.array([[sign * x], [sign * y]])
            assert off(np.asarray(matrix @ affine + np.hstack([np.zeros((2, 2)), shift]), np.float32)) > off(affine)


@pytest.mark.parametrize("value", [0.0, 37.5, np.nan])
def test_points_without_extent_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no similarity"):
        similarity(np.full((5, 2), value, np.float32), SIZE_PX)


def test_the_crop_shows_each_point_at_its_place() -> None:
    picture = np.zeros((400, 400), np.uint8)
    points = moved(180, 0.4, 150, 60)
    for x, y in points:
        cv2.circle(picture, (round(x), round(y)), 5, 255, -1)
    face = crop(picture, similarity(points, SIZE_PX), SIZE_PX)
    for x, y in TEMPLATE * SIZE_PX:
        near = face[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7].astype(float)
        rows, columns = np.mgrid[-6:7, -6:7]
        centre = np.array([(near * columns).sum(), (near * rows).sum()]) / near.sum()
        assert np.abs(centre + np.array([round(x) - x, round(y) - y])).max() < 0.6


@pytest.mark.parametrize("factor", [3, 5, 10])
def test_a_large_face_is_averaged_down(astronaut: Luma, factor: int) -> None:
    rng = np.random.default_rng(0)
    side = SIZE_PX * factor
    smooth = cv2.resize(astronaut[40:200, 150:310], (side, side), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 40, smooth.shape), 0, 255).astype(np.uint8)
    # Pixel centres: x of the crop is (x + 0.5) / factor - 0.5 of the picture.
    shift = 0.5 / factor - 0.5
    affine = np.array([[1 / factor, 0, shift], [0, 1 / factor, shift]], np.float32)
    averaged = cv2.resize(noisy, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA).astype(float)
    aliased = cv2.warpAffine(noisy, affine, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR).astype(float)
    inner = slice(4, -4)

    def off(face: np.ndarray) -> float:
        return float(np.sqrt(np.mean((face.astype(float) - averaged)[inner, inner] ** 2)))

    ours = off(crop(noisy, affine, SIZE_PX))
    assert ours < 9.0
    assert ours < 0.5 * off(aliased)


def test_stripes_finer_than_the_crop_become_grey() -> None:
    stripes = np.zeros((1120, 1120), np.uint8)
    stripes[:, ::2] = 255
    face = crop(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]], np.float32), SIZE_PX)[4:-4, 4:-4]
    assert np.abs(face.astype(int) - 128).max() <= 4


def test_beyond_the_picture_its_border_goes_on() -> None:
    picture = np.full((60, 60), 90, np.uint8)
    picture[:, 0] = 200
    face = crop(picture, np.array([[1, 0, 50], [0, 1, 0]], np.float32), SIZE_PX)
    assert (face[:, :50] == 200).all()
    assert (face[:, 52:] == 90).all()


def test_the_tensor_is_the_normalised_luma() -> None:
    crops = np.zeros((2, 4, 4), np.uint8)
    crops[1] = 255
    crops[1, 0, 1] = 51
    tensor = to_tensor(crops, CropSpec(4, mean=0.5, std=0.25))
    assert tensor.shape == (2, 1, 4, 4)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0], -2.0, atol=1e-6)
    np.testing.assert_allclose([tensor[1, 0, 0, 1], tensor[1, 0, 1, 0]], [-1.2, 2.0], atol=1e-6)


def test_halves_are_those_of_the_picture_whatever_the_memory_held(astronaut: Luma) -> None:
    halves, other = Halves(), np.ascontiguousarray(astronaut[::-1])
    for picture in (astronaut, other[:301, :77], astronaut[:256]):
        np.testing.assert_array_equal(halves.of(picture, 2), cv2.pyrDown(cv2.pyrDown(picture)))
        np.testing.assert_array_equal(halves.of(picture, 1), cv2.pyrDown(picture))
        assert halves.of(picture, 0) is picture
    first = halves.of(astronaut, 1)
    assert np.shares_memory(halves.of(other, 1), first)


@given(
    st.floats(0.03, 0.49), st.floats(-np.pi, np.pi), st.floats(-300, 900), st.floats(-300, 900),
    st.integers(64, 600), st.integers(64, 600),
)  # fmt: skip
def test_only_what_is_around_a_face_is_halved_and_nobody_can_tell(
    scale: float, turn: float, x: float, y: float, rows: int, columns: int
) -> None:
    """Against the whole picture halved, for faces anywhere in it and beyond."""
    picture = np.random.default_rng(0).integers(0, 256, (rows, columns), np.uint8)
    a = scale * np.exp(1j * turn)
    b = SIZE_PX * (0.5 + 0.5j) - a * (x + 1j * y)
    affine = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], np.float32)
    level = 0
    while np.hypot(affine[0, 0], affine[1, 0]) * 2**level < 0.5 and -(-min(rows, columns) // 2**level) >= 4:
        level += 1
    whole = np.asarray(Halves().of(picture, level), np.uint8)
    exact = affine.astype(np.float64)
    exact[:, :2] *= 2**level
    flags = cv2.INTER_LINEAR
    want = cv2.warpAffine(whole, exact, (SIZE_PX, SIZE_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    away = np.abs(crop(picture, affine, SIZE_PX).astype(int) - want.astype(int))
    # Where a pixel lies on the edge of OpenCV's 32 steps, either of two neighbours may be taken.
    assert (away > 0).mean() < 1e-3


def test_faces_in_shared_memory_are_the_same_as_alone(astronaut: Luma) -> None:
    """Large, small and turned faces, of one picture after another."""
    spec = CropSpec(SIZE_PX, mean=0.5, std=0.25)
    batch = CropBatch(spec, most=3)
    for picture in (astronaut, np.ascontiguousarray(astronaut[:, ::-1]), astronaut[:300]):
        faces = [moved(480, 0.1, 10, 20), moved(90, -0.4, 200, 80), moved(250, 0.0, 120, 40)]
        affines = batch.cut(picture, faces)
        alone = np.stack([crop(picture, similarity(face, SIZE_PX), SIZE_PX) for face in faces])
        tensor = batch.tensor(3)
        np.testing.assert_array_equal(affines, [similarity(face, SIZE_PX) for face in faces])
        np.testing.assert_array_equal(tensor, to_tensor(alone, spec))
        assert tensor.flags.c_contiguous
        assert np.shares_memory(batch.tensor(1), tensor)
        assert batch.tensor(3) is tensor


def test_more_faces_than_there_is_room_for_are_refused(astronaut: Luma) -> None:
    batch = CropBatch(CropSpec(SIZE_PX, mean=0.5, std=0.25), most=1)
    with pytest.raises(ValueError, match="zip"):
        batch.cut(astronaut, [moved(90, 0.0, 200, 80)] * 2)


@pytest.mark.parametrize(("rows", "columns"), [(1080, 1920), (721, 1283), (360, 640), (100, 150)])
def test_a_picture_made_smaller_is_the_average_of_what_it_covers(astronaut: Luma, rows: int, columns: int) -> None:
    picture = np.asarray(cv2.resize(astronaut, (columns, rows)), np.uint8)
    smaller = Smaller()
    for size_px in ((192, 320), (24, 24), (192, 320)):
        way = cv2.INTER_AREA if size_px[1] < columns else cv2.INTER_LINEAR
        want = cv2.resize(picture, size_px[::-1], interpolation=way).astype(int)
        found = smaller.of(picture, size_px).astype(int)
        assert np.corrcoef(found.ravel(), want.ravel())[0, 1] > 0.98, size_px
        assert size_px == (24, 24) or np.abs(found - want).mean() < 1.5
    before = smaller.of(picture, (192, 320))
    assert np.shares_memory(smaller.of(picture[::-1].copy(), (192, 320)), before), "the memory is used again"
