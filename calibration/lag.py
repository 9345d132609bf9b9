"""Pure: how much later the sound comes than the picture that it belongs to, and how sure that is.

The sign, here and everywhere: lag_ms > 0 means that the sound arrives later than the picture it belongs to.

Both ways correlate the sound with the picture at every lag within +-SEARCH_MS, event by event, and add the curves of
the events up. The lag is where the sum is highest, between its points by a parabola. How sure that is comes from the
bootstrap (Efron, "Bootstrap methods: another look at the jackknife", 1979): events are drawn anew with replacement, and
the lag is sought again. To this the grain of pictures and sound is added: an event is seen between two pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.signals import HOP_S, Floats, Series, SyncError, onsets, smoothed, stops

SEARCH_MS = 500.0
LAGS_MS: Floats = np.arange(-SEARCH_MS, SEARCH_MS + 1e-9, 1000 * HOP_S)

FEWEST_CLAPS, FEWEST_BLOCKS = 3, 3
_LOUD_CLAP = 0.25  # of the sharpest rise of sound; a quieter one is no clap
_CLAP_APART_S = 0.25
_BLOCK_S = 1.0  # a piece of speech: some syllables
_SLOW_S = 3.0  # what changes more slowly than this in loudness or mouth is no speech
_QUIET = 0.15  # of the loudest speech
_DRAWS = 400
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Lag:
    """uncertainty_ms: half the width of a 95 % interval. events: how many claps, or seconds of speech, it rests on."""

    lag_ms: float
    uncertainty_ms: float
    events: int


@dataclass(frozen=True, slots=True)
class _Demands:
    """When a sum of curves is distinct: how high its peak must be, how much of it the next one may have, and in what
    share of the draws it must be found again. apart_ms: nearer to the peak there is no other one. spread_ms: the widest
    uncertainty that is still a peak."""

    least: float
    next_share: float
    agreeing: float
    apart_ms: float
    spread_ms: float


_CLAPS = _Demands(least=0.5, next_share=0.75, agreeing=0.9, apart_ms=100.0, spread_ms=40.0)
_SPEECH = _Demands(least=0.3, next_share=0.9, agreeing=0.9, apart_ms=150.0, spread_ms=60.0)


def clap_lag(sound: Series, motion: Series) -> Lag:
    """From claps: the onset of a sound against the end of a motion.

    sound: loudness. motion: mean difference of each picture to the one before, at the time of the later one. Hands must
    stay together for a moment: those that fly apart as fast as they came end their motion later, at the turn.
    Raises SyncError if there are fewer than FEWEST_CLAPS, nothing moves, or no lag stands out.
    """
    if not np.isfinite(motion.values).all():
        raise SyncError("the motion of the pictures is not known everywhere")
    if len(motion.values) < 3 or not np.ptp(motion.values) > 0:
        raise SyncError("nothing moves in the pictures: clap where the camera sees it")
    moments_s = _claps(onsets(sound), motion)
    if len(moments_s) < FEWEST_CLAPS:
        raise SyncError(f"{len(moments_s)} claps are heard while there are pictures; {FEWEST_CLAPS} are needed")
    ends, width_s = stops(motion), max(motion.step_s, 2 * HOP_S)
    curves = np.stack([smoothed(ends, moment_s - LAGS_MS / 1000, width_s) for moment_s in moments_s])
    # Every clap counts the same, however large it is in the picture; one that is not seen counts for less.
    highest = curves.max(axis=1)
    if not highest.max() > 0:
        raise SyncError("nothing moves in the pictures when a clap is heard")
    curves = curves / np.maximum(highest, 0.25 * np.median(highest[highest > 0]))[:, None]
    return _settle(curves, 1.0 / len(curves), motion.step_s, _CLAPS)


def speech_lag(sound: Series, mouth: Series) -> Lag:
    """From speech: how loud it is against how far the mouth is open.

    sound: loudness. mouth: opening of a speaker's mouth, in any unit; NaN where no face is seen.
    Raises SyncError if there are fewer than FEWEST_BLOCKS seconds of speech with a face, or no lag stands out.
    """
    if not np.isfinite(mouth.values).sum() >= 2:
        raise SyncError("no face is seen in the pictures")
    if not np.nanmax(mouth.values) > np.nanmin(mouth.values):
        raise SyncError("the mouth does not move")
    grid_s = np.arange(mouth.times_s[0], mouth.times_s[-1], HOP_S)
    opening, seen = _on_grid(mouth, grid_s)
    # As smooth as the pictures are: what is quicker than they are they cannot show.
    level = _box(np.sqrt(sound.values), round(mouth.step_s / HOP_S))
    speaking = _box(level > _QUIET * level.max(), round(1 / HOP_S)) > 0
    used = seen & (np.interp(grid_s, sound.times_s, speaking, left=0.0, right=0.0) > 0.5)
    length = round(_BLOCK_S / HOP_S)
    starts = [at for at in range(0, len(grid_s) - length + 1, length) if used[at : at + length].mean() >= 0.5]
    if len(starts) < FEWEST_BLOCKS:
        raise SyncError(f"{len(starts)} seconds of speech with a face are there; {FEWEST_BLOCKS} are needed")
    places = np.array(starts)[:, None] + np.arange(length)
    shown = ((opening - _box(opening, round(_SLOW_S / HOP_S))) * used)[places]
    changes = level - _box(level, round(_SLOW_S / HOP_S))
    later_s = grid_s[places][:, None, :] + LAGS_MS[:, None] / 1000
    heard = np.interp(later_s, sound.times_s, changes, left=0.0, right=0.0)
    norm = float(np.sqrt(np.sum(shown**2) * np.mean(np.sum(heard**2, axis=(0, 2)))))
    if not norm > 0:
        raise SyncError("the mouth does not move while there is speech")
    return _settle(np.einsum("bt,blt->bl", shown, heard) / norm, 1.0, mouth.step_s, _SPEECH)


def _on_grid(series: Series, grid_s: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Values between those that are known [M], and whether one is within two steps [M]."""
    known = np.isfinite(series.values)
    times_s = series.times_s[known]
    after = np.searchsorted(times_s, grid_s).clip(1, len(times_s) - 1)
    away_s = np.minimum(np.abs(grid_s - times_s[after - 1]), np.abs(times_s[after] - grid_s))
    return np.interp(grid_s, times_s, series.values[known]), away_s <= 2 * series.step_s


