"""The clock of a device against the clock of this machine: when each sample was taken.

A device that says 16,000 samples a second delivers some more or fewer: crystals are off by up to 100 ppm, which is a
third of a second in an hour. What is known are readings, "sample n was there at time t", which jitter and are late when
the machine was busy. A line through them is the device's clock. It is sought robustly: readings are put together to
blocks by their median, and the line goes through the blocks of the last minutes by the median of the slopes between
them (Theil, 1950; Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968), so that neither single
late readings nor a few late seconds pull it.

What no reading says is how long sound takes until it can be read: the constant part of that delay is part of the lag
which calibration.sync measures.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

SECOND_NS = 1_000_000_000

_BLOCK_S, _FIRST_BLOCK_S = 2.0, 0.2
_KEPT = 150  # blocks: five minutes, in which a device's temperature changes little
_LEAST_SPAN_S = 10.0  # of blocks, before their slope says more than the rate that the device claims
_LARGEST_PPM = 1000.0
_SLEW = 0.01  # the times that are given out are corrected by at most this share of the time that passes
_STEP_NS, _STEP_S = 8_000_000, 1.0
_JUMP_NS = SECOND_NS


@dataclass(frozen=True, slots=True)
class Reading:
    """The device's clock said that sample number `sample` was taken at `t_ns`."""

    sample: int
    t_ns: int


@dataclass(frozen=True, slots=True)
class _Line:
    """Time beyond what the claimed rate makes of a sample: `late_ns` at `sample`, `slope` more for each nanosecond."""

    sample: float
    late_ns: float
    slope: float


class SampleClock:
    """When each sample of a device was taken, from readings; times go forward with the samples and without jumps.

    A correction is given out bit by bit. Two things are jumps of the sound itself, and are followed as such: readings
    that are all later than expected for a second (sound was lost), and one a second away (the device had stopped).
    """

    def __init__(self, rate_hz: float) -> None:
        self._sample_ns = SECOND_NS / rate_hz
        self._rate_hz = rate_hz
        self._origin: Reading | None = None
        self._line = _Line(0.0, 0.0, 0.0)
        self._from_sample, self._behind_ns, self._over = 0.0, 0.0, 1.0
        self._block: list[tuple[float, float]] = []
        self._blocks: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._aside: list[tuple[Reading, float]] = []
        self._last_sample, self._last_ns = -math.inf, 0

    @property
    def rate_ppm(self) -> float:
        """By how much the device is faster than it claims, in millionths; 0 until that is known."""
        return -1e6 * self._line.slope / (1 + self._line.slope)

    def observe(self, reading: Reading) -> None:
        """Take a reading; readings come in the order of their samples."""
        if self._origin is None:
            self._begin(reading, 0.0)
        late_ns = self._late_ns(reading)
        off_ns = late_ns - self._target_ns(reading.sample)
        if abs(off_ns) > _JUMP_NS:
            self._begin(reading, self._line.slope)
            late_ns = off_ns = 0.0
        if self._is_step(reading, late_ns, off_ns):
            return
        self._block.append((float(reading.sample), late_ns))
        if (reading.sample - self._block[0][0]) / self._rate_hz >= self._block_s(reading):
            self._close_block()
            self._correct(self._fitted())

    def at(self, sample: float) -> int:
        """The time of a sample in nanoseconds; asked for in the order of samples.

        Raises RuntimeError before the first reading.
        """
        if self._origin is None:
            raise RuntimeError("no reading of the device's clock yet")
        t_ns = self._origin.t_ns + round((sample - self._origin.sample) * self._sample_ns + self._given_ns(sample))
        if sample > self._last_sample:
            # A device that stopped and said wrong times before it did: time stands still and does not go back.
            t_ns = max(t_ns, self._last_ns + 1) if self._last_ns else t_ns
            self._last_sample, self._last_ns = sample, t_ns
        return t_ns

    def _begin(self, reading: Reading, slope: float) -> None:
        self._origin = reading
        self._line = _Line(float(reading.sample), 0.0, slope)
        self._behind_ns = 0.0
        self._block.clear()
        self._blocks.clear()
        self._aside.clear()

    def _late_ns(self, reading: Reading) -> float:
        origin = self._origin or reading
        return (reading.t_ns - origin.t_ns) - (reading.sample - origin.sample) * self._sample_ns

    def _target_ns(self, sample: float) -> float:
        return self._line.late_ns + self._line.slope * (sample - self._line.sample) * self._sample_ns

    def _given_ns(self, sample: float) -> float:
        """The target, less what is left of the last correction."""
        left = 1.0 - (sample - self._from_sample) / self._over
        return self._target_ns(sample) - self._behind_ns * min(1.0, max(0.0, left))

    def _block_s(self, reading: Reading) -> float:
        """Short at first, so that a first reading that was late does not count for long."""
        since = self._origin or reading
        return min(_BLOCK_S, max(_FIRST_BLOCK_S, (reading.sample - since.sample) / self._rate_hz / 8))

    def _close_block(self) -> None:
        samples, late_ns = np.array(self._block).T
        self._blocks.append((float(samples.mean()), float(np.median(late_ns))))
        self._block.clear()

    def _fitted(self) -> _Line:
        samples, late_ns = np.array(self._blocks).T
        slope = self._line.slope
        if (samples[-1] - samples[0]) / self._rate_hz >= _LEAST_SPAN_S:
            first, second = np.triu_indices(len(samples), 1)
            rises = (late_ns[second] - late_ns[first]) / ((samples[second] - samples[first]) * self._sample_ns)
            slope = float(np.clip(np.median(rises), -_LARGEST_PPM / 1e6, _LARGEST_PPM / 1e6))
        latest = samples[-1]
        return _Line(latest, float(np.median(late_ns + slope * (latest - samples) * self._sample_ns)), slope)

    def _correct(self, line: _Line) -> None:
        """Follow `line` from the last sample that was asked for on, without a jump there."""
        here = self._last_sample if math.isfinite(self._last_sample) else line.sample
        given_ns = self._given_ns(here)
        self._line = line
        self._behind_ns = self._target_ns(here) - given_ns
        self._from_sample = here
        self._over = max(self._rate_hz, abs(self._behind_ns) / _SLEW / self._sample_ns)

    def _is_step(self, reading: Reading, late_ns: float, off_ns: float) -> bool:
        """Whether the readings have left the line; then it goes on from where they are.

        Later ones mean that sound was lost, and times jump. Earlier ones mean that those before were late.
        """
        if abs(off_ns) <= _STEP_NS or (self._aside and (off_ns > 0) != (self._aside[0][1] > 0)):
            self._aside.clear()
        if abs(off_ns) <= _STEP_NS:
            return False
        self._aside.append((reading, off_ns))
        first = self._aside[0][0]
        long_s = min((reading.sample - first.sample) / self._rate_hz, (reading.t_ns - first.t_ns) / SECOND_NS)
        if long_s < _STEP_S:
            return False
        step_ns = float(np.median([off for _, off in self._aside]))
        moved = _Line(float(reading.sample), self._target_ns(reading.sample) + step_ns, self._line.slope)
        self._blocks.clear()
        self._block.clear()
        self._aside.clear()
        self._correct(moved)
        if step_ns > 0:
            self._behind_ns = 0.0
        return True
