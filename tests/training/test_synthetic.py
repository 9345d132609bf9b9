"""Synthetic faces: the labels are what the geometry and the picture show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from training.concepts import CONCEPTS, INDEX, MIRRORED, NAMES
from training.synthetic import generate, ict, look, sample, scene

ICT_PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ict_facekit_light.npz"
NOBODY = np.zeros(1, np.float32)


@pytest.fixture(scope="module")
def model() -> ict.FaceModel:
    if not ICT_PATH.exists():
        pytest.skip("the ICT-FaceKit model is not beside the checkout")
    return ict.load(ICT_PATH)


def _picture(model: ict.FaceModel, named: dict[str, float], pose: scene.Pose = scene.Pose()) -> scene.Shot:  # noqa: B008
    """An even-skinned average face under a symmetric light."""
    vertices = model.express(model.neutral, model.weights(ict.concept_weights(named)))
    bare = look.Style(mottle=0, hairline_cm=16)
    painted = look.paint(model, look.masks(model), bare, np.random.default_rng(0))
    light = scene.Light(key=(0, 0.5, 0.87), fill=(0, 0, 1))
    return scene.render(model, vertices, painted, pose, (scene.Camera(), light), np.zeros((160, 160, 1), np.float32))


@pytest.mark.shared
@pytest.mark.parametrize("name", [c.name for c in CONCEPTS if c.ict_shapes])
def test_the_label_of_a_movement_is_its_weight_and_nothing_else_moves(model: ict.FaceModel, name: str) -> None:
    weights = model.weights(ict.concept_weights({name: 0.6}))
    labels = ict.concepts_of(model, weights, model.express(model.neutral, weights), 0, 0)
    expected = np.zeros(len(NAMES))
    expected[INDEX[name]] = 0.6
    measured = INDEX["AU25"]
    np.testing.assert_allclose(np.delete(labels, measured), np.delete(expected, measured), atol=1e-6)


@pytest.mark.shared
def test_one_side_alone_is_half_of_a_movement(model: ict.FaceModel) -> None:
    weights = model.weights({"mouthSmile_L": 0.8})
    assert ict.concepts_of(model, weights, model.neutral, 0, 0)[INDEX["AU12"]] == pytest.approx(0.4)


@pytest.mark.shared
def test_lips_part_when_the_jaw_drops_and_not_at_rest(model: ict.FaceModel) -> None:
    def parted(**named: float) -> float:
        weights = model.weights(named)
        return float(ict.concepts_of(model, weights, model.express(model.neutral, weights), 0, 0)[INDEX["AU25"]])

    assert parted() < 0.05 < parted(jawOpen=0.3) < parted(jawOpen=0.8)
    assert parted(mouthLowerDown_L=1, mouthLowerDown_R=1) > 0.1


@pytest.mark.shared
def test_a_smile_moves_the_mouth_corners_outwards_and_up_in_the_picture(model: ict.FaceModel) -> None:
    rest, smile = (scene.five_points(_picture(model, named).landmarks) for named in ({}, {"AU12": 1.0}))
    moved = (smile - rest)[3:]
    assert moved[0, 0] < -1 and moved[1, 0] > 1, "outwards"
    assert (moved[:, 1] < -1).all(), "up"
    np.testing.assert_allclose((smile - rest)[2], 0, atol=1, err_msg="the nose stays")


@pytest.mark.shared
def test_the_mirrored_pose_has_the_mirrored_concepts_and_the_mirrored_picture(model: ict.FaceModel) -> None:
    left, right = scene.Pose(25, 10, 5), scene.Pose(-25, 10, -5)
    one, other = {"gaze_left": 0.5, "AU12": 0.7}, {"gaze_right": 0.5, "AU12": 0.7}

    def labels(named: dict[str, float], pose: scene.Pose) -> ict.F32:
        weights = model.weights(ict.concept_weights(named))
        return ict.concepts_of(model, weights, model.express(model.neutral, weights), pose.yaw_deg, pose.pitch_deg)

    np.testing.assert_allclose(labels(one, left)[list(MIRRORED)], labels(other, right), atol=1e-3)
    assert labels(one, left)[INDEX["head_left"]] == pytest.approx(25 / 40)
    shots = _picture(model, one, left).picture, _picture(model, other, right).picture
    assert np.abs(shots[0] - shots[1][:, ::-1]).mean() < 0.01 < np.abs(shots[0] - shots[1]).mean()


@pytest.mark.shared
def test_turning_left_moves_the_nose_to_the_right_of_the_picture_and_up_lifts_it(model: ict.FaceModel) -> None:
    nose = [scene.five_points(_picture(model, {}, p).landmarks)[2] for p in (scene.Pose(), scene.Pose(30, 20))]
    assert nose[1][0] > nose[0][0] + 5
    assert nose[1][1] < nose[0][1] - 5


@pytest.mark.shared
def test_the_eyeballs_turn_to_the_gaze_and_keep_their_place(model: ict.FaceModel) -> None:
    ahead = model.express(model.neutral, model.weights({}))
    front = int(np.argmax(model.neutral[ict.EYE_LEFT, 2]))
    for name, axis, sign in (("gaze_left", 0, 1), ("gaze_right", 0, -1), ("gaze_up", 1, 1), ("gaze_down", 1, -1)):
        moved = model.express(model.neutral, model.weights(ict.concept_weights({name: 1.0})))
        for eye in (ict.EYE_LEFT, ict.EYE_RIGHT):
            shift = moved[eye] - ahead[eye]
            assert sign * shift[front, axis] > 0.5, name
            np.testing.assert_allclose(shift.mean(axis=0), 0, atol=0.35)


@pytest.mark.shared
@pytest.mark.parametrize("gaze", ["gaze_left", "gaze_right", "gaze_up", "gaze_down"])
def test_a_closed_eye_shows_no_eyeball_wherever_it_looks(model: ict.FaceModel, gaze: str) -> None:
    def seen(closure: float) -> float:
        """The eyeballs' area in the picture, in pixels: they alone are bright."""
        tone = np.zeros(len(model.neutral), np.float32)
        tone[ict.EYE_LEFT] = tone[ict.EYE_RIGHT] = 1
        weights = model.weights(ict.concept_weights({"AU45": closure, gaze: 1.0}))
        vertices = model.express(model.neutral, weights)
        view = (scene.Camera(), scene.Light(gloss=0))
        backdrop = np.zeros((160, 160, 1), np.float32)
        shot = scene.render(model, vertices, (tone, np.zeros_like(tone)), scene.Pose(), view, backdrop)
        return float((shot.picture > 0.1).sum())

    assert seen(0.0) > 20
    assert seen(1.0) < 0.1 * seen(0.0)


