"""The clock of a device: an hour of readings that jitter, with a rate that is off, in seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.drift import Reading, SampleClock

RATE_HZ = 16_000
BLOCK = 160
MS_NS = 1_000_000
S_NS = 1_000_000_000
T0_NS = 7 * S_NS

Jitter = Callable[[np.random.Generator, int], NDArray[np.float64]]


def normal(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """5 ms RMS [N], and one reading in a hundred 50 ms late."""
    return rng.normal(0, 5, count) + 50 * (rng.random(count) < 0.01)


def uniform(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Up to 5 ms either way [N], and one reading in ten 50 ms late."""
    return rng.uniform(-5, 5, count) + 50 * (rng.random(count) < 0.1)


def true_ns(samples: NDArray[np.int64], ppm: float) -> NDArray[np.float64]:
    """When a device that is `ppm` faster than RATE_HZ takes its samples [N]."""
    return T0_NS + samples / (RATE_HZ * (1 + ppm / 1e6)) * S_NS


def heard(clock: SampleClock, samples: NDArray[np.int64], times_ns: NDArray[np.float64]) -> NDArray[np.int64]:
    """The times given out for the sample of each reading, asked for right after it [N]."""
    given = []
    for sample, t_ns in zip(samples.tolist(), times_ns.round().astype(np.int64).tolist(), strict=True):
        clock.observe(Reading(sample, t_ns))
        given.append(clock.at(sample))
    return np.array(given)


@pytest.mark.parametrize("jitter", [normal, uniform])
@pytest.mark.parametrize("ppm", [-100.0, 0.0, 100.0])
def test_an_hour_with_a_clock_that_is_off(ppm: float, jitter: Jitter) -> None:
    samples = np.arange(0, 3600 * RATE_HZ, BLOCK)
    true = true_ns(samples, ppm)
    clock = SampleClock(RATE_HZ)
    given = heard(clock, samples, true + jitter(np.random.default_rng(5), len(samples)) * MS_NS)
    after_a_minute = np.abs(given - true)[60 * RATE_HZ // BLOCK :]
    print(f"{ppm:+.0f} ppm: {after_a_minute.max() / MS_NS:.2f} ms off at most, found {clock.rate_ppm:+.2f} ppm")
    assert after_a_minute.max() <= 2 * MS_NS
    assert clock.rate_ppm == pytest.approx(ppm, abs=2)
    steps_ms = np.diff(given) / MS_NS
    assert (steps_ms > 0).all(), "time goes forward"
    assert np.abs(steps_ms - 10).max() <= 0.11, "and without jumps"


def test_a_device_whose_rate_wanders_with_its_temperature() -> None:
    samples = np.arange(0, 1800 * RATE_HZ, BLOCK)
    wander_ns = 10e-6 * 600 / (2 * np.pi) * np.sin(samples / RATE_HZ * 2 * np.pi / 600) * S_NS
    true = true_ns(samples, 50) + wander_ns
    given = heard(SampleClock(RATE_HZ), samples, true + normal(np.random.default_rng(2), len(samples)) * MS_NS)
    assert np.abs(given - true)[60 * RATE_HZ // BLOCK :].max() <= 2 * MS_NS


@pytest.mark.parametrize("first_late_ms", [0, 50, 80])
def test_it_is_right_within_a_minute_of_a_late_first_reading(first_late_ms: int) -> None:
    samples = np.arange(0, 70 * RATE_HZ, BLOCK)
    true = true_ns(samples, 80)
    times_ns = true + normal(np.random.default_rng(1), len(samples)) * MS_NS
    times_ns[0] = true[0] + first_late_ms * MS_NS
    given = heard(SampleClock(RATE_HZ), samples, times_ns)
    assert (np.diff(given) > 0).all()
    assert np.abs(given - true)[60 * RATE_HZ // BLOCK :].max() <= 2 * MS_NS


def test_lost_sound_is_followed_within_two_seconds() -> None:
    samples = np.arange(0, 60 * RATE_HZ, BLOCK)
    lost_ns = np.where(samples >= 30 * RATE_HZ, 40 * MS_NS, 0)
    true = true_ns(samples, -60) + lost_ns
    given = heard(SampleClock(RATE_HZ), samples, true + np.random.default_rng(3).normal(0, 1, len(samples)) * MS_NS)
    assert (np.diff(given) > 0).all()
    assert np.abs(given - true)[32 * RATE_HZ // BLOCK :].max() <= 2 * MS_NS


def test_a_machine_that_stalls_does_not_move_the_clock() -> None:
    samples = np.arange(0, 120 * RATE_HZ, BLOCK)
    true = true_ns(samples, 40)
    # For 0.6 s nobody runs; then everything that waited is read at once.
    stalled = (samples >= 80 * RATE_HZ) & (samples < 80.6 * RATE_HZ)
    times_ns = np.where(stalled, true_ns(np.array([round(80.6 * RATE_HZ)]), 40)[0], true)
    given = heard(SampleClock(RATE_HZ), samples, times_ns)
    assert np.abs(given - true)[60 * RATE_HZ // BLOCK :].max() <= 2 * MS_NS


def test_a_device_that_stopped_for_a_while_is_followed_at_once() -> None:
    clock = SampleClock(RATE_HZ)
    clock.observe(Reading(0, 0))
    clock.observe(Reading(160, 2_000 * MS_NS))
    assert clock.at(320) == 2_010 * MS_NS


def test_time_never_goes_back_even_if_readings_do() -> None:
    clock = SampleClock(RATE_HZ)
    clock.observe(Reading(0, 10 * S_NS))
    first = clock.at(0)
    clock.observe(Reading(160, 2 * S_NS))
    assert clock.at(160) > first


def test_before_the_first_reading() -> None:
    assert SampleClock(RATE_HZ).rate_ppm == 0
    with pytest.raises(RuntimeError, match="no reading"):
        SampleClock(RATE_HZ).at(0)
