"""Vowels have the jitter that they are meant to have, and what is heard of it goes with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.spec import model_at
from training.voice import jitter
from training.voice.jitter import Told, figures, jitter_percent, jittered, measured, noisy, rate, vowel


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
def test_periods_differ_by_the_jitter_that_was_asked_for(spread: float) -> None:
    """Two normal periods differ by 2 / sqrt(pi) of their deviation on average; a steady drift adds little."""
    rng = np.random.default_rng(0)
    found = [jitter_percent(jittered(spread, rng)) for _ in range(20)]
    assert np.mean(found) == pytest.approx(200 / np.sqrt(np.pi) * spread, abs=0.2)


def test_a_vowel_comes_again_after_a_period_that_ends_between_samples() -> None:
    rng = np.random.default_rng(0)
    sound = vowel(np.full(150, 128.5), rng)
    assert len(sound) == 150 * 128.5
    spectrum = np.abs(np.fft.rfft(sound[1285:-1285]))
    harmonics = spectrum[:: (len(sound) - 2570) // 257 * 2]
    assert (harmonics[1:20] ** 2).sum() > 0.9 * (spectrum**2).sum()


def test_noise_is_as_loud_as_it_was_asked_to_be() -> None:
    rng = np.random.default_rng(0)
    sound = noisy(vowel(jittered(0.01, rng), rng), 20.0, rng)
    assert len(sound) % 640 == 0
    assert np.std(sound[:8000]) == pytest.approx(0.01, rel=0.05)


def test_known_jitter_is_told_by_the_shipped_network() -> None:
    rows = measured(OnnxRuntimeEngine(model_at("agcm-voice"), threads=1), 16, seed=1)
    assert len(rows) >= 14
    _, r, error = figures(rows)["all"]
    assert r > 0.85
    assert error < 0.4


def test_figures_are_of_clean_and_noisy_vowels_apart() -> None:
    rows = [Told(1.0, 1.1, np.inf), Told(2.0, 2.3, np.inf), Told(1.0, 1.0, 20.0)]
    rows.append(Told(2.0, 1.0, 30.0))
    found = figures(rows)
    assert [found[name][0] for name in ("clean", "noisy", "all")] == [2, 2, 4]
    assert found["clean"][1:] == pytest.approx((1.0, 0.2))
    assert found["all"][2] == pytest.approx(0.35)


def test_a_reliability_is_written_beside_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(Path("models/agcm-voice"), folder)
    before = model_at(str(folder)).manifest
    rate(folder, 0.123456)
    after = model_at(str(folder)).manifest
    assert {each.name: each.reliability for each in after.concepts}["jitter"] == 0.1235
    assert [each for each in after.concepts if each.name != "jitter"] == [
        each for each in before.concepts if each.name != "jitter"
    ]
    with pytest.raises(typer.Exit) as stopped:
        jitter.main(count=10, into=tmp_path / "nosuch")
    assert stopped.value.exit_code == 2
    assert "unknown model 'nosuch'" in capsys.readouterr().err
