"""What sound and pictures are turned into."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.signals import HOP_S, Series, SyncError, loudness, onsets, smoothed, stops


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_loudness_and_its_rise_are_where_they_are_heard(rate_hz: int) -> None:
    sound = np.zeros(rate_hz, np.float32)
    sound[rate_hz // 2 :] = 0.25
    level = loudness(sound, rate_hz, start_s=3.0)
    assert level.values[-1] == pytest.approx(0.25)
    assert level.times_s[0] == pytest.approx(3 + HOP_S / 2, abs=1e-4)
    rise = onsets(level)
    assert rise.times_s[rise.values.argmax()] == pytest.approx(3.5, abs=HOP_S)
    assert np.count_nonzero(rise.values > 0.01) <= 2


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros(16_000, np.float32), "silent"),
        (np.full(16_000, 1e-4, np.float32), "silent"),
        (np.zeros(0, np.float32), "too short"),
        (np.ones(10, np.float32), "too short"),
        (np.array([0.1, np.nan] * 1000, np.float32), "no numbers"),
        (np.array([0.1, np.inf] * 1000, np.float32), "no numbers"),
        (np.zeros((2, 16_000), np.float32), "mono"),
    ],
)
def test_sound_that_is_none_is_refused(samples: np.ndarray, says: str) -> None:
    with pytest.raises(SyncError, match=says):
        loudness(samples, 16_000)


@given(st.floats(0.2, 0.8))
def test_the_end_of_a_motion_lies_between_two_pictures(end_s: float) -> None:
    times_s = np.arange(0, 1, 1 / 30)
    place = np.minimum(times_s, end_s)
    found = stops(Series(times_s[1:], np.diff(place)))
    assert np.sum(found.times_s * found.values) / np.sum(found.values) == pytest.approx(end_s, abs=1e-6)


def test_smoothing_reads_between_the_values() -> None:
    at_s = np.arange(0, 1, 0.005)
    curve = smoothed(Series(np.array([0.4, 0.5]), np.array([1.0, 1.0])), at_s, 0.05)
    assert at_s[curve.argmax()] == pytest.approx(0.45, abs=0.006)


@pytest.mark.parametrize("times_s", [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, np.nan, 1.0], [0.0, 1.0]])
def test_times_must_rise(times_s: list[float]) -> None:
    with pytest.raises(SyncError):
        Series(np.array(times_s), np.zeros(3))
