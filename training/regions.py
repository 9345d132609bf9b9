"""Where each concept is seen in an aligned crop: the displacement of its ICT-FaceKit shape, laid on a grid.

The displacement of a vertex is the exact region of the movement, so unlike hand-drawn ellipses the regions of two AUs
are the same only if the AUs move the same skin. Head pose has no place of its own: its rows are zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.preprocess import similarity
from training.concepts import CONCEPTS, INDEX
from training.synthetic.ict import FACE, LANDMARKS, FaceModel

F32 = npt.NDArray[np.float32]
_EYE_RIGHT, _EYE_LEFT, _NOSE, _MOUTH_RIGHT, _MOUTH_LEFT = slice(36, 42), slice(42, 48), 30, 48, 54


def regions(model: FaceModel, grid: int) -> F32:
    """[K, grid, grid], each row scaled to a maximum of 1, or all zero."""
    neutral = model.express(model.neutral, model.weights({}))
    # The person's left is +x and appears on the picture's right; the picture's y points down.
    plane = neutral[FACE, :2] * np.array([1.0, -1.0], np.float32)
    marks = (neutral[LANDMARKS, :2] * np.array([1.0, -1.0])).astype(np.float32)
    points = np.stack([marks[_EYE_RIGHT].mean(0), marks[_EYE_LEFT].mean(0), marks[_NOSE],
                       marks[_MOUTH_RIGHT], marks[_MOUTH_LEFT]])  # fmt: skip
    affine = similarity(points.astype(np.float32), grid)
    cells = np.floor(plane @ affine[:, :2].T + affine[:, 2]).astype(int)
    inside = ((cells >= 0) & (cells < grid)).all(1)
    found = np.zeros((len(CONCEPTS), grid, grid), np.float32)
    for row, concept in enumerate(CONCEPTS):
        shapes = concept.ict_shapes or (("jawOpen",) if concept.name == "AU25" else ())
        if not shapes:
            continue
        moved = model.express(model.neutral, model.weights(dict.fromkeys(shapes, 1.0)))[FACE] - neutral[FACE]
        strength = np.linalg.norm(moved, axis=1)
        total, count = np.zeros((grid, grid)), np.zeros((grid, grid))
        np.add.at(total, (cells[inside, 1], cells[inside, 0]), strength[inside])
        np.add.at(count, (cells[inside, 1], cells[inside, 0]), 1)
        region = total / np.maximum(count, 1)
        found[row] = np.where(region > 0.3 * region.max(), region / region.max(), 0.0)
    found[INDEX["AU25"], : grid // 2] = 0.0
    return found
