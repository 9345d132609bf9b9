"""CenterFace: boxes and five landmarks of every face in a luma picture.

Network: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019); models/centerface.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engines.base import Engine, EngineError, is_finite, lent
from engines.preprocess import Luma, Points, Smaller

_STRIDE = 4
_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Detection:
    """One face: box [x0, y0, x1, y1] and five points [5, 2] in picture pixels, and a confidence in [0, 1].

    Points: the eye on the picture's left, the eye on its right, the nose tip, the mouth corner on the picture's
    left, the one on its right.
    """

    box: npt.NDArray[np.float32]
    points: Points
    confidence: float


def seen_px(luma: Luma, longest_px: int) -> tuple[int, int]:
    """Rows and columns of a picture [H, W] as the network sees it, whose longest side is about `longest_px`."""
    scale = longest_px / max(luma.shape)
    rows, columns = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in luma.shape)
    return rows, columns


class Sight:
    """A picture as the network sees it, in memory that the next picture uses again."""

    def __init__(self) -> None:
        self._smaller = Smaller()
        self._tensor = np.empty((1, 1, 0, 0), np.float32)

    def of(self, luma: Luma, longest_px: int) -> npt.NDArray[np.float32]:
        """`luma` [H, W] scaled so that its longest side is about `longest_px`: [1, 1, h, w], until the next is asked
        for."""
        rows, columns = seen_px(luma, longest_px)
        if self._tensor.shape[2:] != (rows, columns):
            self._tensor = np.empty((1, 1, rows, columns), np.float32)
        self._tensor[0, 0] = self._smaller.of(luma, (rows, columns))
        return self._tensor


def detect(
    engine: Engine, luma: Luma, longest_px: int = 320, threshold: float = 0.5, sight: Sight | None = None
) -> tuple[Detection, ...]:
    """Faces in `luma` [H, W], best first. The picture is scaled so that its longest side is about `longest_px`; sight:
    the memory for that, where one picture follows another.

    Raises EngineError if the network fails or answers with values that are not finite.
    """
    tensors = lent(engine, {"luma": (sight or Sight()).of(luma, longest_px)})
    if not all(map(is_finite, tensors.values())):
        raise EngineError(f"{engine.manifest.name} on {engine.backend} returned values that are not finite")
    heat = tensors["heatmap"][0, 0]
    ys, xs = np.nonzero(heat > threshold)
    maps = (tensors["heatmap"][0], tensors["size"][0], tensors["offset"][0], tensors["landmarks"][0])
    return of_cells(np.concatenate([[ys, xs], *(each[:, ys, xs] for each in maps)]), luma, longest_px, threshold)


def of_cells(cells: npt.NDArray[np.floating], luma: Luma, longest_px: int, threshold: float) -> tuple[Detection, ...]:
    """Faces in the picture `luma`, best first, out of cells [17, N] of what the network made of it: row, column, heat,
    size 2, offset 2 and landmarks 10. Of those that overlap the best stays."""
    cells = cells[:, cells[2] > threshold].astype(np.float32)
    ys, xs, heat = cells[:3, np.argsort(-cells[2])]
    size, offset, landmarks = np.split(cells[3:, np.argsort(-cells[2])], [2, 4])
    high, wide = np.exp(size) * _STRIDE
    x0 = (xs + offset[1] + 0.5) * _STRIDE - wide / 2
    y0 = (ys + offset[0] + 0.5) * _STRIDE - high / 2
    points = np.stack([(landmarks[1::2] * wide + x0).T, (landmarks[0::2] * high + y0).T], axis=-1)
    boxes = np.stack([x0, y0, x0 + wide, y0 + high], axis=-1)
    rows, columns = seen_px(luma, longest_px)
    to_picture = np.array([luma.shape[1] / columns, luma.shape[0] / rows], dtype=np.float32)
    return tuple(
        Detection((boxes[i].reshape(2, 2) * to_picture).reshape(4), points[i] * to_picture, float(heat[i]))
        for i in _suppress(boxes)
    )


def overlap(box: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Intersection over union of `box` [4] with each of `others` [N, 4]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2])
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(common / np.maximum(area + areas - common, 1e-9))


def _suppress(boxes: npt.NDArray[np.floating], limit: float = 0.3) -> list[int]:
    """Indices of the boxes that no better (earlier) kept box overlaps by more than `limit`."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if not kept or overlap(box, boxes[kept]).max() <= limit:
            kept.append(i)
    return kept


def detect_picture(engine: Engine, luma: Luma) -> Detection | None:
    """The main face of a still picture that may be a close crop, or None.

    Close crops leave the network no context, so the border is repeated around the picture by 15 % of its longest
    side and the threshold is low; among several faces the largest that is seen clearly counts.
    """
    border = round(max(luma.shape) * 0.15)
    padded = cv2.copyMakeBorder(luma, border, border, border, border, cv2.BORDER_REPLICATE)
    found = detect(engine, np.asarray(padded, dtype=np.uint8), longest_px=256, threshold=0.2)
    if not found:
        return None
    best = max(found, key=lambda d: d.confidence * float(np.prod(d.box[2:] - d.box[:2])))
    return Detection(best.box - border, best.points - np.float32(border), best.confidence)
