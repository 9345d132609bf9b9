"""A score that is linear in the taps of every concept, fitted in closed form.

    y(t) = base + sum_k contribution_k(t),   contribution_k(t) = sum_{i,j} W_kij (x_kij(t) - mean_kij)

Weights by calibration.ridge: few concepts, and rather those that can be trusted, at the largest strength that foretells
sessions that are left out as well as any. All kinds of concept (branches) are fitted together: if what is seen came
first, a mouth that moves would be credited with what speech does. Instead there is a head for each set of senses that
may be there, so that a microphone that is missing contributes exactly 0, and the score without it is the best that
pictures alone give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ridge import ridge
from training.data.pictures import DataError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Branch:
    """One kind of concept. weight, mean: [K, m, 1 + J]."""

    weight: F64
    mean: F64

    def contributions(self, taps: F64) -> F64:
        """Of each concept [T, K], from taps [T, K, m, 1 + J]."""
        return np.asarray(np.einsum("tkij,kij->tk", taps - self.mean, self.weight))


@dataclass(frozen=True, slots=True)
class TimedHead:
    """base, and a branch for each kind of concept that it reads."""

    base: float
    branches: tuple[Branch, ...]

    def score(self, taps: Sequence[F64]) -> F64:
        """[T], from the taps of each branch."""
        parts = [each.contributions(own).sum(1) for each, own in zip(self.branches, taps, strict=True)]
        return np.asarray(self.base + np.sum(parts, axis=0))


@dataclass(frozen=True, slots=True)
class Session:
    """One recording: taps [T, K, m, 1 + J] of each branch, and the label [T], NaN where there is none."""

    taps: tuple[F64, ...]
    label: F64

    def known(self) -> F64:
        """Rows of all branches side by side [N, D] where there are labels."""
        rows = ~np.isnan(self.label)
        return np.concatenate([each[rows].reshape(int(rows.sum()), -1) for each in self.taps], axis=1)


def fit(sessions: Sequence[Session], trust: Sequence[Sequence[float]]) -> TimedHead:
    """See the module. trust: reliability of each concept of each branch. Raises DataError with fewer than two sessions
    or no label."""
    if len(sessions) < 2:
        raise DataError("at least two sessions are needed: one has to be left out to choose the strength")
    labels = [session.label[~np.isnan(session.label)] for session in sessions]
    together = np.concatenate(labels)
    if not len(together):
        raise DataError("no session has a label")
    base = float(together.mean())
    rows = [session.known() for session in sessions]
    sizes = [int(np.prod(taps.shape[2:])) for taps in sessions[0].taps for _ in range(taps.shape[1])]
    found = ridge(rows, [each - base for each in labels], sizes, [each for branch in trust for each in branch])
    weight, mean = found.weight, found.mean
    branches, start = [], 0
    for taps in sessions[0].taps:
        shape = taps.shape[1:]
        part = slice(start, start := start + int(np.prod(shape)))
        branches.append(Branch(weight[part].reshape(shape), mean[part].reshape(shape)))
    return TimedHead(base, tuple(branches))
