"""Pure: what sound and pictures have in common over time. Loudness and its rises; motion and its sudden ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HOP_S = 0.005
SILENT = 1e-3
"""Sound whose loudest 5 ms are below this root mean square (-60 dBFS) is silence."""


class SyncError(ValueError):
    """There is nothing to align picture and sound on; one printable line that says what is missing."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(char if char.isprintable() else " " for char in text))


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """values [N] at times_s [N], which rise; the times need not be even. NaN: unknown at that time."""

    times_s: Floats
    values: Floats

    def __post_init__(self) -> None:
        if self.times_s.ndim != 1 or self.times_s.shape != self.values.shape:
            raise SyncError(f"{self.times_s.shape} times for {self.values.shape} values")
        if not np.isfinite(self.times_s).all() or (np.diff(self.times_s) <= 0).any():
            raise SyncError("the times of the pictures do not rise")

    @property
    def step_s(self) -> float:
        """Usual time from one value to the next. Raises SyncError with fewer than two values."""
        if len(self.times_s) < 2:
            raise SyncError("there are fewer than two pictures")
        return float(np.median(np.diff(self.times_s)))


def loudness(samples: npt.NDArray[np.float32], rate_hz: float, start_s: float = 0.0) -> Series:
    """Root mean square of each HOP_S of mono sound [N] in [-1, 1] whose first sample belongs to `start_s`.

    A value belongs to the middle of its stretch. Raises SyncError if the sound is too short, silent or not finite.
    """
    if samples.ndim != 1 or not rate_hz > 0:
        raise SyncError(f"expected mono sound [N] at a rate above 0, got {list(samples.shape)} at {rate_hz} Hz")
    if not np.isfinite(samples).all():
        raise SyncError("the sound has samples that are no numbers")
    # Rates need not be multiples of the hop: a stretch begins at the sample nearest to its time.
    edges = np.round(np.arange(0, len(samples) / rate_hz + 1e-9, HOP_S) * rate_hz).astype(np.intp)
    edges = edges[edges <= len(samples)]
    if len(edges) < 2 or (np.diff(edges) < 1).any():
        raise SyncError("the sound is too short")
    power = np.add.reduceat(np.square(samples[: edges[-1]], dtype=np.float64), edges[:-1]) / np.diff(edges)
    level = np.sqrt(power)
    if level.max() < SILENT:
        raise SyncError("the sound is silent")
    return Series(start_s + (edges[:-1] + edges[1:]) / (2 * rate_hz), level)


def onsets(sound: Series) -> Series:
    """How much louder each stretch is than the one before, falls left out (energy flux).

    Of the square root of the loudness, so that a clap at a tenth of the loudness still counts for a third.
    """
    rise = np.diff(np.sqrt(sound.values), prepend=np.sqrt(sound.values[0]))
    return Series(sound.times_s, np.maximum(rise, 0.0))


def stops(motion: Series) -> Series:
    """How much motion ends at each picture: hands that clap are fast until they meet, and then are not.

    motion: difference of each picture to the one before. Where it ends between two pictures, the two that are nearest
    share the end so that their mean time, weighted by these values, is when it ended.
    """
    usual_s = motion.step_s
    # A difference is as large as the time that it had; very little time has mostly noise.
    took_s = np.maximum(np.diff(motion.times_s, prepend=motion.times_s[0] - usual_s), usual_s / 2)
    speed = motion.values * usual_s / took_s
    drop = speed[:-1] - speed[1:]
    return Series(motion.times_s[:-1], np.maximum(drop, 0.0))


def smoothed(series: Series, at_s: Floats, width_s: float) -> Floats:
    """The series as a sum of Gaussians of standard deviation `width_s`, read at the times `at_s` [M]."""
    reach_s = 4.0 * width_s
    first, last = np.searchsorted(series.times_s, (at_s.min() - reach_s, at_s.max() + reach_s))
    away = (at_s[:, None] - series.times_s[first:last]) / width_s
    return np.asarray(np.exp(-0.5 * away**2) @ series.values[first:last])
