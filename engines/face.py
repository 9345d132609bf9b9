"""Faces in a stream of luma planes: detected on key frames, followed in between, each with an id and a crop.

Which frames are key frames: every frame while no face is known (so that a face appears at once), one each `redetect_s`
while all faces are followed well, and at once when one is lost, is followed poorly, or was missed by the last
detection. A face is only ever reported where it was followed to, or where a detection of this very frame found it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from msgspec.structs import replace

from engines.ahead import Ahead
from engines.base import Engine
from engines.detect import Detection, Sight, detect
from engines.follow import Box, ByFlow, Follower, Track
from engines.match import confirmed, fresh, pairs_of, usable
from engines.preprocess import Affine, Luma, Points, crop, laid, similarity, spots
from engines.track import eye_distance, likeness, on_face

Look = Callable[[Luma, int, float], tuple[Detection, ...]]
"""Faces in a picture: the picture, the longest side that the detector sees, the least confidence."""
Reason = Literal["too_small", "outside_picture", "unsure", "unconfirmed"]

_CROP_PLACES: Points = np.array(
    [[x, y] for y in (np.arange(8) + 0.5) / 8 for x in (np.arange(8) + 0.5) / 8], np.float32
)
_CROP_CORNERS = spots(_CROP_PLACES[[0, 7, 56, 63]])

_CUT_LIKENESS = 0.5


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """When to detect, what counts as a face, and which faces are good enough to be scored."""

    detect_px: int = 320
    """Longest side of the picture that the detector sees; larger finds smaller faces and costs its square."""
    redetect_s: float = 0.33
    """Longest time between detections while every face is followed well."""
    new_confidence: float = 0.4
    """A detection at least this sure starts a face; a face less sure than this is low_quality."""
    keep_confidence: float = 0.25
    """A detection at least this sure confirms a face that is followed already."""
    min_quality: float = 0.35
    """Flow of a lower quality is checked by a detection at once."""
    min_eyes_px: float = 12.0
    """Faces with less between the eyes are low_quality."""
    max_outside: float = 0.4
    """Faces with a larger share of their crop outside the picture are low_quality."""
    max_faces: int = 4
    """The largest faces count; a newcomer displaces a known face only if it is a quarter larger."""

    def __post_init__(self) -> None:
        if self.detect_px < 32 or self.max_faces < 1 or self.redetect_s < 0:
            raise ValueError("face settings need detect_px >= 32, max_faces >= 1 and redetect_s >= 0")
        if not 0 < self.keep_confidence <= self.new_confidence <= 1:
            raise ValueError("face settings need 0 < keep_confidence <= new_confidence <= 1")


@dataclass(frozen=True, slots=True)
class Face:
    """A face in one picture; `reason` says why it is low_quality and is None while tracked.

    points [5, 2] (order of engines.preprocess.TEMPLATE) and box [x0, y0, x1, y1] are in picture pixels; confidence in
    [0, 1] is that of the last detection. Ids count up from 1 and are never used again.
    """

    id: int
    points: Points
    box: Box
    status: Literal["tracked", "low_quality"]
    reason: Reason | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one picture, largest (at the last key frame) first; maybe none. detected: it was a key frame."""

    faces: tuple[Face, ...]
    detected: bool


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """Upright crop [S, S] of a face, and the similarity [2, 3] that maps picture pixels to crop pixels."""

    luma: Luma
    affine: Affine


