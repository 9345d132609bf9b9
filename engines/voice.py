"""From what is heard every 10 ms to voice concepts at a moment: each with a unit and an activation.

A voice network says most of a step (training.voice.model), engines.jitter the rest. What needs more than its one second
of memory is kept here: the speaker's usual pitch and loudness, how long it has been silent, and how many syllables
there were.

| concept | value | activation 0 .. 1 |
|---|---|---|
| speaking | probability that a person speaks | the same |
| loudness | LKFS of the last 400 ms (BS.1770 momentary, gated at -70), while speaking | -12 .. +12 dB about the usual |
| pitch_height | semitones above the speaker's median | -12 .. +12 |
| pitch_movement | standard deviation of the pitch in the last 1.5 s, semitones | 0 .. 6 |
| speech_rate | syllables a second in the last 3 s | 0 .. 8 |
| clear_voice | harmonics-to-noise ratio of voiced sound in the last second, dB | 0 .. 25 |
| vocal_effort | alpha ratio of voiced sound in the last second, dB | 25 .. -5 |
| jitter | how far consecutive periods were apart in the last second, % of their mean | 0 .. 3 |
| silence | seconds since somebody spoke | 0 .. 10, as a logarithm |
| takes_turn | seconds since speech began after a pause of at least half a second | 1 falling to 0 in 2 s |

A value that nobody can know now (the pitch of a silent person) is None, and its activation stays at what is usual, .5,
or 0 where nothing is the usual: an absent voice is no low voice.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Sound = Literal["heard", "muted", "clipped", "tone"]

RATE_HZ: Final = 16_000
HOP: Final = 160
STEPS_HZ: Final = 100
CONCEPTS: Final = (
    "speaking", "loudness", "pitch_height", "pitch_movement", "speech_rate", "clear_voice", "vocal_effort", "jitter",
    "silence", "takes_turn",
)  # fmt: skip
UNITS: Final = ("", "lkfs", "st", "st", "hz", "db", "db", "percent", "s", "s")
"""Of the values of CONCEPTS; st: semitones."""
BEHIND_S: Final = 0.04
"""A picture is joined with the sound up to so long before it. Sound comes in chunks that leave when they are whole; so
the same sound belongs to a picture however fast pictures and sound are delivered."""
SPEAKS: Final = 0.5
VOICED: Final = 0.5
PAUSE_S: Final = 0.5
"""Silence that ends a turn."""
_GATE_LKFS = -70.0
_KEPT = 3 * STEPS_HZ
_MOMENT_STEPS, _MOVED_STEPS, _LEAST_VOICED, _LEAST_PERIODS = 40, 150, 30, 20
_MUTED_PEAK, _MUTED_STEPS = 6.5e-5, 100  # about two steps of 16 bits
_CLIPPED_SHARE, _CLIPPED_STEPS = 0.01, 50
_TONE_HNR_DB, _TONE_ST, _TONE_STEPS = 30.0, 0.05, 100
_LEARN_S, _FORGET_S = 1.0, 30.0
"""Voiced sound before a speaker's usual is known, and how fast it is forgotten."""


class Step(NamedTuple):
    """What is heard of one step. jitter_percent: how far two periods are apart (engines.jitter), NaN where nobody can
    say; the rest, SAID, is what the network says (training.voice.model)."""

    speaking: float
    voiced: float
    pitch_st: float
    syllable: float
    loud_db: float
    hnr_db: float
    alpha_db: float
    peak: float
    clipped: float
    jitter_percent: float


SAID: Final = Step._fields[:-1]
_SPEAKING, _VOICED, _PITCH, _SYLLABLE, _LOUD, _HNR, _ALPHA, _PEAK, _CLIPPED, _JITTER = range(len(Step._fields))


@dataclass(frozen=True, slots=True)
class VoiceReading:
    """sound: what the microphone gives; values and activations are of CONCEPTS, in their order. Unless it is `heard`,
    every value is None: such sound is not read as a quiet person."""

    sound: Sound
    values: tuple[float | None, ...]
    activations: tuple[float, ...]


