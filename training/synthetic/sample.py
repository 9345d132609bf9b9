"""Random draws: people, expressions, poses, lights, cameras and backdrops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np

from training.concepts import CONCEPTS
from training.synthetic.ict import F32, Real, concept_weights
from training.synthetic.scene import Camera, Light, Pose

IDENTITIES: Final = 100
_ACTION_UNITS: Final = tuple(c.name for c in CONCEPTS if c.kind == "au" and c.ict_shapes)
_OPPOSED: Final = (
    *(("AU45", "AU5"), ("AU12", "AU15"), ("AU7", "AU5"), ("AU26", "AU23"), ("AU26", "AU28"), ("AU26", "AU17")),
    *(("AU28", "AU10"), ("AU28", "AU23"), ("AU12", "AU17")),
)
"""Pairs of which a face rarely shows both; the second one yields."""

PROTOTYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "happiness": ("AU6", "AU12"),
    "surprise": ("AU1", "AU2", "AU5", "AU26"),
    "sadness": ("AU1", "AU4", "AU15"),
    "anger": ("AU4", "AU5", "AU7", "AU23"),
    "disgust": ("AU9", "AU10", "AU15", "AU17"),
    "fear": ("AU1", "AU2", "AU4", "AU5", "AU20", "AU26"),
    "contempt": ("AU12", "AU14"),
}

_DISTRACTORS: Final = (
    *("mouthPucker", "mouthFunnel", "mouthShrugUpper", "jawForward", "jawLeft", "jawRight"),
    *("mouthLeft", "mouthRight"),
)
"""Movements without a concept; a model must not mistake them for one."""


def identity(rng: np.random.Generator) -> F32:
    """Coefficients of a random person [100], in standard deviations."""
    return np.clip(rng.normal(0, 1, IDENTITIES), -2, 2).astype(np.float32)


def expression(rng: np.random.Generator) -> dict[str, float]:
    """Named expression weights: neutral, a sparse mixture, or a prototype with additions; gaze on its own."""
    kind = rng.random()
    active: dict[str, float] = {}
    if kind < 0.3:
        names = PROTOTYPES[str(rng.choice(list(PROTOTYPES)))]
        strength = rng.uniform(0.2, 1.0)
        active = {name: float(np.clip(strength * rng.uniform(0.7, 1.3), 0, 1)) for name in names}
    elif kind < 0.92:
        share = rng.uniform(0.08, 0.35)
        active = {name: float(rng.uniform(0.1, 1.0)) for name in _ACTION_UNITS if rng.random() < share}
    if rng.random() < 0.12:
        active["AU45"] = 1.0
    for first, second in _OPPOSED:
        if first in active and second in active and rng.random() < 0.85:
            del active[second]
    # Nobody can tell where closed eyes look, so no such label is asked for.
    gaze = {} if active.get("AU45", 0.0) > 0.6 else _gaze(rng)
    weights = concept_weights(active | gaze)
    return _uneven(weights, rng) | _others(rng)


def pose(rng: np.random.Generator) -> Pose:
    """Mostly towards the camera, at times as far as 45 degrees of yaw and 30 of pitch."""
    wide = rng.random() < 0.6
    yaw, pitch = (rng.uniform(-45, 45), rng.uniform(-30, 30)) if wide else rng.normal(0, 8, 2)
    return Pose(float(yaw), float(pitch), float(np.clip(rng.normal(0, 6), -15, 15)))


def camera(rng: np.random.Generator, size_px: int) -> Camera:
    """The face fills about two thirds of the picture."""
    jitter = rng.uniform(-0.05, 0.05, 2) * size_px
    return Camera(
        size_px,
        size_px,
        float(size_px / 2 + jitter[0]),
        float(size_px / 2 + jitter[1]),
        float(rng.uniform(0.033, 0.042) * size_px),
        float(rng.uniform(40, 120)),
    )


def light(rng: np.random.Generator) -> Light:
    """A key lamp from anywhere in front, a weaker one, and the room."""
    return Light(
        key=_direction(rng, 60),
        key_power=float(rng.uniform(0.25, 1.0)),
        fill=_direction(rng, 80),
        fill_power=float(rng.uniform(0.0, 0.5)),
        ambient=float(rng.uniform(0.15, 0.6)),
        gloss=float(rng.uniform(0.0, 0.25)),
    )


def backdrop(rng: np.random.Generator, size_px: int) -> F32:
    """Smooth noise, a gradient and a few soft shapes [size, size, 1] in linear light."""
    coarse = rng.uniform(0, 1, (int(rng.integers(2, 7)),) * 2).astype(np.float32)
    smooth = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    out: Real = rng.uniform(0.0, 0.6) + rng.uniform(0.05, 0.6) * (smooth - 0.3)
    for _ in range(int(rng.integers(0, 6))):
        corners = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * size_px
        flat = np.zeros((size_px, size_px), np.float32)
        cv2.fillPoly(flat, [corners.astype(np.int32)], 1.0)
        shape = cv2.GaussianBlur(flat, (0, 0), float(rng.uniform(0.5, 4)))
        out = out + shape * (rng.uniform(0, 0.9) - out)
    return np.asarray(np.clip(out, 0, 1)[..., None], np.float32)


def spoil(luma: F32, rng: np.random.Generator) -> F32:
    """What a camera does to code values in [0, 255]: exposure, contrast, blur, noise, compression blocks."""
    out: Real = luma
    if rng.random() < 0.5:
        out = np.asarray(cv2.GaussianBlur(luma, (0, 0), float(rng.uniform(0.3, 1.2))), np.float32)
    if rng.random() < 0.25:
        small = int(out.shape[0] * rng.uniform(0.3, 0.7))
        coarse = cv2.resize(np.asarray(out, np.float32), (small, small), interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(coarse, out.shape[::-1]), np.float32)
    out = (out - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-20, 20)
    out = out + rng.normal(0, rng.uniform(0, 5), out.shape)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        packed = cv2.imencode(".jpg", np.clip(out, 0, 255).astype(np.uint8), quality)[1]
        out = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.float32)
    return np.asarray(np.clip(out, 0, 255), np.float32)


def _gaze(rng: np.random.Generator) -> dict[str, float]:
    if rng.random() < 0.35:
        return {}
    side, height = rng.choice(["gaze_left", "gaze_right"]), rng.choice(["gaze_up", "gaze_down"])
    both = {str(side): float(rng.uniform(0, 1)), str(height): float(rng.uniform(0, 1))}
    return {name: value for name, value in both.items() if rng.random() < 0.75}


def _uneven(weights: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """A third of the faces move one side less, as people do; eyes keep looking the same way."""
    if rng.random() > 0.35:
        return weights
    side, share = str(rng.choice(["_L", "_R"])), rng.uniform(0.2, 0.9)
    return {
        name: value * share if name.endswith(side) and not name.startswith("eye") else value
        for name, value in weights.items()
    }


def _others(rng: np.random.Generator) -> dict[str, float]:
    out = {name: float(rng.uniform(0.1, 0.7)) for name in _DISTRACTORS if rng.random() < 0.03}
    for stem, chance in (("mouthLowerDown", 0.15), ("cheekPuff", 0.04)):
        if rng.random() < chance:
            out |= dict.fromkeys((f"{stem}_L", f"{stem}_R"), float(rng.uniform(0.1, 1.0)))
    return out


def _direction(rng: np.random.Generator, spread_deg: float) -> tuple[float, float, float]:
    """A unit vector towards the camera's side, within an angle of it, more often from above."""
    side, height = np.deg2rad(rng.uniform(-spread_deg, spread_deg)), np.deg2rad(rng.uniform(-25, 60))
    return (
        float(np.sin(side) * np.cos(height)),
        float(np.sin(height)),
        float(np.cos(side) * np.cos(height)),
    )
