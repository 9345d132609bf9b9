"""The detector on a real face, and on pictures without one."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from engines.base import Array, Engine, EngineError, Tensors
from engines.detect import detect, detect_picture, overlap
from engines.preprocess import Luma
from engines.spec import Manifest

# Eye centres, nose tip and mouth corners of the astronaut, read off the picture.
POINTS = np.array([[203, 101], [245, 103], [226, 126], [206, 141], [241, 144]])
NEAR_PX = 6.0
MIRROR = [1, 0, 2, 4, 3]


def distances(points: Array, wanted: Array) -> Array:
    return np.asarray(np.linalg.norm(points - wanted, axis=1))


def test_the_astronaut_is_found_once(detector: Engine, astronaut: Luma) -> None:
    (face,) = detect(detector, astronaut)
    assert face.confidence > 0.8
    assert distances(face.points, POINTS).max() < NEAR_PX
    assert (face.points > face.box[:2]).all()
    assert (face.points < face.box[2:]).all()
    assert 60 < face.box[2] - face.box[0] < 110


@pytest.mark.parametrize("longest_px", [192, 320, 512])
def test_the_mirrored_picture_has_the_mirrored_face(detector: Engine, astronaut: Luma, longest_px: int) -> None:
    (face,) = detect(detector, astronaut, longest_px)
    (mirrored,) = detect(detector, np.ascontiguousarray(astronaut[:, ::-1]), longest_px)
    back = mirrored.points[MIRROR] * np.array([-1, 1]) + np.array([astronaut.shape[1] - 1, 0])
    assert distances(face.points, back).max() < 2 * NEAR_PX


@pytest.mark.parametrize(("height", "width"), [(471, 333), (301, 512), (512, 287), (255, 401)])
def test_odd_sizes_keep_points_in_place(detector: Engine, astronaut: Luma, height: int, width: int) -> None:
    (face,) = detect(detector, np.ascontiguousarray(astronaut[:height, :width]))
    assert distances(face.points, POINTS).max() < NEAR_PX


@pytest.mark.parametrize("factor", [0.2, 0.5, 2.5])
def test_points_scale_with_the_picture(detector: Engine, astronaut: Luma, factor: float) -> None:
    scaled = cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    (face,) = detect(detector, np.asarray(scaled, np.uint8))
    assert distances(face.points / factor, POINTS).max() < NEAR_PX


def test_two_people_are_two_faces(detector: Engine, astronaut: Luma) -> None:
    head = astronaut[20:240, 110:330]
    found = sorted(detect(detector, np.hstack([head, head])), key=lambda face: float(face.box[0]))
    assert len(found) == 2
    for face, x in zip(found, (0, 220), strict=True):
        assert distances(face.points, POINTS - [110, 20] + [x, 0]).max() < NEAR_PX


@pytest.mark.parametrize("shape", [(480, 640), (1, 1), (9, 7), (2, 900), (700, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_has_no_face(detector: Engine, shape: tuple[int, int], level: int) -> None:
    empty = np.full(shape, level, np.uint8)
    assert detect(detector, empty) == ()
    assert detect_picture(detector, empty) is None


def test_a_close_crop_is_found_when_told_that_it_is_one(detector: Engine, astronaut: Luma) -> None:
    close = astronaut[63:174, 182:272]
    face = detect_picture(detector, close)
    assert face is not None
    assert distances(face.points, POINTS - [182, 63]).max() < NEAR_PX


class _Broken:
    """A detector whose device answers NaN."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def manifest(self) -> Manifest:
        return self._engine.manifest

    @property
    def backend(self) -> str:
        return "broken"

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        return {name: array * np.float32(np.nan) for name, array in self._engine.infer(inputs).items()}

    def close(self) -> None: ...


def test_a_broken_network_is_an_error_and_not_an_empty_room(detector: Engine, astronaut: Luma) -> None:
    with pytest.raises(EngineError, match="not finite"):
        detect(_Broken(detector), astronaut)


def test_overlap_is_intersection_over_union() -> None:
    box = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [2.0, 2.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0]])
    np.testing.assert_allclose(overlap(box, others), [1.0, 1 / 3, 0.0, 0.0])
