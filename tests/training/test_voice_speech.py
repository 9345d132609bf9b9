"""Recordings are read, labelled and composed; teachers say what is known of sounds made on the spot."""

from __future__ import annotations

import wave
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch

from engines.voice import CONCEPTS, HOP, RATE_HZ
from training.data.pictures import DataError
from training.voice import compose, teachers
from training.voice.model import VoiceNet
from training.voice.speech import Clip, Labelled, decode, find_clips, load, save
from training.voice.train import batch, figures_of, loss_of, measure, peaks, scenes, train

F32 = npt.NDArray[np.float32]


def write_wav(path: Path, samples: npt.NDArray[np.floating], rate_hz: int = RATE_HZ, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.repeat(samples, channels) * 32767).astype(np.int16).tobytes())
    return path


def utterance(seed: int, syllables: int = 4) -> Labelled:
    """Vowels of known pitch, a syllable each, 0.15 s long and 0.1 s apart."""
    rng = np.random.default_rng(seed)
    steps = 25 * syllables
    samples, pitch, marks = np.zeros(steps * HOP, np.float32), np.full(steps, np.nan, np.float32), np.zeros(steps)
    for i in range(syllables):
        curve = np.full(15 * HOP, rng.uniform(8, 20))
        samples[25 * i * HOP : (25 * i + 15) * HOP] = compose.vowel(curve, rng)
        pitch[25 * i + 3 : 25 * i + 15] = curve[0]
        marks[25 * i + 13] = 1.0
    speaking = np.ones(steps, np.float32)
    clip = Clip(f"voice{seed % 3}", f"clip{seed}", samples)
    return Labelled(clip, speaking, (~np.isnan(pitch)).astype(np.float32), pitch, marks.astype(np.float32))


def test_recordings_of_any_kind_become_mono_at_16_khz(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(24_000) / 8_000)
    path = write_wav(tmp_path / "her" / "one.wav", tone, 8_000, channels=2)
    samples = decode(path)
    assert len(samples) % HOP == 0
    assert len(samples) == pytest.approx(3 * RATE_HZ, abs=2 * HOP)
    spectrum = np.abs(np.fft.rfft(samples[RATE_HZ : 2 * RATE_HZ]))
    assert int(spectrum.argmax()) == 300
    assert [voice for voice, _ in find_clips(tmp_path)] == ["her"]


def test_what_is_no_recording_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"x\.wav cannot be read as sound"):
        decode(tmp_path / "a" / "x.wav")
    with pytest.raises(DataError, match="holds no folders of recordings"):
        find_clips(tmp_path / "a")
    with pytest.raises(DataError, match="labelled speech not found"):
        load(tmp_path / "none.npz")
    with pytest.raises(DataError, match="no recording is long enough"):
        save(tmp_path / "out.npz", [])


