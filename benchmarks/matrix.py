"""Sessions of every picture size, rate and load: what `benchmarks.live` shows side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Final

import av
import msgspec

from benchmarks import raw_clip
from benchmarks.figures import (
    STAGES,
    Account,
    Check,
    Quantiles,
    Sample,
    account_of,
    ages_in_own_periods,
    frames_per_second,
    one_a_frame,
    quantiles,
)
from benchmarks.raw_clip import RawClip
from benchmarks.session import Observed, observe
from benchmarks.steadiness import tail
from benchmarks.workers import Share, total_percent
from pipeline.bus import WorkerError

HEIGHTS_PX: Final = (480, 720, 1080)
RATES_HZ: Final = (30, 60)
OVERLOAD: Final = 3
SECONDS: Final = 10.0
_ALONE: Final = 0.3  # of a session's time
_PICTURES: Final = 40  # of the clip, so that the largest size fits in memory


class Row(msgspec.Struct, frozen=True):
    """One session. rate_hz: of the camera that it stands for. capacity_hz: frames a second that a session at full speed
    analysed of these pictures. offered_hz: frames a second that came; at load 3 it is to be three times the capacity.

    period_ms: mean time from one published frame to the next. own_periods: ages in those in which each came about
    (figures.ages_in_own_periods). stages_ms: means, which sum to mean_age_ms.
    alone_tail: of a plain loop that takes as long as a frame, just before a session at load 3: its slowest hundredth
    over its mean.
    """

    width_px: int
    height_px: int
    rate_hz: int
    load: int
    capacity_hz: float | None
    offered_hz: float | None
    account: Account | None
    age_ms: Quantiles | None
    mean_age_ms: float | None
    period_ms: float | None
    own_periods: Quantiles | None
    stages_ms: dict[str, float]
    workers: dict[str, Share]
    checks: tuple[Check, ...]
    alone_tail: float | None = None

    @property
    def name(self) -> str:
        """As tables and pictures name it."""
        return f"{self.height_px}p, {self.rate_hz}/s, {self.load}x"

    def periods(self, age_ms: float | None) -> float | None:
        """An age in times from frame to frame."""
        return age_ms / self.period_ms if age_ms is not None and self.period_ms else None

    @property
    def cpu_percent(self) -> float | None:
        """Of one core, all processes together; None where one of them was too short to say."""
        return total_percent(self.workers.values())

    @property
    def rss_mb(self) -> float:
        """The highest of each process, added up."""
        return sum(each.rss_mb for each in self.workers.values())


def row_of(observed: Observed, clip: RawClip, size_px: tuple[int, int], rate_hz: int, capacity_hz: float | None) -> Row:
    """capacity_hz: given, it is a session at load OVERLOAD. size_px: width and height."""
    frames = one_a_frame(observed.samples)
    account = account_of(observed.account_text)
    return Row(
        width_px=size_px[0],
        height_px=size_px[1],
        rate_hz=rate_hz,
        load=1 if capacity_hz is None else OVERLOAD,
        capacity_hz=capacity_hz,
        offered_hz=_offered_hz(frames),
        account=account,
        age_ms=quantiles([each.age_ms for each in frames]),
        mean_age_ms=fmean(each.age_ms for each in frames),
        period_ms=1e3 / speed if (speed := frames_per_second(frames)) else None,
        own_periods=quantiles(ages_in_own_periods(frames)),
        stages_ms={name: fmean(each.stages_ms[i] for each in frames) for i, name in enumerate(STAGES)},
        workers=observed.shares,
        checks=observed.checks(clip.count),
    )


def _offered_hz(frames: Sequence[Sample]) -> float | None:
    """Captured frames a second, by number and time of the first and the last that were published."""
    took_s = (frames[-1].t_capture_ns - frames[0].t_capture_ns) / 1e9
    return (frames[-1].seq - frames[0].seq) / took_s if took_s > 0 else None


@dataclass(frozen=True, slots=True)
class Cells:
    """Which rows are measured: every height at every rate, each with a load of 1 and of OVERLOAD, for so long."""

    heights_px: tuple[int, ...] = HEIGHTS_PX
    rates_hz: tuple[int, ...] = RATES_HZ
    seconds: float = SECONDS

    @property
    def rows(self) -> int:
        return 2 * len(self.heights_px) * len(self.rates_hz)


def measure(
    path: Path, settings: Sequence[str], cells: Cells, folder: Path, step: Callable[[], None]
) -> tuple[Row, ...]:
    """A session for each row, made of the first pictures of a clip; after each, `step` is called.

    The same scene, seen by cameras of different rates: at half the rate there is every second picture of it. Pictures
    of 3x overload are the same, three times as many a second as a session at full speed analysed of them just before.
    """
    options = [part for each in (*settings, "capture.mic=none") for part in ("--set", each)]
    found = []
    for height_px, rate_hz in product(cells.heights_px, cells.rates_hz):
        source = _Source(raw_clip.scaled(path, height_px, _PICTURES, max(RATES_HZ) // rate_hz), folder, options)
        found.append(row_of(*source.play(rate_hz, cells.seconds), source.size_px, rate_hz, None))
        step()
        capacity_hz = source.capacity_hz(round(20 * cells.seconds))
        alone = tail(1e3 / capacity_hz, _ALONE * cells.seconds)
        pressed = row_of(*source.play(OVERLOAD * capacity_hz, cells.seconds), source.size_px, rate_hz, capacity_hz)
        found.append(msgspec.structs.replace(pressed, alone_tail=alone))
        step()
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Source:
    """Pictures of one size, and what their sessions are started with."""

    frames: Sequence[av.VideoFrame]
    folder: Path
    options: Sequence[str]

    @property
    def size_px(self) -> tuple[int, int]:
        return self.frames[0].width, self.frames[0].height

    def play(self, rate_hz: float, seconds: float) -> tuple[Observed, RawClip]:
        """A session in real time, in which the pictures come at a rate for so long."""
        clip = raw_clip.write(self.folder, self.frames, rate_hz, round(rate_hz * seconds))
        return self._session(clip, "realtime"), clip

    def capacity_hz(self, count: int) -> float:
        """Frames a second of a session at full speed. Raises WorkerError if there were too few to say."""
        clip = raw_clip.write(self.folder, self.frames, max(RATES_HZ), count)
        speed = frames_per_second(one_a_frame(self._session(clip, "max").samples))
        if speed is None:
            raise WorkerError("a session at full speed published a single frame: its capacity is unknown", 1)
        return speed

    def _session(self, clip: RawClip, pace: str) -> Observed:
        return observe(["--camera", str(clip.playlist), "--pace", pace, *self.options], lambda _: None)
