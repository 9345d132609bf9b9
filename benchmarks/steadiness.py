"""How steady this machine is by itself: a loop of plain Python that is the same each time, timed again and again.

Where a host is shared, a processor core is slower whenever its neighbours are busy, and no program on it is steadier
than that. A session whose results are slow in the slowest hundredth is to be read beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

_TRIAL_TURNS: Final = 20_000
_TRIALS: Final = 5
_LEAST_RUNS: Final = 10


def _timed_ms(turns: int) -> float:
    """Whole numbers added up: nothing but the processor is in it, no memory, no system call, no other thread."""
    start_ns, total = time.perf_counter_ns(), 0
    for number in range(turns):
        total += number
    return (time.perf_counter_ns() - start_ns) / 1e6


def tail(work_ms: float, seconds: float, timed_ms: Callable[[int], float] = _timed_ms) -> float:
    """p99 of the time of a loop that takes about `work_ms`, over its mean, from runs one after another for so long.
    timed_ms: the time of a loop of so many turns."""
    turns = max(1, round(_TRIAL_TURNS * work_ms / min(timed_ms(_TRIAL_TURNS) for _ in range(_TRIALS))))
    runs = max(_LEAST_RUNS, round(1e3 * seconds / work_ms))
    return tail_of([timed_ms(turns) for _ in range(runs)])


def tail_of(times_ms: Sequence[float]) -> float:
    """p99 over the mean."""
    return float(np.percentile(times_ms, 99.0) / np.mean(times_ms))
