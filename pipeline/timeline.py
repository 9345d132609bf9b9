"""Pure: from the timestamps of a stream, which may be missing or wrong, to times that only go forward."""

from __future__ import annotations

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
