"""Ridge regression with labels that count alike, from sums: what the folds need of a person is summed once for all.

The solution depends on the pictures through sums of x and of x x' alone, and those of several people add up. So a fit
costs one linear system whatever the number of pictures, and every nested leave-one-out can be strict: nothing is
chosen with the answers of the person that is judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over pictures for each of C labels. labels, count: [C]; first: [C, D], of x; second: [C, D, D], of x x'.
    spread: variance of x over faces without labels, [D], 0 if there are none."""

    labels: F64
    count: F64
    first: F64
    second: F64
    spread: F64 | float = 0.0

    def __add__(self, other: Sums) -> Sums:
        first, second = self.first + other.first, self.second + other.second
        return Sums(self.labels, self.count + other.count, first, second, self.spread)


def sums(x: F64, y: F64, labels: F64, spread: F64 | float = 0.0) -> Sums:
    """The sums of pictures x [N, D] with labels y [N], each of which is one of `labels` [C]."""
    parts = [x[y == label] for label in labels]
    count = np.array([len(part) for part in parts], np.float64)
    first, second = np.stack([part.sum(0) for part in parts]), np.stack([part.T @ part for part in parts])
    return Sums(labels, count, first, second, spread)


def total(parts: Iterable[Sums]) -> Sums:
    """The sums of everybody together."""
    return reduce(Sums.__add__, parts)


def solve(of: Sums, strength: float) -> tuple[F64, float]:
    """Weight [D] and bias of the ridge regression in which every label that occurs counts alike (mean weight 1).

    The penalty acts on x divided by its deviation over the labelled pictures and all other faces together, never on the
    bias. What hardly varies among a few people and much among people at large thus gets little weight: otherwise a
    stranger's score lies far outside the labels.
    """
    pictures, present = of.count.sum(), of.count > 0
    weight = np.where(present, pictures / (present.sum() * np.where(present, of.count, 1.0)), 0.0)
    mean = of.first.sum(0) / pictures
    variance = np.diagonal(of.second.sum(0)) / pictures - mean**2
    scale = np.sqrt(np.maximum(variance, 0.0) + of.spread) + 1e-6
    mean_x = weight @ of.first / pictures
    mean_y = float(weight @ (of.count * of.labels) / pictures)
    gram = np.tensordot(weight, of.second, 1) - pictures * np.outer(mean_x, mean_x)
    moment = (weight * of.labels) @ of.first - pictures * mean_y * mean_x
    system = gram / np.outer(scale, scale) + strength * np.eye(len(scale))
    solution = np.linalg.solve(system, moment / scale) / scale
    return solution, mean_y - float(mean_x @ solution)
