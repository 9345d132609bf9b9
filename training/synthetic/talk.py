"""Two people who talk, simulated: what each of them shows and says, and an engagement whose causes are known.

Engagement is 0.4 plus weighted courses of concepts, each felt some time later, plus a little noise. So the contribution
of every concept at every moment is known, which no recording can offer: a model that is trained on such sessions must
find these weights again. It is a simulation; nothing follows from it for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.voice import HOP, RATE_HZ
from training.concepts import INDEX, NAMES
from training.voice.speech import Labelled

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FPS: Final = 25
USUAL_RMS: Final = 0.06
START: Final = 0.4
_NOISE: Final = 0.015


@dataclass(frozen=True, slots=True)
class Cause:
    """How engagement follows a course in [0, 1]: by `weight`, `lag_s` later."""

    weight: float
    lag_s: float


CAUSES: Final[Mapping[str, Cause]] = {
    "AU12": Cause(0.27, 0.8),
    "AU1": Cause(0.075, 0.4),
    "AU4": Cause(-0.14, 0.8),
    "gaze_down": Cause(-0.21, 0.4),
    "head_down": Cause(-0.115, 1.2),
    "speaking": Cause(0.18, 0.8),
    "loudness": Cause(0.165, 0.4),
    "silence": Cause(-0.155, 0.8),
}
"""Concepts that count; all others are shown as well and count nothing. What they contribute varies less from one to the
next by about a quarter, so that they have an order that can be found again."""
HEARD: Final = ("speaking", "loudness", "silence")
_SHOWN: Final = ("AU12", "AU1", "AU4", "gaze_down", "head_down", "AU2", "AU9", "AU15", "head_left", "gaze_right")
"""Courses of their own, slow and now and then; the last five are decoys."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one of the two does in T frames: concepts [T, K] of the face, samples [T * 640] of the voice, courses of
    CAUSES [T, C] and what they contribute [T, C], engagement [T] in [0, 1]."""

    concepts: F32
    samples: F32
    courses: F32
    contributions: F32
    engagement: F32


def turns(frames: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """(who, first, last) of every turn: 0 and 1 alternate, with short pauses."""
    found, at, who = [], int(rng.uniform(0.2, 1.0) * FPS), int(rng.integers(2))
    while at < frames:
        end = min(frames, at + int(rng.uniform(1.5, 6.0) * FPS))
        found.append((who, at, end))
        at, who = end + int(rng.uniform(0.1, 1.2) * FPS), 1 - who
    return found


def course(frames: int, rng: np.random.Generator) -> F64:
    """A movement that comes and goes: bursts of one to five seconds in [0, 1], nothing in between."""
    found, at = np.zeros(frames), int(rng.uniform(0, 6) * FPS)
    while at < frames:
        length = int(rng.uniform(1.0, 5.0) * FPS)
        shape = rng.uniform(0.4, 1.0) * np.hanning(length + 2)[1:-1] ** 0.5
        found[at : at + length] = shape[: frames - at]
        at += length + int(rng.exponential(4.0) * FPS)
    return found


def speak(
    clips: Sequence[Labelled], spans: Sequence[tuple[int, int]], frames: int, rng: np.random.Generator
) -> tuple[F32, F64]:
    """Samples of a voice that fills the spans with clips, and how loud it is about its usual, -1 .. 1 a frame [T]."""
    per_frame = RATE_HZ // FPS
    samples, about = np.zeros(frames * per_frame, np.float32), np.zeros(frames)
    for first, last in spans:
        level = float(rng.uniform(-1, 1))
        about[first:last] = level
        at = first * per_frame
        while at < last * per_frame:
            clip = clips[int(rng.integers(len(clips)))].clip.samples
            rms = float(np.sqrt(np.mean(clip[np.abs(clip) > 0.01] ** 2))) if (np.abs(clip) > 0.01).any() else 1.0
            part = clip[: last * per_frame - at] * (USUAL_RMS * 10 ** (9 * level / 20) / rms)
            samples[at : at + len(part)] = part
            at += len(part) + HOP * int(rng.integers(2, 12))
    samples += rng.normal(0, 1e-3, len(samples)).astype(np.float32)
    return samples.clip(-1, 1), about


def delayed(values: F64, lag_s: float) -> F64:
    """A course [T] as it was lag_s before; before its start, as at its start."""
    frames = min(round(lag_s * FPS), len(values))
    return np.asarray(np.concatenate([np.repeat(values[:1], frames), values[: len(values) - frames]]))


def perform(clips: Sequence[Labelled], spans: Sequence[tuple[int, int]], frames: int, rng: np.random.Generator) -> Part:
    """One person of a session who speaks in the spans (first and last frame)."""
    samples, about = speak(clips, spans, frames, rng)
    speaking = np.zeros(frames)
    for first, last in spans:
        speaking[first:last] = 1.0
    quiet = np.zeros(frames)
    for frame in range(1, frames):
        quiet[frame] = 0.0 if speaking[frame] else quiet[frame - 1] + 1 / FPS
    named = {name: course(frames, rng) for name in _SHOWN}
    heard = {
        "speaking": speaking,
        "loudness": 0.5 + 0.375 * about * speaking,
        "silence": np.log1p(quiet.clip(0, 10)) / np.log1p(10),
    }
    concepts = np.zeros((frames, len(NAMES)), np.float32)
    for name, values in named.items():
        concepts[:, INDEX[name]] = values
    loud = np.sqrt(np.mean(samples.reshape(frames, -1) ** 2, axis=1))
    opening = np.clip(np.convolve(loud, [0.25, 0.5, 0.25], mode="same") / (2 * USUAL_RMS), 0, 1) * speaking
    concepts[:, INDEX["AU26"]] = np.maximum(0.5 * opening, 0.8 * course(frames, rng))  # a mouth opens for much else
    blinks = rng.random(frames) < 1 / (4 * FPS)
    concepts[:, INDEX["AU45"]] = np.convolve(blinks, [0.5, 1.0, 1.0, 0.5], mode="same").clip(0, 1)
    courses = np.stack([(named | heard)[name] for name in CAUSES], axis=1)
    parts = np.stack(
        [each.weight * delayed(values, each.lag_s) for each, values in zip(CAUSES.values(), courses.T, strict=True)],
        axis=1,
    )
    engagement = START + parts.sum(1) + rng.normal(0, _NOISE, frames)
    return Part(
        concepts, samples, courses.astype(np.float32), parts.astype(np.float32),
        engagement.clip(0, 1).astype(np.float32),
    )  # fmt: skip


def session(voices: tuple[Sequence[Labelled], Sequence[Labelled]], seconds: float, seed: int) -> tuple[Part, Part]:
    """Both people of a session; voices: clips of each."""
    frames, rng = round(seconds * FPS), np.random.default_rng(seed)
    taken = turns(frames, rng)
    spans = [[(first, last) for who, first, last in taken if who == me] for me in (0, 1)]
    one, two = (perform(clips, own, frames, rng) for clips, own in zip(voices, spans, strict=True))
    return one, two
