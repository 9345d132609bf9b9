"""What a worker says of itself."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bus import Publisher, Subscriber
from pipeline.messages import Event, Health
from pipeline.report import Reporter, rss_mb


@pytest.fixture
def ends() -> Iterator[tuple[Reporter, Subscriber]]:
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{Path(folder) / 'results'}"
        with (
            Subscriber(endpoint, ("health", "event"), bind=True) as inbox,
            Publisher(endpoint, bind=False, lossless=True) as results,
        ):
            # A bound socket greets who connects when its own thread next looks at it.
            while not results.wait_for_subscriber("health", None, 0.0):
                assert inbox.receive(10) is None
            yield Reporter("s", "analyze", results), inbox


def _next(inbox: Subscriber) -> Health | Event:
    received = inbox.receive(5000)
    assert received is not None
    assert isinstance(received.message, Health | Event)
    return received.message


def test_health_covers_what_was_handled_since_the_one_before(ends: tuple[Reporter, Subscriber]) -> None:
    reporter, inbox = ends
    reporter.enter("ready")
    for age_ms in range(1, 101):
        reporter.handled(float(age_ms))
    reporter.enter("ended", {"stale": 3})
    reporter.enter("ended")
    first, second, third = (_next(inbox) for _ in range(3))
    assert isinstance(first, Health) and isinstance(second, Health) and isinstance(third, Health)
    assert [each.seq for each in (first, second, third)] == [0, 1, 2]
    assert (first.source, first.state, first.fps, first.age_p50_ms) == ("analyze", "ready", 0.0, None)
    assert second.fps > 0
    assert (second.age_p50_ms, second.age_p95_ms, second.drops) == (50.5, 95.05, {"stale": 3})
    assert (third.fps, third.age_p99_ms, third.drops) == (0.0, None, {})


def test_a_tick_is_silent_within_the_second_and_work_is_running(ends: tuple[Reporter, Subscriber]) -> None:
    reporter, inbox = ends
    reporter.handled()
    for _ in range(100):
        reporter.tick({})
    reporter.event("notice", "so far")
    assert isinstance(_next(inbox), Event), "a tick within the first second says nothing"
    while inbox.receive(0) is None:
        reporter.tick({"stale": 1})
    reporter.event("notice", "again")
    event = _next(inbox)
    assert isinstance(event, Event)
    assert (event.seq, event.text) == (1, "again")


def test_memory_is_in_megabytes() -> None:
    rss = rss_mb()
    assert rss is None or 10 < rss < 100_000