def _claps(rises: Series, motion: Series) -> list[float]:
    """Times of sharp rises of sound, each the sharpest within _CLAP_APART_S, while there are pictures around them."""
    loud = rises.values >= _LOUD_CLAP * rises.values.max()
    around, moments_s = round(_CLAP_APART_S / HOP_S), []
    for at in map(int, np.flatnonzero(loud)):
        near = slice(max(0, at - around), at + around + 1)
        sharpest = near.start + int(rises.values[near].argmax())
        moment_s = float(rises.times_s[at])
        if at == sharpest and motion.times_s[0] <= moment_s <= motion.times_s[-1]:
            moments_s.append(moment_s)
    return moments_s


def _settle(curves: Floats, scale: float, step_s: float, demands: _Demands) -> Lag:
    """The lag from the curves of events [E, len(LAGS_MS)]. Raises SyncError if none stands out."""
    events = len(curves)
    total = curves.sum(axis=0) * scale
    top = int(total.argmax())
    if total[top] < demands.least:
        raise SyncError(f"picture and sound do not go together at any lag within {SEARCH_MS:.0f} ms")
    if top in (0, len(total) - 1):
        raise SyncError(f"the lag is not within {SEARCH_MS:.0f} ms")
    inner = np.flatnonzero((total[1:-1] > total[:-2]) & (total[1:-1] >= total[2:])) + 1
    others = [total[at] for at in inner if abs(LAGS_MS[at] - LAGS_MS[top]) > demands.apart_ms]
    if others and max(others) > demands.next_share * total[top]:
        raise SyncError(
            "more than one lag fits: make the events uneven and record more of them; hands stay together after a clap"
        )
    draws = np.random.default_rng(0).multinomial(events, np.full(events, 1 / events), _DRAWS)
    drawn_ms = np.array([_peak_ms(each) for each in draws @ curves])
    near = np.abs(drawn_ms - LAGS_MS[top]) <= demands.apart_ms
    if near.mean() < demands.agreeing:
        raise SyncError("the events do not agree on a lag: record for longer, with more of them")
    grain_ms2 = ((1000 * step_s) ** 2 + (1000 * HOP_S) ** 2) / 12 / events
    uncertainty_ms = _NORMAL_95 * float(np.sqrt(drawn_ms[near].var() + grain_ms2))
    if uncertainty_ms > demands.spread_ms:
        raise SyncError(f"the lag is uncertain by {uncertainty_ms:.0f} ms: record for longer, with more events")
    return Lag(_peak_ms(total), uncertainty_ms, events)


def _peak_ms(curve: Floats) -> float:
    """Where a curve [len(LAGS_MS)] is highest, between its points by the parabola through the highest three."""
    top = int(curve.argmax())
    if top in (0, len(curve) - 1):
        return float(LAGS_MS[top])
    before, peak, after = curve[top - 1 : top + 2]
    bend = before - 2 * peak + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(LAGS_MS[top] + shift * (LAGS_MS[1] - LAGS_MS[0]))


def _box(values: npt.ArrayLike, width: int) -> Floats:
    """Mean of the `width` values around each; at the ends, of those that there are."""
    width = max(1, width)
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(total) - 1)
    first = np.maximum(index - (width - 1) // 2, 0)
    last = np.minimum(index + width // 2 + 1, len(index))
    return np.asarray((total[last] - total[first]) / (last - first))
