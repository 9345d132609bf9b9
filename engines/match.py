"""Which detection is which known face, who is new, and what a detection corrects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from engines.detect import Detection, overlap
from engines.follow import Track, drifting
from engines.track import eye_distance

# How far a detection may lie from a face to be that face, in eye distances: little if the flow says where it went.
_GATE_FOLLOWED, _GATE_LOST = 0.75, 1.5
_GATE_ZOOM = 1.7
# Landmarks of the detector differ from picture to picture by about a pixel of the picture that it sees; differences of
# a few such pixels are a head that turned; by a third of the eye distance, something else than this face was followed.
_NOISE_PX, _MIN_GAIN, _RUNAWAY = 1.0, 0.25, 0.33


def usable(found: tuple[Detection, ...]) -> tuple[Detection, ...]:
    """Without those whose landmarks are no face's: not finite, or all in a row."""
    return tuple(d for d in found if np.isfinite(d.points).all() and np.ptp(d.points, axis=0).min() > 0.5)


def pairs_of(tracks: Sequence[Track], found: tuple[Detection, ...]) -> dict[int, int]:
    """Track index -> detection index, closest pairs first, each used once."""
    candidates = []
    for i, track in enumerate(tracks):
        eyes = eye_distance(track.points)
        for j, detection in enumerate(found):
            away = float(np.linalg.norm(detection.points.mean(axis=0) - track.points.mean(axis=0))) / eyes
            zoom = eye_distance(detection.points) / eyes
            if away <= (_GATE_LOST if track.lost else _GATE_FOLLOWED) and 1 / _GATE_ZOOM <= zoom <= _GATE_ZOOM:
                candidates.append((away, i, j))
    pairs: dict[int, int] = {}
    for _, i, j in sorted(candidates):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def fresh(
    found: tuple[Detection, ...], pairs: Mapping[int, int], known: Sequence[Track], least: float
) -> list[Detection]:
    """What was found, at least that sure, that is no known face and not in the place of one either."""
    boxes = np.array([track.box for track in known]).reshape(-1, 4)
    return [
        each
        for j, each in enumerate(found)
        if j not in pairs.values()
        and each.confidence >= least
        and (not len(boxes) or overlap(each.box, boxes).max() < 0.3)
    ]


def confirmed(track: Track, detection: Detection, seen_px: float, elapsed_s: float) -> Track:
    """The face with what the detection corrects: little of a small difference, which is noise, most of a large one.

    The first detections are averaged, so that a face does not start with the error of a single one. seen_px: a pixel of
    the picture that the detector sees, in pixels of the picture.
    """
    wrong = detection.points - track.points
    error_px = float(np.sqrt(np.mean(np.sum(wrong**2, axis=1))))
    sure = replace(track, box=detection.box, confidence=detection.confidence, confirmed=True)
    if track.lost or error_px > _RUNAWAY * eye_distance(track.points):
        jumped = replace(
            sure, points=detection.points, pending=np.zeros_like(wrong), view=None, glimpse=None, sightings=1
        )
        return drifting(jumped, complex(*wrong.mean(axis=0)), elapsed_s)
    turned = error_px**2 / (error_px**2 + (3.0 * _NOISE_PX * seen_px) ** 2)
    gain = max(_MIN_GAIN, turned, 1.0 / (track.sightings + 1))
    return replace(sure, pending=np.float32(gain) * wrong, sightings=track.sightings + 1)