class Usual:
    """A slow median: each value moves it by a step, the less the more values there were, but never to a stand."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._seen = 0
        self._first: list[float] = []

    def add(self, value: float) -> None:
        """Take a value of 10 ms in."""
        self._seen += 1
        if self.value is None:
            self._first.append(value)
            if self._seen >= _LEARN_S * STEPS_HZ:
                self.value = float(np.median(self._first))
                self._first.clear()
            return
        size = 4.0 / min(self._seen, _FORGET_S * STEPS_HZ)
        self.value += size * math.copysign(min(1.0, abs(value - self.value)), value - self.value)


class VoiceMeter:
    """Steps in, a reading out, at any moment. One meter a microphone."""

    def __init__(self) -> None:
        self._rows = np.zeros((2 * _KEPT, len(Step._fields)), np.float32)
        self._start = self._end = 0
        self._pitch, self._loud = Usual(), Usual()
        self._nuclei: deque[int] = deque()
        self._count = 0
        self._spoke_at: int | None = None
        self._turn_at: int | None = None

    def push(self, voice: F32) -> None:
        """Steps [n, columns of Step] in order."""
        for row in voice.tolist():
            self._take(Step(*row))

    def skip(self, steps: int) -> None:
        """Pass over sound that never came: what the last seconds were is not known any more."""
        self._start = self._end = 0
        self._count += steps

    def reading(self) -> VoiceReading:
        """The concepts now."""
        sound = self._sound()
        if sound != "heard":
            return VoiceReading(sound, (None,) * len(CONCEPTS), resting())
        values = self._values()
        return VoiceReading("heard", values, activations(values, self._loud.value))

    def _take(self, step: Step) -> None:
        late = self._last(2, _SYLLABLE)
        if len(late) == 2 and step.syllable < late[1] >= max(late[0], 0.5):
            self._nuclei.append(self._count)
        if self._end == len(self._rows):
            self._rows[:_KEPT] = self._rows[-_KEPT:]
            self._start, self._end = 0, _KEPT
        self._rows[self._end] = step
        self._end += 1
        self._start = max(self._start, self._end - _KEPT)
        self._count += 1
        while self._nuclei and self._nuclei[0] < self._count - _KEPT:
            self._nuclei.popleft()
        if step.speaking < SPEAKS:
            return
        if self._spoke_at is None or self._count - self._spoke_at > PAUSE_S * STEPS_HZ:
            self._turn_at = self._count
        self._spoke_at = self._count
        if step.voiced >= VOICED:
            self._pitch.add(step.pitch_st)
            self._loud.add(step.loud_db)

    def _last(self, steps: int, column: int) -> F32:
        """A column of the last steps, the latest last; fewer if there are fewer."""
        return self._rows[max(self._start, self._end - steps) : self._end, column]

    def _sound(self) -> Sound:
        if self._end == self._start:
            return "muted"
        if self._last(_CLIPPED_STEPS, _CLIPPED).mean() > _CLIPPED_SHARE:
            return "clipped"
        if self._last(_MUTED_STEPS, _PEAK).max() < _MUTED_PEAK:
            return "muted"
        harmonic = self._last(_TONE_STEPS, _HNR)
        if len(harmonic) < _TONE_STEPS or harmonic.min() <= _TONE_HNR_DB:
            return "heard"
        return "tone" if self._last(_TONE_STEPS, _PITCH).std() < _TONE_ST else "heard"

    def _values(self) -> tuple[float | None, ...]:
        now = Step(*self._rows[self._end - 1].tolist())
        rows = self._rows[max(self._start, self._end - _MOVED_STEPS) : self._end]
        voiced = rows[(rows[:, _VOICED] >= VOICED) & (rows[:, _SPEAKING] >= SPEAKS)]
        late = voiced[-STEPS_HZ:]
        apart = late[~np.isnan(late[:, _JITTER]), _JITTER]
        speaks = now.speaking >= SPEAKS
        since = None if self._spoke_at is None else (self._count - self._spoke_at) / STEPS_HZ
        turn = None if self._turn_at is None else (self._count - self._turn_at) / STEPS_HZ
        usual = self._pitch.value
        return (
            now.speaking,
            momentary(self._last(_MOMENT_STEPS, _LOUD).tolist()) if speaks else None,
            None if usual is None or not len(late) or not speaks else float(late[-1, _PITCH]) - usual,
            float(voiced[:, _PITCH].std()) if len(voiced) >= _LEAST_VOICED else None,
            len(self._nuclei) * STEPS_HZ / _KEPT,
            middle(late[:, _HNR]) if len(late) else None,
            middle(late[:, _ALPHA]) if len(late) else None,
            float(apart.mean()) if len(apart) >= _LEAST_PERIODS else None,
            since if since is not None else self._count / STEPS_HZ,
            turn,
        )


def middle(values: F32) -> float:
    """The median of some numbers [N], the lower one of two."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])


def momentary(levels: list[float]) -> float | None:
    """Mean loudness of steps, as power, above the absolute gate of BS.1770; None if nothing is."""
    loud = [level for level in levels if level > _GATE_LKFS]
    return 10 * math.log10(sum(10 ** (level / 10) for level in loud) / len(loud)) if loud else None


def resting() -> tuple[float, ...]:
    """Activations where nothing is known: .5 for what has a usual, 0 for the rest."""
    return tuple(0.5 if name in ("loudness", "pitch_height") else 0.0 for name in CONCEPTS)


def activations(values: tuple[float | None, ...], usual_lkfs: float | None) -> tuple[float, ...]:
    """Values of CONCEPTS -> [0, 1]; see the table of this module. usual_lkfs: the speaker's loudness, if known."""
    found = dict(zip(CONCEPTS, values, strict=True))
    loud = found["loudness"]
    scales = {
        "speaking": found["speaking"],
        "loudness": None if loud is None or usual_lkfs is None else 0.5 + (loud - usual_lkfs) / 24,
        "pitch_height": None if (height := found["pitch_height"]) is None else 0.5 + height / 24,
        "pitch_movement": None if (movement := found["pitch_movement"]) is None else movement / 6,
        "speech_rate": None if (rate := found["speech_rate"]) is None else rate / 8,
        "clear_voice": None if (clear := found["clear_voice"]) is None else clear / 25,
        "vocal_effort": None if (alpha := found["vocal_effort"]) is None else (25 - alpha) / 30,
        "jitter": None if (apart := found["jitter"]) is None else apart / 3,
        "silence": None if (silent := found["silence"]) is None else math.log1p(silent) / math.log1p(10),
        "takes_turn": None if (turn := found["takes_turn"]) is None else 1 - turn / 2,
    }
    return tuple(
        rest if (value := scales[name]) is None else min(1.0, max(0.0, value))
        for name, rest in zip(CONCEPTS, resting(), strict=True)
    )
