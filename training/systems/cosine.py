"""CAM-COS and ATT-COS (Belharbi et al., FG 2024): how far a map explanation agrees with the AUs of an expression.

Both are cos(map, T), T being the AU map of the labelled expression: CAM-COS with the class map of that expression,
ATT-COS with the attention of the last layer. Pictures without such a T (neutral, contempt) do not count. A class map
is scaled to [0, 1] over the picture first, as it would be shown: this keeps evidence against a class out of the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.agcm.losses import expression_maps

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cosines:
    """Means over `pictures`; NaN if there are none."""

    cam_cos: float
    att_cos: float
    pictures: int


def cosines(class_maps: F32, attention: F32, expression: npt.NDArray[np.int64], regions: F32) -> Cosines:
    """class_maps [N, 1 + E, h, w] as exported (score first), attention [N, h, w], expression [N] (rows of EXPRESSIONS),
    regions [K, h, w] on the same grid (training.regions).
    """
    truth = expression_maps(torch.from_numpy(regions)).numpy().reshape(class_maps.shape[1] - 1, -1)[expression]
    counted = np.flatnonzero(truth.sum(1) > 0)
    if not len(counted):
        return Cosines(float("nan"), float("nan"), 0)
    own = class_maps[counted, 1 + expression[counted]].reshape(len(counted), -1)
    looked = attention[counted].reshape(len(counted), -1)
    return Cosines(_mean_cosine(_scaled(own), truth[counted]), _mean_cosine(looked, truth[counted]), len(counted))


def _scaled(maps: F32) -> F32:
    low, high = maps.min(1, keepdims=True), maps.max(1, keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, 1e-12), np.float32)


def _mean_cosine(a: F32, b: F32) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(norms, 1e-12)))
