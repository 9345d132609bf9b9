"""The memory of engines.timed over a whole recording, whose frames come at one rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from engines.fusion import MemorySpec
from engines.timed import gain_of

F64 = npt.NDArray[np.float64]


def run(memory: MemorySpec, rate_hz: float, values: F64, usual: F64) -> F64:
    """All frames at once: values [T, D] -> taps [T, D, 1 + J], as `engines.timed` gives them one by one: at the first
    frame no time has passed, and the past was as `usual` [D]."""
    taps = np.empty((*values.shape, 1 + memory.size))
    taps[..., 0] = values
    for j in range(memory.taps):
        taps[..., j + 1] = _followed(taps[..., j], usual, gain_of(1.0 / rate_hz, memory.constant_s))
    if memory.habit_s:
        taps[..., -1] = _followed(values, usual, gain_of(1.0 / rate_hz, memory.habit_s))
    return taps


def _followed(values: F64, usual: F64, gain: float) -> F64:
    """What is `usual` [D] at the first frame, and goes towards values [T, D] by a share of `gain` at each later one."""
    followed = np.empty_like(values)
    followed[:1] = usual
    begin = (1.0 - gain) * np.asarray(usual, np.float64)[None]
    followed[1:] = lfilter([gain], [1.0, gain - 1.0], values[1:], axis=0, zi=begin)[0]
    return followed
