"""The voice in a window of sound: heard as soon as the samples are there, read as of the moment of a picture."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.base import Engine
from engines.hear import Listener
from engines.voice import HOP, Sound, VoiceMeter, VoiceReading
from pipeline.align import AudioWindow

_AHEAD_STEPS: Final = 500
_LATEST_S: Final = 0.25
_LASTS_S: Final = 2.0

TOLD: Final = {
    "muted": "the sound is silent: is the microphone muted? No voice is read from it",
    "clipped": "the sound is clipped: turn the microphone down. No voice is read from it",
    "tone": "the sound is one constant tone. No voice is read from it",
    "heard": "there is sound to hear again",
}
"""What people are told when the sound becomes such."""


class Ears:
    """Listens to one window. Raises EngineError."""

    def __init__(self, engine: Engine) -> None:
        self._listener = Listener(engine)
        self._meter = VoiceMeter()
        self._steps: deque[tuple[int, npt.NDArray[np.float32]]] = deque()
        self._heard = self._read = self._beginnings = 0
        self._began = False

    def listen(self, window: AudioWindow) -> None:
        """Hear what has come since; sound that never came is passed over."""
        if window.beginnings != self._beginnings:
            self._beginnings, self._heard, self._read, self._began = window.beginnings, 0, 0, False
            self._steps.clear()
        while True:
            first, samples = window.stretch(self._heard)
            steps = len(samples) // HOP
            if not steps:
                later, more = window.stretch(first + len(samples))
                if not len(more):
                    return  # the rest of the step is still to come
                self._heard, self._began = later, False  # it never came
                continue
            if first != self._heard or not self._began:
                self._listener.forget()
            said = self._listener.hear(samples[: steps * HOP])
            self._heard, self._began = first + steps * HOP, True
            self._steps += ((first + (i + 1) * HOP, row) for i, row in enumerate(said))
            # Nobody asks while there are no pictures.
            while len(self._steps) > _AHEAD_STEPS:
                self._take(*self._steps.popleft())

    def reading(self, window: AudioWindow, t_ns: int) -> VoiceReading | None:
        """The concepts as of `t_ns`; None where no sound is known, or none is late enough."""
        place, rate_hz = window.place(t_ns), window.rate_hz
        while self._steps and self._steps[0][0] <= place:
            self._take(*self._steps.popleft())
        late = self._read > 0 and place - self._read <= _LATEST_S * rate_hz
        return self._meter.reading() if late else None

    def _take(self, end: int, row: npt.NDArray[np.float32]) -> None:
        missing = (end - self._read) // HOP - 1
        if self._read and missing > 0:
            self._meter.skip(missing)
        self._meter.push(row[None])
        self._read = end


class State:
    """What the sound is, for people: told when it has been so for two seconds."""

    def __init__(self) -> None:
        self._told: Sound = "heard"
        self._now: Sound = "heard"
        self._since_ns = 0

    def change(self, t_ns: int, sound: Sound) -> str:
        """A line for people, or nothing."""
        if sound != self._now:
            self._now, self._since_ns = sound, t_ns
        if sound == self._told or t_ns - self._since_ns < _LASTS_S * 1e9:
            return ""
        self._told = sound
        return TOLD[sound]
