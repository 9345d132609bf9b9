"""Ridge regression in closed form, its strength chosen by what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
STRENGTHS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)


@dataclass(frozen=True, slots=True)
class Ridge:
    """weight, mean: [D]. An answer is (x - mean) . weight. error: mean square on what was left out, each group by the
    weights of the others at the strength that was chosen."""

    weight: F64
    mean: F64
    strength: float
    error: float


def ridge(rows: Sequence[F64], labels: Sequence[F64]) -> Ridge:
    """Of groups: rows [N, D] and labels [N], about 0, of each. On standardised columns; the strength is the one that
    foretells groups that are left out best."""
    everything = np.concatenate(rows)
    mean = everything.mean(0)
    scale = everything.std(0) + 1e-9
    scaled = [(each - mean) / scale for each in rows]
    grams, sides = [each.T @ each for each in scaled], [x.T @ y for x, y in zip(scaled, labels, strict=True)]
    gram, side = np.sum(grams, axis=0), np.sum(sides, axis=0)
    errors = dict.fromkeys(STRENGTHS, 0.0)
    for own, toward, x, y in zip(grams, sides, scaled, labels, strict=True):
        values, vectors = np.linalg.eigh(gram - own)
        turned, seen = vectors.T @ (side - toward), x @ vectors
        for strength in STRENGTHS:
            errors[strength] += float(((y - seen @ (turned / (values.clip(0) + strength))) ** 2).sum())
    strength = min(STRENGTHS, key=lambda each: errors[each])
    weight = np.linalg.solve(gram + strength * np.eye(len(gram)), side) / scale
    return Ridge(weight, mean, strength, errors[strength] / max(len(everything), 1))
