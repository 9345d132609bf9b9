"""What the demo's person does and when: the one table, and the curves it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.synthetic.ict import F32, Real

FPS: Final = 30
DURATION_S: Final = 24.0
FRAMES: Final = int(FPS * DURATION_S)


@dataclass(frozen=True, slots=True)
class Move:
    """One movement: it rises from `start_s`, holds its peak, and is over at `end_s`."""

    concept: str
    start_s: float
    end_s: float
    peak: float = 1.0
    ramp_s: float = 0.3


@dataclass(frozen=True, slots=True)
class Speech:
    """A sentence, spoken from `start_s` for as long as it takes."""

    start_s: float
    text: str


def _blink(start_s: float) -> Move:
    return Move("AU45", start_s, start_s + 0.3, ramp_s=0.1)


MOVES: Final[tuple[Move, ...]] = (
    _blink(0.4),
    _blink(3.1),
    Move("AU12", 3.5, 4.9, 0.9),
    Move("AU4", 5.1, 6.4, 1.0),
    _blink(6.5),
    Move("AU1", 6.9, 8.1, 1.0),
    Move("AU2", 6.9, 8.1, 0.9),
    Move("gaze_left", 8.2, 8.95, 0.8, 0.12),
    Move("gaze_right", 9.0, 9.75, 0.8, 0.12),
    _blink(9.75),
    Move("gaze_up", 10.0, 10.65, 0.8, 0.12),
    Move("gaze_down", 10.7, 11.35, 0.8, 0.12),
    Move("AU26", 11.4, 12.5, 0.75),
    Move("AU45", 12.6, 13.9, 1.0, 0.2),
    Move("head_left", 14.0, 15.1, 0.65, 0.4),
    Move("head_right", 15.1, 16.2, 0.65, 0.4),
    Move("head_down", 16.2, 16.8, 0.6, 0.28),
    Move("head_up", 16.8, 17.3, 0.45, 0.24),
    _blink(17.3),
    Move("AU9", 17.5, 18.4, 1.0, 0.25),
    _blink(20.3),
    Move("AU6", 20.6, 21.8, 0.9),
    Move("AU12", 20.6, 21.8, 1.0),
    Move("AU26", 20.8, 21.6, 0.25),
    Move("AU15", 21.9, 22.9, 1.0, 0.25),
    _blink(22.9),
    Move("AU4", 23.1, 23.9, 0.9, 0.25),
)

SPEECHES: Final[tuple[Speech, ...]] = (
    Speech(0.8, "Hello. I am a synthetic face."),
    Speech(14.1, "Now I turn my head, and then I nod."),
)

LEAVES_S, GONE_S, RETURNS_S, BACK_S = 552.5 / FPS, 560 / FPS, 601 / FPS, 608.5 / FPS
"""The person moves aside from LEAVES_S, is wholly out of the picture from GONE_S to RETURNS_S, is back at BACK_S.
So quick, and between two frames, that no frame shows half a face, which is neither present nor absent."""


def times_s() -> F32:
    """Time of every frame [FRAMES]."""
    return (np.arange(FRAMES) / FPS).astype(np.float32)


def curve(concept: str, t_s: F32) -> F32:
    """Activation of a concept at the given times: the strongest of its movements."""
    curves = [move.peak * _pulse(t_s, move) for move in MOVES if move.concept == concept]
    return np.max(curves, axis=0).astype(np.float32) if curves else np.zeros_like(t_s)


def aside(t_s: F32) -> F32:
    """0 in place, 1 out of the picture."""
    rise = _smooth((t_s - LEAVES_S) / (GONE_S - LEAVES_S))
    return np.asarray(rise * (1 - _smooth((t_s - RETURNS_S) / (BACK_S - RETURNS_S))), np.float32)


def idle(t_s: F32, period_s: float, phase: float = 0.0) -> F32:
    """A slow sway in [-1, 1] that does not repeat within the clip: nobody sits quite still."""
    w = 2 * np.pi * t_s / period_s
    return np.asarray(0.6 * np.sin(w + phase) + 0.4 * np.sin(1.73 * w + 2.1 * phase + 1), np.float32)


def _pulse(t_s: F32, move: Move) -> F32:
    rise, fall = (t_s - move.start_s) / move.ramp_s, (move.end_s - t_s) / move.ramp_s
    return np.asarray(_smooth(rise) * _smooth(fall), np.float32)


def _smooth(x: Real) -> F32:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)
