from __future__ import annotations

import threading

import pytest

from pipeline.clock import now_ns
from pipeline.playback import FileClock

MS_NS = 1_000_000


def test_clock_starts_at_the_first_place() -> None:
    clock, stop = FileClock(slack_ns=MS_NS), threading.Event()
    before_ns = now_ns()
    assert not clock.wait(0, stop)
    assert before_ns <= clock.due_ns(0) <= now_ns()
    assert clock.due_ns(40 * MS_NS) - clock.due_ns(0) == 40 * MS_NS


def test_clock_never_releases_early() -> None:
    clock, stop = FileClock(slack_ns=MS_NS), threading.Event()
    for place_ns in range(0, 50 * MS_NS, 10 * MS_NS):
        clock.wait(place_ns, stop)
        assert now_ns() >= clock.due_ns(place_ns)


def test_what_is_late_moves_the_clock_instead_of_a_burst() -> None:
    clock, stop = FileClock(slack_ns=MS_NS), threading.Event()
    clock.wait(0, stop)
    zero_ns = clock.due_ns(0)
    while now_ns() < zero_ns + 30 * MS_NS:
        pass
    clock.wait(10 * MS_NS, stop)
    assert clock.due_ns(10 * MS_NS) >= zero_ns + 30 * MS_NS
    released_ns = clock.due_ns(10 * MS_NS)
    clock.wait(20 * MS_NS, stop)
    assert now_ns() - released_ns >= 10 * MS_NS


def test_stop_ends_a_wait() -> None:
    clock, stop = FileClock(slack_ns=MS_NS), threading.Event()
    clock.wait(0, stop)
    stop.set()
    assert clock.wait(3_600_000 * MS_NS, stop)


def test_clock_that_has_not_started() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        FileClock(MS_NS).due_ns(0)
