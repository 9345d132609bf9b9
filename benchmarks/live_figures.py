"""What `benchmarks.live` measures: the figures of its parts, made from what was observed of their sessions."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from benchmarks.figures import (
    Account,
    Check,
    Quantiles,
    account_of,
    after,
    frames_per_second,
    growth_mb,
    one_a_frame,
    quantiles,
    stage_medians_ms,
)
from benchmarks.keyframes import KeyFrames
from benchmarks.machine import Machine
from benchmarks.matrix import Row
from benchmarks.media import Clip
from benchmarks.session import Observed
from benchmarks.workers import Share


class Realtime(msgspec.Struct, frozen=True):
    """Frames at the pace of a camera. Ages are of the first result of each frame, in milliseconds from capture to
    publication; at_reader_ms: to the moment when this program had read it."""

    frames: int
    account: Account | None
    age_ms: Quantiles | None
    age_after_warm_up_ms: Quantiles | None
    warm_up_s: float
    at_reader_ms: Quantiles | None
    stages_ms: dict[str, float]
    workers: dict[str, Share]
    checks: tuple[Check, ...]
    key_frames: KeyFrames | None


class FullSpeed(msgspec.Struct, frozen=True):
    """Every frame as fast as it goes. whole_s, whole_fps: with the start of the processes and their end."""

    frames: int
    account: Account | None
    fps: float | None
    whole_s: float
    whole_fps: float
    workers: dict[str, Share]
    checks: tuple[Check, ...]


class Memory(msgspec.Struct, frozen=True):
    """growth_mb: by worker, as `growth_mb` defines it; None if the run was too short to say."""

    minutes: float
    account: Account | None
    age_ms: Quantiles | None
    growth_mb: dict[str, float | None]
    workers: dict[str, Share]
    checks: tuple[Check, ...]


class LiveReport(msgspec.Struct, frozen=True):
    """All of it. source: None for a camera or a stream. settings: what differs from the defaults. matrix: () if left
    out."""

    machine: Machine
    model: str
    backend: str
    source: Clip | None
    settings: tuple[str, ...]
    realtime: Realtime
    full_speed: FullSpeed | None
    memory: Memory | None
    matrix: tuple[Row, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        parts = (self.realtime, self.full_speed, self.memory, *self.matrix)
        return tuple(check for part in parts if part is not None for check in part.checks if not check.holds)


@dataclass(frozen=True, slots=True)
class Curve:
    """Memory of one worker. times_s: from the first result on."""

    worker: str
    times_s: tuple[float, ...]
    rss_mb: tuple[float, ...]


def realtime(observed: Observed, captured: int | None, warm_up_s: float, key_frames: KeyFrames | None) -> Realtime:
    """captured: see figures.balance."""
    frames = one_a_frame(observed.samples)
    account = account_of(observed.account_text)
    return Realtime(
        frames=len(frames),
        account=account,
        age_ms=quantiles([each.age_ms for each in frames]),
        age_after_warm_up_ms=quantiles([each.age_ms for each in after(frames, warm_up_s)]),
        warm_up_s=warm_up_s,
        at_reader_ms=quantiles([(each.t_receive_ns - each.t_capture_ns) / 1e6 for each in frames]),
        stages_ms=stage_medians_ms(frames),
        workers=observed.shares,
        checks=observed.checks(captured),
        key_frames=key_frames,
    )


def full_speed(observed: Observed, captured: int | None) -> FullSpeed:
    """captured: see figures.balance."""
    frames = one_a_frame(observed.samples)
    account = account_of(observed.account_text)
    whole_s = (observed.ended_ns - observed.started_ns) / 1e9
    stale = account.stale if account else 0
    return FullSpeed(
        frames=len(frames),
        account=account,
        fps=frames_per_second(frames),
        whole_s=whole_s,
        whole_fps=len(frames) / whole_s,
        workers=observed.shares,
        checks=(*observed.checks(captured), Check("at full speed nothing is passed over", not stale, f"{stale}")),
    )


def memory(observed: Observed, captured: int | None, minutes: float) -> Memory:
    """captured: see figures.balance."""
    return Memory(
        minutes=minutes,
        account=account_of(observed.account_text),
        age_ms=quantiles([each.age_ms for each in one_a_frame(observed.samples)]),
        growth_mb={each.worker: growth_mb(each.times_s, each.rss_mb) for each in curves(observed)},
        workers=observed.shares,
        checks=observed.checks(captured),
    )


def curves(observed: Observed) -> tuple[Curve, ...]:
    """Memory of each worker from the first result to the last."""
    begin_ns, end_ns = observed.samples[0].t_publish_ns, observed.samples[-1].t_publish_ns
    inside = [each for each in observed.usage if begin_ns <= each.t_ns <= end_ns]
    found = []
    for name in dict.fromkeys(each.worker for each in inside):
        mine = [each for each in inside if each.worker == name]
        times_s = tuple((each.t_ns - begin_ns) / 1e9 for each in mine)
        found.append(Curve(name, times_s, tuple(each.rss_mb for each in mine)))
    return tuple(found)
