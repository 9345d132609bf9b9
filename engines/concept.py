"""From the tensors of a concept model to what each concept contributed, and to what would be if one were different.

Method: X. Li and M. Mahmoud, "Interpretable Concept-based Deep Learning Framework for Multimodal Human Behavior
Modeling" (arXiv 2502.10145). Concept k has an activation p_k and two embeddings, c+_k (active) and c-_k (inactive);
the linear heads read c_k = p_k c+_k + (1 - p_k) c-_k, so that an output splits exactly over the concepts:

    y = bias + sum_k W_k . c_k = base + sum_k contribution_k
    contribution_k = W_k . c_k - mean_k     mean_k = mean of W_k . c_k over the training set
    base = bias + sum_k mean_k

For a linear model these are the Shapley values with the mean as reference (Lundberg and Lee, "A Unified Approach to
Interpreting Model Predictions", 2017). The network returns W_k . c+_k and W_k . c-_k, so the rest is arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from engines.base import Array, EngineError, Tensors, is_finite
from engines.spec import HeadSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ConceptReadout:
    """What a concept model says about one face; K concepts, E expressions.

    activation: [K], p_k in [0, 1].
    active, inactive: [K, 1 + E], W_k . c+_k and W_k . c-_k; column 0 belongs to the score.
    contributions: [K, 1 + E], in the units of the score and of the expression logits.
    score: base + the sum of the contributions' column 0, rounded once (math.fsum), whatever their order.
    expressions: [E], probabilities, softmax(logits / temperature of the heads); they sum to 1.
    peaks: [K, 2], x and y where the concept was seen, as shares of the crop's sides.
    landmarks: [5, 2], where the face lies in the crop, in the same shares; None if the model does not say.
    """

    activation: Floats
    active: Floats
    inactive: Floats
    contributions: Floats
    score: float
    expressions: Floats
    peaks: Floats
    landmarks: Floats | None = None


def read(tensors: Tensors, heads: HeadSpec) -> tuple[ConceptReadout, ...]:
    """One readout per face of the batch, from the outputs of a concept model. `peaks` [B, K, 2] may stand for `maps`,
    where the network looked for them itself (engines.frame).

    Raises EngineError if a tensor is missing, has the wrong shape for `heads`, or is not finite.
    """
    activation, active, inactive = (
        np.asarray(_finite(tensors, name), np.float64) for name in ("activation", "active", "inactive")
    )
    found = "peaks" in tensors
    maps = _finite(tensors, "peaks" if found else "maps")
    faces, concepts, columns = activation.shape[:1], len(heads.mean), len(heads.base)
    fits = activation.shape == (*faces, concepts) and active.shape == inactive.shape == (*faces, concepts, columns)
    if not fits or maps.ndim != (3 if found else 4) or maps.shape[:2] != activation.shape:
        shapes = ", ".join(str(each.shape) for each in (activation, active, inactive, maps))
        raise EngineError(f"the heads are {concepts} concepts x {columns} outputs, the tensors {shapes}: not one model")
    at = (
        maps.astype(np.float64)
        if found
        else peaks(maps.reshape(activation.size, *maps.shape[2:])).reshape(*activation.shape, 2)
    )
    places = _finite(tensors, "landmarks").astype(np.float64) if "landmarks" in tensors else [None] * len(at)
    faces_said = zip(activation, active, inactive, at, places, strict=True)
    return tuple(_readout(*face, heads) for face in faces_said)


def intervene(readout: ConceptReadout, heads: HeadSpec, values: Mapping[int, float]) -> ConceptReadout:
    """The readout as it would be if p_k were `values[k]`; every other concept stays.

    Raises ValueError unless each k is a concept's index and each value lies in [0, 1].
    """
    activation = readout.activation.copy()
    for k, value in values.items():
        if not 0 <= k < len(activation) or not 0.0 <= value <= 1.0:
            raise ValueError(f"concept {k} := {value}: needs an index below {len(activation)} and a value in [0, 1]")
        activation[k] = value
    return _readout(activation, readout.active, readout.inactive, readout.peaks, readout.landmarks, heads)


def half_width(readout: ConceptReadout, heads: HeadSpec) -> float | None:
    """Half the width of the interval around the score in which the label lies as often as `heads.interval.coverage`
    says; None if the model has none. It holds for what the network saw, not for what `intervene` makes of it.
    """
    interval = heads.interval
    if interval is None or interval.spread is None:
        return None if interval is None else interval.quantile
    spread = interval.spread
    parts = (*(readout.activation * spread.activation), *(readout.contributions[:, 0] * spread.contribution))
    return interval.quantile * max(spread.floor, math.fsum((spread.intercept, *parts)))


def peak(attention: Array) -> tuple[float, float]:
    """Where a map [h, w] of weights >= 0 is highest, as x and y in shares of its sides; see `peaks`."""
    x, y = peaks(np.asarray(attention, dtype=np.float64)[None])[0]
    return float(x), float(y)


def peaks(maps: Array) -> Floats:
    """[N, 2], x and y in (0, 1) where each of the maps [N, h, w] of weights >= 0 is highest.

    The highest cell, refined to the weighted centre of the 3 x 3 cells around it; cells beyond the border weigh 0.
    """
    count, height, width = maps.shape
    near, places = _neighbours(height, width)
    cells = maps.reshape(count, height * width)
    highest = cells.argmax(axis=1)
    around = near.take(highest, axis=0)
    around += np.arange(0, cells.size, height * width)[:, None]
    sums = np.matmul(cells.take(around)[:, None], places.take(highest, axis=0))[:, 0]
    if not sums[:, 2].all():
        sums[sums[:, 2] == 0.0] = places[0, _ITSELF]  # an empty map: its first cell stays as it is
    return np.asarray(sums[:, :2] / sums[:, 2:])


_ITSELF = 4


@cache
def _neighbours(height: int, width: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """The numbers [N, 9] of the 3 x 3 cells around each of the N cells of a map, and [N, 9, 3]: where the middle of
    each lies, as x and y in shares of the sides, and 1. Beyond the border it is the cell itself, and three zeros."""
    row, column = (each.ravel() for each in np.divmod(np.arange(height * width), width))
    down, across = (each.ravel() - 1 for each in np.indices((3, 3)))
    rows, columns = row[:, None] + down, column[:, None] + across
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    near = np.where(inside, rows * width + columns, np.arange(height * width)[:, None])
    middles = np.stack([(columns + 0.5) / width, (rows + 0.5) / height, np.ones(rows.shape)], axis=-1)
    return near, middles * inside[..., None]


def _readout(
    activation: Floats, active: Floats, inactive: Floats, at: Floats, places: Floats | None, heads: HeadSpec
) -> ConceptReadout:
    p = activation[:, None]
    mean, base = _reference(heads)
    contributions = p * active + (1.0 - p) * inactive - mean
    logits = base[1:] + contributions[:, 1:].sum(axis=0)
    score = math.fsum((heads.base[0], *contributions[:, 0].tolist()))
    expressions = _softmax(logits / heads.temperature)
    return ConceptReadout(activation, active, inactive, contributions, score, expressions, at, places)


@lru_cache(8)
def _reference(heads: HeadSpec) -> tuple[Floats, Floats]:
    """What contributions are measured from, mean [K, 1 + E] and base [1 + E], made into arrays once."""
    return np.array(heads.mean), np.array(heads.base)


def _softmax(logits: Floats) -> Floats:
    if not logits.size:
        return logits
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _finite(tensors: Tensors, name: str) -> Array:
    if name not in tensors:
        raise EngineError(f"the engine returned no {name!r}: this is no concept model")
    if not is_finite(tensors[name]):
        raise EngineError(f"the engine returned {name!r} with values that are not finite")
    return tensors[name]
