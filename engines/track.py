"""Follow a face from one luma picture to the next: optical flow of many points, one similarity for all of them.

The five landmarks are not followed one by one. A grid over the face is, and the landmarks are moved by the similarity
that most of the grid agrees on: a mouth that opens or an eye that closes moves its own points, which are then left
out, and the alignment stays where the skull is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engines.preprocess import SHAPE, TEMPLATE, Affine, Luma, Points, centred, laid, similarity, spots

Complex = npt.NDArray[np.complex128]

# A face is followed at about this distance between its eyes or less: enough for 0.1 px in the crop, and the cost stays
# the same however large the face is.
_VIEW_EYES_PX = 36.0
_REACH = 2.4  # half the side of a view, in eye distances around the middle of the landmarks
_EYES = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])
_GRID: Points = np.array([[x, y] for y in np.linspace(0.24, 0.78, 7) for x in np.linspace(0.24, 0.76, 6)], np.float32)
_PATCH_PX = 24

_MIN_POINTS = 10
_MIN_SHARE = 0.3
_MIN_LIKENESS = 0.6
_ROUND_TRIP_PX = 0.7
_MAX_ZOOM = 1.35
_MAX_TURN_RAD = 0.5


@dataclass(frozen=True, slots=True)
class View:
    """What a picture shows around a face: from `corner` (x, y) on, every `step` x `step` pixels averaged to one."""

    corner: tuple[int, int]
    step: int
    luma: Luma

    def into(self, points: Points) -> Points:
        """Picture points [N, 2] -> view points; pixel centres have whole coordinates in both."""
        return np.asarray((points - self._origin()) / np.float32(self.step), dtype=np.float32)

    def out(self, points: Points) -> Points:
        """View points [N, 2] -> picture points."""
        return np.asarray(points * np.float32(self.step) + self._origin(), dtype=np.float32)

    def _origin(self) -> npt.NDArray[np.float32]:
        """Where the centre of the first view pixel is in the picture."""
        return np.array(self.corner, np.float32) + np.float32((self.step - 1) / 2)


@dataclass(frozen=True, slots=True)
class Motion:
    """How a face moved between two pictures: z -> turn z + shift over complex picture coordinates x + iy.

    quality in [0, 1]: share of the grid that agrees with the motion, times the likeness of the face before and after.
    """

    turn: complex
    shift: complex
    quality: float

    def move(self, points: Points) -> Points:
        """Picture points [N, 2] of the earlier picture -> where they are in the later one."""
        moved = self.turn * _complex(points) + self.shift
        return np.stack([moved.real, moved.imag], axis=1).astype(np.float32)

    @property
    def zoom(self) -> float:
        return abs(self.turn)


def eye_distance(points: Points) -> float:
    """Pixels between the eyes, read off all five landmarks, so that a head turned aside does not seem smaller.

    It is the distance that TEMPLATE's eyes have once similarity() has mapped them back to the picture.
    """
    z, _ = centred(spots(points))
    spread = sum((each.conjugate() * each).real for each in z)
    return _EYES * spread / abs(sum(each.conjugate() * target for each, target in zip(z, SHAPE, strict=True)))


def look(luma: Luma, points: Points, seen: View | None = None) -> View | None:
    """The view of `luma` [H, W] around a face's landmarks [5, 2]; None if too little of it is inside the picture.

    seen: a view of the same picture, which stays while the face is well inside it: its window then is the one of the
    next picture, and a face at rest is not resampled anew.
    """
    eyes = eye_distance(points)
    if seen is not None and _fits(seen, points, eyes, luma.shape):
        return seen
    step = max(1, int(np.ceil(eyes / _VIEW_EYES_PX)))
    x0, y0, x1, y1 = _around(points, _REACH * eyes, luma.shape)
    columns, rows = (x1 - x0) // step, (y1 - y0) // step
    if min(columns, rows) * step < eyes or min(columns, rows) < 16:
        return None
    return View((x0, y0), step, _cut(luma, (x0, y0), step, (rows, columns)))


def view(luma: Luma, like: View, out: Luma | None = None) -> View:
    """The same window of another picture of the same size. out: where it is written if it has the window's size."""
    rows, columns = like.luma.shape
    return View(like.corner, like.step, _cut(luma, like.corner, like.step, (rows, columns), out))


