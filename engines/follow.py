"""How a known face is found again in the next picture: by optical flow, or by the landmarks of the concept network.

Flow asks the picture where the face went and needs no network. A network that says where the face lies in its crop has
answered that already by the time the next picture comes: what is left to do is to look whether the face is still there.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from engines.preprocess import MIDDLE, SHAPE, Affine, Luma, Points, Smaller, spots
from engines.track import View, eye_distance, follow, likeness, look, view

Box = npt.NDArray[np.float32]

_SETTLE_S = 0.1
_GLIMPSE_PX = 24
_REACH = 1.3  # half the side of a glimpse, in eye distances
_MIN_LIKENESS = 0.45
# Landmarks at rest differ from picture to picture by about this much of the crop's side; much less than that is noise.
_NOISE = 0.006
_DRIFT_GAIN, _DRIFT_HOLDS_S = 0.35, 0.25
_MAX_NUDGE = 0.25
_SAME_GLIMPSE = 0.02
_SPREAD = sum(abs(each) ** 2 for each in SHAPE)


class Track(msgspec.Struct, frozen=True, eq=False):
    """A known face, made anew for every picture: a struct is made anew sooner than a dataclass.

    pending [5, 2]: what the last detection corrects and is not yet applied. view: what was seen around it, and where to
    look in the next picture. spare: memory of the view before, for the next. glimpse: the face, small, to know it by.
    drift: picture pixels a second, x + iy. sightings: detections that agreed on its landmarks so far.
    """

    id: int
    points: Points
    pending: Points
    box: Box
    confidence: float
    view: View | None = None
    spare: Luma | None = None
    glimpse: Luma | None = None
    drift: complex = 0j
    quality: float = 1.0
    confirmed: bool = True
    sightings: int = 1

    @property
    def lost(self) -> bool:
        return self.quality <= 0.0


class Follower(Protocol):
    """One of the two ways."""

    def advance(self, track: Track, luma: Luma, elapsed_s: float) -> Track:
        """The face one picture later; quality 0 if it is lost."""
        ...

    def remember(self, track: Track, luma: Luma) -> Track:
        """The face with what the next picture will be compared with."""
        ...

    def settled(self, track: Track, luma: Luma, affine: Affine, landmarks: Points, elapsed_s: float) -> Track:
        """The face after the network saw it in this picture; see `nudged`."""
        ...


class ByFlow:
    """See engines.track."""

    def advance(self, track: Track, luma: Luma, elapsed_s: float) -> Track:
        """See Follower."""
        before = track.view
        now = None if before is None else view(luma, before, track.spare)
        motion = None if before is None or now is None else follow(before, now, track.points)
        if before is None or motion is None:
            return replace(track, view=None, spare=None, quality=0.0)
        # A correction enters bit by bit, so that the crop glides to it and does not jump at key frames.
        part = np.float32(1.0 - np.exp(-elapsed_s / _SETTLE_S))
        points = motion.move(track.points + part * track.pending)
        middle = track.box.reshape(2, 2).mean(axis=0, keepdims=True)
        half = (track.box[2:] - track.box[:2]) / 2 * np.float32(motion.zoom)
        centre = motion.move(middle)[0]
        return replace(
            track,
            points=points,
            pending=(1 - part) * track.pending * np.float32(motion.zoom),
            box=np.concatenate([centre - half, centre + half]).astype(np.float32),
            view=now,
            spare=before.luma,
            quality=motion.quality,
        )

    def remember(self, track: Track, luma: Luma) -> Track:
        """See Follower."""
        return replace(track, view=look(luma, track.points, track.view))

    def settled(self, track: Track, luma: Luma, affine: Affine, landmarks: Points, elapsed_s: float) -> Track:
        """The flow knows better."""
        return track


class ByLandmarks:
    """The face is where it was, plus its drift, if what is there looks like it; `nudged` corrects that afterwards."""

    def __init__(self) -> None:
        self._smaller = Smaller()

    def advance(self, track: Track, luma: Luma, elapsed_s: float) -> Track:
        """See Follower."""
        holds = min(elapsed_s, _DRIFT_HOLDS_S)
        step = _pair(track.drift * holds)
        part = np.float32(1.0 - math.exp(-elapsed_s / _SETTLE_S))
        points = track.points + step + part * track.pending
        now = glimpse(luma, points, self._smaller)
        alike = 0.0 if now is None or track.glimpse is None else likeness(track.glimpse, now)
        return replace(
            track,
            points=points,
            pending=(1 - part) * track.pending,
            box=track.box + np.concatenate([step, step]),
            glimpse=now,
            quality=alike if alike >= _MIN_LIKENESS else 0.0,
        )

    def remember(self, track: Track, luma: Luma) -> Track:
        """See Follower."""
        if track.glimpse is not None:
            return track
        return replace(track, glimpse=glimpse(luma, track.points, self._smaller))

    def settled(self, track: Track, luma: Luma, affine: Affine, landmarks: Points, elapsed_s: float) -> Track:
        """See Follower."""
        return self.remember(nudged(track, affine, landmarks, elapsed_s), luma)


def glimpse(luma: Luma, points: Points, smaller: Smaller) -> Luma | None:
    """The square around a face [24, 24], every pixel an average; None if most of it is outside the picture."""
    middle, reach = sum(spots(points)) / len(points), _REACH * eye_distance(points)
    if not math.isfinite(reach):
        return None
    x, y = middle.real, middle.imag
    # A side that can be halved until it is nearly that small.
    unit = 1 << max(0, int(2 * reach / _GLIMPSE_PX).bit_length() - 1)
    side = unit * round(2 * reach / unit)
    left, top = round(x - side / 2), round(y - side / 2)
    inside = luma[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if inside.size < 0.5 * side * side or min(inside.shape) < 2:
        return None
    return smaller.of(inside, (_GLIMPSE_PX, _GLIMPSE_PX)).copy()


def nudged(track: Track, affine: Affine, landmarks: Points, elapsed_s: float) -> Track:
    """The face where its crop's landmarks say it is.

    affine [2, 3]: similarity from picture to crop shares; landmarks [5, 2]: where the template's points lie in that
    crop, in shares of its side. The similarity from template to landmarks (least squares, over complex numbers) is what
    the crop was off by; little of a small one is applied, which is noise, and most of a large one, after which the
    glimpse is another. What asks for more than a quarter of the crop is no face and changes nothing.
    """
    seen = spots(landmarks)
    middle = sum(seen) / len(seen)
    turn = sum(z.conjugate() * w for z, w in zip(SHAPE, seen, strict=True)) / _SPREAD
    shift = middle - turn * MIDDLE
    # What is left of the template's places, about their middle and of the middle itself, are at right angles.
    off = math.sqrt(abs(turn - 1) ** 2 * _SPREAD / len(SHAPE) + abs(middle - MIDDLE) ** 2)
    if not off <= _MAX_NUDGE:
        return track
    gain = off**2 / (off**2 + _NOISE**2)
    turn, shift = 1 + gain * (turn - 1), gain * shift
    (c, _, e), (d, _, f) = affine.tolist()
    into, origin = complex(c, d), complex(e, f)
    before = spots(track.points)
    moved = [(turn * (into * each + origin) + shift - origin) / into for each in before]
    went = (sum(moved) - sum(before)) / len(before)
    step = _pair(went)
    there = replace(
        track,
        points=np.array([(each.real, each.imag) for each in moved], np.float32),
        box=track.box + np.concatenate([step, step]),
        glimpse=track.glimpse if gain * off <= _SAME_GLIMPSE else None,
    )
    return drifting(there, _DRIFT_GAIN * went, elapsed_s)


def drifting(track: Track, further_px: complex, elapsed_s: float) -> Track:
    """The face with a drift that would have taken it so much further (x + iy) since the last picture."""
    return replace(track, drift=track.drift + further_px / elapsed_s) if elapsed_s > 0 else track


def _pair(place: complex) -> Points:
    return np.array((place.real, place.imag), np.float32)
