"""Concepts as the labels of a corpus name them, read off all activations of a network that stays as it is.

The study trains its concepts on each corpus' own AU labels. Here, on training sessions alone, a linear map of the
activations is fitted to these labels,

    reading_k = bias_k + sum_j weight_kj activation_j,

so that what moves several activations at once (a smile moves AU6, AU12 and AU14) is one concept again, and what a smile
causes is not shared out among them. A concept without labels keeps its activation; one that by its labels never moves
is what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ridge import ridge
from training.data import noxi

F64 = npt.NDArray[np.float64]
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Reading:
    """weight [K, K], bias [K]. trust [K]: root of the share of the labels' variance that is foretold of people who were
    left out; the network's own reliability where there are no labels."""

    weight: F64
    bias: F64
    trust: tuple[float, ...]

    def of(self, activations: F64) -> F64:
        """[..., K] -> [..., K]."""
        return np.asarray(activations @ self.weight.T + self.bias)


def labels_of(person: noxi.Person, count: int) -> F64 | None:
    """Concepts of the first `count` frames [T, K], NaN where nothing is known: as a simulated person truly showed them,
    or as the corpus' own OpenFace 2 stream says; None where there is neither. Raises DataError naming a file."""
    truth = person.file("truth.npz")
    if truth.is_file():
        with np.load(truth, allow_pickle=False) as file:
            return np.asarray(file["concepts"][:count], np.float64)
    if not person.file("video.openface2.stream").is_file():
        return None
    stream, table = noxi.openface(person)
    rows = np.minimum((np.arange(count) / noxi.LABEL_HZ * stream.rate_hz + 1e-6).astype(int), len(table) - 1)
    known = (table.weights > 0) & table.found[:, None]
    return np.asarray(np.where(known, table.activations, np.nan)[rows], np.float64)


def fit(activations: Sequence[F64], labels: Sequence[F64], trust: Sequence[float]) -> Reading:
    """activations, labels: [T, K] of each person; trust: reliability of each activation [K]."""
    count = len(trust)
    weight, bias, known = np.eye(count), np.zeros(count), list(trust)
    for k in range(count):
        rows = [~np.isnan(each[:, k]) for each in labels]
        parts = [(x[r], y[r, k]) for x, y, r in zip(activations, labels, rows, strict=True) if r.any()]
        wanted = np.concatenate([y for _, y in parts]) if parts else np.zeros(0)
        if len(parts) < 2:
            continue
        mean = float(wanted.mean())
        if wanted.std() < _LEAST_SPREAD:  # the labels know it, and it never moves
            weight[k], bias[k], known[k] = 0.0, mean, 0.0
            continue
        found = ridge([x for x, _ in parts], [y - mean for _, y in parts], [1] * count, trust)
        weight[k], bias[k] = found.weight, mean - float(found.mean @ found.weight)
        known[k] = float(np.sqrt(max(0.0, 1.0 - found.error / float(wanted.var()))))
    return Reading(weight, bias, tuple(known))
