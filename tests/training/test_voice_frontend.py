"""Features of sounds whose loudness, pitch and purity are known, and that nothing depends on how sound is cut up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch

from engines.voice import HOP, RATE_HZ
from training.voice.frontend import PITCH_HZ, TAIL, Features, FrontEnd, k_weights, mel_bands, mel_of

F32 = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def front() -> FrontEnd:
    return FrontEnd()


def hear(front: FrontEnd, samples: npt.NDArray[np.floating]) -> Features:
    """Of the last half of a second of sound, once the windows are full."""
    with torch.no_grad():
        found = front(torch.from_numpy(samples.astype(np.float32))[None])
    return Features(*(each[0, -50:] for each in found))


def tone(hz: float, amplitude: float = 1.0, seconds: float = 1.0) -> F32:
    t = np.arange(TAIL + round(seconds * RATE_HZ / HOP) * HOP) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def buzz(hz: float) -> F32:
    """A voice-like sound: harmonics that fall by 6 dB an octave."""
    return sum((tone(k * hz, 0.2 / k) for k in range(1, int(4000 / hz))), np.zeros(1, np.float32))


def test_full_scale_is_as_loud_as_the_standard_says(front: FrontEnd) -> None:
    """BS.1770: a sine of 997 Hz at full scale in one channel is -3.01 LKFS; a tenth of it 20 dB less."""
    assert float(hear(front, tone(997)).loud_db.mean()) == pytest.approx(-3.01, abs=0.05)
    assert float(hear(front, tone(997, 0.1)).loud_db.mean()) == pytest.approx(-23.01, abs=0.05)
    low = float(hear(front, tone(40, 0.1)).loud_db.mean())
    assert low < -25.0, "the weighting takes from what is low"
    assert 10 * np.log10(k_weights()[round(6000 / RATE_HZ * 1024)]) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("hz", [80.0, 125.0, 220.0, 400.0])
def test_a_periodic_sound_peaks_at_its_pitch(front: FrontEnd, hz: float) -> None:
    found = hear(front, buzz(hz))
    lags = np.geomspace(RATE_HZ / PITCH_HZ[1], RATE_HZ / PITCH_HZ[0], found.periodic.shape[-1])
    highest = found.periodic.mean(0)
    lag = RATE_HZ / hz
    near = int(np.abs(lags - lag).argmin())
    assert float(highest[near]) > 0.9
    assert float(found.hnr_db.mean()) > 20.0


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_harmonicity_is_the_ratio_of_the_periodic_to_the_rest(front: FrontEnd, snr_db: float) -> None:
    rng = np.random.default_rng(0)
    clean = buzz(150.0)
    noise = rng.normal(size=len(clean))
    noise *= np.sqrt((clean**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
    assert float(hear(front, clean + noise).hnr_db.mean()) == pytest.approx(snr_db, abs=1.5)


def test_the_alpha_ratio_is_that_of_the_two_bands(front: FrontEnd) -> None:
    assert float(hear(front, tone(500, 0.1) + tone(2000, 0.01)).alpha_db.mean()) == pytest.approx(20.0, abs=0.2)
    assert float(hear(front, tone(500, 0.01) + tone(2000, 0.1)).alpha_db.mean()) == pytest.approx(-20.0, abs=0.2)


def test_mel_bands_answer_to_their_own_frequency(front: FrontEnd) -> None:
    centres = np.linspace(mel_of(60.0), mel_of(7600.0), 42)[1:-1]
    for band in (5, 20, 35):
        hz = 700 * (10 ** (centres[band] / 2595) - 1)
        assert int(hear(front, tone(hz, 0.1)).mel.mean(0).argmax()) == band
    np.testing.assert_allclose(mel_bands().sum(0), 1.0)


def test_peaks_and_clipping_are_counted(front: FrontEnd) -> None:
    found = hear(front, np.clip(tone(200, 2.0), -1, 1))
    assert float(found.peak.max()) == pytest.approx(1.0)
    assert float(found.clipped.mean()) == pytest.approx(2 / 3, abs=0.03)
    assert float(hear(front, tone(200, 0.5)).clipped.max()) == 0.0


def test_silence_gives_numbers(front: FrontEnd) -> None:
    found = hear(front, np.zeros(TAIL + 50 * HOP))
    assert all(bool(torch.isfinite(each).all()) for each in found)
    assert float(found.loud_db.max()) <= -100.0


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_it_does_not_matter_how_the_sound_is_cut(front: FrontEnd, steps: int) -> None:
    rng = np.random.default_rng(1)
    sound = torch.from_numpy(rng.normal(0, 0.1, TAIL + 42 * HOP).astype(np.float32))[None]
    with torch.no_grad():
        whole = front(sound)
        parts = [front(sound[:, i * HOP : TAIL + (i + steps) * HOP]) for i in range(0, 42, steps)]
    for name, expected in whole._asdict().items():
        cut = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(cut, expected, atol=2e-3, rtol=1e-3, msg=name)
