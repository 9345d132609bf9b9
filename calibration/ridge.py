"""Ridge regression that keeps few concepts, and rather those that can be trusted; in closed form, step by step.

Two concepts that move together can share what one of them causes in any way, also as large numbers of opposite sign.
Plain ridge regression shares it out evenly; then contributions say little. Here every concept has a penalty of its own:

    minimise  sum (y - sum_g x_g w_g)^2 + strength * sum_g penalty_g |w_g|^2
    penalty_g = (1 / trust_g^2) / (size_g / largest size + EPSILON)

* trust_g is the concept's reliability: of what a concept that is measured badly shows, only the share trust_g^2 is the
  concept, so that large weights for it are unlikely in that proportion;
* size_g is the spread of what it contributed in the step before, so that what contributes little comes to contribute
  nothing (the group lasso as a series of ridge regressions; Yuan & Lin 2006, Daubechies et al. 2010);
* of all strengths whose error on what is left out lies within one standard error of the best, the largest is taken
  (Breiman et al. 1984): the simplest answer that is not worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
STRENGTHS: Final = tuple(float(x) for x in np.geomspace(1e-4, 10.0, 11))
"""For each row."""
EPSILON: Final = 0.01
LEAST_TRUST: Final = 0.1
_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Ridge:
    """weight, mean: [D]. An answer is (x - mean) . weight. left_out: answers [N] of each fold by the weights of the
    others. error: their mean square off the labels."""

    weight: F64
    mean: F64
    strength: float
    left_out: tuple[F64, ...]
    error: float


@dataclass(frozen=True, slots=True)
class _Fold:
    """Rows of one fold, standardised, and their sums of products."""

    x: F64
    y: F64
    gram: F64
    side: F64


def ridge(rows: Sequence[F64], labels: Sequence[F64], sizes: Sequence[int], trust: Sequence[float]) -> Ridge:
    """rows [N, D] and labels [N], about 0, of each fold. sizes: columns of each concept, in order; trust: of each."""
    everything = np.concatenate(rows)
    mean = everything.mean(0)
    scale = everything.std(0) + 1e-9
    scaled = [(each - mean) / scale for each in rows]
    folds = [_Fold(x, y, x.T @ x, x.T @ y) for x, y in zip(scaled, labels, strict=True)]
    gram, side = np.sum([each.gram for each in folds], axis=0), np.sum([each.side for each in folds], axis=0)
    own = np.repeat(np.arange(len(sizes)), sizes)
    doubt = np.maximum(np.asarray(trust, np.float64), LEAST_TRUST) ** -2.0
    penalty = doubt
    for _ in range(_STEPS):
        columns = penalty[own] * len(everything)
        errors = np.array([[_error(fold, gram, side, s * columns) for fold in folds] for s in STRENGTHS])
        strength = _simplest(errors)
        chosen = STRENGTHS[strength] * columns
        weight = np.linalg.solve(gram + np.diag(chosen), side)
        spread = _spread(weight, gram, own, len(sizes))
        penalty = doubt / (spread / max(spread.max(), 1e-12) + EPSILON)
    error = float(errors[strength].sum() / max(len(everything), 1))
    left_out = tuple(_left_out(fold, gram, side, chosen) for fold in folds)
    return Ridge(weight / scale, mean, STRENGTHS[strength], left_out, error)


def _left_out(fold: _Fold, gram: F64, side: F64, penalty: F64) -> F64:
    """Answers of a fold by the weights of the others."""
    return np.asarray(fold.x @ np.linalg.solve(gram - fold.gram + np.diag(penalty), side - fold.side))


def _error(fold: _Fold, gram: F64, side: F64, penalty: F64) -> float:
    """The sum of its squares off the labels."""
    return float(((fold.y - _left_out(fold, gram, side, penalty)) ** 2).sum())


def _simplest(errors: F64) -> int:
    """The last row [S, folds] whose sum lies within one standard error of the least."""
    best = errors[int(errors.sum(1).argmin())]
    apart = errors - best
    within = apart.mean(1) <= apart.std(1) / np.sqrt(errors.shape[1]) + 1e-12
    return int(np.flatnonzero(within).max())


def _spread(weight: F64, gram: F64, own: npt.NDArray[np.intp], count: int) -> F64:
    """[G], root of the sum of squares that each concept contributes."""
    found = np.zeros(count)
    for g in range(count):
        part = np.flatnonzero(own == g)
        found[g] = np.sqrt(max(0.0, float(weight[part] @ gram[np.ix_(part, part)] @ weight[part])))
    return found