def test_labelled_clips_are_kept(tmp_path: Path) -> None:
    clips = [utterance(seed, 2 + seed) for seed in range(3)]
    save(tmp_path / "speech.npz", clips)
    for ours, theirs in zip(load(tmp_path / "speech.npz"), clips, strict=True):
        assert (ours.clip.voice, ours.clip.name) == (theirs.clip.voice, theirs.clip.name)
        np.testing.assert_allclose(ours.clip.samples, theirs.clip.samples, atol=1e-4)
        for name in ("speaking", "voiced", "pitch_st", "syllable"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_nucleus_is_a_voiced_peak_above_the_dips_around_it() -> None:
    level = np.array([-60, -60, -20, -12, -20, -30, -18, -13, -13.5, -14, -13, -40, -20, -40.0])
    voiced = np.ones(len(level), bool)
    assert teachers.nuclei(level, voiced).tolist() == [3, 7, 12], "a ripple of half a decibel is no syllable"
    voiced[12] = False
    assert teachers.nuclei(level, voiced).tolist() == [3, 7]
    assert teachers.nuclei(np.full(20, -90.0), np.ones(20, bool)).tolist() == []


def test_syllables_are_counted_and_told_when_they_are_over() -> None:
    spoken = utterance(1, 5)
    marks = np.flatnonzero(teachers.syllables(spoken.clip.samples, spoken.voiced))
    assert len(marks) == 5
    middles = 25 * np.arange(5) + 7
    assert (np.abs(marks - middles - teachers.NUCLEUS_STEPS) <= 7).all()


def test_pitch_is_that_of_the_middle_of_what_a_step_hears() -> None:
    pytest.importorskip("librosa")
    curve = np.concatenate([np.full(60 * HOP, 10.0), np.full(60 * HOP, 20.0)])
    samples = compose.vowel(curve, np.random.default_rng(0))
    voiced, semitones = teachers.pitch(samples)
    assert voiced[10:110].mean() > 0.5
    assert np.nanmedian(semitones[10:55]) == pytest.approx(10.0, abs=0.3)
    assert np.nanmedian(semitones[68:110]) == pytest.approx(20.0, abs=0.3)
    change = int(np.argmax(semitones > 15.0))
    assert change == pytest.approx(60 + teachers.SEEN_STEPS, abs=3)


def test_a_conversation_has_the_labels_of_its_clips_where_they_are() -> None:
    clips = [utterance(0), utterance(3)]
    made = compose.conversation(clips, 800, np.random.default_rng(0))
    power = np.square(made.samples.reshape(-1, HOP)).mean(1)
    assert power[made.speaking == 0].max() == 0
    assert np.isnan(made.pitch_st[made.speaking == 0]).all()
    assert 0.3 < made.speaking.mean() < 0.95
    assert made.syllable.sum() == pytest.approx(made.speaking.sum() / 25, abs=2)


def test_a_recording_keeps_the_labels_and_changes_the_sound() -> None:
    clean = compose.conversation([utterance(0)], 400, np.random.default_rng(0))
    levels = []
    for seed in range(12):
        heard = compose.recorded(clean, np.random.default_rng(seed))
        assert np.isfinite(heard.samples).all()
        assert np.abs(heard.samples).max() <= 1.0
        assert heard.speaking is clean.speaking
        levels.append(20 * np.log10(np.sqrt(np.mean(heard.samples**2))))
    assert max(levels) - min(levels) > 10


def test_exact_pitch_is_exact() -> None:
    made = compose.synthetic(800, np.random.default_rng(4))
    steps = np.flatnonzero(~np.isnan(made.pitch_st))
    assert len(steps) > 50
    assert np.isnan(made.speaking).all()
    for step in steps[10::40]:
        end = (step + 1) * HOP
        window = made.samples[end - 1024 : end] * np.hanning(1024)
        spectrum = np.abs(np.fft.rfft(window, 16_384))
        hz = 60 * 2 ** (made.pitch_st[step] / 12)
        harmonics = [round(k * hz * 16_384 / RATE_HZ) for k in range(1, 9)]
        strongest = max(spectrum[at - 20 : at + 21].max() for at in harmonics)
        assert strongest > 0.5 * spectrum.max()


def test_unknown_labels_teach_nothing() -> None:
    model = VoiceNet()
    made = [compose.synthetic(200, np.random.default_rng(i)) for i in range(2)]
    samples, targets = batch(made)
    heard, _ = model(samples, torch.zeros(2, model.memory_size))
    slopes = torch.autograd.grad(loss_of(heard, targets), (heard.speaking, heard.voiced, heard.pitch))
    assert not slopes[0].any()
    assert slopes[1].any()
    assert not slopes[2][targets.pitch_st.isnan()].any()


def test_the_same_seed_composes_the_same() -> None:
    voices = [[utterance(0)], [utterance(1)]]
    one, two, other = (next(scenes(voices, 1, seed)).samples for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_peaks_are_the_highest_of_their_neighbours() -> None:
    assert peaks(np.array([0.1, 0.9, 0.2, 0.4, 0.3, 0.6, 0.6, 0.1])).tolist() == [1, 6]


@pytest.mark.slow
def test_it_learns_to_hear() -> None:
    """From three made-up voices to one that it has not heard."""
    clips = [utterance(seed, 6) for seed in range(30)]
    model = train(clips, ["voice2"], steps=30, seed=1)
    figures = figures_of(model, clips, ["voice2"], count=2)
    assert figures.speaking_auc > 0.9
    assert figures.pitch_cents < 100
    assert figures.voices == ("voice2",)
    again = measure(model, [[each for each in clips if each.clip.voice == "voice2"]], ("voice2",), 60)
    assert len(figures.concepts) == len(CONCEPTS)
    assert again == msgspec.structs.replace(figures, concepts=())
    with pytest.raises(DataError, match="no voice 'nobody'"):
        train(clips, ["nobody"], steps=1, seed=1)
