"""A gamma memory of concept embeddings (de Vries & Principe 1992): x_0 = c, x_j = x_j + a (x_{j-1} - x_j).

Each tap is a causal linear filter of the tap before, so tap j is the embedding as it was about j time constants ago,
the blurrier the longer ago. A head that is linear in the taps stays additive over concepts and over the past, and its
whole state is the taps themselves: [D, J] numbers that an engine can carry in and out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Memory:
    """taps: after the present one. constant_s: what a tap lags behind the one before. rate_hz: of the frames."""

    taps: int
    constant_s: float
    rate_hz: float

    def __post_init__(self) -> None:
        if self.taps < 0 or self.constant_s <= 0 or self.rate_hz <= 0:
            raise ValueError("a memory needs taps >= 0, constant_s > 0 and rate_hz > 0")

    @property
    def gain(self) -> float:
        """a: how far a tap goes towards the one before in a frame; so it lags (1 - a) / a frames behind on average."""
        return 1.0 / (1.0 + self.constant_s * self.rate_hz)

    def start(self, usual: F64) -> F64:
        """State [D, J] in which the past was as `usual` [D]."""
        return np.repeat(np.asarray(usual, np.float64)[:, None], self.taps, axis=1)

    def step(self, state: F64, now: F64) -> tuple[F64, F64]:
        """One frame: state [D, J] and embeddings [D] -> the present and all taps [D, 1 + J], and the next state."""
        taps = np.empty((len(now), 1 + self.taps))
        taps[:, 0] = now
        for j in range(self.taps):
            taps[:, j + 1] = state[:, j] + self.gain * (taps[:, j] - state[:, j])
        return taps, taps[:, 1:].copy()

    def run(self, embeddings: F64, usual: F64) -> F64:
        """All frames at once: embeddings [T, D] -> taps [T, D, 1 + J], as `step` from `start` gives them."""
        taps = np.empty((*embeddings.shape, 1 + self.taps))
        taps[..., 0] = embeddings
        for j in range(self.taps):
            begin = (1.0 - self.gain) * np.asarray(usual, np.float64)[None]
            taps[..., j + 1] = lfilter([self.gain], [1.0, self.gain - 1.0], taps[..., j], axis=0, zi=begin)[0]
        return taps
