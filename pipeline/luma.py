"""Pure: a decoded picture to its luma plane, full range (0..255), upright, rows without padding."""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

_PLANAR = ("yuv4", "yuvj4", "yuva4", "nv12", "nv21", "nv16", "nv24", "gray")
_PACKED = {"yuyv422": 0, "yvyu422": 0, "uyvy422": 1}
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
_EXPAND: Luma = np.clip(np.rint((np.arange(256) - 16.0) * (255.0 / 219.0)), 0, 255).astype(np.uint8)


class LumaReader:
    """Turns frames into luma planes; keeps one scaler for the formats that have no 8-bit luma plane to take.

    Video range (16..235) is expanded through a table. A stream of unknown range is video range, as decoders have
    it, unless its format says otherwise (yuvj, grey, RGB).
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def read(self, frame: av.VideoFrame) -> Luma:
        """A contiguous height x width uint8 array, turned as the display matrix says; it may view the frame."""
        plane = _plane(frame)
        if plane is None:
            grey = self._reformatter.reformat(frame, format="gray", dst_color_range=ColorRange.JPEG, threads=1)
            plane = _rows(grey, step=1)
        elif not _is_full_range(frame):
            plane = np.asarray(cv2.LUT(plane, _EXPAND), np.uint8)
        turns = round(frame.rotation / 90) % 4
        if turns:
            return np.asarray(cv2.rotate(plane, _TURNS[turns]), np.uint8)
        return np.ascontiguousarray(plane)


def _plane(frame: av.VideoFrame) -> Luma | None:
    """The 8-bit luma samples where the frame has them as they are, else None."""
    name = frame.format.name
    if frame.format.components[0].bits != 8:
        return None
    if name in _PACKED:
        return np.asarray(
            cv2.extractChannel(_rows(frame, step=2).reshape(frame.height, -1, 2), _PACKED[name]), np.uint8
        )
    return _rows(frame, step=1) if name.startswith(_PLANAR) else None


def _rows(frame: av.VideoFrame, step: int) -> Luma:
    """A view of the first plane, height x (width * step), without the padding at the end of its lines."""
    plane = frame.planes[0]
    rows = np.asarray(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width * step]


def _is_full_range(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    if name.startswith("yuvj"):
        return True
    grey = name.startswith("gray") and frame.color_range != ColorRange.MPEG
    return grey or frame.color_range == ColorRange.JPEG
