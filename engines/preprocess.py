"""Face crop -> network input. Training and the live path both call these functions, so both see the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from engines.spec import CropSpec

Luma = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float32]

# Where the two eye centres, the nose tip and the two mouth corners come to lie, as shares of the crop's side.
# The usual 112 px face-recognition template, drawn in to 90 % and lifted, so that the brows and the chin are inside.
TEMPLATE: Points = np.array(
    [[0.3577, 0.4387], [0.6409, 0.4371], [0.5002, 0.5997], [0.3839, 0.7655], [0.6184, 0.7641]],
    dtype=np.float32,
)


def spots(points: Points) -> list[complex]:
    """Points [N, 2] as x + iy. Of five, Python's own numbers make shorter work than arrays."""
    return [complex(x, y) for x, y in points.tolist()]


def centred(places: list[complex]) -> tuple[list[complex], complex]:
    """The places about their middle, and the middle."""
    middle = sum(places) / len(places)
    return [place - middle for place in places], middle


SHAPE, MIDDLE = centred(spots(TEMPLATE))
"""The template about its middle, and that."""


def laid(places: list[complex], size_px: int) -> tuple[complex, complex]:
    """Least-squares similarity z -> a z + b, as (a, b), from five places to the template in a crop of `size_px`.

    Raises ValueError if they coincide or are not numbers.
    """
    source, middle = centred(places)
    spread = sum((z * z.conjugate()).real for z in source)
    if not spread > 0.0:  # also when a coordinate is NaN
        raise ValueError("the five points coincide: no similarity maps them to a face")
    a = size_px * sum(z.conjugate() * target for z, target in zip(source, SHAPE, strict=True)) / spread
    return a, size_px * MIDDLE - a * middle


def similarity(points: Points, size_px: int) -> Affine:
    """Least-squares similarity [2, 3] from image `points` [5, 2] (order of TEMPLATE) to a crop of `size_px`.

    Written over complex numbers, a similarity is z -> a z + b, and least squares has a closed form.
    """
    a, b = laid(spots(points), size_px)
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], dtype=np.float32)


def inverse(affine: Affine) -> Affine:
    """The similarity that undoes `affine`."""
    return np.asarray(cv2.invertAffineTransform(affine), dtype=np.float32)


class Halves:
    """Halves pictures, in memory that the next one uses again."""

    def __init__(self) -> None:
        self._levels: list[Luma] = []

    def of(self, luma: Luma, times: int) -> Luma:
        """`luma` halved so many times; to be read until the next is halved."""
        for number in range(times):
            rows, columns = (luma.shape[0] + 1) // 2, (luma.shape[1] + 1) // 2
            luma = np.asarray(cv2.pyrDown(luma, self._level(number, rows, columns)), np.uint8)
        return luma

    def _level(self, number: int, rows: int, columns: int) -> Luma:
        if number == len(self._levels):
            self._levels.append(np.empty(0, np.uint8))
        if self._levels[number].size < rows * columns:
            self._levels[number] = np.empty(2 * rows * columns, np.uint8)
        return self._levels[number][: rows * columns].reshape(rows, columns)


