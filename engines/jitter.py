"""Jitter: how far two periods of the vocal folds are apart, period by period, in the samples themselves.

It is jitterLocal of eGeMAPS (Eyben et al. 2016) and Praat: the mean absolute difference of consecutive periods over
their mean. Each voiced step of 10 ms gives one such difference. Of the 64 ms that it sees, the highest sample near the
middle is where the folds have just closed; what surrounds it is found again one period before and one period after,
where its normalised cross-correlation is highest, read between samples by a parabola (waveform matching, which noise
disturbs less than the picking of peaks: Boersma 2009). The network's pitch says about where to look.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.voice import HOP, RATE_HZ, VOICED

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SEEN: Final = 1024
"""Samples up to the end of a step; the network's pitch is that of their middle."""
TAIL: Final = SEEN - HOP
LOWEST_HZ: Final = 60.0
"""From here the network counts semitones."""
_HIGHEST_ST = 12 * math.log2(500 / LOWEST_HZ)
_WINDOW_PERIODS = 0.8
"""How much is matched: little enough to hold one closure of the folds, so that no two periods are averaged."""
_NEAREST, _FARTHEST = 0.8, 1.25
"""Where a period is looked for, in periods of the network's pitch: an octave is out of reach."""
_LEAST_ALIKE = 0.8
"""Correlation below which nothing is found again: noise, or the edge of a sound."""
_MOST_APART = 0.2
"""Share of the mean above which two periods are no two periods of one voice; Praat leaves out factors above 1.3."""
_FLOOR = 1e-20


def silence() -> F32:
    """What is before the start of a stream [TAIL]."""
    return np.zeros(TAIL, np.float32)


def jitter_of(samples: F32, tail: F32, voiced: F32, pitch_st: F32) -> tuple[F32, F32]:
    """Samples [160 n], the TAIL before them, and of each of their steps [n] the network's probability of voicing and
    its pitch -> of each step how far two consecutive periods are apart, in % of their mean, NaN where nobody can say
    [n]; and the tail of the next call."""
    sound = np.concatenate([tail, samples], dtype=np.float64)
    found = np.full(len(voiced), np.nan, np.float32)
    for step in np.flatnonzero(voiced >= VOICED).tolist():
        above = float(pitch_st[step])
        if 0 <= above <= _HIGHEST_ST:
            about = RATE_HZ / (LOWEST_HZ * 2 ** (above / 12))
            found[step] = 100 * apart(sound[step * HOP : step * HOP + SEEN], about)
    return found, np.concatenate([tail, samples[-TAIL:]])[-TAIL:]


def apart(seen: F64, about: float) -> float:
    """|T1 - T2| over the mean of two consecutive periods around the middle of samples [SEEN], each of `about` so many
    samples; NaN unless both are found."""
    sound = seen - seen.sum() / SEEN
    half, size = round(about / 2), round(_WINDOW_PERIODS * about)
    lags = int(_NEAREST * about), math.ceil(_FARTHEST * about)
    start = SEEN // 2 - half + int(np.abs(sound[SEEN // 2 - half : SEEN // 2 + half]).argmax()) - size // 2
    end = start + size
    if start < lags[1] or end + lags[1] > SEEN:
        return math.nan
    before = period(sound[start - lags[1] : end][::-1], size, lags)
    after = period(sound[start : end + lags[1]], size, lags)
    share = 2 * abs(after - before) / (after + before)
    return share if share <= _MOST_APART else math.nan


def period(sound: F64, size: int, lags: tuple[int, int]) -> float:
    """After how many samples, from the first of `lags` to the last, the first `size` of a sound come again; NaN if they
    do not, or if they may do so beyond these lags."""
    nearest, farthest = lags
    first, later = sound[:size], sound[nearest : farthest + size]
    power = np.concatenate([[0.0], (later * later).cumsum()])
    both = (first @ first) * (power[size:] - power[:-size])
    alike = np.correlate(later, first) / np.sqrt(both + _FLOOR)
    best = int(alike.argmax())
    if not 0 < best < len(alike) - 1 or alike[best] < _LEAST_ALIKE:
        return math.nan
    left, top, right = alike[best - 1 : best + 2].tolist()
    bend = left - 2 * top + right
    return nearest + best + (0.5 * (left - right) / bend if bend < 0 else 0.0)