def follow(before: View, after: View, points: Points) -> Motion | None:
    """The motion of the face with landmarks `points` [5, 2] (picture pixels) between two views of the same window.

    None if it is lost: too few grid points are found again, they do not agree, the motion is not one that a head
    makes between two frames, or what is there afterwards does not look like what was there before.
    """
    grid = before.into(on_face(_GRID, points))
    height, width = before.luma.shape
    grid = grid[np.all((grid >= 2) & (grid <= (width - 3, height - 3)), axis=1)]
    if len(grid) < _MIN_POINTS:
        return None
    found, kept = _flow(before.luma, _relit(after.luma, before.luma), grid)
    if kept.sum() < _MIN_POINTS:
        return None
    turn, shift, agree = fit(before.out(grid[kept]), after.out(found[kept]), 0.35 * before.step)
    if agree.sum() < max(_MIN_POINTS, _MIN_SHARE * len(_GRID)):
        return None
    motion = Motion(turn, shift, 0.0)
    moved = motion.move(points)
    jump = float(np.linalg.norm(moved.mean(axis=0) - points.mean(axis=0)))
    if not 1 / _MAX_ZOOM <= motion.zoom <= _MAX_ZOOM or abs(np.angle(turn)) > _MAX_TURN_RAD:
        return None
    if jump > _REACH * eye_distance(points):
        return None
    alike = likeness(_patch(before, points), _patch(after, moved))
    if alike < _MIN_LIKENESS:
        return None
    return Motion(turn, shift, alike * float(agree.sum()) / len(_GRID))


