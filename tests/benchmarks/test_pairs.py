"""What differs is taken within pairs, so that what both had in common is out of it."""

from __future__ import annotations

from benchmarks.figures import Check, quantiles
from benchmarks.machine import look
from benchmarks.pairs import Difference, Pair, PairsReport, Session, difference, tables


def session(p50_ms: float, holds: bool = True) -> Session:
    ages_ms = quantiles([p50_ms] * 3)
    assert ages_ms is not None
    return Session(ages_ms, 40.0, 0, (Check("nothing is lost", holds, "1"),))


PAIRS = (
    Pair(session(10.0), session(9.0)),
    Pair(session(30.0), session(28.5)),  # something else ran meanwhile
    Pair(session(10.0), session(10.5)),
)


def test_the_difference_is_that_of_pairs() -> None:
    assert difference(PAIRS, "p99") == Difference(median_ms=-1.0, least_ms=-1.5, largest_ms=0.5, lower=2, pairs=3)


def test_a_session_that_does_not_balance_fails_the_report() -> None:
    here = look()
    assert PairsReport(here, "demo", (), (), ("engine.pin=1",), PAIRS).failed == ()
    broken = Pair(session(1.0), session(1.0, holds=False))
    assert len(PairsReport(here, "demo", (), (), ("engine.pin=1",), (*PAIRS, broken)).failed) == 1


def test_every_session_has_a_line() -> None:
    apart, sessions = tables(PairsReport(look(), "demo", (), (), ("engine.pin=1",), PAIRS))
    assert apart.rows[0] == ("p50", "-1.00", "-1.50 to +0.50", "2 of 3")
    assert [line[0] for line in sessions.rows] == ["1 A", "1 B", "2 A", "2 B", "3 A", "3 B"]
