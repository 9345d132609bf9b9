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
    """A picture and its halves, level by level, in memory that the next picture of the same size uses again."""

    def __init__(self) -> None:
        self._levels: list[Luma] = []
        self._made = 0

    def begin(self) -> None:
        """Another picture: what the levels hold is out of date."""
        self._made = 0

    def level(self, luma: Luma, number: int) -> Luma:
        """`luma` halved `number` times, made when it is first asked for; to be read until `begin`."""
        if not number:
            return luma
        above = self.level(luma, number - 1)
        if number > self._made:
            kept = self._levels[number - 1] if number <= len(self._levels) else None
            self._levels[number - 1 : number] = [np.asarray(cv2.pyrDown(above, kept), np.uint8)]
            self._made = number
        return self._levels[number - 1]


def crop(luma: Luma, affine: Affine, size_px: int, halves: Halves | None = None, out: Luma | None = None) -> Luma:
    """Warp a luma plane [H, W] to an upright face crop [size_px, size_px]; outside the picture the border repeats.

    Faces larger than the crop are averaged down (a pyramid level at a time) before the warp, so that fine texture
    does not alias into false wrinkles. halves: those of this picture, where several crops share them. out: where the
    crop is written, None for memory of its own.
    """
    scale, smaller, level = float(np.hypot(affine[0, 0], affine[1, 0])), min(luma.shape), 0
    while scale < 0.5 and smaller >= 4:
        scale, smaller, level = 2.0 * scale, (smaller + 1) // 2, level + 1
    # Halving keeps even pixels: full-resolution x is 2 x of the half-size picture.
    affine = np.concatenate([affine[:, :2] * np.float32(2**level), affine[:, 2:]], axis=1)
    small = (halves or Halves()).level(luma, level)
    warped = cv2.warpAffine(
        small, affine, (size_px, size_px), out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)


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
        self._tensor = np.empty((most, 1, spec.size_px, spec.size_px), np.float32)

    def cut(self, luma: Luma, faces: Sequence[Points]) -> tuple[Affine, ...]:
        """Crop the faces with these landmarks [5, 2] out of a picture; the similarity of each, from picture to crop.

        Raises ValueError if there are more than `most`.
        """
        self._halves.begin()
        affines = tuple(similarity(points, self._spec.size_px) for points in faces)
        for affine, out in zip(affines, self._crops[: len(affines)], strict=True):
            crop(luma, affine, self._spec.size_px, self._halves, out)
        return affines

    def tensor(self, count: int) -> npt.NDArray[np.float32]:
        """The network's input [count, 1, S, S] of the first `count` crops, to be read until the next is made."""
        return to_tensor(self._crops[:count], self._spec, self._tensor[:count])
