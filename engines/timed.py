"""A score that owes to the past: linear in a memory of what was seen and heard, so that contributions still add up.

A gamma memory (de Vries and Principe 1992): tap 0 is the value x now, and each next tap follows the one before,
x_j <- x_j + a (x_{j-1} - x_j); so tap j is the value as it was about j time constants ago, the blurrier the longer ago.
a = dt / (dt + constant), where dt is the time since the last picture: at any rate of pictures the same memory. The last
tap may be a habit, which follows the value itself by a long constant: what is usual for this person. A face whose brows
lie low at rest then owes less to it than a brow that has just been lowered.

    score = base + sum_k contribution_k,   contribution_k = sum_{i,j} weight_kij (x_kij - mean_kij)

One head sums over all senses. What is not heard contributes 0, and what is seen contributes what it always does: the
head is fitted with its senses left out now and then (calibration.head).

The whole state of a person is the taps themselves; `advance` takes it and returns it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.concept import ConceptReadout
from engines.fusion import BranchSpec, MemorySpec, ReadingSpec, TimedSpec

F64 = npt.NDArray[np.float64]
FORGET_S = 1.0
"""Whoever was not seen for longer is met anew."""


def gain_of(elapsed_s: float, constant_s: float) -> float:
    """a: how far a tap goes towards the one before in that time."""
    return elapsed_s / (elapsed_s + constant_s)


def start_of(memory: MemorySpec, usual: F64) -> F64:
    """Taps [..., J] of a past that was as usual [...]."""
    return np.repeat(usual[..., None], memory.size, axis=-1)


def advance(memory: MemorySpec, past: F64, now: F64, elapsed_s: float) -> F64:
    """Taps [..., J] of the past and values [...] now -> all taps [..., 1 + J]; without the first they are the past of
    the next picture."""
    taps = np.empty((*now.shape, 1 + memory.size))
    taps[..., 0] = now
    gain = gain_of(elapsed_s, memory.constant_s)
    for j in range(memory.taps):
        taps[..., j + 1] = past[..., j] + gain * (taps[..., j] - past[..., j])
    if memory.habit_s:
        taps[..., -1] = past[..., -1] + gain_of(elapsed_s, memory.habit_s) * (now - past[..., -1])
    return taps


def seen_of(readout: ConceptReadout) -> F64:
    """What is kept of a face [K, 2 + E]: the activation of each concept, and W_k . c_k for each output of the heads."""
    return values_of(readout.activation, readout.active, readout.inactive)


def values_of(activation: F64, active: F64, inactive: F64) -> F64:
    """Activations [..., K] and what each concept says to each output when active and when not [..., K, 1 + E] ->
    [..., K, 2 + E], as `seen_of` gives them."""
    p = activation[..., None]
    return np.concatenate([p, p * active + (1.0 - p) * inactive], axis=-1)


@dataclass(frozen=True, slots=True)
class Past:
    """State of one person at `t_ns`. seen: [K, m, J]; heard: [V, J]."""

    t_ns: int
    seen: F64
    heard: F64


@dataclass(frozen=True, slots=True)
class Shares:
    """base, and what each concept contributed: seen [K]; heard [V], None without sound."""

    base: float
    seen: F64
    heard: F64 | None


class TimedHead:
    """Scores people from moment to moment; the past is given and returned. spec: of the model's manifest."""

    def __init__(self, spec: TimedSpec) -> None:
        self._memory = spec.memory
        usual = np.asarray(spec.usual_seen, np.float64), np.asarray(spec.usual_heard, np.float64)
        self._start = start_of(spec.memory, usual[0]), start_of(spec.memory, usual[1])
        self._reading = _read_as_they_are if spec.reading is None else _Reading(spec.reading)
        self._base, self._seen = spec.base, _branch(spec.seen)
        self._heard = None if spec.heard is None else _branch(spec.heard)

    def score(self, seen: F64, heard: F64 | None, t_ns: int, before: Past | None) -> tuple[Shares, Past]:
        """Values of a face (`seen_of`, of which the first m count), and activations [V] of a voice (None: there is no
        sound to hear) at `t_ns`.

        before: the state that the last call returned; None, time that runs back and a gap of more than FORGET_S are a
        new beginning: then the past was as usual.
        """
        if before is None or not 0 < t_ns - before.t_ns <= FORGET_S * 1e9:
            before = Past(t_ns, *self._start)
        elapsed_s = (t_ns - before.t_ns) / 1e9
        read = self._reading(seen[:, : before.seen.shape[1]])
        seen_taps = advance(self._memory, before.seen, read, elapsed_s)
        found = _contributions(self._seen, seen_taps)
        if heard is None or self._heard is None:
            return Shares(self._base, found, None), Past(t_ns, seen_taps[..., 1:], self._start[1])
        heard_taps = advance(self._memory, before.heard, heard, elapsed_s)
        shares = Shares(self._base, found, _contributions(self._heard, heard_taps[:, None]))
        return shares, Past(t_ns, seen_taps[..., 1:], heard_taps[..., 1:])


def _read_as_they_are(values: F64) -> F64:
    return values


class _Reading:
    """Activations [K, 1] -> what they say of the concepts that the head's corpus knows [K, 1]."""

    def __init__(self, spec: ReadingSpec) -> None:
        self._weight, self._bias = np.asarray(spec.weight, np.float64), np.asarray(spec.bias, np.float64)[:, None]

    def __call__(self, values: F64) -> F64:
        return np.asarray(self._weight @ values + self._bias)


def _contributions(branch: tuple[F64, F64], taps: F64) -> F64:
    """[K], of taps [K, m, 1 + J]."""
    weight, mean = branch
    return np.asarray(np.einsum("kij,kij->k", weight, taps - mean))


def _branch(spec: BranchSpec) -> tuple[F64, F64]:
    return np.asarray(spec.weight, np.float64), np.asarray(spec.mean, np.float64)
