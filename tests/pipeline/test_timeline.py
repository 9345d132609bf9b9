from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.timeline import Timeline

MS = Fraction(1, 1000)
MS_NS = 1_000_000


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1))
def test_whatever_the_timestamps_time_goes_forward_in_bounded_steps(pts: list[int | None]) -> None:
    timeline = Timeline(MS, Fraction(25))
    places = [timeline.place(each) for each in pts]
    steps = np.diff(places)
    assert places[0] == 0
    assert (steps > 0).all()
    assert (steps <= 10_000 * MS_NS).all()


@given(st.lists(st.integers(1, 9_999), min_size=1), st.integers(-(2**40), 2**40))
def test_good_timestamps_are_kept_exactly(steps_ms: list[int], first: int) -> None:
    timeline = Timeline(MS, Fraction(25))
    at_ms = [0, *np.cumsum(steps_ms).tolist()]
    assert [timeline.place(first + each) for each in at_ms] == [each * MS_NS for each in at_ms]
    assert timeline.origin_ns == first * MS_NS


def test_first_picture_without_a_timestamp() -> None:
    timeline = Timeline(MS, Fraction(25))
    assert [timeline.place(pts) for pts in (None, 540, 580)] == [0, 40 * MS_NS, 80 * MS_NS]
    assert timeline.origin_ns == 500 * MS_NS
