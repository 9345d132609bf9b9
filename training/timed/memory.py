"""The gamma memory of engines.timed over a whole recording, whose frames come at one rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from engines.timed import advance, gain_of

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
        return gain_of(1.0 / self.rate_hz, self.constant_s)

    def start(self, usual: F64) -> F64:
        """State [D, J] in which the past was as `usual` [D]."""
        return np.repeat(np.asarray(usual, np.float64)[:, None], self.taps, axis=1)

    def step(self, state: F64, now: F64) -> tuple[F64, F64]:
        """One frame: state [D, J] and embeddings [D] -> the present and all taps [D, 1 + J], and the next state."""
        taps = advance(state, now, self.gain)
        return taps, taps[:, 1:]

    def run(self, embeddings: F64, usual: F64) -> F64:
        """All frames at once: embeddings [T, D] -> taps [T, D, 1 + J], as `step` from `start` gives them."""
        taps = np.empty((*embeddings.shape, 1 + self.taps))
        taps[..., 0] = embeddings
        for j in range(self.taps):
            begin = (1.0 - self.gain) * np.asarray(usual, np.float64)[None]
            taps[..., j + 1] = lfilter([self.gain], [1.0, self.gain - 1.0], taps[..., j], axis=0, zi=begin)[0]
        return taps
