"""Jitter of pulses whose every period is known, however the sound is cut; none where no two periods are found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.jitter import TAIL, jitter_of, silence
from engines.voice import HOP, RATE_HZ

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def pulses(periods: F64) -> F32:
    """Two resonances that each period sets ringing at its start, which may lie between samples; whole steps."""
    found = np.zeros(int(periods.sum()) // HOP * HOP)
    for start in np.concatenate([[0.0], periods.cumsum()[:-1]]):
        t = np.arange(int(np.ceil(start)), min(len(found), int(start) + 800))
        ringing = (t - start) / RATE_HZ
        for hz, width_hz in ((600, 90), (1500, 150)):
            found[t] += np.exp(-np.pi * width_hz * ringing) * np.sin(2 * np.pi * hz * ringing)
    return np.asarray(0.1 * found, np.float32)


def periods_of(spread: float, hz: float = 120.0, seconds: float = 1.0, seed: int = 0) -> F64:
    rng = np.random.default_rng(seed)
    return np.asarray(RATE_HZ / hz * (1 + rng.normal(0, spread, int(hz * seconds))))


def found_in(samples: F32, hz: float = 120.0, voiced: float = 1.0) -> F32:
    """Of the steps that see sound alone."""
    steps = len(samples) // HOP
    pitch = np.full(steps, 12 * np.log2(hz / 60), np.float32)
    apart, _ = jitter_of(samples, silence(), np.full(steps, voiced, np.float32), pitch)
    return apart[8:]


@pytest.mark.parametrize("hz", [90.0, 120.0, 220.0])
@pytest.mark.parametrize("spread", [0.0, 0.005, 0.01, 0.02])
def test_known_jitter_is_found(hz: float, spread: float) -> None:
    periods = periods_of(spread, hz, 2.0)
    true = 100 * np.mean(np.abs(np.diff(periods))) / periods.mean()
    found = found_in(pulses(periods), hz)
    assert np.isnan(found).mean() < 0.05
    assert np.nanmean(found) == pytest.approx(true, rel=0.2, abs=0.15)


def test_noise_a_level_and_an_offset_change_little() -> None:
    periods = periods_of(0.01, seconds=2.0)
    clean = pulses(periods)
    noise = np.random.default_rng(1).normal(0, 10 ** (-25 / 20) * np.std(clean), len(clean)).astype(np.float32)
    plain = np.nanmean(found_in(clean))
    assert np.nanmean(found_in(clean + noise)) == pytest.approx(plain, rel=0.15)
    np.testing.assert_allclose(found_in(0.01 * clean + np.float32(0.02)), found_in(clean), atol=0.05)


def test_where_no_two_periods_come_again_there_is_none() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    voice = pulses(periods_of(0.01))
    assert np.isnan(found_in(noise)).mean() > 0.9
    assert np.isnan(found_in(np.zeros(RATE_HZ, np.float32))).all()
    assert np.isnan(found_in(voice, voiced=0.49)).all(), "the network hears no voice"
    assert np.isnan(found_in(voice, hz=900.0)).all(), "no pitch of a voice"
    assert np.isnan(found_in(voice, hz=40.0)).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_it_does_not_matter_how_sound_is_cut(sizes: list[int]) -> None:
    samples = pulses(periods_of(0.01))
    steps = len(samples) // HOP
    voiced, pitch = np.ones(steps, np.float32), np.full(steps, 12.0, np.float32)
    whole, end = jitter_of(samples, silence(), voiced, pitch)
    tail, parts, at = silence(), [], 0
    for size in [*sizes, steps]:
        rows = slice(at, min(at + size, steps))
        apart, tail = jitter_of(samples[rows.start * HOP : rows.stop * HOP], tail, voiced[rows], pitch[rows])
        parts.append(apart)
        at = rows.stop
    assert tail.shape == (TAIL,)
    np.testing.assert_array_equal(tail, end)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
