"""How a synthetic person looks: painted brightness of skin, lips, brows, eyes, teeth and hair per vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synthetic.ict import (
    EYE_LEFT,
    EYE_RIGHT,
    EYE_SOCKETS,
    F32,
    FACE,
    GUMS,
    HEAD,
    LANDMARKS,
    MOUTH_SOCKET,
    TEETH,
    FaceModel,
    Real,
)


@dataclass(frozen=True, slots=True)
class Style:
    """One person's paint. Tones are linear reflectances in [0, 1]; lengths are in centimetres."""

    skin: float = 0.62
    mottle: float = 0.05
    lips: float = 0.68
    """Brightness of the lips relative to the skin."""
    brow: float = 0.25
    """Brightness of the brows relative to the skin."""
    brow_width_cm: float = 0.42
    brow_lift_cm: float = 0.0
    iris: float = 0.18
    hair: float = 0.1
    hairline_cm: float = 10.0
    """Height of the front hairline; past 13 the head is bald."""
    hair_slope: float = 0.9
    """How far the hair reaches forwards at the temples."""
    hair_volume_cm: float = 0.9
    beard: float = 0.0
    """0 is shaven, 1 a full dark beard."""
    liner: float = 0.5
    """How dark the rims of the lids are (lashes)."""
    cloth: float = 0.3


@dataclass(frozen=True, slots=True)
class Masks:
    """Where each paint goes on the neutral mesh; values per vertex [V]."""

    lips: F32
    brow_distance_cm: F32
    lid_distance_cm: F32
    beard: F32
    hair_y: F32
    hair_z: F32
    hair_allowed: F32
    mouth_depth: F32
    eye_angle_deg: F32
    """Angle from the optical axis on the eyeballs, 180 elsewhere."""
    eye_height: F32


def masks(model: FaceModel) -> Masks:
    """Measure the neutral mesh once; every style is then a few array operations."""
    v = model.neutral
    marks = v[LANDMARKS]
    face = np.zeros(len(v), bool)
    face[FACE] = True
    angle, height = np.full(len(v), 180.0, np.float32), np.zeros(len(v), np.float32)
    for eye in (EYE_LEFT, EYE_RIGHT):
        ball = v[eye] - (v[eye].min(axis=0) + v[eye].max(axis=0)) / 2
        angle[eye] = np.rad2deg(np.arccos(ball[:, 2] / np.linalg.norm(ball, axis=1)))
        height[eye] = ball[:, 1]
    brows = np.minimum(_strip(v, _arch(marks[17:22])), _strip(v, _arch(marks[22:27])))
    lids = np.minimum.reduce([_strip(v, marks[rim]) for rim in ([36, 37, 38, 39], [42, 43, 44, 45])])
    lower = np.minimum.reduce([_strip(v, marks[rim]) for rim in ([36, 41, 40, 39], [42, 47, 46, 45])]) + 0.08
    far = np.float32(99)
    jaw = _step((-1.0 - v[:, 1]) / 1.5) * _step((v[:, 2] - 1.5) / 2.0) * _step((v[:, 1] + 9.5) / 1.5)
    moustache = _step(1.0 - np.hypot(v[:, 0] / 3.2, (v[:, 1] + 1.9) / 0.8)) * 3
    ears = (np.abs(v[:, 0]) > 7.6) & face & (v[:, 1] > -3.5) & (v[:, 1] < 5.2)
    hairy = np.zeros(len(v), bool)
    hairy[FACE] = hairy[HEAD] = True
    return Masks(
        lips=np.where(face & (v[:, 2] > 8), _inside(v, marks[48:60]), 0).astype(np.float32),
        brow_distance_cm=np.where(face, brows, far).astype(np.float32),
        lid_distance_cm=np.where(face, np.minimum(lids, lower), far).astype(np.float32),
        beard=np.where(face, np.clip(np.maximum(jaw, moustache), 0, 1), 0).astype(np.float32),
        hair_y=v[:, 1].copy(),
        hair_z=v[:, 2].copy(),
        hair_allowed=(hairy & ~ears).astype(np.float32),
        mouth_depth=np.clip((v[:, 2] - 6.5) / 4.5, 0.08, 1).astype(np.float32),
        eye_angle_deg=angle,
        eye_height=height,
    )


