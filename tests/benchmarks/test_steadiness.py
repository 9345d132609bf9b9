"""How steady a machine is: what is made of the times, and that they are taken."""

from __future__ import annotations

import pytest

from benchmarks.steadiness import _timed_ms, tail, tail_of


def test_the_tail_is_the_slowest_hundredth_over_the_mean() -> None:
    assert tail_of([2.0] * 50) == pytest.approx(1.0)
    assert tail_of([1.0] * 98 + [5.0] * 3) == pytest.approx(5.0 / (113 / 101))


def test_a_loop_as_long_as_asked_runs_for_as_long_as_asked() -> None:
    """On a machine that takes a microsecond a turn, and twice that every tenth time."""
    asked: list[int] = []

    def timed_ms(turns: int) -> float:
        asked.append(turns)
        return turns * (2e-3 if len(asked) % 10 == 0 else 1e-3)

    assert tail(3.0, 0.6, timed_ms) == pytest.approx(2.0 / 1.1)
    assert asked == [20_000] * 5 + [3_000] * 200


def test_longer_loops_take_longer_on_this_machine() -> None:
    assert min(_timed_ms(200_000) for _ in range(5)) > min(_timed_ms(2_000) for _ in range(5)) > 0.0
