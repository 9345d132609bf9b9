"""Hidden cells and pointing, with a network that is known to look at one cell for each concept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from engines.base import Array, Tensors
from engines.spec import ConceptSpec, CropSpec, HeadSpec, Manifest
from training.concepts import CONCEPTS, INDEX, NAMES
from training.explain import occlusion, pointing
from training.explain.answers import ask
from training.explain.occlusion import falls, figures, hide, top_cells, try_all
from training.explain.renders import Placed, moved_points, scene_of
from training.synthetic import generate, ict, scene
from training.synthetic.ict import FaceModel

SIDE, GRID, CELL = 112, 7, 16
PLACES = ((1, 1), (1, 5), (3, 3), (5, 1))
HEADS = HeadSpec((), (0.0,), ((0.0,),) * len(PLACES), ())


class Looker:
    """Concept k is active as far as the cell PLACES[k] is rough. Its map shows that cell, or another one by `shift`."""

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift
        concepts = tuple(ConceptSpec(f"AU{k}", "au", "a cell") for k in range(len(PLACES)))
        self.manifest = Manifest(
            "looker", "model.onnx", "0" * 64, (), (), CropSpec(SIDE, 0.5, 0.5), concepts, HEADS
        )  # fmt: skip
        self.backend = "none/fp64"

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        crops = inputs["crop"][:, 0]
        count = len(crops)
        cells = crops.reshape(count, GRID, CELL, GRID, CELL).transpose(0, 1, 3, 2, 4)
        rough = cells.reshape(count, GRID, GRID, -1).std(axis=-1)
        activation = np.stack([np.clip(2.5 * rough[:, r, c], 0, 1) for r, c in PLACES], axis=1)
        maps = np.full((count, len(PLACES), GRID, GRID), 0.01, np.float32)
        for k in range(len(PLACES)):
            row, column = PLACES[(k + self.shift) % len(PLACES)]
            maps[:, k, row, column] = 1.0
        shares = np.zeros((count, len(PLACES), 1))
        return {"activation": activation, "active": shares, "inactive": shares, "maps": maps,
                "heads": np.zeros((count, 1))}  # fmt: skip

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Noise everywhere: every concept is active."""
    return np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE), dtype=np.uint8)


def test_top_cells_are_the_highest_and_always_as_many() -> None:
    weights = np.random.default_rng(1).random((5, 7, 7))
    cells = top_cells(weights)
    assert (cells.sum(axis=(1, 2)) == 10).all()
    for chosen, weight in zip(cells, weights, strict=True):
        assert weight[chosen].min() > weight[~chosen].max()
    assert top_cells(np.zeros((1, 7, 7))).sum() == 10, "equal weights do not change the area"


def test_hiding_calms_the_cells_and_leaves_the_rest(crops: np.ndarray) -> None:
    cells = np.zeros((24, GRID, GRID), bool)
    cells[:, 3, 3] = True
    hidden = hide(crops, cells)
    inside = slice(3 * CELL + 4, 4 * CELL - 4)
    assert hidden[:, inside, inside].std() < 0.2 * crops[:, inside, inside].std()
    assert (hidden[:, : 2 * CELL] == crops[:, : 2 * CELL]).all()
    flat = np.full((1, SIDE, SIDE), 77, np.uint8)
    assert (hide(flat, cells[:1]) == flat).all()
    grey = hide(crops, cells, grey=True)
    assert np.abs(grey[:, inside, inside] - crops.mean((1, 2))[:, None, None]).max() < 6
    assert (grey[:, : 2 * CELL] == crops[:, : 2 * CELL]).all()


def test_a_right_map_is_missed_more_than_any_other(crops: np.ndarray) -> None:
    engine = Looker()
    regions = np.zeros((len(PLACES), GRID, GRID), np.float32)
    regions[:, 6, 6] = 1.0  # a landmark map that is wrong
    trials = try_all(engine, crops, ask(engine, crops), regions, limit=8, seed=0)
    rows = {each.map: each for each in figures("looker", trials, ["a", "b", "c", "d"]) if each.concept == "all"}
    assert rows["own"].pictures == 32
    assert rows["own"].fall.value > 0.5
    assert rows["own"].rate is not None and rows["own"].rate.value == 1.0
    for kind in ("region", "other", "shuffled", "region grey"):
        beaten = rows[kind].beaten
        assert beaten is not None and beaten.value > 0.6, kind
    assert rows["own grey"].beaten is None
    assert rows["region grey"].own_fall.value == pytest.approx(rows["own grey"].fall.value)
    sentence = occlusion.said(list(rows.values()))
    assert any(line.startswith("Hiding by a landmark-only map") and "own map beats it" in line for line in sentence)