def paint(model: FaceModel, where: Masks, style: Style, rng: np.random.Generator) -> tuple[F32, F32]:
    """Reflectance [V] and hair thickness in centimetres [V] of a styled person."""
    v = model.neutral
    coarse, fine = _noise(v, 0.5, rng), _noise(v, 3.0, rng)
    tone: Real = style.skin * (1 + style.mottle * coarse + 0.4 * style.mottle * fine)
    tone *= 1 - 0.12 * np.exp(-(((np.abs(v[:, 0]) - 3.1) / 1.4) ** 2) - ((v[:, 1] - 2.2) / 0.8) ** 2)
    tone *= 1 - style.beard * where.beard * (0.65 + 0.2 * fine)
    tone = _mix(tone, style.skin * style.lips * (1 + 0.05 * fine), where.lips)
    brow = np.exp(-((where.brow_distance_cm / style.brow_width_cm) ** 4))
    tone = _mix(tone, style.skin * style.brow * (1 + 0.25 * fine), brow)
    tone *= 1 - style.liner * np.exp(-((where.lid_distance_cm / 0.12) ** 2))
    hair = _hair(where, style, coarse + fine)
    tone = _mix(tone, style.hair * (1 + 0.12 * fine + 0.18 * _noise(v * [6, 1, 1], 0.8, rng)), hair)
    tone = _mix(tone, style.cloth * (1 + 0.1 * coarse), clothed(model))
    tone[MOUTH_SOCKET] = 0.22 * where.mouth_depth[MOUTH_SOCKET] ** 2
    tone[GUMS] = 0.34 * where.mouth_depth[GUMS] ** 1.5
    tone[TEETH] = 0.85 * where.mouth_depth[TEETH] ** 1.2
    tone[EYE_SOCKETS] = 0.4 * style.skin
    for eye in (EYE_LEFT, EYE_RIGHT):
        tone[eye] = _eyeball(where.eye_angle_deg[eye], style.iris)
    return np.clip(tone, 0.01, 1).astype(np.float32), (style.hair_volume_cm * hair).astype(np.float32)


def clothed(model: FaceModel) -> F32:
    """1 where a round collar covers the neck [V]."""
    v = model.neutral
    collar_cm = -14.5 + 0.06 * v[:, 0] ** 2 - 0.08 * np.abs(v[:, 2] - 2)
    return _step((collar_cm - v[:, 1]) / 0.4)


def random_style(rng: np.random.Generator) -> Style:
    """A plausible person of any skin tone, hair and age."""
    skin = rng.uniform(0.12, 0.8)
    dark_hair = rng.random() < 0.65
    hair = rng.uniform(0.02, 0.12) if dark_hair else rng.uniform(0.12, 0.75)
    return Style(
        skin=skin,
        mottle=rng.uniform(0.01, 0.08),
        lips=rng.uniform(0.5, 0.95),
        brow=float(np.clip(rng.uniform(0.12, 0.8), 0, 0.9)),
        brow_width_cm=rng.uniform(0.2, 0.55),
        iris=rng.uniform(0.03, 0.35),
        hair=hair,
        hairline_cm=rng.choice([rng.uniform(7.8, 11.0), 16.0], p=[0.9, 0.1]),
        hair_slope=rng.uniform(0.6, 1.1),
        hair_volume_cm=rng.uniform(0.2, 1.8),
        beard=rng.uniform(0.15, 0.9) if rng.random() < 0.25 else 0.0,
        liner=rng.uniform(0.1, 0.85),
        cloth=rng.uniform(0.02, 0.85),
    )


def _hair(where: Masks, style: Style, noise: Real) -> F32:
    """1 behind and above a plane that leans back from the hairline over the ears."""
    lean = np.arctan(style.hair_slope)
    above = (where.hair_y - style.hairline_cm) * np.cos(lean) - (where.hair_z - 9.5) * np.sin(lean)
    nape = _step((where.hair_y + 11.0) / 2.0)
    return np.asarray(_step((above + 0.25 * noise) / 0.7 + 0.5) * where.hair_allowed * nape, np.float32)


def _eyeball(angle_deg: F32, iris: float) -> F32:
    """Sclera, iris with a dark rim, pupil."""
    tone = np.full(len(angle_deg), 0.82, np.float32)
    tone = _mix(tone, iris * 0.5, _step((24.5 - angle_deg) / 2))
    tone = _mix(tone, iris, _step((21.5 - angle_deg) / 2))
    return _mix(tone, 0.01, _step((9.5 - angle_deg) / 2))


def _mix(below: Real, above: Real | float, share: F32) -> F32:
    return np.asarray(below + share * (above - below), np.float32)


def _step(x: Real) -> F32:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def _noise(v: Real, frequency: float, rng: np.random.Generator) -> F32:
    """Smooth noise over the mesh, about unit variance: a sum of random plane waves."""
    waves = rng.normal(0, frequency, (6, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 6).astype(np.float32)
    return np.asarray(np.sin(v.astype(np.float32) @ waves.T + phases).sum(axis=1) / np.sqrt(3), np.float32)


def _arch(marks: F32) -> F32:
    """The brow's centre line: the landmarks, which lie on its upper edge, a little lower."""
    return marks - np.array([0, 0.25, 0], np.float32)


def _strip(v: F32, line: F32) -> F32:
    """Distance in the frontal plane from each vertex to a polyline, front of the head only."""
    out = np.full(len(v), 99, np.float32)
    front = np.flatnonzero(v[:, 2] > 6)
    p = v[front, :2]
    best = np.full(len(front), 99, np.float32)
    for a, b in zip(line[:-1, :2], line[1:, :2], strict=True):
        along = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        best = np.minimum(best, np.linalg.norm(p - a - along[:, None] * (b - a), axis=1))
    out[front] = best
    return out


def _inside(v: F32, ring: F32) -> F32:
    """1 inside a closed frontal outline, falling to 0 within a millimetre outside it."""
    x, y = v[:, 0], v[:, 1]
    inside = np.zeros(len(v), bool)
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        crosses = (a[1] > y) != (b[1] > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0])
    edge = _strip(v, np.concatenate([ring, ring[:1]]))
    return np.where(inside, 1, np.exp(-((edge / 0.12) ** 2))).astype(np.float32)