def fit(source: Points, target: Points, tolerance_px: float) -> tuple[complex, complex, npt.NDArray[np.bool_]]:
    """Similarity target = turn source + shift that most points agree on: (turn, shift, agree [N]).

    Two points determine a similarity; of those that each point makes with the one half the list away, the one with the
    least median residual wins, whatever the other points do. Then least squares over the points that agree with it:
    within 2.5 times the median residual, or within `tolerance_px`.
    """
    z, w = _complex(source), _complex(target)
    half = len(z) // 2
    run = z[half:] - z[: len(z) - half]
    apart = np.abs(run) > 1e-6
    turns = (w[half:] - w[: len(w) - half])[apart] / run[apart]
    if not len(turns):
        return 1 + 0j, 0j, np.zeros(len(z), np.bool_)
    shifts = w[half:][apart] - turns * z[half:][apart]
    best = _median_residuals(z, w, turns, shifts).argmin()
    turn, shift = complex(turns[best]), complex(shifts[best])
    for _ in range(2):
        residual = np.abs(turn * z + shift - w)
        agree = residual <= max(2.5 * float(np.sort(residual)[len(z) // 2]), tolerance_px)
        middle_z, middle_w = z[agree].mean(), w[agree].mean()
        around = z[agree] - middle_z
        turn = complex(np.vdot(around, w[agree] - middle_w) / max(np.vdot(around, around).real, 1e-9))
        shift = complex(middle_w - turn * middle_z)
    return turn, shift, np.abs(turn * z + shift - w) <= 3 * tolerance_px


def _median_residuals(z: Complex, w: Complex, turns: Complex, shifts: Complex) -> npt.NDArray[np.float32]:
    """[H], how far each similarity leaves half of the points z [N] from w [N]: turn z + shift - w as one product, in
    single precision around the middle of the points. These are the largest arrays of a frame."""
    middle = z.mean()
    motions = np.array([turns, turns * middle + shifts - middle, np.ones_like(turns)], np.complex64)
    points = np.array([z - middle, np.ones_like(z), middle - w], np.complex64)
    residuals: npt.NDArray[np.float32] = np.abs(motions.T @ points)
    residuals.partition(len(z) // 2, axis=1)
    return residuals[:, len(z) // 2]


def _around(points: Points, reach_px: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The square [x0, y0, x1, y1] around the middle of `points`, as far as it is inside a picture of `shape`."""
    x, y = points.mean(axis=0)
    return (
        max(0, int(x - reach_px)),
        max(0, int(y - reach_px)),
        min(shape[1], int(x + reach_px) + 1),
        min(shape[0], int(y + reach_px) + 1),
    )


def _fits(before: View, points: Points, eyes_px: float, shape: tuple[int, ...]) -> bool:
    """Whether a window cut for an earlier picture still shows the face and its surroundings, at a good scale."""
    x0, y0, x1, y1 = _around(points, 0.7 * _REACH * eyes_px, shape)
    left, top = before.corner
    rows, columns = before.luma.shape
    # The last `step - 1` rows and columns of a picture may be missing from a view that reaches its border.
    right, bottom = left + (columns + 1) * before.step, top + (rows + 1) * before.step
    inside = left <= x0 and top <= y0 and x1 <= right and y1 <= bottom
    return inside and 0.7 * (before.step - 1) <= eyes_px / _VIEW_EYES_PX <= 1.2 * before.step


def _cut(luma: Luma, corner: tuple[int, int], step: int, size: tuple[int, int], out: Luma | None = None) -> Luma:
    """Copied at every step: the caller may reuse the picture's memory."""
    rows, columns = size
    part = luma[corner[1] : corner[1] + rows * step, corner[0] : corner[0] + columns * step]
    # Whole steps: OpenCV averages these blocks several times faster than fractional ones.
    return np.asarray(cv2.resize(part, (columns, rows), out, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _relit(luma: Luma, like: Luma) -> Luma:
    """`luma` with the brightness and contrast of `like` if they differ: flow takes a pixel's value to be constant."""
    (mean, spread), (wanted_mean, wanted_spread) = (cv2.meanStdDev(one) for one in (luma, like))
    gain = float(np.clip(wanted_spread.item() / max(spread.item(), 1.0), 0.3, 3.0))
    if abs(mean.item() - wanted_mean.item()) < 3.0 and abs(gain - 1.0) < 0.03:
        return luma
    levels = (np.arange(256) - mean.item()) * gain + wanted_mean.item()
    return np.asarray(cv2.LUT(luma, np.clip(np.rint(levels), 0, 255).astype(np.uint8)), dtype=np.uint8)


def _flow(before: Luma, after: Luma, grid: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Pyramidal Lucas-Kanade there and back: the points [N, 2] in `after`, and which of them came back home."""
    there, seen = _lucas_kanade(before, after, grid)
    back, seen_back = _lucas_kanade(after, before, there)
    return there, seen & seen_back & (np.abs(back - grid).max(axis=1) <= _ROUND_TRIP_PX)


def _lucas_kanade(before: Luma, after: Luma, points: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    column = np.ascontiguousarray(points.reshape(-1, 1, 2))
    there, seen, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        column,
        np.empty_like(column),
        winSize=(13, 13),
        maxLevel=3,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.02),
        minEigThreshold=5e-4,
    )
    return np.asarray(there, dtype=np.float32).reshape(-1, 2), np.asarray(seen).ravel() == 1


def on_face(places: Points, points: Points) -> Points:
    """Places [N, 2], as shares of the upright crop's side, in picture pixels."""
    a, b = laid(spots(points), 1)
    there = (_complex(places) - b) / a
    return np.stack([there.real, there.imag], axis=1).astype(np.float32)


def _patch(view: View, points: Points) -> Luma:
    """The upright face as a small picture, to compare."""
    affine: Affine = similarity(view.into(points), _PATCH_PX)
    return np.asarray(cv2.warpAffine(view.luma, affine, (_PATCH_PX, _PATCH_PX), borderMode=cv2.BORDER_REPLICATE))


def likeness(one: Luma, other: Luma) -> float:
    """Correlation of two pictures of the same size; 0 if one of them is flat."""
    first, second = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    mean, mean_other = float(first.sum()) / one.size, float(second.sum()) / one.size
    # Of whole numbers as small as these, no sum is rounded.
    spread = float(first @ first) - one.size * mean * mean
    spread_other = float(second @ second) - one.size * mean_other * mean_other
    both = math.sqrt(max(0.0, spread * spread_other))
    return (float(first @ second) - one.size * mean * mean_other) / both if both > one.size else 0.0


def _complex(points: Points) -> Complex:
    return np.asarray(points[:, 0] + 1j * points[:, 1].astype(np.float64))
