"""The figures of made-up sessions whose answers are known, and every way in which a frame can go missing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.figures import (
    STAGES,
    Account,
    Sample,
    account_of,
    after,
    ages_in_own_periods,
    balance,
    frames_per_second,
    growth_mb,
    one_a_frame,
    quantiles,
    stage_medians_ms,
    sums,
)
from pipeline import account as live_account
from pipeline.messages import FramePacket

PERIOD_NS = 33_000_000


def played(queue: int, seed: int) -> list[Sample]:
    """Frames that come three times as fast as they can be worked on, which takes 1 to 5 ms and, one in ten, 15. Of
    those that wait, the newest `queue` are kept, and the oldest of them is next."""
    rng, free_ns, published, waiting = np.random.default_rng(seed), 0, list[Sample](), list[int]()
    for came_ns in range(0, 3_000_000_000, 1_000_000):
        while waiting and free_ns <= came_ns:
            capture_ns, waiting = waiting[-queue:][0], waiting[-queue:][1:]
            work_ms = 15.0 if rng.random() < 0.1 else rng.uniform(1.0, 5.0)
            free_ns = max(free_ns, capture_ns) + round(work_ms * 1e6)
            published.append(Sample(len(published), capture_ns, free_ns, free_ns, 0, True, (), 0.0))
        waiting.append(came_ns)
    return published


@pytest.mark.parametrize("seed", range(5))
def test_no_result_is_older_than_its_own_two_periods_where_the_newest_wins_and_most_are_where_frames_queue(
    seed: int,
) -> None:
    newest = played(1, seed)
    assert len(newest) > 400
    assert max(ages_in_own_periods(newest)) <= 2.0
    mean_ms = 1e3 / (frames_per_second(newest) or 1)
    found = quantiles([each.age_ms / mean_ms for each in newest])
    assert found is not None
    assert found.p99 > 2.0, "frames that take long are old against the mean, though none waited for more than one"
    queued = quantiles(ages_in_own_periods(played(4, seed)))
    assert queued is not None
    assert queued.p50 > 2.0


def test_the_first_two_have_no_periods_of_their_own() -> None:
    assert ages_in_own_periods([sample(0), sample(1)]) == []
    assert ages_in_own_periods([sample(0), sample(1), sample(2)]) == pytest.approx([6.0 / 33.0])


def sample(seq: int, stale: int = 0, age_ms: float = 6.0, sum_error: float = 0.0) -> Sample:
    capture_ns = 1_000 + seq * PERIOD_NS
    publish_ns = capture_ns + round(age_ms * 1e6)
    stages_ms = tuple(age_ms / len(STAGES) for _ in STAGES)
    return Sample(seq, capture_ns, publish_ns, publish_ns + 500_000, stale, True, stages_ms, sum_error)


def broken(*checks: object) -> list[str]:
    return [check.what for check in checks if not check.holds]  # type: ignore[attr-defined]


def test_a_session_in_which_everything_is_counted_balances() -> None:
    frames = [sample(0), sample(1), sample(4, stale=2), sample(5, stale=2)]
    checks = balance(frames, Account(captured=7, published=4, stale=3, decode_errors=0), captured=7)
    assert len(checks) == 4
    assert broken(*checks) == []


def test_a_session_joined_late_balances() -> None:
    frames = [sample(10, stale=1), sample(12, stale=2)]
    assert broken(*balance(frames, Account(4, 2, 2, 0), None)) == []


@pytest.mark.parametrize(
    ("frames", "account", "captured", "says"),
    [
        ([sample(0), sample(1)], Account(3, 2, 0, 0), None, "captured = published"),
        ([sample(0), sample(1)], Account(3, 3, 0, 0), None, "reached the reader"),
        ([sample(1), sample(0)], Account(2, 2, 0, 0), None, "reached the reader"),
        ([sample(0), sample(2, stale=0)], Account(3, 2, 1, 0), None, "gap"),
        ([sample(0), sample(1)], Account(2, 2, 0, 0), 3, "the file holds"),
        ([sample(0), sample(1)], None, None, "gives its account"),
    ],
)
def test_whatever_goes_missing_is_named(
    frames: list[Sample], account: Account | None, captured: int | None, says: str
) -> None:
    found = broken(*balance(frames, account, captured))
    assert any(says in what for what in found), found


def test_the_account_is_read_as_the_analysis_writes_it() -> None:
    account = live_account.Account()
    for seq in (0, 3):
        packet = FramePacket(
            session="s", source="demo", seq=seq, t_capture_ns=0, t_send_ns=0, width_px=1, height_px=1, decode_errors=2
        )
        account.take(packet, lost=0)
    account.end(6)
    assert account_of(f"stopped: {account}") == Account(captured=6, published=2, stale=4, decode_errors=2)
    assert account_of("the end") is None


def test_a_sum_that_is_off_is_found() -> None:
    good, bad = sample(0), sample(1, sum_error=2e-4)
    assert broken(*sums([good])) == []
    assert broken(*sums([good, bad])) == ["base and contributions sum to the score"]
    late = Sample(2, 0, 7_000_000, 0, 0, True, (1.0,) * len(STAGES), 0.0)
    assert broken(*sums([good, late])) == ["stages sum to the age"]


def test_quantiles_of_known_values() -> None:
    found = quantiles([float(value) for value in range(101)])
    assert found is not None
    assert (found.count, found.p50, found.p95, found.p99, found.max) == (101, 50.0, 95.0, 99.0, 100.0)
    assert quantiles([]) is None


def test_a_second_face_does_not_count_twice() -> None:
    assert [each.seq for each in one_a_frame([sample(0), sample(0), sample(1)])] == [0, 1]


def test_the_warm_up_is_left_out_by_capture_time() -> None:
    frames = [sample(seq) for seq in range(10)]
    assert [each.seq for each in after(frames, 0.1)] == [4, 5, 6, 7, 8, 9]
    assert len(after(frames, 0.0)) == 10
    assert after((), 1.0) == ()


def test_speed_is_intervals_over_time() -> None:
    assert frames_per_second([sample(seq) for seq in range(11)]) == pytest.approx(1e9 / PERIOD_NS)
    assert frames_per_second([sample(0)]) is None


def test_stage_medians_have_a_name_each() -> None:
    medians = stage_medians_ms([sample(0, age_ms=6.0), sample(1, age_ms=6.0), sample(2, age_ms=600.0)])
    assert medians == {name: pytest.approx(1.0) for name in STAGES}


def test_growth_compares_the_end_with_the_second_minute_and_not_with_the_start() -> None:
    times_s = [float(s) for s in range(601)]
    settled = [50.0 if s < 40 else 100.0 for s in times_s]
    assert growth_mb(times_s, settled) == 0.0
    leaking = [100.0 + s * 0.01 for s in times_s]
    assert growth_mb(times_s, leaking) == pytest.approx(0.01 * (585.5 - 74.5))
    assert growth_mb(times_s[:119], settled[:119]) is None
    assert growth_mb([], []) is None
