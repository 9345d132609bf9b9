"""Training sound: clips of a voice with pauses between them, in rooms, noise and music, at any level.

Labels are those of the clean clips; what is laid over them does not change who speaks. Where no clip is, nobody speaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.voice import HOP, RATE_HZ
from training.voice.speech import Clip, Labelled
from training.voice.teachers import SEEN_STEPS

F32 = npt.NDArray[np.float32]
_PAUSE_S = (0.1, 2.5)
_RMS_DB = (-42.0, -16.0)
_SNR_DB = (3.0, 45.0)
_LINE_HZ = (300.0, 3400.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """samples [160 n]; speaking, voiced, pitch_st, syllable [n], as in Labelled; NaN where it is not known."""

    samples: F32
    speaking: F32
    voiced: F32
    pitch_st: F32
    syllable: F32


def by_voice(clips: Sequence[Labelled]) -> Mapping[str, list[Labelled]]:
    """The clips of each voice."""
    found: dict[str, list[Labelled]] = {}
    for each in clips:
        found.setdefault(each.clip.voice, []).append(each)
    return found


def retuned(each: Labelled, factor: float) -> Labelled:
    """The clip played `factor` times as fast: another, higher or lower, voice; its labels go with it."""
    steps = int(each.clip.steps / factor)
    at = np.arange(steps * HOP) * factor
    samples = np.interp(at, np.arange(len(each.clip.samples)), each.clip.samples).astype(np.float32)
    rows = (np.arange(steps) * factor).astype(np.int64)
    syllable = np.zeros(steps, np.float32)
    syllable[np.minimum(np.rint(np.flatnonzero(each.syllable) / factor).astype(np.int64), max(steps - 1, 0))] = 1.0
    pitch_st = (each.pitch_st[rows] + 12 * np.log2(factor)).astype(np.float32)
    clip = Clip(each.clip.voice, each.clip.name, samples)
    return Labelled(clip, each.speaking[rows], each.voiced[rows], pitch_st, syllable)


def conversation(clips: Sequence[Labelled], steps: int, rng: np.random.Generator, factor: float | None = None) -> Scene:
    """Clips of one voice in random order with pauses, cut to `steps`, clean. factor: see `retuned`."""
    samples = np.zeros(steps * HOP, np.float32)
    speaking, voiced, syllable = (np.zeros(steps, np.float32) for _ in range(3))
    pitch_st = np.full(steps, np.nan, np.float32)
    at = int(rng.uniform(0, 1.0) * 100)
    while at < steps:
        each = clips[int(rng.integers(len(clips)))]
        each = each if factor is None else retuned(each, factor)
        count = min(each.clip.steps, steps - at)
        rows = slice(at, at + count)
        samples[at * HOP : (at + count) * HOP] = each.clip.samples[: count * HOP]
        speaking[rows], voiced[rows] = each.speaking[:count], each.voiced[:count]
        pitch_st[rows], syllable[rows] = each.pitch_st[:count], each.syllable[:count]
        at += count + int(rng.uniform(*_PAUSE_S) * 100)
    return Scene(samples, speaking, voiced, pitch_st, syllable)


def synthetic(steps: int, rng: np.random.Generator) -> Scene:
    """Vowels of exact pitch with pauses; whether that is speech, and how many syllables, nobody says."""
    samples, pitch_st = np.zeros(steps * HOP, np.float32), np.full(steps, np.nan, np.float32)
    at = int(rng.uniform(0, 0.5) * 100)
    while at < steps:
        count = min(int(rng.uniform(0.3, 1.5) * 100), steps - at)
        start, end = rng.uniform(3.0, 33.0, 2)
        end = start + np.clip(end - start, -9, 9)
        curve = np.linspace(start, end, count * HOP) + rng.uniform(0, 0.6) * np.sin(
            2 * np.pi * rng.uniform(4, 7) * np.arange(count * HOP) / RATE_HZ
        )
        samples[at * HOP : (at + count) * HOP] = vowel(curve, rng)
        # A step hears the middle of its window, as the pitch of recordings is labelled.
        middle = np.clip((np.arange(count) + 1 - SEEN_STEPS) * HOP, 0, count * HOP - 1)
        inside = np.arange(count) >= SEEN_STEPS
        pitch_st[at : at + count] = np.where(inside, curve[middle], np.nan)
        at += count + int(rng.uniform(*_PAUSE_S) * 100)
    unknown = np.full(steps, np.nan, np.float32)
    return Scene(samples, unknown, (~np.isnan(pitch_st)).astype(np.float32), pitch_st, unknown)


def vowel(curve_st: npt.NDArray[np.float64], rng: np.random.Generator) -> F32:
    """A source of harmonics at semitones above 60 Hz [N], filtered by formants, with breath, at RMS .1."""
    phase = 2 * np.pi * np.cumsum(60 * 2 ** (curve_st / 12)) / RATE_HZ
    top = 60 * 2 ** (curve_st.max() / 12)
    formants = rng.uniform((250, 800, 2000), (900, 2200, 3300))
    widths, tilt = rng.uniform(60, 250, 3), rng.uniform(1.0, 2.0)
    found = np.zeros(len(curve_st))
    for k in range(1, max(2, int(4500 / top))):
        hz = k * 60 * 2 ** (curve_st / 12)
        gain = sum(1 / (1 + ((hz - f) / w) ** 2) for f, w in zip(formants, widths, strict=True)) + 0.02
        found += gain * k**-tilt * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    found += rng.uniform(0, 0.1) * np.std(found) * rng.normal(size=len(found))
    edge = min(len(found) // 4, RATE_HZ // 40)
    found[:edge] *= np.linspace(0, 1, edge)
    found[-edge:] *= np.linspace(1, 0, edge)
    return np.asarray(0.1 * found / (np.std(found) + 1e-9), np.float32)


def room(samples: F32, rng: np.random.Generator) -> F32:
    """Early echoes and a decaying tail of noise, of 0.1 to 0.7 s of reverberation; the direct sound stays in place."""
    decay_s = rng.uniform(0.1, 0.7)
    t = np.arange(int(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.normal(size=len(t)) * 10 ** (-3 * t / decay_s)
    tail *= rng.uniform(0.05, 0.5) / np.sqrt((tail**2).sum())
    tail[: RATE_HZ // 500] = 0.0
    tail[0] = 1.0
    size = 1 << (len(samples) + len(tail) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    return np.asarray(wet, np.float32)


def noise(count: int, rng: np.random.Generator) -> F32:
    """Noise [N] of RMS 1 whose spectrum falls by 0 to 9 dB an octave, perhaps with hum."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum *= np.maximum(hz, 30.0) ** -rng.uniform(0, 1.5)
    found = np.fft.irfft(spectrum, count)
    found /= np.std(found) + 1e-9
    if rng.random() < 0.3:
        hum = rng.choice([50.0, 60.0])
        found += sum(rng.uniform(0, 0.5) * np.sin(2 * np.pi * hum * k * np.arange(count) / RATE_HZ) for k in (1, 2, 3))
    return np.asarray(found / (np.std(found) + 1e-9), np.float32)