class FaceFinder:
    """Finds and follows faces in one stream. The same pictures and times always give the same answer.

    ahead: while every face is followed well, the detector works beside the analysis (engines.ahead). Where it says that
    somebody has come, the picture at hand is looked through at once. look: what does that; None: the detector, on what
    the CPU made of the picture.
    """

    def __init__(
        self,
        detector: Engine,
        settings: FaceSettings | None = None,
        follower: Follower | None = None,
        *,
        ahead: bool = False,
        look: Look | None = None,
    ) -> None:
        self._ahead = Ahead() if ahead else None
        self._follower = follower or ByFlow()
        self._elapsed_s = 0.0
        self._settings = settings or FaceSettings()
        # What looks at a picture on a GPU belongs to this thread, the detector of the CPU to whichever asks.
        self._look_ahead: Look = partial(detect, detector, sight=Sight())
        self._look = look or self._look_ahead
        self._kept: Luma = np.empty((0, 0), np.uint8)
        self._tracks: tuple[Track, ...] = ()
        self._shape = (0, 0)
        self._glance: Luma | None = None
        self._t_ns = 0
        self._t_detected_ns = 0
        self._ids = 0

    def locate(self, luma: Luma, t_ns: int) -> Faces:
        """The faces in `luma` (uint8 [H, W], full range) captured at `t_ns`. A picture that can be
        written to is not kept.

        Raises ValueError if `luma` is not such a plane, EngineError if the detector fails.
        """
        if luma.dtype != np.uint8 or luma.ndim != 2 or min(luma.shape) < 16:
            raise ValueError(
                f"expected a luma plane, uint8 [H, W] of 16 px or more, got {luma.dtype}{list(luma.shape)}"
            )
        if luma.shape != self._shape:
            self._tracks, self._glance, self._shape = (), None, (luma.shape[0], luma.shape[1])
        elapsed_s = max(0, t_ns - self._t_ns) / 1e9
        self._elapsed_s = elapsed_s
        tracks = tuple(self._follower.advance(track, luma, elapsed_s) for track in self._tracks)
        told = None if self._ahead is None else self._ahead.answer(_places(tracks), t_ns)
        # After a gap, what is found later may be found too late.
        in_doubt = self._in_doubt(tracks) or elapsed_s >= self._settings.redetect_s or self._has_come(tracks, told)
        is_due = self._is_due(t_ns)
        is_key = in_doubt or told is not None or (is_due and self._ahead is None)
        glance = luma[luma.shape[0] // 36 :: max(1, luma.shape[0] // 18), :: max(1, luma.shape[1] // 32)].copy()
        if told is not None and not in_doubt:
            tracks = self._reconcile(tracks, told)
        elif is_key:
            if self._glance is not None and likeness(self._glance, glance) < _CUT_LIKENESS:
                # After a cut whoever is there is somebody else, unless the flow itself held on to the face.
                tracks = tuple(track for track in tracks if not track.lost)
            if self._ahead is not None:
                self._ahead.drop()
            found = self._look(luma, self._settings.detect_px, self._settings.keep_confidence)
            tracks = self._reconcile(tracks, found)
            self._t_detected_ns = t_ns
        if is_due and not in_doubt and self._ahead is not None and not self._ahead.busy:
            self._ask(self._ahead, luma, tracks, t_ns)
            self._t_detected_ns = t_ns
        self._tracks = tuple(self._follower.remember(track, luma) for track in tracks)
        self._glance, self._t_ns = glance, t_ns
        return Faces(tuple(_report(track, luma.shape, self._settings) for track in self._tracks), is_key)

    def settle(self, luma: Luma, seen: Mapping[int, tuple[Affine, Points]]) -> None:
        """Correct where the faces of the picture just located are by what the network saw of them. The next picture
        begins there. seen: by id, the similarity [2, 3] from picture to shares of the crop, and the landmarks [5, 2].
        """
        self._tracks = tuple(
            self._follower.settled(track, luma, *seen[track.id], self._elapsed_s) if track.id in seen else track
            for track in self._tracks
        )

    def close(self) -> None:
        """Wait for a detection that is under way; its network may be closed afterwards."""
        if self._ahead is not None:
            self._ahead.close()

    def _in_doubt(self, tracks: tuple[Track, ...]) -> bool:
        """Whether nobody is known, or somebody is lost or followed poorly: then this very picture is looked through."""
        return not tracks or any(track.quality < self._settings.min_quality or not track.confirmed for track in tracks)

    def _is_due(self, t_ns: int) -> bool:
        # Time that runs backwards is a stream that began anew.
        return not 0 <= (t_ns - self._t_detected_ns) / 1e9 < self._settings.redetect_s

    def _ask(self, ahead: Ahead, luma: Luma, tracks: tuple[Track, ...], t_ns: int) -> None:
        kept = luma
        if luma.flags.writeable:  # its memory may be another picture's when its turn comes
            if self._kept.shape != luma.shape:
                self._kept = np.empty_like(luma)
            np.copyto(self._kept, luma)
            kept = self._kept
        look = partial(self._look_ahead, kept, self._settings.detect_px, self._settings.keep_confidence)
        ahead.ask(look, _places(tracks), t_ns)

    def _has_come(self, tracks: tuple[Track, ...], told: tuple[Detection, ...] | None) -> bool:
        """Whether the detector tells of somebody who is not known."""
        return told is not None and bool(fresh(told, pairs_of(tracks, told), tracks, self._settings.new_confidence))

    def _reconcile(self, tracks: tuple[Track, ...], found: tuple[Detection, ...]) -> tuple[Track, ...]:
        """Known faces confirmed, corrected or given up, and new ones begun."""
        settings = self._settings
        found = usable(found)
        pairs = pairs_of(tracks, found)
        seen_px = max(self._shape) / settings.detect_px
        kept = [
            confirmed(track, found[pairs[i]], seen_px, self._elapsed_s) for i, track in enumerate(tracks) if i in pairs
        ]
        # One missed detection is forgiven if the flow holds, but the face is not scored until it is confirmed.
        kept += [
            replace(track, confirmed=False)
            for i, track in enumerate(tracks)
            if i not in pairs and track.confirmed and not track.lost
        ]
        new = fresh(found, pairs, kept, settings.new_confidence)
        begun = [Track(0, d.points, np.zeros_like(d.points), d.box, d.confidence) for d in new]
        largest = sorted(kept + begun, key=lambda t: -eye_distance(t.points) * (1.25 if t.id else 1.0))
        return tuple(self._named(track) for track in sorted(largest[: settings.max_faces], key=_size, reverse=True))

    def _named(self, track: Track) -> Track:
        if track.id:
            return track
        self._ids += 1
        return replace(track, id=self._ids)


def align(luma: Luma, face: Face, size_px: int = 112) -> FaceCrop:
    """The upright crop of a face that `locate` found in this picture."""
    affine = similarity(face.points, size_px)
    return FaceCrop(crop(luma, affine, size_px), affine)


def _size(track: Track) -> float:
    return eye_distance(track.points)


def _places(tracks: tuple[Track, ...]) -> dict[int, Points]:
    return {track.id: track.points for track in tracks}


def _report(track: Track, shape: tuple[int, ...], settings: FaceSettings) -> Face:
    outside = _outside(track.points, shape)
    reason: Reason | None = None
    if not track.confirmed:
        reason = "unconfirmed"
    elif eye_distance(track.points) < settings.min_eyes_px:
        reason = "too_small"
    elif outside > settings.max_outside:
        reason = "outside_picture"
    elif track.confidence < settings.new_confidence:
        reason = "unsure"
    return Face(track.id, track.points, track.box, "low_quality" if reason else "tracked", reason, track.confidence)


def _outside(points: Points, shape: tuple[int, ...]) -> float:
    """Which share of a face's crop is outside a picture [H, W]."""
    right, bottom = shape[1] - 0.5, shape[0] - 0.5
    a, b = laid(spots(points), 1)
    corners = [(corner - b) / a for corner in _CROP_CORNERS]
    if all(-0.5 <= each.real <= right and -0.5 <= each.imag <= bottom for each in corners):
        return 0.0  # so is all between them
    places = on_face(_CROP_PLACES, points)
    return 1.0 - float(np.mean(np.all((places >= -0.5) & (places <= (right, bottom)), axis=1)))
