"""Pure: from the results of a session to its figures, and the checks that say whether they may be believed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec
import numpy as np

from pipeline.messages import EngagementFrame, Stages

STAGES: tuple[str, ...] = Stages.__struct_fields__
LARGEST_SUM_ERROR = 1e-4
LARGEST_STAGE_ERROR_MS = 0.1
GROWTH_FROM_S = 60.0
GROWTH_WINDOW_S = 30.0
_ACCOUNT = re.compile(r"captured (\d+) = published (\d+) \+ stale (\d+), decode errors (\d+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one result says of itself. sum_error: how far score and base + contributions are apart.

    stages_ms: in the order of STAGES. stale: what its frame count says was passed over so far.
    """

    seq: int
    t_capture_ns: int
    t_publish_ns: int
    t_receive_ns: int
    stale: int
    tracked: bool
    stages_ms: tuple[float, ...]
    sum_error: float

    @property
    def age_ms(self) -> float:
        """From capture to publication."""
        return (self.t_publish_ns - self.t_capture_ns) / 1e6


class Quantiles(msgspec.Struct, frozen=True):
    """Of `count` values, by linear interpolation between them."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


class Account(msgspec.Struct, frozen=True):
    """Where the captured frames went, as the analysis says at its end."""

    captured: int
    published: int
    stale: int
    decode_errors: int


class Check(msgspec.Struct, frozen=True):
    """Something that must hold for the figures to count; `found` says what was seen."""

    what: str
    holds: bool
    found: str


def sample_of(result: EngagementFrame, t_receive_ns: int) -> Sample:
    """What is kept of a result: its contributions are summed here, so that ten minutes fit in memory."""
    sum_error = 0.0
    if result.score is not None and result.base is not None:
        total = result.base + sum(share.contribution for share in result.contributions)
        sum_error = abs(total - result.score)
    return Sample(
        seq=result.seq,
        t_capture_ns=result.t_capture_ns,
        t_publish_ns=result.t_publish_ns,
        t_receive_ns=t_receive_ns,
        stale=result.dropped.stale,
        tracked=result.status == "tracked",
        stages_ms=msgspec.structs.astuple(result.stages_ms),
        sum_error=sum_error,
    )


def one_a_frame(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The first result of each frame: the others are further faces in the same picture, published with it."""
    first: dict[int, Sample] = {}
    for sample in samples:
        first.setdefault(sample.seq, sample)
    return tuple(first.values())


def after(frames: Sequence[Sample], warm_up_s: float) -> tuple[Sample, ...]:
    """The frames captured `warm_up_s` or more after the first."""
    return tuple(each for each in frames if each.t_capture_ns - frames[0].t_capture_ns >= warm_up_s * 1e9)


def quantiles(values: Sequence[float]) -> Quantiles | None:
    """None without values."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, (50.0, 95.0, 99.0))
    return Quantiles(len(values), float(p50), float(p95), float(p99), max(values))


def stage_medians_ms(frames: Sequence[Sample]) -> dict[str, float]:
    """Median of each stage. Medians of parts do not sum to the median of the whole; each frame's stages do."""
    return {name: median(each.stages_ms[i] for each in frames) for i, name in enumerate(STAGES)} if frames else {}


def frames_per_second(frames: Sequence[Sample]) -> float | None:
    """Intervals between results over the time from the first to the last; None for fewer than two."""
    if len(frames) < 2:
        return None
    return (len(frames) - 1) / ((frames[-1].t_publish_ns - frames[0].t_publish_ns) / 1e9)


def ages_in_own_periods(frames: Sequence[Sample]) -> list[float]:
    """Each age in the frame periods in which it came about: half the time from the publication two frames before to
    its own. Two are what newest-wins allows, however long they take: the frame that is worked on when one comes, and
    its own. The first two have none before them."""
    pairs = zip(frames, frames[2:], strict=False)
    return [2e6 * each.age_ms / (each.t_publish_ns - before.t_publish_ns) for before, each in pairs]


def account_of(text: str) -> Account | None:
    """The account in the text of the analysis' last event; None if there is none."""
    found = _ACCOUNT.search(text)
    return Account(*map(int, found.groups())) if found else None


def balance(frames: Sequence[Sample], account: Account | None, captured: int | None) -> tuple[Check, ...]:
    """Whether every captured frame is accounted for. captured: pictures in the source, counted independently of the
    session; None where nobody else can know (a camera, or a file that was not played to its end)."""
    if account is None:
        return (Check("the analysis gives its account of frames", False, "it gave none"),)
    numbers = [each.seq for each in frames]
    gaps = [each.seq for i, each in enumerate(frames) if each.stale != each.seq - numbers[0] - i + frames[0].stale]
    total = account.published + account.stale
    checks = [
        Check(
            "captured = published + stale",
            account.captured == total,
            f"{account.captured} = {account.published} + {account.stale}",
        ),
        Check(
            "every published frame reached the reader, once and in order",
            len(numbers) == account.published and numbers == sorted(set(numbers)),
            f"{len(numbers)} of {account.published}",
        ),
        Check(
            "every gap in the frame numbers was counted when it happened",
            not gaps,
            f"first wrong at frame {gaps[0]}" if gaps else f"{account.stale} passed over",
        ),
    ]
    if captured is not None:
        what = "as many frames were captured as the file holds"
        checks.append(Check(what, captured == account.captured, f"{account.captured} of {captured}"))
    return tuple(checks)


def sums(samples: Sequence[Sample]) -> tuple[Check, ...]:
    """Whether contributions sum to the score and stages to the age, in every result."""
    score = max((each.sum_error for each in samples), default=0.0)
    stages_ms = max((abs(sum(each.stages_ms) - each.age_ms) for each in samples), default=0.0)
    return (
        Check("base and contributions sum to the score", score <= LARGEST_SUM_ERROR, f"largest error {score:.1e}"),
        Check("stages sum to the age", stages_ms <= LARGEST_STAGE_ERROR_MS, f"largest error {stages_ms:.1e} ms"),
    )


def growth_mb(times_s: Sequence[float], rss_mb: Sequence[float]) -> float | None:
    """Median memory of the last 30 s less that of the 30 s after the first minute; None if those overlap.

    times_s: from the first result on, ascending.
    """
    if not times_s or times_s[-1] < GROWTH_FROM_S + 2 * GROWTH_WINDOW_S:
        return None
    pairs = list(zip(times_s, rss_mb, strict=True))
    early = [mb for s, mb in pairs if GROWTH_FROM_S <= s < GROWTH_FROM_S + GROWTH_WINDOW_S]
    late = [mb for s, mb in pairs if s > times_s[-1] - GROWTH_WINDOW_S]
    return median(late) - median(early) if early else None
