"""The demo's person in colour: tints over the painted brightness, clothes, and the room behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from training.synthetic import look
from training.synthetic.ict import EYE_LEFT, EYE_RIGHT, EYE_SOCKETS, F32, GUMS, MOUTH_SOCKET, TEETH, FaceModel
from training.synthetic.sample import IDENTITIES
from training.synthetic.scene import Camera, Light

WIDTH_PX: Final = 640
HEIGHT_PX: Final = 360
LIGHT: Final = Light(
    (0.45, 0.5, 0.74), key_power=0.72, fill=(-0.8, 0.15, 0.58), fill_power=0.22, ambient=0.3, gloss=0.08
)
STYLE: Final = look.Style(
    skin=0.5,
    mottle=0.025,
    lips=0.72,
    brow=0.2,
    brow_width_cm=0.36,
    iris=0.16,
    hair=0.05,
    hairline_cm=10.2,
    hair_slope=0.85,
    hair_volume_cm=1.3,
    liner=0.6,
    cloth=0.16,
)
_IDENTITY_SEED: Final = 2
_LUMA: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Tints:
    """Hue of each part, linear RGB; only the proportions count, brightness is the style's."""

    skin: Colour = (1.0, 0.6, 0.44)
    lips: Colour = (1.0, 0.45, 0.42)
    hair: Colour = (1.0, 0.6, 0.38)
    iris: Colour = (0.75, 1.0, 1.0)
    mouth: Colour = (1.0, 0.35, 0.33)
    teeth: Colour = (1.0, 0.97, 0.88)
    cloth: Colour = (0.45, 0.75, 1.0)
    room: Colour = (0.8, 1.0, 0.98)


TINTS: Final = Tints()


@dataclass(frozen=True, slots=True)
class Person:
    """Who is in front of the camera, ready to move, and where."""

    neutral: F32  # [V, 3]
    colours: F32  # [V, 3] linear RGB reflectance
    hair_cm: F32  # [V]
    room: F32  # [H, W, 3] linear RGB


def person(model: FaceModel) -> Person:
    """The demo's person, the same every time."""
    rng = np.random.default_rng(_IDENTITY_SEED)
    coefficients = (0.7 * np.clip(rng.normal(0, 1, IDENTITIES), -2, 2)).astype(np.float32)
    where = look.masks(model)
    tone, hair_cm = look.paint(model, where, STYLE, rng)
    hue = np.tile(_unit(TINTS.skin), (len(tone), 1))
    hue += where.lips[:, None] * (_unit(TINTS.lips) - hue)
    hairy = np.clip(hair_cm / STYLE.hair_volume_cm + np.exp(-((where.brow_distance_cm / 0.4) ** 4)), 0, 1)
    hue += hairy[:, None] * (_unit(TINTS.hair) - hue)
    hue += look.clothed(model)[:, None] * (_unit(TINTS.cloth) - hue)
    hue[MOUTH_SOCKET], hue[GUMS] = _unit(TINTS.mouth), _unit(TINTS.mouth)
    hue[TEETH], hue[EYE_SOCKETS] = _unit(TINTS.teeth), _unit(TINTS.skin)
    for eye in (EYE_LEFT, EYE_RIGHT):
        iris = (where.eye_angle_deg[eye] < 24)[:, None]
        hue[eye] = np.where(iris, _unit(TINTS.iris), _unit((1, 0.96, 0.92)))
    return Person(model.identity(coefficients), (tone[:, None] * hue).astype(np.float32), hair_cm, _room())


def _room() -> F32:
    """A wall with a window's light, a shelf and a picture, out of focus [H, W, 3] linear RGB."""
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    wall = 0.24 + 0.12 * (x / WIDTH_PX) - 0.07 * (y / HEIGHT_PX)
    picture = wall[..., None] * _unit(TINTS.room)
    for corner, size, colour in _FURNITURE:
        left, top = corner
        picture[top : top + size[1], left : left + size[0]] = colour
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 6), np.float32)


_FURNITURE: Final[tuple[tuple[tuple[int, int], tuple[int, int], Colour], ...]] = (
    ((0, 150), (150, 12), (0.2, 0.13, 0.08)),
    ((20, 92), (16, 58), (0.3, 0.12, 0.1)),
    ((38, 84), (22, 66), (0.12, 0.22, 0.28)),
    ((64, 98), (14, 52), (0.4, 0.36, 0.2)),
    ((82, 88), (20, 62), (0.14, 0.26, 0.18)),
    ((505, 50), (100, 76), (0.2, 0.16, 0.12)),
    ((513, 58), (84, 60), (0.5, 0.55, 0.5)),
    ((530, 90), (50, 28), (0.25, 0.4, 0.35)),
)


def with_shoulders(backdrop: F32, camera: Camera) -> F32:
    """The mesh ends at the collar: shoulders behind it, drawn flat, go on to the picture's edge."""
    mask = np.zeros(backdrop.shape[:2], np.float32)
    cm = camera.scale_px_per_cm * 0.93
    centre = (round(16 * camera.centre_x_px), round(16 * (camera.centre_y_px + 27 * cm)))
    cv2.ellipse(mask, centre, (round(16 * 21 * cm), round(16 * 12.8 * cm)), 0, 0, 360, 1.0, -1, cv2.LINE_8, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
    cloth = STYLE.cloth * 0.75 * _unit(TINTS.cloth)
    return np.asarray(backdrop + soft * (cloth - backdrop), np.float32)


def _unit(colour: Colour) -> F32:
    """The same hue at luminance 1."""
    rgb = np.array(colour, np.float32)
    return np.asarray(rgb / (rgb @ _LUMA), np.float32)
