"""A score that is linear in the taps of every concept, fitted in closed form, one kind of concept after another.

    y(t) = base + sum_k contribution_k(t),   contribution_k(t) = sum_{i,j} W_kij (x_kij(t) - mean_kij)

What is seen is fitted first and kept; what is heard is then fitted to what is left (Li & Mahmoud train the visual
branch first, too). So the score without a microphone is the best that pictures alone give, and a kind of concept that
is missing contributes exactly 0: its deviation from the mean is. Both fits are ridge regressions on standardised taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
STRENGTHS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)


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
    """base, and a branch for each kind of concept, in the order of fitting."""

    base: float
    branches: tuple[Branch, ...]

    def score(self, taps: Sequence[F64 | None]) -> F64:
        """[T], from the taps of each branch; None for what is missing."""
        parts = [
            branch.contributions(each).sum(1) for branch, each in zip(self.branches, taps, strict=True)
            if each is not None
        ]  # fmt: skip
        if not parts:
            raise ValueError("every branch is missing, so that there is no moment to score")
        return np.asarray(self.base + np.sum(parts, axis=0))


@dataclass(frozen=True, slots=True)
class Session:
    """One recording: taps [T, K, m, 1 + J] of each branch, and the label [T], NaN where there is none."""

    taps: tuple[F64, ...]
    label: F64

    def known(self, branch: int) -> tuple[F64, F64]:
        """Rows of a branch [N, D] and labels [N] where there are labels."""
        rows = ~np.isnan(self.label)
        return self.taps[branch][rows].reshape(int(rows.sum()), -1), self.label[rows]


def fit(sessions: Sequence[Session]) -> TimedHead:
    """Each branch in turn; its strength is the one that foretells sessions that are left out best. Raises ValueError
    with fewer than two sessions or no label."""
    if len(sessions) < 2:
        raise ValueError("at least two sessions are needed: one has to be left out to choose the strength")
    residuals = [session.label[~np.isnan(session.label)] for session in sessions]
    labels = np.concatenate(residuals)
    if not len(labels):
        raise ValueError("no session has a label")
    base = float(labels.mean())
    residuals = [each - base for each in residuals]
    branches: list[Branch] = []
    for i in range(len(sessions[0].taps)):
        rows = [session.known(i)[0] for session in sessions]
        branch = _branch(rows, residuals, sessions[0].taps[i].shape[1:])
        branches.append(branch)
        residuals = [
            left - branch.contributions(each.reshape(len(each), *branch.mean.shape)).sum(1)
            for left, each in zip(residuals, rows, strict=True)
        ]
    return TimedHead(base, tuple(branches))


def _branch(rows: Sequence[F64], left: Sequence[F64], shape: tuple[int, ...]) -> Branch:
    everything = np.concatenate(rows)
    mean = everything.mean(0)
    scale = everything.std(0) + 1e-9
    scaled = [(each - mean) / scale for each in rows]
    grams, sides = [each.T @ each for each in scaled], [x.T @ y for x, y in zip(scaled, left, strict=True)]
    gram, side = np.sum(grams, axis=0), np.sum(sides, axis=0)
    errors = dict.fromkeys(STRENGTHS, 0.0)
    for own, toward, x, y in zip(grams, sides, scaled, left, strict=True):
        values, vectors = np.linalg.eigh(gram - own)
        turned, seen = vectors.T @ (side - toward), x @ vectors
        for strength in STRENGTHS:
            errors[strength] += float(((y - seen @ (turned / (values.clip(0) + strength))) ** 2).sum())
    strength = min(STRENGTHS, key=lambda each: errors[each])
    weight = np.linalg.solve(gram + strength * np.eye(len(gram)), side) / scale
    return Branch(weight.reshape(shape), mean.reshape(shape))
