"""Which audio belongs to a frame: a bounded ring of samples on the clock of the frames."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

SILENCE_DBFS = -120.0
# Times of chunks jitter by a few milliseconds around the sound itself; a difference up to this, or half a
# chunk, is no gap. A share of it moves the time line, so that a device whose clock runs fast or slow is followed.
_JITTER_S = 0.02
_FOLLOW = 1 / 16
_RUNS_BACK_S = 1.0


class AudioWindow:
    """The last `keep_s` seconds of mono sound, found again by time.

    Every sample has a place on one time line. Chunks may come late or in another order, and what never came is missing:
    a window that would hold a missing sample is None, never silence. A second of sound from before all that is kept is
    time that runs back: the time line begins anew. `beginnings` counts these, the first among them.

    lag_ns: how much later the sound comes than the picture that it belongs to (below 0: earlier), as calibration.sync
    measures it. Sound is put at the time of its picture; times asked for are those of pictures.
    """

    def __init__(self, keep_s: float = 5.0, lag_ns: int = 0) -> None:
        self._keep_s = keep_s
        self._lag_ns = lag_ns
        self._rate_hz = 0
        self._origin_ns = 0
        self._end = self._too_old = 0
        self.beginnings = 0
        self._ring: Samples = np.zeros(1, np.float32)
        self._known: npt.NDArray[np.bool_] = np.zeros(1, np.bool_)

    @property
    def end_ns(self) -> int | None:
        """Time just after the newest sample; None before the first."""
        return self._origin_ns + self._end * 1_000_000_000 // self._rate_hz if self._rate_hz else None

    @property
    def rate_hz(self) -> int:
        """Samples a second; 0 before the first."""
        return self._rate_hz

    def place(self, t_ns: int) -> int:
        """How many samples of the time line lie before `t_ns`; 0 before the first came."""
        return math.floor((t_ns - self._origin_ns) * self._rate_hz / 1e9) if self._rate_hz else 0

    def stretch(self, start: int) -> tuple[int, Samples]:
        """The first samples [N] at place `start` or after that are known and follow one another, and their place."""
        first = max(start, self._end - len(self._ring), 0)
        places = np.arange(first, self._end) % len(self._ring)
        known = self._known[places]
        if not known.any():
            return self._end, self._ring[:0]
        skipped = int(known.argmax())
        over = known[skipped:]
        count = len(over) if over.all() else int(over.argmin())
        return first + skipped, self._ring[places[skipped : skipped + count]]

    def add(self, t_ns: int, samples: Samples, rate_hz: int) -> None:
        """Take a chunk [N] float32 whose first sample came at `t_ns`. Sound older than the ring is passed over."""
        t_ns -= self._lag_ns
        if rate_hz != self._rate_hz:
            self._begin(rate_hz, t_ns)
        start = round((t_ns - self._origin_ns) * rate_hz / 1e9)
        self._too_old = self._too_old + len(samples) if start + len(samples) <= self._end - len(self._ring) else 0
        if self._too_old > _RUNS_BACK_S * rate_hz:
            self._begin(rate_hz, t_ns)
            start = 0
        if abs(start - self._end) <= min(_JITTER_S * rate_hz, len(samples) / 2):
            start = self._end
            self._origin_ns += round((t_ns - self._origin_ns - start * 1e9 / rate_hz) * _FOLLOW)
        size = len(self._ring)
        end = start + len(samples)
        first = max(start, end - size, self._end - size, 0)
        if end <= first:
            return
        if end > self._end:
            skipped = np.arange(max(self._end, end - size), end) % size
            self._known[skipped] = False
            self._end = end
        places = np.arange(first, end) % size
        self._ring[places] = samples[first - start :]
        self._known[places] = True

    def window(self, t_ns: int, length_s: float, max_lag_s: float = 0.25) -> Samples | None:
        """The newest `length_s` seconds [N] at or before `t_ns`.

        None where a sample of it is missing, or where the newest sound is more than `max_lag_s` older than `t_ns`.
        """
        if not self._rate_hz:
            return None
        wanted = self.place(t_ns)
        end = min(wanted, self._end)
        start = end - round(length_s * self._rate_hz)
        if wanted - end > max_lag_s * self._rate_hz or start < max(0, self._end - len(self._ring)):
            return None
        places = np.arange(start, end) % len(self._ring)
        return self._ring[places] if self._known[places].all() else None

    def _begin(self, rate_hz: int, origin_ns: int) -> None:
        size = max(1, round(self._keep_s * rate_hz))
        self._rate_hz, self._origin_ns, self._end, self._too_old = rate_hz, origin_ns, 0, 0
        self.beginnings += 1
        self._ring = np.zeros(size, np.float32)
        self._known = np.zeros(size, np.bool_)


def level_dbfs(samples: Samples) -> float:
    """Root mean square of `samples` [N] in decibels relative to full scale, not below SILENCE_DBFS."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(SILENCE_DBFS, 10.0 * math.log10(power)) if power > 0.0 else SILENCE_DBFS