@pytest.mark.shared
def test_a_seed_gives_the_same_pictures_and_labels_are_activations(model: ict.FaceModel) -> None:
    job = generate.Job(ICT_PATH, (3, 0), 3)
    first, again = generate.shoot(job), generate.shoot(job)
    other = generate.shoot(generate.Job(ICT_PATH, (4, 0), 1))[0]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        assert one.image.shape == (160, 160) and one.image.std() > 10
        assert ((one.concepts >= 0) & (one.concepts <= 1)).all()
        points = scene.five_points(one.landmarks)
        assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]
        assert ((points > 10) & (points < 150)).all()
    assert (other.image != first[0].image).any()


def test_sampled_expressions_are_weights_and_use_both_ends() -> None:
    rng = np.random.default_rng(1)
    drawn = [sample.expression(rng) for _ in range(400)]
    assert all(0 <= weight <= 1 for weights in drawn for weight in weights.values())
    assert any(not weights for weights in drawn), "a neutral face is among them"
    smiles = [weights.get("mouthSmile_L", 0.0) for weights in drawn]
    assert 0.05 < np.mean(np.array(smiles) > 0.1) < 0.5 and max(smiles) > 0.9
    assert not any(
        weights.get("eyeBlink_L", 0) > 0.6 and any(name.startswith("eyeLook") for name in weights) for weights in drawn
    )


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    wrong, broken = tmp_path / "wrong.npz", tmp_path / "broken.npz"
    np.savez(wrong, faces=np.zeros(3))
    broken.write_bytes(b"PK\x03\x04 and nothing more")
    for path in (wrong, broken, tmp_path / "absent.npz"):
        with pytest.raises(ict.IctFileError, match=path.name) as refused:
            ict.load(path)
        assert "\n" not in str(refused.value)
