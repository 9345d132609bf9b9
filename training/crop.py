"""The crop that every model of this version reads; exported into the manifest."""

from engines.spec import CropSpec

CROP = CropSpec(size_px=112, mean=0.498, std=0.502)
"""Side in pixels, and the normalisation that the ImageNet weights were trained with (127 / 255 and 128 / 255)."""