def test_a_map_that_shows_another_place_is_found_out(crops: np.ndarray) -> None:
    engine = Looker(shift=1)
    trials = try_all(engine, crops, ask(engine, crops), None, limit=8, seed=0)
    rows = {each.map: each for each in figures("looker", trials, ["a", "b", "c", "d"]) if each.concept == "all"}
    assert set(rows) == {"own", "other", "shuffled", "own grey"}, "without the geometry there is no landmark-only map"
    assert rows["own"].rate is not None and rows["own"].rate.value < 0.5
    assert not any("own map beats it" in line for line in occlusion.said(list(rows.values())))


def test_the_fall_is_compared_with_other_active_concepts_only() -> None:
    before = np.array([[0.9, 0.8, 0.01], [0.9, 0.1, 0.1]])
    after = np.array([[0.5, 0.8, 0.99], [0.5, 0.1, 0.1]])
    fall, margin = falls(before, after, 0)
    np.testing.assert_allclose(fall, [0.4, 0.4])
    assert margin[0] == pytest.approx(np.log(9))
    assert np.isnan(margin[1]), "no other concept was active"


def test_a_peak_hits_when_it_is_near_what_moved() -> None:
    moved = np.array([[50.0, 50.0]], np.float32)
    assert pointing.hits(np.array([[53.0, 50.0]]), moved) == 1.0
    assert pointing.hits(np.array([[50.0, 55.0], [50.0, 46.0]]), moved) == 0.5
    assert pointing.hits(np.array([[53.0, 50.0]]), moved, side_px=56) == 0.0, "half the side, half the pixels"
    assert pointing.hits(np.array([[50.0, 55.0]]), np.zeros((0, 2), np.float32)) == 0.0


def test_pointing_counts_what_is_shown_and_tells_right_from_wrong(crops: np.ndarray) -> None:
    centres = [np.array([[c * CELL + 8, r * CELL + 8]], np.float32) for r, c in PLACES]
    concepts = np.array([1.0, 0.8, 0.2, 1.0], np.float32)  # the third is not shown
    renders = [Placed(crop, concepts, tuple(centres)) for crop in crops[:6]]
    regions = np.zeros((len(PLACES), GRID, GRID), np.float32)
    regions[:, PLACES[0][0], PLACES[0][1]] = 1.0
    names = ["a", "b", "c", "d"]
    right = {each.concept: each for each in pointing.measure(Looker(), renders, regions, names)}
    assert set(right) == {"all", "a", "b", "d"}
    assert right["all"].pictures == 18
    assert right["all"].hit.value == 1.0
    assert right["all"].region == pytest.approx(1 / 3)
    assert 0 < right["all"].chance < 0.02
    wrong = pointing.measure(Looker(shift=1), renders, regions, names)
    assert wrong[0].hit.value == 0.0
    assert "0 % (0–0) of 18 cases" in pointing.said(wrong)[0]


def test_the_geometry_of_a_render_follows_from_its_seed(face: FaceModel) -> None:
    painted = (np.full(len(face.neutral), 0.5, np.float32), np.zeros(len(face.neutral), np.float32))
    for seed in range(3):
        shown = generate.example(face, face.neutral, painted, seed)
        made = scene_of(face, seed)
        vertices = face.express(face.neutral, made.weights)
        turn = ict.rotation(made.pose.yaw_deg, made.pose.pitch_deg, made.pose.roll_deg)
        np.testing.assert_allclose(scene.project(vertices, turn, made.camera)[ict.LANDMARKS, :2], shown.landmarks)
        exact = ict.concepts_of(face, made.weights, vertices, made.pose.yaw_deg, made.pose.pitch_deg)
        np.testing.assert_array_equal(exact, shown.concepts)


def test_what_moves_is_where_the_shape_moves_it(face: FaceModel) -> None:
    made = scene_of(face, 0)
    shapes = {shape: 1.0 for name in ("AU12", "AU2") for shape in CONCEPTS[INDEX[name]].ict_shapes}
    made = type(made)(face.weights(shapes), scene.Pose(), scene.Camera())
    # The stand-in face has no triangles to speak of, and so no normals: every vertex counts as turned away. A face of
    # one plane that looks at the camera has them.
    plane = FaceModel(face.neutral, _plane(), face.expression_names, face.expression_deltas, face.identity_deltas)
    moved = moved_points(plane, plane.neutral, np.zeros(len(face.neutral), np.float32), made)
    shown = {name for name, points in zip(NAMES, moved, strict=True) if len(points)}
    assert shown == {"AU2", "AU12"}
    assert moved[INDEX["AU2"]][:, 1].mean() < 80 < moved[INDEX["AU12"]][:, 1].mean(), "brows above the mouth"


def _plane() -> np.ndarray:
    """Triangles over the 97 x 97 vertices of the stand-in face, facing the camera."""
    corner = (np.arange(96)[:, None] * 97 + np.arange(96)).reshape(-1, 1)
    return np.concatenate([corner + np.array(three) for three in ((0, 1, 98), (0, 98, 97))]).astype(np.int32)
