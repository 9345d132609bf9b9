"""How steady a machine is: what is made of the times, and that they are taken."""

from __future__ import annotations

import pytest

from benchmarks.steadiness import tail, tail_of


def test_the_tail_is_the_slowest_hundredth_over_the_mean() -> None:
    assert tail_of([2.0] * 50) == pytest.approx(1.0)
    assert tail_of([1.0] * 98 + [5.0] * 3) == pytest.approx(5.0 / (113 / 101))


def test_a_loop_of_this_machine_has_one() -> None:
    assert tail(0.5, 0.1) >= 1.0
