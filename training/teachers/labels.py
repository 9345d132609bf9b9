"""Teacher files and renders -> concept labels: activations in [0, 1] and how far each one is to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.concepts import CONCEPTS, INDEX, head_concepts, lips_part
from training.data.pictures import DataError, open_npz

F32 = npt.NDArray[np.float32]

WEAK_WEIGHT = 0.3
"""Weight of an activation that the teacher sees badly; where it sees nothing at all (see `Scale`) the weight is 0."""
_LOW, _HIGH, _DEAD = 0.10, 0.99, 0.02
# On photographs these blendshapes stay near zero whatever the face does.
_BLIND = frozenset({"AU6", "AU9"})
_MEASURES = ("yaw_deg", "pitch_deg", "lips_gap", "eye_distance")


@dataclass(frozen=True, slots=True)
class Labels:
    """activations [N, K] in [0, 1]; weights [N, K], 0 where nothing is known."""

    activations: F32
    weights: F32


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher's output: found [N]; raw [N, K] before scaling, NaN in columns that the teacher does not give."""

    found: npt.NDArray[np.bool_]
    raw: F32


@dataclass(frozen=True, slots=True)
class Scale:
    """low and high [K]: the raw values that become 0 and 1. A blendshape at its strongest on photographs is far from 1,
    and squinting is far from 0 at rest, so both ends are taken from a large corpus."""

    low: F32
    high: F32


def read(path: Path) -> Teacher:
    """A file written by training.teachers.mediapipe_faces. Raises DataError if it is not one."""
    if not path.is_file():
        raise DataError(f"teacher labels not found: {path}; run python -m training.teachers.mediapipe_faces first")
    with open_npz(path, ("found", "names", "blendshapes", *_MEASURES), "a file of teacher labels") as file:
        names = [str(name) for name in file["names"]]
        found, shapes = file["found"], file["blendshapes"]
        yaw, pitch, gap, eyes = (file[key] for key in _MEASURES)
    unnamed = {name for concept in CONCEPTS for name in concept.blendshapes} - set(names)
    if unnamed:
        raise DataError(f"{path}: the teacher gives no {', '.join(sorted(unnamed))}")
    raw = np.full((len(found), len(CONCEPTS)), np.nan, np.float32)
    for column, concept in enumerate(CONCEPTS):
        if concept.blendshapes:
            raw[:, column] = shapes[:, [names.index(name) for name in concept.blendshapes]].mean(1)
    for row in np.nonzero(found)[0]:
        raw[row, INDEX["AU25"]] = lips_part(float(gap[row]), float(eyes[row]))
        for name, value in head_concepts(float(yaw[row]), float(pitch[row])).items():
            raw[row, INDEX[name]] = value
    return Teacher(found, raw)


def scale_of(teacher: Teacher) -> Scale:
    """Quantiles of a large corpus for the blendshape columns; measured columns keep their unit.

    Raises DataError if the teacher found no face.
    """
    if not teacher.found.any():
        raise DataError("the teacher found no face in the pictures that the labels are to be scaled by (scale_from)")
    seen = teacher.raw[teacher.found]
    low, high = np.quantile(seen, (_LOW, _HIGH), axis=0).astype(np.float32)
    measured = [i for i, concept in enumerate(CONCEPTS) if not concept.blendshapes]
    low[measured], high[measured] = 0.0, 1.0
    return Scale(low, np.maximum(high, low + _DEAD))


def apply(teacher: Teacher, scale: Scale) -> Labels:
    """Scaled activations and their weights; rows without a found face weigh nothing."""
    activations = np.clip((teacher.raw - scale.low) / (scale.high - scale.low), 0.0, 1.0)
    trust = np.array(
        [0.0 if c.name in _BLIND else 1.0 if c.teacher_reliable else WEAK_WEIGHT for c in CONCEPTS], np.float32
    )
    weights = teacher.found[:, None] * trust
    return Labels(np.nan_to_num(activations).astype(np.float32), weights.astype(np.float32))
