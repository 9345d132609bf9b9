"""A head in front of a camera: pose, perspective, light, and the picture with its landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.synthetic.ict import EYE_LEFT, EYE_RIGHT, F32, HEAD, LANDMARKS, TEETH, FaceModel, rotation
from training.synthetic.raster import downscale, rasterise, vertex_normals

U8 = npt.NDArray[np.uint8]

_SUPERSAMPLE = 2
_FACE_CENTRE = np.array([0.0, 1.0, 5.0], np.float32)
_PIVOT = np.array([0.0, -3.0, 0.0], np.float32)
"""Heads turn about the top of the neck."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Head angles in degrees: yaw to the person's left, pitch up, roll to the person's right."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the face falls in the picture."""

    width_px: int = 160
    height_px: int = 160
    centre_x_px: float = 80.0
    centre_y_px: float = 80.0
    scale_px_per_cm: float = 5.2
    distance_cm: float = 70.0


@dataclass(frozen=True, slots=True)
class Light:
    """Two lamps and the room. Directions are unit vectors towards the lamp, in camera axes."""

    key: tuple[float, float, float] = (0.4, 0.5, 0.77)
    key_power: float = 0.75
    fill: tuple[float, float, float] = (-0.7, 0.1, 0.7)
    fill_power: float = 0.2
    ambient: float = 0.3
    gloss: float = 0.12


@dataclass(frozen=True, slots=True)
class Shot:
    """A rendered picture [H, W, C] in [0, 1] linear light, and its 68 landmarks in pixels [68, 2]."""

    picture: F32
    landmarks: F32


def render(
    model: FaceModel, vertices: F32, paint: tuple[F32, F32], pose: Pose, view: tuple[Camera, Light], backdrop: F32
) -> Shot:
    """Render a posed head over a backdrop [H, W, C] in linear light.

    vertices [V, 3] unposed; paint is the reflectance ([V] or [V, C]) and the hair thickness [V].
    """
    camera, light = view
    tone, hair_cm = paint
    normals = vertex_normals(vertices, model.triangles)
    turn = rotation(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)
    solid = vertices + normals * hair_cm[:, None]
    points = project(solid, turn, camera)
    shade = _shade(normals @ turn.T, light, tone.reshape(len(vertices), -1), vertices)
    canvas = np.repeat(np.repeat(backdrop, _SUPERSAMPLE, axis=0), _SUPERSAMPLE, axis=1)
    scaled = points * np.array([_SUPERSAMPLE, _SUPERSAMPLE, 1], np.float32)
    picture = downscale(rasterise(scaled, shade, model.triangles, canvas), _SUPERSAMPLE)
    return Shot(picture, points[LANDMARKS, :2])


def project(vertices: F32, turn: F32, camera: Camera) -> F32:
    """Turn the head and look at it: [V, 3] x and y in pixels (y down), and nearness in centimetres."""
    still = vertices - _PIVOT
    with_head = np.clip((vertices[:, 1:2] + 15) / 8, 0, 1)
    # The neck twists between the turning head and the resting shoulders.
    posed = still + with_head * (still @ turn.T - still)
    middle = (_FACE_CENTRE - _PIVOT) @ turn.T
    posed = posed - middle
    zoom = camera.scale_px_per_cm * camera.distance_cm / (camera.distance_cm - posed[:, 2])
    x = camera.centre_x_px + zoom * posed[:, 0]
    y = camera.centre_y_px - zoom * posed[:, 1]
    return np.stack([x, y, posed[:, 2]], axis=1).astype(np.float32)


def five_points(landmarks: F32) -> F32:
    """Image-left eye, image-right eye, nose tip, image-left and image-right mouth corner [5, 2]."""
    return np.stack(
        [
            landmarks[36:42].mean(axis=0),
            landmarks[42:48].mean(axis=0),
            landmarks[30],
            landmarks[48],
            landmarks[54],
        ]
    ).astype(np.float32)


def to_luma(picture: F32, gamma: float = 2.2) -> U8:
    """Linear light to 8-bit code values."""
    return np.asarray(np.rint(255 * np.clip(picture, 0, 1) ** (1 / gamma)), np.uint8)


def _shade(normals: F32, light: Light, tone: F32, vertices: F32) -> F32:
    """Reflected light [V, C]: Lambert with two lamps, sky, gloss on wet parts."""
    key, fill = np.array(light.key, np.float32), np.array(light.fill, np.float32)
    # Half of Lambert's terminator is wrapped away: skin scatters light, and hard shadows need shadow maps.
    lit = light.key_power * np.clip((normals @ key + 0.15) / 1.15, 0, None)
    lit += light.fill_power * np.clip(normals @ fill, 0, None)
    lit += light.ambient * (0.75 + 0.25 * normals[:, 1])
    half = key + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    facing = np.clip(normals @ half, 0, None)
    gloss = light.gloss * facing**18
    gloss[HEAD] *= 0.3
    gloss[TEETH] *= 0.5
    for eye in (EYE_LEFT, EYE_RIGHT):
        gloss[eye] = light.key_power * np.clip(facing[eye], 0, 1) ** 150
        ball = vertices[eye]
        height = (ball[:, 1] - ball[:, 1].mean()) / 1.6
        # The upper lid and the lashes shade the ball below them.
        lit[eye] *= np.clip(0.92 - 0.75 * np.clip(height + 0.02, 0, 1), 0.3, 1)
    return np.ascontiguousarray(tone * lit[:, None] + gloss[:, None], np.float32)
