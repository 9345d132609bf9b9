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
_NOTHING: Luma = np.empty((0, 0), np.uint8)  # OpenCV takes memory of its own where what it is given does not fit
_GAIN = 255.0 / 219.0  # of video range; its black is 16


class LumaReader:
    """Turns frames into luma planes; keeps one scaler for the formats that have no 8-bit luma plane to take, and the
    memory that each step writes to, which the next frame of the same size uses again.

    Video range (16..235) is expanded, to the nearest. A stream of unknown range is video range, as decoders have
    it, unless its format says otherwise (yuvj, grey, RGB).
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._plane = self._expanded = self._turned = self._closed_up = _NOTHING

    def read(self, frame: av.VideoFrame) -> Luma:
        """A contiguous height x width uint8 array, turned as the display matrix says. It may view the frame, and holds
        until the next is read: whoever keeps it copies it."""
        plane = self._as_it_is(frame)
        if plane is None:
            grey = self._reformatter.reformat(frame, format="gray", dst_color_range=ColorRange.JPEG, threads=1)
            plane = _rows(grey, step=1)
        elif not _is_full_range(frame):
            plane = self._expanded = _expand(plane, self._expanded)
        turns = _turns(frame)
        if turns:
            self._turned = np.asarray(cv2.rotate(plane, _TURNS[turns], self._turned), np.uint8)
            return self._turned
        return plane if plane.flags.c_contiguous else self._close_up(plane)

    def read_into(self, frame: av.VideoFrame, out: Luma) -> None:
        """The same, written to `out`, which has the size that `size_of` says; what most cameras send, in one step."""
        plane = self._as_it_is(frame)
        if plane is None or _turns(frame) or _is_full_range(frame):
            np.copyto(out, self.read(frame))
        else:
            _expand(plane, out)

    def _close_up(self, plane: Luma) -> Luma:
        """The same without the padding between its rows."""
        if self._closed_up.shape != plane.shape:
            self._closed_up = np.empty(plane.shape, np.uint8)
        np.copyto(self._closed_up, plane)
        return self._closed_up

    def _as_it_is(self, frame: av.VideoFrame) -> Luma | None:
        """The 8-bit luma samples where the frame has them, else None."""
        name = frame.format.name
        if frame.format.components[0].bits != 8:
            return None
        if name in _PACKED:
            pairs = _rows(frame, step=2).reshape(frame.height, -1, 2)
            self._plane = np.asarray(cv2.extractChannel(pairs, _PACKED[name], self._plane), np.uint8)
            return self._plane
        return _rows(frame, step=1) if name.startswith(_PLANAR) else None


def size_of(frame: av.VideoFrame) -> tuple[int, int]:
    """Rows and columns of its luma plane, upright."""
    return (frame.width, frame.height) if _turns(frame) % 2 else (frame.height, frame.width)


def _turns(frame: av.VideoFrame) -> int:
    """Quarters of a turn to the left that make it upright."""
    return round(frame.rotation / 90) % 4


def _expand(plane: Luma, out: Luma) -> Luma:
    """Video range to full range. A weighted sum with nothing is what OpenCV does fastest, without a table."""
    return np.asarray(cv2.addWeighted(plane, _GAIN, plane, 0.0, -16.0 * _GAIN, out), np.uint8)


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
