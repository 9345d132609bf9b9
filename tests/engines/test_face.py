"""Finding and following real faces: scikit-image's astronaut (public domain) moved over a still life, and a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine
from engines.face import FaceFinder, Faces, FaceSettings, align
from engines.preprocess import Luma, Points, inverse, similarity
from engines.spec import load_model_file
from engines.track import eye_distance

CLIP = Path(__file__).parents[2].parent / "shared" / "clips" / "expressive_face_pexels.mp4"
SIZE = (640, 360)
# The astronaut's landmarks as the detector sees them in the mean of many placements.
FACE: Points = np.array([[205, 101.5], [247.5, 105.5], [223.5, 124.5], [204, 142.5], [240, 145.5]], np.float32)
FRAME_NS = 33_333_333
CORNERS: Points = np.array([[0, 0], [111, 0], [0, 111], [111, 111]], np.float32)

Matrix = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def detector() -> Iterator[Engine]:
    engine = OnnxRuntimeEngine(load_model_file("centerface"))
    yield engine
    engine.close()


def grey(picture: npt.NDArray[np.uint8]) -> Luma:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


@cache
def still_life() -> Luma:
    return np.asarray(cv2.resize(grey(data.coffee()), SIZE, interpolation=cv2.INTER_AREA), dtype=np.uint8)


@cache
def astronaut() -> tuple[Luma, Luma]:
    """The portrait and the mask of its head and shoulders."""
    picture = grey(data.astronaut())
    mask = np.zeros_like(picture)
    mask[0:250, 110:340] = 255
    return picture, mask


def place(x: float, y: float, zoom: float = 0.8, degrees: float = 0.0, mirrored: bool = False) -> Matrix:
    """Picture of the astronaut -> scene, so that the middle of the face comes to (x, y)."""
    middle = FACE.mean(axis=0)
    matrix = np.asarray(cv2.getRotationMatrix2D((0, 0), degrees, zoom), dtype=np.float64)
    if mirrored:
        matrix[:, 0] *= -1
    matrix[:, 2] = np.array([x, y]) - matrix[:, :2] @ middle
    return matrix


def scene(*people: Matrix, seed: int = 0, noise: float = 2.0) -> Luma:
    picture = still_life().astype(np.float32)
    portrait, mask = astronaut()
    for matrix in people:
        cover = cv2.warpAffine(mask, matrix, SIZE).astype(np.float32) / 255
        picture += cover * (cv2.warpAffine(portrait, matrix, SIZE, flags=cv2.INTER_AREA) - picture)
    picture += np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def moved(points: Points, matrix: Matrix) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def run(finder: FaceFinder, scenes: Iterable[Luma], start: int = 0) -> list[Faces]:
    return [finder.locate(luma, (start + i) * FRAME_NS) for i, luma in enumerate(scenes)]


def corners(points: Points) -> Points:
    """Where the corners of a crop of 112 px lie in the picture."""
    back = inverse(similarity(points, 112))
    return np.asarray(CORNERS @ back[:, :2].T + back[:, 2], dtype=np.float32)


def wander(i: int) -> Matrix:
    t = i / 30
    return place(
        320 + 150 * np.sin(1.9 * t), 180 + 50 * np.sin(2.7 * t), 0.85 + 0.12 * np.sin(1.3 * t), 12 * np.sin(2.2 * t)
    )


def test_one_face_is_followed_along_a_known_path(detector: Engine) -> None:
    results = run(FaceFinder(detector), (scene(wander(i), seed=i) for i in range(60)))
    assert [i for i, r in enumerate(results) if r.detected] == [0, 10, 20, 30, 40, 50]
    assert all([(f.id, f.status, f.reason) for f in r.faces] == [(1, "tracked", None)] for r in results)
    errors = [np.linalg.norm(r.faces[0].points - moved(FACE, wander(i)), axis=1).mean() for i, r in enumerate(results)]
    assert max(errors) < 1.5
    assert max(errors[20:]) < 1.0  # three detections averaged, and no drift in between


def test_the_crop_of_a_face_at_rest_stands_still(detector: Engine) -> None:
    results = run(FaceFinder(detector), (scene(place(320, 180), seed=i) for i in range(60)))
    quads = np.array([corners(r.faces[0].points) for r in results[20:]])
    crop_px = 112 / np.linalg.norm(quads[0, 1] - quads[0, 0])
    assert quads.std(axis=0).max() * crop_px < 0.25
    assert np.abs(np.diff(quads, axis=0)).max() * crop_px < 0.15


def test_the_crop_glides_over_key_frames(detector: Engine) -> None:
    results = run(FaceFinder(detector), (scene(wander(i), seed=i) for i in range(60)))
    # Corner positions in the portrait: constant if the alignment is perfect, so that only its jumps remain.
    still = []
    for i, result in enumerate(results):
        back = np.asarray(cv2.invertAffineTransform(wander(i)), dtype=np.float64)
        still.append(moved(corners(result.faces[0].points), back))
    crop_px = 112 / np.linalg.norm(still[0][1] - still[0][0])
    steps_px = np.linalg.norm(np.diff(np.array(still), axis=0), axis=2).max(axis=1) * crop_px
    assert steps_px[:20].max() < 1.5  # the error of the first detection goes
    assert steps_px[20:].max() < 0.6
    assert np.median(steps_px) < 0.15


@pytest.mark.parametrize("after", ["black", "noise", "landscape"])
def test_a_cut_to_no_face_ends_at_once(detector: Engine, after: str) -> None:
    finder = FaceFinder(detector)
    run(finder, (scene(place(320, 180), seed=i) for i in range(13)))
    noise = np.random.default_rng(1).integers(0, 256, (360, 640), dtype=np.uint8)
    empty = {"black": np.zeros((360, 640), np.uint8), "noise": noise, "landscape": still_life()}[after]
    for result in run(finder, [empty] * 12, start=13):
        assert result.faces == ()
        assert result.detected


def test_somebody_after_a_cut_is_somebody_else(detector: Engine) -> None:
    finder = FaceFinder(detector)
    first = run(finder, (scene(place(320, 180), seed=i) for i in range(5)))
    other_place = np.asarray(np.roll(scene(place(420, 200, mirrored=True)), 90, axis=0)[::1, ::-1])
    assert [f.id for f in first[-1].faces] == [1]
    ids = [f.id for r in run(finder, [other_place] * 3, start=5) for f in r.faces]
    assert ids
    assert 1 not in ids


def test_a_dissolve_is_not_scored_beyond_the_next_key_frame(detector: Engine) -> None:
    finder = FaceFinder(detector)
    there, gone = scene(place(320, 180)).astype(np.float32), still_life().astype(np.float32)
    shares = [0.0] * 5 + [k / 15 for k in range(1, 16)] + [1.0] * 11
    results = run(finder, ((there + s * (gone - there)).astype(np.uint8) for s in shares))
    assert results[4].faces[0].status == "tracked"
    assert all(not r.faces for r in results[-2:])


def test_leaving_and_coming_back(detector: Engine) -> None:
    finder = FaceFinder(detector)
    out = [scene(place(500 + 8 * i, 180), seed=i) for i in range(26)]
    back = [scene(place(700 - 8 * i, 180), seed=i) for i in range(26)]
    leaving = run(finder, out)
    assert {f.id for r in leaving for f in r.faces} == {1}
    states = [r.faces[0].reason if r.faces else "none" for r in leaving]
    assert states[0] is None
    assert states[-1] == "none"
    # Past the border by half its crop, it is reported but not to be scored.
    assert states[int((645 - 500) / 8)] in ("outside_picture", "none")
    coming = run(finder, back, start=26)
    ids = [f.id for r in coming for f in r.faces]
    assert ids
    assert min(ids) > 1
    assert len(set(ids)) == 1


def test_two_faces_passing_each_other_keep_their_ids(detector: Engine) -> None:
    finder = FaceFinder(detector)

    def pair(i: int) -> tuple[Matrix, Matrix]:
        return place(120 + 7 * i, 85, 0.55), place(520 - 7 * i, 265, 0.7, mirrored=True)

    results = run(finder, (scene(*pair(i), seed=i) for i in range(58)))
    for i, result in enumerate(results):
        upper, lower = (m[:, :2] @ FACE.mean(axis=0) + m[:, 2] for m in pair(i))
        places = {f.id: f.points.mean(axis=0) for f in result.faces}
        assert [f.id for f in result.faces] == [1, 2]  # largest first
        assert np.linalg.norm(places[1] - lower) < 4
        assert np.linalg.norm(places[2] - upper) < 4
    assert sum(r.detected for r in results) <= 10


def test_a_face_half_outside_is_low_quality(detector: Engine) -> None:
    finder = FaceFinder(detector)
    results = run(finder, (scene(place(320 - 16.5 * min(i, 19), 180, 1.2), seed=i) for i in range(24)))
    last = results[-1].faces
    assert last
    assert (last[0].status, last[0].reason) == ("low_quality", "outside_picture")


def test_a_tiny_face_is_low_quality(detector: Engine) -> None:
    result = FaceFinder(detector, FaceSettings(detect_px=640)).locate(scene(place(320, 180, 0.25)), 0)
    assert [(f.status, f.reason) for f in result.faces] == [("low_quality", "too_small")]
    assert eye_distance(result.faces[0].points) < 12


def test_an_uncertain_face_starts_none_and_is_low_quality(detector: Engine) -> None:
    finder = FaceFinder(detector, FaceSettings(new_confidence=0.85))
    assert finder.locate(scene(place(320, 180, 0.6)), 0).faces == ()
    results = run(finder, (scene(place(320, 180, 1.2 - 0.03 * i), seed=i) for i in range(21)), start=1)
    assert (results[0].faces[0].status, results[0].faces[0].id) == ("tracked", 1)
    assert (results[-1].faces[0].reason, results[-1].faces[0].id) == ("unsure", 1)


def test_a_mirrored_face_is_aligned_as_well(detector: Engine) -> None:
    picture = scene(place(320, 180, 1.0, mirrored=True))
    (face,) = FaceFinder(detector).locate(picture, 0).faces
    assert face.points[0, 0] < face.points[1, 0]
    plain = scene(place(320, 180, 1.0))
    (other,) = FaceFinder(detector).locate(plain, 0).faces
    one, two = align(picture, face).luma[:, ::-1], align(plain, other).luma
    assert np.corrcoef(one[20:92, 20:92].ravel(), two[20:92, 20:92].ravel())[0, 1] > 0.85


def test_light_that_changes_keeps_the_id(detector: Engine) -> None:
    finder = FaceFinder(detector)
    bright = scene(place(320, 180))
    dim = (bright * 0.5 + 20).astype(np.uint8)
    results = run(finder, [bright] * 4 + [dim] * 4 + [bright] * 4)
    assert [[(f.id, f.status) for f in r.faces] for r in results] == [[(1, "tracked")]] * 12


def test_a_stalled_stream_keeps_a_face_that_is_still_there(detector: Engine) -> None:
    finder = FaceFinder(detector)
    finder.locate(scene(place(320, 180)), 0)
    late = finder.locate(scene(place(345, 185)), 2_000_000_000)
    assert late.detected
    assert [f.id for f in late.faces] == [1]


def test_a_stream_that_begins_anew_is_detected(detector: Engine) -> None:
    finder = FaceFinder(detector)
    finder.locate(scene(place(320, 180)), 5_000_000_000)
    assert finder.locate(scene(place(320, 180)), 0).detected
    smaller = finder.locate(np.ascontiguousarray(scene(place(320, 180))[:300, :500]), FRAME_NS)
    assert smaller.detected
    assert [f.id for f in smaller.faces] == [2]


def test_the_largest_faces_count(detector: Engine) -> None:
    finder = FaceFinder(detector, FaceSettings(max_faces=1, redetect_s=0.0))
    small, large = place(140, 180, 0.6), place(460, 180, 1.0)
    alone = finder.locate(scene(small), 0)
    joined = run(finder, [scene(small, large)] * 2, start=1)
    assert [f.id for f in alone.faces] == [1]
    assert [[f.id for f in r.faces] for r in joined] == [[2], [2]]


def test_the_same_pictures_give_the_same_faces(detector: Engine) -> None:
    pictures = [scene(wander(i), seed=i) for i in range(15)]
    one, two = run(FaceFinder(detector), pictures), run(FaceFinder(detector), pictures)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.faces[0].points, b.faces[0].points)
        assert a.faces[0].confidence == b.faces[0].confidence


@pytest.mark.parametrize(
    "luma", [np.zeros((360, 640), np.float32), np.zeros((360, 640, 3), np.uint8), np.zeros((4, 640), np.uint8)]
)
def test_anything_but_a_luma_plane_is_refused(detector: Engine, luma: Luma) -> None:
    with pytest.raises(ValueError, match="luma plane"):
        FaceFinder(detector).locate(luma, 0)


@pytest.mark.parametrize("change", [{"max_faces": 0}, {"redetect_s": -1.0}, {"keep_confidence": 0.9}, {"detect_px": 8}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    make: Callable[..., FaceSettings] = replace
    with pytest.raises(ValueError, match="face settings need"):
        make(FaceSettings(), **change)


@pytest.mark.shared
@pytest.mark.skipif(not CLIP.is_file(), reason="needs shared/clips beside the checkout")
def test_a_real_person_is_one_face_throughout(detector: Engine) -> None:
    finder = FaceFinder(detector)
    quads, detected = [], 0
    with av.open(str(CLIP)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            result = finder.locate(frame.to_ndarray(format="gray"), i * 1_000_000_000 // 24)
            assert [(f.id, f.status) for f in result.faces] == [(1, "tracked")]
            quads.append(corners(result.faces[0].points))
            detected += result.detected
    assert len(quads) == 472
    assert detected == 59  # one in eight at 24 frames per second
    crop_px = 112 / np.linalg.norm(quads[0][1] - quads[0][0])
    shake = np.linalg.norm(np.diff(np.array(quads), n=2, axis=0), axis=2).mean(axis=1) * crop_px
    assert np.median(shake) < 0.4
    assert shake.max() < 3.0
