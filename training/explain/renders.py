"""Rendered faces again, with the place of every movement: the geometry of a render follows from its seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.base import Engine
from engines.detect import detect_picture
from engines.preprocess import crop, similarity
from training.concepts import CONCEPTS
from training.explain.answers import U8
from training.synthetic import generate, ict, look, sample, scene
from training.synthetic.raster import vertex_normals

MOVED = 0.3
"""A vertex belongs to a movement that takes it at least this share of the farthest way, as in training.regions."""
_PARTS = np.r_[ict.FACE, ict.EYE_LEFT, ict.EYE_RIGHT]


@dataclass(frozen=True, slots=True)
class Placed:
    """A crop uint8 [S, S] with its exact concepts [K] and, per concept, the moved and visible vertices in crop pixels
    [n, 2]; empty for concepts without a shape of their own, and for those that are not shown.
    """

    crop: U8
    concepts: ict.F32
    moved: tuple[ict.F32, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a render was made of: expression weights [E], head and camera."""

    weights: ict.F32
    pose: scene.Pose
    camera: scene.Camera


def scene_of(model: ict.FaceModel, seed: int) -> Scene:
    """The draws of generate.example, which come first and in this order."""
    rng = np.random.default_rng(seed)
    weights = model.weights(sample.expression(rng))
    pose = sample.pose(rng)
    return Scene(weights, pose, sample.camera(rng, generate.SIZE_PX))


def placed(detector: Engine, ict_path: Path, size_px: int, count: int, seed: int) -> Iterator[Placed]:
    """Up to `count` renders of as many people, cut like live faces; those without a found face are left out.

    Raises IctFileError if the file is not the ICT-FaceKit light model.
    """
    model = ict.load(ict_path)
    where = look.masks(model)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        person = model.identity(sample.identity(rng))
        painted = look.paint(model, where, look.random_style(rng), rng)
        own_seed = int(rng.integers(2**63))
        example = generate.example(model, person, painted, own_seed)
        detection = detect_picture(detector, example.image)
        if detection is None:
            continue
        affine = similarity(detection.points, size_px)
        moved = moved_points(model, person, painted[1], scene_of(model, own_seed))
        points = tuple((at @ affine[:, :2].T + affine[:, 2]).astype(np.float32) for at in moved)
        yield Placed(crop(example.image, affine, size_px), example.concepts, points)


def moved_points(model: ict.FaceModel, person: ict.F32, hair_cm: ict.F32, made: Scene) -> list[ict.F32]:
    """Per concept: picture coordinates [n, 2] of what its shapes move in this very face, as far as it is in view."""
    vertices = model.express(person, made.weights)
    normals = vertex_normals(vertices, model.triangles)
    turn = ict.rotation(made.pose.yaw_deg, made.pose.pitch_deg, made.pose.roll_deg)
    picture = scene.project(vertices + normals * hair_cm[:, None], turn, made.camera)[:, :2]
    in_view = (normals @ turn.T)[:, 2] > 0
    found = []
    for concept in CONCEPTS:
        rows = [model.expression_names.index(shape) for shape in concept.ict_shapes]
        if not rows or not made.weights[rows].any():
            found.append(np.zeros((0, 2), np.float32))
            continue
        without = made.weights.copy()
        without[rows] = 0.0
        way = np.linalg.norm(vertices - model.express(person, without), axis=1)
        near = np.zeros(len(way), bool)
        near[_PARTS] = way[_PARTS] >= MOVED * max(float(way[_PARTS].max()), 1e-6)
        found.append(picture[near & in_view[: len(near)]])
    return found
