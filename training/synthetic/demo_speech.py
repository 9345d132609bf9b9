"""The demo's voice: espeak-ng's sentences on a quiet room, and the mouth's opening that follows them."""

from __future__ import annotations

import io
import subprocess
import wave
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from training.synthetic.demo_timeline import DURATION_S, FPS, FRAMES, SPEECHES, Speech
from training.synthetic.ict import F32

RATE_HZ: Final = 16_000
_ROOM_RMS: Final = 0.0008
_VOICE: Final = ("espeak-ng", "-v", "en-gb", "-s", "150", "--stdout")


class SpeechError(RuntimeError):
    """espeak-ng cannot speak; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Sound and what it does to the face."""

    samples: F32  # [DURATION_S * RATE_HZ], mono, in [-1, 1]
    opening: F32  # [FRAMES], 0 closed to 1 loudest
    speaking: np.ndarray[tuple[int], np.dtype[np.bool_]]  # [FRAMES], from the first to the last sound of a sentence


def speak() -> Voice:
    """Speak every sentence of the timeline. Raises SpeechError without espeak-ng."""
    samples = np.random.default_rng(0).normal(0, _ROOM_RMS, int(DURATION_S * RATE_HZ)).astype(np.float32)
    opening, speaking = np.zeros(FRAMES, np.float32), np.zeros(FRAMES, bool)
    for speech in SPEECHES:
        sound = _sentence(speech)
        first = int(speech.start_s * RATE_HZ)
        samples[first : first + len(sound)] += sound
        frames = slice(round(speech.start_s * FPS), round((speech.start_s + len(sound) / RATE_HZ) * FPS))
        envelope = _envelope(sound)[: frames.stop - frames.start]
        opening[frames.start : frames.start + len(envelope)] = envelope
        speaking[frames] = True
    return Voice(samples, opening, speaking)


def _sentence(speech: Speech) -> F32:
    """The sentence at RATE_HZ without the silence around it, at a comfortable level."""
    try:
        done = subprocess.run([*_VOICE, speech.text], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise SpeechError("espeak-ng is not installed; install it with: apt-get install espeak-ng") from error
    except subprocess.CalledProcessError as error:
        raise SpeechError(f"espeak-ng failed: {error.stderr.decode(errors='replace').strip()}") from error
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate_hz = file.getframerate()
        # espeak-ng cannot know the length of a stream when it writes the header, so everything is read.
        raw = np.frombuffer(file.readframes(2**30), np.int16).astype(np.float32) / 32768
    length = round(len(raw) * RATE_HZ / rate_hz)
    sound = cv2.resize(cv2.GaussianBlur(raw[None], (0, 0), 0.5), (length, 1), interpolation=cv2.INTER_CUBIC)[0]
    loud = np.flatnonzero(np.abs(sound) > 0.02)
    sound = sound[loud[0] : loud[-1] + 1]
    return np.asarray(0.12 * sound / np.sqrt(np.mean(sound**2)), np.float32).clip(-1, 1)


def _envelope(sound: F32) -> F32:
    """Loudness at each frame in [0, 1], as smooth as lips are."""
    hop = RATE_HZ // FPS
    padded = np.pad(sound, (0, -len(sound) % hop))
    rms = np.sqrt(np.mean(padded.reshape(-1, hop) ** 2, axis=1))
    smooth = np.convolve(rms, [0.25, 0.5, 0.25], mode="same")
    return np.asarray(np.clip(smooth / np.quantile(smooth, 0.95), 0, 1), np.float32)