class Smaller:
    """Makes pictures smaller or larger, a pixel about the average of what it covers, in memory that is used again.

    Halving averages blocks of four, which OpenCV does ten times faster than blocks that are no whole number of pixels.
    """

    def __init__(self) -> None:
        self._steps: list[Luma] = []

    def of(self, luma: Luma, size_px: tuple[int, int]) -> Luma:
        """`luma` [H, W] with so many rows and columns; to be read until the next is asked for."""
        rows, columns = size_px
        step = 0
        while luma.shape[0] >= 2 * rows and luma.shape[1] >= 2 * columns:
            luma = self._resize(luma, (luma.shape[0] // 2, luma.shape[1] // 2), step, cv2.INTER_AREA)
            step += 1
        if luma.shape == size_px:
            return luma
        shrinks = columns < luma.shape[1]
        return self._resize(luma, size_px, step, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def _resize(self, luma: Luma, size_px: tuple[int, int], step: int, way: int) -> Luma:
        if step == len(self._steps):
            self._steps.append(np.empty((0, 0), np.uint8))
        out = np.asarray(cv2.resize(luma, size_px[::-1], self._steps[step], interpolation=way), np.uint8)
        self._steps[step] = out
        return out


def crop(luma: Luma, affine: Affine, size_px: int, halves: Halves | None = None, out: Luma | None = None) -> Luma:
    """Warp a luma plane [H, W] to an upright face crop [size_px, size_px]; outside the picture the border repeats.

    Faces larger than the crop are averaged down (a pyramid level at a time) before the warp, so that fine texture
    does not alias into false wrinkles; only what is around the face is. halves: memory for that. out: where the crop is
    written, None for memory of its own.
    """
    rows = affine.tolist()
    scale, smaller, level = float(np.hypot(affine[0, 0], affine[1, 0])), min(luma.shape), 0
    while scale < 0.5 and smaller >= 4:
        scale, smaller, level = 2.0 * scale, (smaller + 1) // 2, level + 1
    if level:
        left, top, right, bottom = _part(luma, affine, size_px, level)
        # Halving keeps even pixels: full-resolution x is 2 x of the half-size picture.
        rows = [[a * 2**level, b * 2**level, shift + a * left + b * top] for a, b, shift in rows]
        luma = (halves or Halves()).of(luma[top:bottom, left:right], level)
    warped = cv2.warpAffine(
        luma, np.array(rows), (size_px, size_px), out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)


_MARGIN_PX = 4
"""Of a halved picture: as far beyond the crop as its pixels depend on others, and more."""


def _part(luma: Luma, affine: Affine, size_px: int, level: int) -> tuple[int, int, int, int]:
    """The part of a picture [left, top, right, bottom] whose halves hold all of a crop; it begins at a pixel that
    halving keeps. Of a crop beyond the picture, the border that is repeated."""
    ends = (-1, size_px)
    unit, margin = 2**level, _MARGIN_PX * 2**level
    found = []
    for (a, b, shift), side in zip(inverse(affine).tolist(), luma.shape[::-1], strict=True):
        corners = [a * x + b * y + shift for x in ends for y in ends]
        start = min(max(0, int(min(corners)) - margin), max(0, side - 2 * margin)) // unit * unit
        found.append((start, max(min(side, start + 2 * margin), min(side, int(max(corners)) + margin + 1))))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def to_tensor(
    crops: npt.NDArray[np.uint8], spec: CropSpec, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Luma crops [B, S, S] (uint8, full range) to the network's input [B, 1, S, S] (float32). out: where it is
    written, None for memory of its own."""
    tensor = np.empty((len(crops), 1, *crops.shape[1:]), np.float32) if out is None else out
    np.copyto(tensor, crops[:, None])
    tensor *= np.float32(1.0 / (255.0 * spec.std))
    tensor += np.float32(-spec.mean / spec.std)
    return tensor


class CropBatch:
    """The faces of one picture as the network takes them, in memory that the next picture uses again: whoever wants to
    keep a tensor copies it. most: how many faces there may be."""

    def __init__(self, spec: CropSpec, most: int) -> None:
        self._spec, self._halves = spec, Halves()
        self._crops = np.empty((most, spec.size_px, spec.size_px), np.uint8)
        tensor = np.empty((most, 1, spec.size_px, spec.size_px), np.float32)
        self._tensors = [tensor[:count] for count in range(most + 1)]

    def cut(self, luma: Luma, faces: Sequence[Points]) -> tuple[Affine, ...]:
        """Crop the faces with these landmarks [5, 2] out of a picture; the similarity of each, from picture to crop.

        Raises ValueError if there are more than `most`.
        """
        affines = tuple(similarity(points, self._spec.size_px) for points in faces)
        for affine, out in zip(affines, self._crops[: len(affines)], strict=True):
            crop(luma, affine, self._spec.size_px, self._halves, out)
        return affines

    def tensor(self, count: int) -> npt.NDArray[np.float32]:
        """The network's input [count, 1, S, S] of the first `count` crops, to be read until the next is made. For as
        many it is the same array each time, and an engine need not be told anew where it lies."""
        return to_tensor(self._crops[:count], self._spec, self._tensors[count])
