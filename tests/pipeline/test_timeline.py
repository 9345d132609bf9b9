from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.timeline import Reading, SampleClock, Timeline

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


def test_sample_clock_smooths_jitter_and_follows_drift() -> None:
    rng = np.random.default_rng(0)
    clock, true_rate_hz = SampleClock(16_000), 16_001.6
    errors_ns = []
    for sample in range(0, 16_000 * 30, 160):
        true_ns = sample / true_rate_hz * 1e9
        clock.observe(Reading(sample, round(true_ns + rng.normal(0, 2 * MS_NS))))
        errors_ns.append(clock.at(sample) - true_ns)
    assert np.std(errors_ns[500:]) < 0.5 * MS_NS
    assert abs(np.mean(errors_ns[500:])) < 0.2 * MS_NS


def test_sample_clock_jumps_after_a_gap() -> None:
    clock = SampleClock(16_000)
    clock.observe(Reading(0, 0))
    clock.observe(Reading(160, 2_000 * MS_NS))
    assert clock.at(320) == 2_010 * MS_NS


def test_sample_clock_before_its_first_reading() -> None:
    with pytest.raises(RuntimeError, match="no reading"):
        SampleClock(16_000).at(0)
