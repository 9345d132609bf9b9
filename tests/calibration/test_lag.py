"""Lags that are known are found, and what has none is refused."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.lag import Lag, clap_lag, speech_lag
from calibration.signals import Series, SyncError, loudness
from tests.calibration.clips import CLAPS_S, LONG_S, RATE_HZ, clap_sound, hands

LAGS_MS = (-200, -80, 0, 80, 200)


def motion(fps: float, first_s: float = 0.0, uneven_s: float = 0.0, seed: int = 0) -> Series:
    """How the hands move from picture to picture, with a camera's noise."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(first_s, LONG_S, 1 / fps)
    times_s = np.sort(times_s + rng.uniform(-uneven_s, uneven_s, len(times_s)))
    apart = hands(times_s)
    return Series(times_s[1:], 20 * np.abs(np.diff(apart)) + np.abs(rng.normal(0, 0.2, len(times_s) - 1)))


def clapped(lag_ms: float, seen: Series) -> Lag:
    return clap_lag(loudness(clap_sound(lag_ms / 1000), RATE_HZ), seen)


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_the_lag_of_claps(lag_ms: float, fps: float) -> None:
    for first_s in (0.0, 0.3 / fps, 0.7 / fps):
        found = clapped(lag_ms, motion(fps, first_s))
        assert abs(found.lag_ms - lag_ms) <= 15
        assert found.uncertainty_ms <= 15
        assert found.events == len(CLAPS_S)


@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_pictures_need_not_be_even(lag_ms: float) -> None:
    assert abs(clapped(lag_ms, motion(30, uneven_s=0.012)).lag_ms - lag_ms) <= 15


def test_the_uncertainty_covers_the_error() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for seed in range(40):
        lag_ms = rng.uniform(-250, 250)
        found = clapped(lag_ms, motion(30, rng.uniform(0, 1 / 30), seed=seed))
        misses += abs(found.lag_ms - lag_ms) > found.uncertainty_ms
    assert misses <= 2


def test_claps_that_are_not_those_that_are_seen_are_refused() -> None:
    rng = np.random.default_rng(1)
    accepted = 0
    for seed in range(40):
        claps_s = tuple(np.cumsum(rng.uniform(0.6, 1.6, 5)))
        sound = loudness(clap_sound(0.0, claps_s, long_s=9.0), RATE_HZ)
        try:
            clap_lag(sound, motion(30, seed=seed))
        except SyncError:
            continue
        accepted += 1
    print(f"other claps taken for those in the picture: {accepted} of 40")
    assert accepted <= 2


def test_noise_is_refused() -> None:
    rng = np.random.default_rng(2)
    times_s = np.arange(0, 10, 1 / 30)
    sound = loudness(rng.normal(0, 0.1, 10 * RATE_HZ).astype(np.float32), RATE_HZ)
    for _ in range(10):
        noise = Series(times_s, rng.uniform(0, 1, len(times_s)))
        with pytest.raises(SyncError):
            clap_lag(sound, noise)
        with pytest.raises(SyncError):
            speech_lag(sound, noise)


@pytest.mark.parametrize("lag_ms", [-700, 700])
def test_a_lag_that_is_too_large_is_refused(lag_ms: float) -> None:
    with pytest.raises(SyncError):
        clapped(lag_ms, motion(30))


def test_evenly_spaced_claps_in_quick_succession_are_ambiguous() -> None:
    claps_s = tuple(np.arange(1.0, 5.0, 0.3))
    times_s = np.arange(0, LONG_S, 1 / 30)
    seen = Series(times_s[1:], 20 * np.abs(np.diff(hands(times_s, claps_s, rebound=0.0))))
    with pytest.raises(SyncError):
        clap_lag(loudness(clap_sound(0.1, claps_s), RATE_HZ), seen)


def spoken(lag_s: float, seconds: float = 8.0) -> tuple[Series, Series]:
    """Noise as loud as a mouth is open, at the pace of syllables, and that mouth at 30 pictures a second."""
    rng = np.random.default_rng(4)
    fine_s = np.arange(-1, seconds + 1, 0.001)
    kernel = np.hanning(160) / np.hanning(160).sum()
    opening = np.convolve(np.repeat(rng.uniform(-0.6, 1, len(fine_s) // 125 + 1), 125)[: len(fine_s)], kernel, "same")
    opening = np.clip(opening, 0, 1)
    at_s = np.arange(0, seconds, 1 / RATE_HZ)
    sound = rng.normal(0, 0.2, len(at_s)) * np.interp(at_s - lag_s, fine_s, opening) + rng.normal(0, 0.001, len(at_s))
    times_s = np.arange(0, seconds, 1 / 30)
    seen = np.interp(times_s, fine_s, opening) + rng.normal(0, 0.05, len(times_s))
    return loudness(sound.astype(np.float32), RATE_HZ), Series(times_s, seen)


@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_the_lag_of_speech(lag_ms: float) -> None:
    found = speech_lag(*spoken(lag_ms / 1000))
    assert abs(found.lag_ms - lag_ms) <= 40
    assert found.uncertainty_ms <= 40


def test_speech_with_a_face_that_is_away_for_a_while() -> None:
    sound, mouth = spoken(0.06)
    values = mouth.values.copy()
    values[80:140] = np.nan
    found = speech_lag(sound, Series(mouth.times_s, values))
    assert abs(found.lag_ms - 60) <= 40
    assert found.events < speech_lag(sound, mouth).events


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full(240, np.nan), "no face"),
        (np.full(240, 0.3), "mouth does not move"),
        (np.where(np.arange(240) < 60, np.arange(240) % 7, np.nan), "seconds of speech with a face"),
    ],
)
def test_speech_without_a_mouth_is_refused(values: np.ndarray, says: str) -> None:
    sound, mouth = spoken(0.0)
    with pytest.raises(SyncError, match=says):
        speech_lag(sound, Series(mouth.times_s, values))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full(100, 0.0), "nothing moves"),
        (np.full(100, np.nan), "not known"),
        (np.arange(2.0), "nothing moves"),
    ],
)
def test_claps_without_motion_are_refused(values: np.ndarray, says: str) -> None:
    with pytest.raises(SyncError, match=says):
        clapped(0, Series(np.arange(len(values)) / 30, values))


def test_a_single_clap_is_not_enough() -> None:
    sound = loudness(clap_sound(0.0, (0.83,)), RATE_HZ)
    with pytest.raises(SyncError, match="1 claps are heard while there are pictures; 3 are needed"):
        clap_lag(sound, motion(30))
