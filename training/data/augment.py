"""Training crops from stored crops: small similarity, mirror, light, blur, a patch hidden. Pure given the generator."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from engines.preprocess import Affine, Luma

U8 = npt.NDArray[np.uint8]


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ranges of the random changes, meant for crops of 112 px (they scale with the side).

    mixup: alpha of Beta(alpha, alpha), from which the share of a second picture is drawn (Zhang et al. 2018); 0: none.
    """

    rotate_deg: float = 10.0
    scale: float = 0.10
    shift_px: float = 5.0
    contrast: float = 0.35
    brightness: float = 30.0
    gamma: float = 0.3
    blur_share: float = 0.15
    hide_share: float = 0.25
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if min(msgspec.structs.astuple(self)) < 0 or max(self.blur_share, self.hide_share) > 1:
            raise ValueError("augment: nothing is below 0, and shares are at most 1")


@dataclass(frozen=True, slots=True)
class Varied:
    """A view of a stored crop [S, S]. affine [2, 3]: from its pixels to the view's. mirrored: whether left is right."""

    luma: Luma
    affine: Affine
    mirrored: bool


def centre(stored: Luma, margin_px: int, side_px: int) -> Luma:
    """The crop a live frame would give, at `side_px`, from a stored crop with `margin_px` more on each side."""
    inner = stored[margin_px:-margin_px, margin_px:-margin_px] if margin_px else stored
    if inner.shape[0] == side_px:
        return inner
    return np.asarray(cv2.resize(inner, (side_px, side_px), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def vary(stored: Luma, margin_px: int, side_px: int, how: Augment, rng: np.random.Generator) -> Varied:
    """A random view of a stored crop."""
    unit = side_px / (stored.shape[0] - 2 * margin_px)
    scale = unit * float(np.exp(rng.uniform(-how.scale, how.scale)))
    angle = float(np.radians(rng.uniform(-how.rotate_deg, how.rotate_deg)))
    mirrored = bool(rng.random() < 0.5)
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[a, -b], [b, a]])
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    middle = (stored.shape[0] - 1) / 2
    shift = rng.uniform(-how.shift_px, how.shift_px, 2) * unit + (side_px - 1) / 2
    affine = np.column_stack([turn, shift - turn @ np.array([middle, middle])])
    view = cv2.warpAffine(stored, affine, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    luma = _hide(_light(np.asarray(view, np.uint8), how, rng), how, rng)
    return Varied(luma, affine.astype(np.float32), mirrored)


def _light(view: Luma, how: Augment, rng: np.random.Generator) -> Luma:
    """Gamma, contrast and brightness by one look-up table; sometimes the blur of a small or moving face."""
    levels = (np.arange(256) / 255.0) ** float(np.exp(rng.uniform(-how.gamma, how.gamma))) * 255.0
    gain = float(np.exp(rng.uniform(-how.contrast, how.contrast)))
    levels = (levels - 128.0) * gain + 128.0 + rng.uniform(-how.brightness, how.brightness)
    lit = cv2.LUT(view, np.clip(levels, 0, 255).astype(np.uint8))
    if rng.random() < how.blur_share:
        small = int(view.shape[0] * rng.uniform(0.3, 0.8))
        reduced = cv2.resize(lit, (small, small), interpolation=cv2.INTER_AREA)
        lit = cv2.resize(reduced, view.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(lit, dtype=np.uint8)


def _hide(view: Luma, how: Augment, rng: np.random.Generator) -> Luma:
    """Sometimes a rectangle of noise or of one grey, as a hand or an object would hide part of the face."""
    if rng.random() >= how.hide_share:
        return view
    side = view.shape[0]
    high, wide = rng.integers(side // 8, side * 2 // 5, 2)
    top, left = rng.integers(0, side - high), rng.integers(0, side - wide)
    hidden = view.copy()
    hidden[top : top + high, left : left + wide] = (
        rng.integers(0, 256, (high, wide)) if rng.random() < 0.5 else rng.integers(0, 256)
    )
    return hidden
