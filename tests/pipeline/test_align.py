"""The sound that belongs to a frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.align import SILENCE_DBFS, AudioWindow, level_dbfs

RATE_HZ = 16_000
CHUNK = 160
CHUNK_NS = 10_000_000
T0_NS = 7_000_000_000


def _chunk(number: int) -> np.ndarray:
    """Sample values tell their place: sample i of the stream is i / 2^20."""
    return (np.arange(number * CHUNK, (number + 1) * CHUNK) / 2**20).astype(np.float32)


def _filled(numbers: list[int], keep_s: float = 1.0) -> AudioWindow:
    audio = AudioWindow(keep_s)
    for number in numbers:
        audio.add(T0_NS + number * CHUNK_NS, _chunk(number), RATE_HZ)
    return audio


def _places(samples: np.ndarray) -> list[int]:
    return [round(float(value) * 2**20) for value in samples]


def test_the_window_ends_at_the_frame_although_newer_sound_is_there() -> None:
    found = _filled(list(range(50))).window(T0_NS + 20 * CHUNK_NS, 0.05)
    assert found is not None
    assert _places(found) == list(range(15 * CHUNK, 20 * CHUNK))


def test_sound_that_has_not_come_yet_is_not_waited_for() -> None:
    audio = _filled(list(range(10)))
    found = audio.window(T0_NS + 12 * CHUNK_NS, 0.05)
    assert found is not None
    assert _places(found) == list(range(5 * CHUNK, 10 * CHUNK))
    assert audio.window(T0_NS + 12 * CHUNK_NS, 0.05, max_lag_s=0.01) is None


def test_a_gap_is_missing_and_not_silence() -> None:
    audio = _filled([*range(10), *range(15, 30)])
    assert audio.window(T0_NS + 17 * CHUNK_NS, 0.05) is None
    after = audio.window(T0_NS + 20 * CHUNK_NS, 0.05)
    assert after is not None
    assert _places(after) == list(range(15 * CHUNK, 20 * CHUNK))


@given(st.permutations(list(range(20))))
def test_the_order_of_arrival_does_not_matter_within_the_ring(order: list[int]) -> None:
    audio = _filled([0, *(number for number in order if number)])
    found = audio.window(T0_NS + 20 * CHUNK_NS, 0.2)
    assert found is not None
    assert _places(found) == list(range(20 * CHUNK))


def test_jitter_of_the_clock_is_no_gap() -> None:
    audio = AudioWindow(1.0)
    jitter = np.random.default_rng(1).integers(-4_000_000, 4_000_000, 40)
    for number, off in enumerate(jitter):
        audio.add(T0_NS + number * CHUNK_NS + (int(off) if number else 0), _chunk(number), RATE_HZ)
    found = audio.window(T0_NS + 40 * CHUNK_NS, 0.4)
    assert found is not None
    assert _places(found) == list(range(40 * CHUNK))


def test_memory_is_bounded_and_old_sound_is_gone() -> None:
    audio = _filled(list(range(1000)), keep_s=0.5)
    assert audio.window(T0_NS + 900 * CHUNK_NS, 0.1) is None
    found = audio.window(T0_NS + 1000 * CHUNK_NS, 0.5)
    assert found is not None
    assert _places(found) == list(range(950 * CHUNK, 1000 * CHUNK))
    audio.add(T0_NS, _chunk(0), RATE_HZ)
    again = audio.window(T0_NS + 1000 * CHUNK_NS, 0.5)
    assert again is not None
    assert np.array_equal(again, found)


def test_a_chunk_longer_than_the_ring_and_a_long_pause() -> None:
    audio = AudioWindow(0.1)
    audio.add(T0_NS, np.arange(4000, dtype=np.float32) / 2**20, RATE_HZ)
    assert audio.end_ns == T0_NS + 250_000_000
    found = audio.window(T0_NS + 250_000_000, 0.1)
    assert found is not None
    assert _places(found) == list(range(2400, 4000))
    audio.add(T0_NS + 60 * 1_000_000_000, _chunk(0), RATE_HZ)
    assert audio.window(T0_NS + 60 * 1_000_000_000 + CHUNK_NS, 0.02) is None
    assert audio.window(T0_NS + 60 * 1_000_000_000 + CHUNK_NS, 0.01) is not None


def test_nothing_before_the_first_sample() -> None:
    assert AudioWindow().window(T0_NS, 0.1) is None
    assert AudioWindow().end_ns is None
    assert _filled([0, 1]).window(T0_NS + CHUNK_NS, 0.05) is None
    assert _filled([0, 1]).window(T0_NS - CHUNK_NS, 0.0) is None


@pytest.mark.parametrize("lag_ms", [-200, -80, 0, 80, 200])
def test_the_window_of_a_picture_is_the_sound_that_belongs_to_it(lag_ms: int) -> None:
    """Sound that lags comes later than its picture, by the clock of both."""
    audio = AudioWindow(1.0, lag_ns=lag_ms * 1_000_000)
    for number in range(50):
        audio.add(T0_NS + number * CHUNK_NS + lag_ms * 1_000_000, _chunk(number), RATE_HZ)
    assert audio.end_ns == T0_NS + 50 * CHUNK_NS
    found = audio.window(T0_NS + 20 * CHUNK_NS, 0.05)
    assert found is not None
    assert _places(found) == list(range(15 * CHUNK, 20 * CHUNK))


@pytest.mark.parametrize("ppm", [-100, 100])
def test_a_device_whose_clock_is_off_has_no_gaps_and_stays_in_its_place(ppm: int) -> None:
    audio, period_ns = AudioWindow(1.0), CHUNK_NS / (1 + ppm / 1e6)
    for number in range(60_000):
        audio.add(T0_NS + round(number * period_ns), np.full(CHUNK, number, np.float32), RATE_HZ)
        if number >= 100 and number % 50 == 0:
            found = audio.window(T0_NS + round((number + 1) * period_ns), 0.5)
            assert found is not None
            assert abs(found[-1] - number) <= 1
    end_ns = audio.end_ns
    assert end_ns is not None
    assert abs(end_ns - T0_NS - 60_000 * period_ns) < 1_000_000, "after ten minutes"


def test_another_sample_rate_begins_anew() -> None:
    audio = _filled(list(range(10)))
    audio.add(T0_NS + 10 * CHUNK_NS, np.ones(480, np.float32), 48_000)
    assert audio.window(T0_NS + 11 * CHUNK_NS, 0.02) is None
    found = audio.window(T0_NS + 11 * CHUNK_NS, 0.01)
    assert found is not None
    assert len(found) == 480


@pytest.mark.parametrize(
    ("samples", "level"),
    [
        (np.ones(100, np.float32), 0.0),
        (np.full(100, 0.1, np.float32), -20.0),
        (np.sin(np.arange(1600) * 2 * np.pi / 16).astype(np.float32), -3.0103),
        (np.zeros(100, np.float32), SILENCE_DBFS),
        (np.zeros(0, np.float32), SILENCE_DBFS),
    ],
)
def test_level(samples: np.ndarray, level: float) -> None:
    assert level_dbfs(samples) == pytest.approx(level, abs=1e-3)
