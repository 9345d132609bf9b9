"""Pure: from the timestamps of a stream, which may be missing or wrong, to times that only go forward."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

SECOND_NS = 1_000_000_000
DEFAULT_RATE_HZ = Fraction(30)
RESET_NS = SECOND_NS
LONGEST_GAP_NS = 10 * SECOND_NS


def to_ns(pts: int, time_base: Fraction) -> int:
    """A timestamp in nanoseconds, exact to the nearest."""
    return round(pts * time_base * SECOND_NS)


class Timeline:
    """Places pictures in a file's own time: 0 is the first picture, every next one is later.

    A picture without a timestamp comes one period (of the average rate) after the one before. One whose timestamp
    does not advance comes half a period after, so that a duplicate does not push all that follow. A jump back by
    more than a second, or ahead by more than ten, is a stream that was cut: it goes on one period later.
    """

    def __init__(self, time_base: Fraction, rate_hz: Fraction | None) -> None:
        self._time_base = time_base
        self.period_ns = round(SECOND_NS / (rate_hz or DEFAULT_RATE_HZ))
        self._origin_ns: int | None = None
        self._last_ns: int | None = None

    @property
    def origin_ns(self) -> int:
        """The file's own timestamp of the first picture, 0 if it has none."""
        return self._origin_ns or 0

    def place(self, pts: int | None) -> int:
        """Nanoseconds since the first picture."""
        self._last_ns = self._next(pts)
        return self._last_ns

    def _next(self, pts: int | None) -> int:
        if pts is not None and self._origin_ns is None:
            self._origin_ns = to_ns(pts, self._time_base) - (
                0 if self._last_ns is None else self._last_ns + self.period_ns
            )
        if self._last_ns is None:
            return 0
        if pts is None or self._origin_ns is None:
            return self._last_ns + self.period_ns
        found = to_ns(pts, self._time_base) - self._origin_ns
        step = found - self._last_ns
        if -RESET_NS < step <= 0:
            return self._last_ns + self.period_ns // 2
        if not 0 < step <= LONGEST_GAP_NS:
            self._origin_ns += step - self.period_ns
            return self._last_ns + self.period_ns
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """The device's clock said that sample number `sample` was taken at `t_ns`."""

    sample: int
    t_ns: int


class SampleClock:
    """When each sample of a device was taken: a straight line through readings that jitter.

    Readings pull the line by a small share of their distance, so that the difference of two clocks is followed and
    the jitter of one callback is not. A reading further away than `jump_ns` starts the line anew.
    """

    def __init__(self, rate_hz: float, *, gain: float = 1 / 64, jump_ns: int = SECOND_NS // 10) -> None:
        self._sample_ns = SECOND_NS / rate_hz
        self._gain = gain
        self._jump_ns = jump_ns
        self._anchor: Reading | None = None

    def observe(self, reading: Reading) -> None:
        """Take a reading; readings come in the order of their samples."""
        if self._anchor is None:
            self._anchor = reading
            return
        expected_ns = self.at(reading.sample)
        error_ns = reading.t_ns - expected_ns
        pull_ns = error_ns if abs(error_ns) > self._jump_ns else round(error_ns * self._gain)
        self._anchor = Reading(reading.sample, expected_ns + pull_ns)

    def at(self, sample: float) -> int:
        """The time of a sample in nanoseconds. Raises RuntimeError before the first reading."""
        if self._anchor is None:
            raise RuntimeError("no reading of the device's clock yet")
        return self._anchor.t_ns + round((sample - self._anchor.sample) * self._sample_ns)
