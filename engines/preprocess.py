"""Face crop -> network input. Training and the live path both call these functions, so both see the same pixels."""

from __future__ import annotations

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


def similarity(points: Points, size_px: int) -> Affine:
    """Least-squares similarity [2, 3] from image `points` [5, 2] (order of TEMPLATE) to a crop of `size_px`.

    Written over complex numbers, a similarity is z -> a z + b, and least squares has a closed form.
    """
    source = points[:, 0].astype(np.float64) + 1j * points[:, 1]
    target = (TEMPLATE[:, 0].astype(np.float64) + 1j * TEMPLATE[:, 1]) * size_px
    centred = source - source.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    if not spread > 0.0:  # also when a coordinate is NaN
        raise ValueError("the five points coincide: no similarity maps them to a face")
    a = np.sum(np.conj(centred) * (target - target.mean())) / spread
    b = target.mean() - a * source.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], dtype=np.float32)


def inverse(affine: Affine) -> Affine:
    """The similarity that undoes `affine`."""
    return np.asarray(cv2.invertAffineTransform(affine), dtype=np.float32)


def crop(luma: Luma, affine: Affine, size_px: int) -> Luma:
    """Warp a luma plane [H, W] to an upright face crop [size_px, size_px]; outside the picture the border repeats.

    Faces larger than the crop are averaged down (a pyramid level at a time) before the warp, so that fine texture
    does not alias into false wrinkles.
    """
    scale = float(np.hypot(affine[0, 0], affine[1, 0]))
    while scale < 0.5 and min(luma.shape) >= 4:
        luma = np.asarray(cv2.pyrDown(luma), dtype=np.uint8)
        # pyrDown keeps even pixels: full-resolution x is 2 x of the half-size picture.
        affine = np.concatenate([affine[:, :2] * 2.0, affine[:, 2:]], axis=1)
        scale *= 2.0
    warped = cv2.warpAffine(luma, affine, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def to_tensor(crops: npt.NDArray[np.uint8], spec: CropSpec) -> npt.NDArray[np.float32]:
    """Luma crops [B, S, S] (uint8, full range) to the network's input [B, 1, S, S] (float32)."""
    scale = np.float32(1.0 / (255.0 * spec.std))
    shift = np.float32(-spec.mean / spec.std)
    return (crops[:, None].astype(np.float32) * scale) + shift