def music(count: int, rng: np.random.Generator) -> F32:
    """Chords of plucked tones [N], RMS 1: periodic, and nobody speaks."""
    found = np.zeros(count)
    at = 0
    while at < count:
        length = int(rng.uniform(0.2, 0.8) * RATE_HZ)
        t = np.arange(min(length, count - at)) / RATE_HZ
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        for step in rng.choice([0, 3, 4, 7, 12], 3, replace=False):
            hz = root * 2 ** (step / 12)
            tone = sum(np.sin(2 * np.pi * hz * k * t) / k**1.5 for k in range(1, 6) if hz * k < RATE_HZ / 2)
            found[at : at + len(t)] += tone * np.exp(-t * rng.uniform(2, 6))
        at += length
    return np.asarray(found / (np.std(found) + 1e-9), np.float32)


def telephone(samples: F32) -> F32:
    """What a line of 8 kHz leaves of it: 300 to 3,400 Hz [N]."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    spectrum[(hz < _LINE_HZ[0]) | (hz > _LINE_HZ[1])] = 0.0
    return np.asarray(np.fft.irfft(spectrum, len(samples)), np.float32)


def recorded(clean: Scene, rng: np.random.Generator) -> Scene:
    """The scene as some microphone hears it: room, noise or music, a telephone line, level,
    offset, and now and then clipping."""
    samples = room(clean.samples, rng) if rng.random() < 0.5 else clean.samples.copy()
    loud = np.sqrt(np.mean(samples[np.abs(samples) > 1e-4] ** 2)) if (np.abs(samples) > 1e-4).any() else 0.1
    beside = music(len(samples), rng) if rng.random() < 0.2 else noise(len(samples), rng)
    samples = samples + loud * 10 ** (-rng.uniform(*_SNR_DB) / 20) * beside
    if rng.random() < 0.15:
        samples = telephone(samples)
    samples *= 10 ** (rng.uniform(*_RMS_DB) / 20) / loud
    if rng.random() < 0.1:
        samples *= rng.uniform(2, 10)
    if rng.random() < 0.2:
        samples += rng.uniform(-0.05, 0.05)
    return Scene(samples.clip(-1, 1).astype(np.float32), clean.speaking, clean.voiced, clean.pitch_st, clean.syllable)
