"""The crop that a model reads; exported into its manifest."""

from engines.spec import CropSpec

CROP = CropSpec(size_px=112, mean=0.498, std=0.502)
"""Side in pixels, and the normalisation that the ImageNet weights were trained with (127 / 255 and 128 / 255)."""


def crop_of(size_px: int) -> CropSpec:
    """The same normalisation at another side."""
    return CropSpec(size_px, CROP.mean, CROP.std)
