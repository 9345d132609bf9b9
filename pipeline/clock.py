"""Time on one clock: CLOCK_MONOTONIC in nanoseconds, pacing, percentiles, and the wall time that belongs to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

NS_PER_S = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StopFlag(Protocol):
    """Asks a worker to finish; multiprocessing's and threading's Event fit."""

    def is_set(self) -> bool:
        """Whether the worker is to finish."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep up to `timeout` seconds or until the flag is set; whether it is set."""
        ...


def now_ns() -> int:
    """Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of this machine."""
    return time.monotonic_ns()


def sleep_until(t_ns: int, stop: StopFlag | None = None) -> bool:
    """Sleep until the clock shows `t_ns`; at once if it is past. Whether `stop` is set."""
    wait_s = (t_ns - now_ns()) / NS_PER_S
    if stop is None:
        time.sleep(max(0.0, wait_s))
        return False
    return stop.wait(wait_s) if wait_s > 0 else stop.is_set()


class Rate:
    """Keeps a loop at `hz`: beats lie on a grid, so one late turn does not delay those that follow.

    After a delay of more than one period the grid starts anew: missed beats are not made up in a burst.
    """

    def __init__(self, hz: float, start_ns: int | None = None) -> None:
        self.period_ns = round(NS_PER_S / hz)
        self.next_ns = (now_ns() if start_ns is None else start_ns) + self.period_ns

    def sleep(self, stop: StopFlag | None = None) -> bool:
        """Sleep until the next beat. Whether `stop` is set."""
        stopped = sleep_until(self.next_ns, stop)
        self.next_ns = self._after(now_ns())
        return stopped

    def due(self, t_ns: int) -> bool:
        """Without sleeping: whether a beat has come by `t_ns`; True once per beat."""
        if t_ns < self.next_ns:
            return False
        self.next_ns = self._after(t_ns)
        return True

    def _after(self, t_ns: int) -> int:
        late = t_ns - self.next_ns > self.period_ns
        return (t_ns if late else self.next_ns) + self.period_ns


class Percentiles:
    """Percentiles of the last `capacity` values."""

    def __init__(self, capacity: int = 1024) -> None:
        self._values = np.zeros(capacity)
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, self._values.size)

    def add(self, value: float) -> None:
        """Take a value in; the oldest one leaves when the window is full."""
        self._values[self._count % self._values.size] = value
        self._count += 1

    def read(self, percents: Sequence[float] = (50.0, 95.0, 99.0)) -> tuple[float, ...] | None:
        """The percentiles asked for, in that order; None without values."""
        if not len(self):
            return None
        return tuple(float(p) for p in np.percentile(self._values[: len(self)], percents))

    def clear(self) -> None:
        """Forget every value."""
        self._count = 0


class WallClock:
    """Wall time of monotonic times by one offset, taken here: times of a session never jump when the clock is set."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - now_ns()
        self._second, self._date = -1, ""

    def iso(self, t_ns: int) -> str:
        """ISO 8601 in UTC with microseconds, such as "2026-11-23T19:28:45.123456Z"."""
        second, past_us = divmod((t_ns + self._offset_ns) // 1000, 1_000_000)
        if second != self._second:
            self._second, self._date = second, (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._date}.{past_us:06d}Z"
