"""The ICT-FaceKit light model: geometry from identity and expression, and the concepts a geometry shows.

Axes: +x is the person's left, +y up, +z forward; one unit is about a centimetre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from training.concepts import CONCEPTS, INDEX, head_concepts, lips_part

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Real = npt.NDArray[np.floating[Any]]
"""A helper's argument of any precision."""

FACE: Final = slice(0, 9409)
HEAD: Final = slice(9409, 11248)
MOUTH_SOCKET: Final = slice(11248, 13294)
EYE_SOCKETS: Final = slice(13294, 14062)
GUMS: Final = slice(14062, 17039)
TEETH: Final = slice(17039, 21451)
EYE_LEFT: Final = slice(21451, 23021)
EYE_RIGHT: Final = slice(23021, 24591)
VISIBLE_VERTICES: Final = 24591
"""Vertices past this one are lacrimal fluid, blend and occlusion cards and eyelashes, which need transparency."""

LANDMARKS: Final = np.array(
    [
        *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
        *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147),
        *(4269, 3360, 1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695),
        *(2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
    ],
    dtype=np.int32,
)
"""Vertex numbers of the 68 Multi-PIE landmarks, image left to right for a face that looks at the camera."""

_OVERLAP = 0.12
"""A blink of weight 1 leaves a slit between the lids; this much more shuts it."""

GAZE_SIDE_DEG, GAZE_HEIGHT_DEG = 30.0, 25.0
_EYE_SETBACK = 0.1
"""The eyeballs are set back by this much, or the cornea shows through a lid that is closed over it."""


class IctFileError(ValueError):
    """The file is not the ICT-FaceKit light model; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class FaceModel:
    """Mesh and linear bases. vertices = neutral + identity . identity_deltas + weights . expression_deltas."""

    neutral: F32  # [V, 3]
    triangles: I32  # [T, 3], visible parts only
    expression_names: tuple[str, ...]
    expression_deltas: F32  # [E, V, 3]
    identity_deltas: F32  # [100, V, 3]

    def weights(self, named: Mapping[str, float]) -> F32:
        """Expression weights [E] from a few named ones; an unknown name is a KeyError."""
        out = np.zeros(len(self.expression_names), np.float32)
        place = {name: i for i, name in enumerate(self.expression_names)}
        for name, weight in named.items():
            out[place[name]] = weight
        return out

    def identity(self, coefficients: F32) -> F32:
        """Neutral vertices [V, 3] of a person; coefficients [<= 100] are standard deviations."""
        deltas = self.identity_deltas[: len(coefficients)]
        return self.neutral + np.tensordot(coefficients, deltas, axes=1).astype(np.float32)

    def express(self, person: F32, weights: F32) -> F32:
        """A person's neutral vertices [V, 3] with an expression [E], the eyeballs turned to its gaze."""
        out = person.copy()
        lids = self._lids_meet(weights)
        for i in np.flatnonzero(lids):
            out += lids[i] * self.expression_deltas[i]
        for eye, side in ((EYE_LEFT, "L"), (EYE_RIGHT, "R")):
            out[eye] = _turn(person[eye], *self._gaze_deg(weights, side))
        return out

    def _weight(self, weights: F32, name: str) -> float:
        return float(weights[self.expression_names.index(name)])

    def _gaze_deg(self, weights: F32, side: str) -> tuple[float, float]:
        """Yaw to the person's left and pitch up of one eyeball."""
        outwards = self._weight(weights, f"eyeLookOut_{side}") - self._weight(weights, f"eyeLookIn_{side}")
        up = self._weight(weights, f"eyeLookUp_{side}") - self._weight(weights, f"eyeLookDown_{side}")
        return GAZE_SIDE_DEG * (outwards if side == "L" else -outwards), GAZE_HEIGHT_DEG * up

    def _lids_meet(self, weights: F32) -> F32:
        """A lid that closes has no further to go: what gaze does to it must not be added to a closure."""
        out = weights.copy()
        for side in "LR":
            closed = min(1.0, self._weight(weights, f"eyeBlink_{side}"))
            out[self.expression_names.index(f"eyeBlink_{side}")] += _OVERLAP * closed**4
            for stem in ("eyeLookDown", "eyeLookUp", "eyeLookIn", "eyeLookOut", "eyeWide", "eyeSquint"):
                out[self.expression_names.index(f"{stem}_{side}")] *= 1.0 - closed
        return out


def load(path: Path) -> FaceModel:
    """Read the model from its npz. Raises IctFileError when the file is missing or is another one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            quads = data["quads"]
            return FaceModel(
                data["neutral"],
                _triangles(quads),
                tuple(str(name) for name in data["expression_names"]),
                data["expression_deltas"].astype(np.float32),
                data["identity_deltas"].astype(np.float32),
            )
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise IctFileError(f"{path}: not the ICT-FaceKit light model (npz): {error}") from error


def concept_weights(activations: Mapping[str, float]) -> dict[str, float]:
    """Named expression weights that show these concepts, both sides alike (AU25 and head pose have no shape)."""
    shapes = {concept.name: concept.ict_shapes for concept in CONCEPTS}
    return {shape: value for name, value in activations.items() for shape in shapes[name]}


def concepts_of(model: FaceModel, weights: F32, vertices: F32, yaw_deg: float, pitch_deg: float) -> F32:
    """Exact activations [26] of an expression [E] whose unposed geometry is `vertices` [V, 3]."""
    out = np.zeros(len(CONCEPTS), np.float32)
    for i, concept in enumerate(CONCEPTS):
        if concept.ict_shapes:
            out[i] = np.mean([weights[model.expression_names.index(shape)] for shape in concept.ict_shapes])
    marks = vertices[LANDMARKS]
    eye_distance = float(np.linalg.norm(marks[45] - marks[36]))
    out[INDEX["AU25"]] = lips_part(float(marks[62, 1] - marks[66, 1]), eye_distance)
    for name, value in head_concepts(yaw_deg, pitch_deg).items():
        out[INDEX[name]] = value
    return np.asarray(np.clip(out, 0.0, 1.0), np.float32)


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0) -> F32:
    """Head rotation [3, 3] for column vectors: yaw to the person's left, pitch up, roll to the person's right."""
    yaw, pitch, roll = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def _turn(eyeball: F32, yaw_deg: float, pitch_deg: float) -> F32:
    centre = (eyeball.min(axis=0) + eyeball.max(axis=0)) / 2
    turned = (eyeball - centre) @ rotation(yaw_deg, pitch_deg).T + centre
    turned[:, 2] -= _EYE_SETBACK
    return np.asarray(turned, np.float32)


def _triangles(quads: I32) -> I32:
    quads = quads[(quads < VISIBLE_VERTICES).all(axis=1)]
    fours = quads[quads[:, 3] >= 0]
    return np.ascontiguousarray(np.concatenate([quads[:, :3], fours[:, [0, 2, 3]]]), dtype=np.int32)
