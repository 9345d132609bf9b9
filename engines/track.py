"""Follow a face from one luma picture to the next: optical flow of many points, one similarity for all of them.

The five landmarks are not followed one by one. A grid over the face is, and the landmarks are moved by the similarity
that most of the grid agrees on: a mouth that opens or an eye that closes moves its own points, which are then left
out, and the alignment stays where the skull is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engines.preprocess import TEMPLATE, Affine, Luma, Points, inverse, similarity

# A face is followed in a view of at most this distance between its eyes: enough for 0.1 px in the crop, and the cost
# stays the same however large the picture is.
_VIEW_EYES_PX = 28.0
_REACH = 2.6  # half the side of a view, in eye distances around the middle of the landmarks
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
    """What a picture shows around a face: window [x0, y0, x1, y1] (picture pixels), scaled down to `luma` [h, w]."""

    window: tuple[int, int, int, int]
    luma: Luma

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Picture pixels per view pixel, for x and y."""
        x0, y0, x1, y1 = self.window
        height, width = self.luma.shape
        return np.array([(x1 - x0) / width, (y1 - y0) / height], np.float32)

    @property
    def _corner(self) -> npt.NDArray[np.float32]:
        return np.array(self.window[:2], np.float32)

    def into(self, points: Points) -> Points:
        """Picture points [N, 2] -> view points; pixel centres have whole coordinates in both."""
        return np.asarray((points - self._corner + 0.5) / self.scale - 0.5, dtype=np.float32)

    def out(self, points: Points) -> Points:
        """View points [N, 2] -> picture points."""
        return np.asarray((points + 0.5) * self.scale - 0.5 + self._corner, dtype=np.float32)


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
    """Pixels between the eyes, read off all five landmarks, so that a head turned aside does not seem smaller."""
    affine = similarity(points, 1)
    return _EYES / float(np.hypot(affine[0, 0], affine[1, 0]))


def look(luma: Luma, points: Points, before: View | None = None) -> View | None:
    """The view of `luma` [H, W] around a face's landmarks [5, 2]; None if too little of it is inside the picture.

    The window of `before` is kept while the face is well inside it, so that a face at rest is not resampled anew.
    """
    eyes, middle = eye_distance(points), points.mean(axis=0)
    if before is not None and _fits(before, middle, eyes):
        return view(luma, before)
    height, width = luma.shape
    x0, y0 = (max(0, int(v)) for v in np.floor(middle - _REACH * eyes))
    x1, y1 = (min(side, int(v)) for v, side in zip(np.ceil(middle + _REACH * eyes), (width, height), strict=True))
    if min(x1 - x0, y1 - y0) < 2 * _EYES * eyes or min(x1 - x0, y1 - y0) < 16:
        return None
    shrink = max(1.0, eyes / _VIEW_EYES_PX)
    size = (max(16, round((x1 - x0) / shrink)), max(16, round((y1 - y0) / shrink)))
    return View((x0, y0, x1, y1), _cut(luma, (x0, y0, x1, y1), size))


def view(luma: Luma, like: View) -> View:
    """The same window of another picture of the same size."""
    height, width = like.luma.shape
    return View(like.window, _cut(luma, like.window, (width, height)))


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
    found, kept = _flow(before.luma, after.luma, grid)
    if kept.sum() < _MIN_POINTS:
        return None
    turn, shift, agree = fit(before.out(grid[kept]), after.out(found[kept]), 0.35 * float(before.scale.max()))
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
    """Similarity target = turn source + shift, in least squares over the points that agree: (turn, shift, agree [N]).

    Points further off than 2.5 times the median residual (and than `tolerance_px`) are left out, four times over.
    The first residuals are those of the median shift, which a minority of runaways cannot move.
    """
    z, w = _complex(source), _complex(target)
    step = w - z
    turn, shift = 1 + 0j, complex(np.median(step.real), np.median(step.imag))
    agree = np.ones(len(z), np.bool_)
    for attempt in range(4):
        residual = np.abs(turn * z + shift - w)
        # The first guess knows no rotation or zoom: be generous with it.
        agree = residual <= max((4.0 if attempt == 0 else 2.5) * float(np.median(residual)), tolerance_px)
        centre_z, centre_w = z[agree].mean(), w[agree].mean()
        centred = z[agree] - centre_z
        spread = float(np.sum(np.abs(centred) ** 2))
        if spread <= 0.0:
            return 1 + 0j, shift, np.zeros(len(z), np.bool_)
        turn = complex(np.sum(np.conj(centred) * (w[agree] - centre_w)) / spread)
        shift = complex(centre_w - turn * centre_z)
    agree = np.abs(turn * z + shift - w) <= 3 * tolerance_px
    return turn, shift, agree


def _fits(before: View, middle: Points, eyes: float) -> bool:
    """Whether a face is still central in a window cut for an earlier picture, and about as large."""
    x0, y0, x1, y1 = before.window
    scale = float(before.scale.mean())
    margin = 0.7 * _REACH * eyes
    # A side that lies on the picture's border cannot be moved further out, so only the free sides count; cutting
    # anew is cheap and gives the same answer, which makes the simple test on all sides good enough.
    inside = x0 + margin <= middle[0] <= x1 - margin and y0 + margin <= middle[1] <= y1 - margin
    return bool(inside and 0.8 <= max(1.0, eyes / _VIEW_EYES_PX) / scale <= 1.25)


def _cut(luma: Luma, window: tuple[int, int, int, int], size: tuple[int, int]) -> Luma:
    x0, y0, x1, y1 = window
    part = luma[y0:y1, x0:x1]
    if part.shape == (size[1], size[0]):
        return part.copy()  # the caller may reuse the picture's memory
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


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
    back = inverse(similarity(points, 1)).astype(np.float64)
    return np.asarray(places @ back[:, :2].T + back[:, 2], dtype=np.float32)


def _patch(view: View, points: Points) -> Luma:
    """The upright face as a small picture, to compare."""
    affine: Affine = similarity(view.into(points), _PATCH_PX)
    return np.asarray(cv2.warpAffine(view.luma, affine, (_PATCH_PX, _PATCH_PX), borderMode=cv2.BORDER_REPLICATE))


def likeness(one: Luma, other: Luma) -> float:
    """Correlation of two pictures of the same size; 0 if one of them is flat."""
    a, b = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    spread = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b) / spread) if spread > one.size else 0.0


def _complex(points: Points) -> npt.NDArray[np.complex128]:
    return np.asarray(points[:, 0].astype(np.float64) + 1j * points[:, 1])
