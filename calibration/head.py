"""One score from all senses, linear in what their concepts are and were; fitted in closed form, with senses left out.

    y(t) = base + sum_k contribution_k(t),   contribution_k(t) = sum_{i,j} W_kij (x_kij(t) - mean_kij)

The first branch is what is seen, the second what is heard. Both are fitted together: if what is seen came first, a
mouth that moves would be credited with what speech does. Moments without sound, and one in DROP_ONE_IN of the others
once more without theirs (modality dropout: Neverova et al. 2016), have every voice concept at its mean. So a sound that
is missing contributes exactly 0, and what is seen alone foretells almost as much as a head that never heard anything.

Weights by calibration.ridge: few concepts, and rather those that can be trusted, at the largest strength that foretells
sessions that are left out as well as any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.labelled import LabelError
from calibration.ridge import ridge
from engines.fusion import BranchSpec, MemorySpec, ReadingSpec, TimedSpec

F64 = npt.NDArray[np.float64]
DROP_ONE_IN = 32
"""More of them serve pictures alone better and tell worse what is owed to whom: a mouth stands in for speech then."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One kind of concept. weight, mean: [K, m, 1 + J]."""

    weight: F64
    mean: F64

    def contributions(self, taps: F64) -> F64:
        """Of each concept [T, K], from taps [T, K, m, 1 + J]."""
        return np.asarray(np.einsum("tkij,kij->tk", taps - self.mean, self.weight))


@dataclass(frozen=True, slots=True)
class Session:
    """One recording: taps [T, K, m, 1 + J] of each branch; label [T], NaN where there is none; audible [T]: where there
    is something to hear, None for everywhere."""

    taps: tuple[F64, ...]
    label: F64
    audible: npt.NDArray[np.bool_] | None = None

    def heard(self) -> npt.NDArray[np.bool_]:
        """Labelled moments with all senses."""
        return ~np.isnan(self.label) if self.audible is None else self.audible & ~np.isnan(self.label)


@dataclass(frozen=True, slots=True)
class Head:
    """base, and a branch for each kind of concept. explained: shares of the variance of labels that were left out which
    are foretold from what is seen alone and, if it hears, from both."""

    base: float
    branches: tuple[Branch, ...]
    explained: tuple[float, ...]

    def score(self, taps: Sequence[F64]) -> F64:
        """[T], from the taps of the first branches; what is not there contributes 0."""
        parts = [each.contributions(own).sum(1) for each, own in zip(self.branches, taps, strict=False)]
        return np.asarray(self.base + np.sum(parts, axis=0))


def fit(sessions: Sequence[Session], trust: Sequence[Sequence[float]]) -> Head:
    """See the module. trust: reliability of each concept of each branch. Raises LabelError with fewer than two sessions
    or no label."""
    if len(sessions) < 2:
        raise LabelError("at least two sessions are needed: one has to be left out to choose the strength")
    labels = np.concatenate([session.label[~np.isnan(session.label)] for session in sessions])
    if not len(labels):
        raise LabelError("no session has a label")
    base = float(labels.mean())
    hush = _hush(sessions) if len(trust) > 1 else None
    rows, wanted, deaf = zip(*(_learnt(session, hush, base) for session in sessions), strict=True)
    sizes = [int(np.prod(taps.shape[2:])) for taps in sessions[0].taps for _ in range(taps.shape[1])]
    found = ridge(rows, wanted, sizes, [each for branch in trust for each in branch])
    branches, start = [], 0
    for taps in sessions[0].taps:
        shape = taps.shape[1:]
        part = slice(start, start := start + int(np.prod(shape)))
        branches.append(Branch(found.weight[part].reshape(shape), found.mean[part].reshape(shape)))
    pairs = [np.stack([said, true]) for said, true in zip(found.left_out, wanted, strict=True)]
    alone = _explained([pair[:, :count] for pair, count in zip(pairs, deaf, strict=True)])
    both = _explained([pair[:, count:] for pair, count in zip(pairs, deaf, strict=True)])
    return Head(base, tuple(branches), (alone,) if hush is None else (alone, both))


def _hush(sessions: Sequence[Session]) -> F64:
    """Mean taps [V, 1, 1 + J] of what was heard. Raises LabelError if nothing was."""
    parts = [session.taps[1][session.heard()] for session in sessions]
    if not sum(map(len, parts)):
        raise LabelError("no labelled moment has sound to hear")
    return np.asarray(np.concatenate(parts).mean(0))


def _learnt(session: Session, hush: F64 | None, base: float) -> tuple[F64, F64, int]:
    """Rows [N, D] of all branches side by side, labels [N] about 0, and how many of them, the first, lack sound."""
    known, there = ~np.isnan(session.label), session.heard()
    seen, label = session.taps[0].reshape(len(known), -1), session.label - base
    if hush is None:
        return seen[known], label[known], int(known.sum())
    heard = session.taps[1].reshape(len(known), -1)
    deaf = np.union1d(np.flatnonzero(known & ~there), np.flatnonzero(there)[::DROP_ONE_IN])
    quiet = np.broadcast_to(hush.ravel(), (len(deaf), heard.shape[1]))
    rows = [np.concatenate([seen[deaf], quiet], axis=1), np.concatenate([seen[there], heard[there]], axis=1)]
    return np.concatenate(rows), np.concatenate([label[deaf], label[there]]), len(deaf)


def _explained(pairs: Sequence[F64]) -> float:
    """1 - the mean square of what is left / the labels' own, of answers and labels [2, N] about 0; NaN for none."""
    said, true = np.concatenate(pairs, axis=1)
    return 1.0 - float(((said - true) ** 2).sum()) / max(float((true**2).sum()), 1e-12) if len(true) else float("nan")


def spec_of(head: Head, memory: MemorySpec, usual: tuple[F64, F64], reading: ReadingSpec | None = None) -> TimedSpec:
    """The head as a manifest holds it. usual: means of what is seen [K, m] and heard [V]."""
    seen, heard = usual
    branches = [BranchSpec(tuple(map(rows, each.weight)), tuple(map(rows, each.mean))) for each in head.branches]
    return TimedSpec(
        memory, rows(seen), row(heard), head.base, branches[0], branches[1] if len(branches) > 1 else None, reading
    )


def row(values: F64) -> tuple[float, ...]:
    """To eight significant digits, so that a manifest stays one that can be read."""
    return tuple(float(f"{x:.8g}") for x in values.tolist())


def rows(values: F64) -> tuple[tuple[float, ...], ...]:
    """The same of a table."""
    return tuple(map(row, values))
