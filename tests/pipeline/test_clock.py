from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from pipeline.clock import NS_PER_S, Percentiles, Rate, WallClock, now_ns, sleep_until


def test_sleep_until_a_past_time_returns_at_once_and_reports_the_flag() -> None:
    stop = threading.Event()
    assert not sleep_until(now_ns() - NS_PER_S, stop)
    stop.set()
    assert sleep_until(now_ns() - NS_PER_S, stop)


def test_a_set_flag_ends_a_long_sleep() -> None:
    stop = threading.Event()
    threading.Timer(0.01, stop.set).start()
    assert sleep_until(now_ns() + 60 * NS_PER_S, stop)


def test_sleep_until_is_never_early() -> None:
    target = now_ns() + NS_PER_S // 100
    sleep_until(target)
    assert now_ns() >= target


def test_beats_stay_on_the_grid_when_a_turn_is_a_little_late() -> None:
    rate = Rate(10.0, start_ns=0)
    assert not rate.due(99_999_999)
    assert rate.due(130_000_000)
    assert not rate.due(199_999_999)
    assert rate.due(200_000_000)


def test_missed_beats_are_not_made_up_in_a_burst() -> None:
    rate = Rate(10.0, start_ns=0)
    assert rate.due(1_000_000_000)
    assert not rate.due(1_050_000_000)
    assert rate.due(1_100_000_000)


def test_percentiles_of_the_last_values_only() -> None:
    window = Percentiles(capacity=100)
    assert window.read() is None
    for value in range(1000):
        window.add(float(value))
    assert window.read((0.0, 50.0, 100.0)) == (900.0, 949.5, 999.0)
    assert len(window) == 100
    window.clear()
    assert window.read() is None


def test_wall_time_follows_the_monotonic_clock() -> None:
    clock = WallClock()
    t_ns = now_ns()
    first, later = clock.iso(t_ns), clock.iso(t_ns + 1_000)
    assert first.endswith("Z")
    assert len(first) == len("2026-11-23T19:28:45.123456Z")
    microseconds = [int(text[-7:-1]) for text in (first, later)]
    assert (microseconds[1] - microseconds[0]) % 1_000_000 == 1


def test_wall_times_forth_and_back_over_seconds_are_as_far_apart_as_the_clock_says() -> None:
    clock, t_ns = WallClock(), now_ns()
    steps_ns = (0, 999_999_000, 1_000_000_000, 86_400_000_000_000, 400_000_000, -3_000_000_000)
    times = [datetime.fromisoformat(clock.iso(t_ns + step_ns)) for step_ns in steps_ns]
    assert [(each - times[0]) / timedelta(microseconds=1) for each in times] == [each // 1_000 for each in steps_ns]


@pytest.mark.parametrize("hz", [29.97, 1.0, 1000.0])
def test_the_period_is_that_of_the_rate(hz: float) -> None:
    assert Rate(hz).period_ns == pytest.approx(NS_PER_S / hz, abs=1)
