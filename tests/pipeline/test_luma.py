"""The luma plane of a frame, read into memory that the next frame uses again."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from pipeline.luma import Luma, LumaReader, size_of

WIDTH_PX, HEIGHT_PX = 90, 48  # FFmpeg pads rows of 90 samples


class Turned:
    """A frame of a camera that was turned by a quarter; PyAV's own says so of those it decoded alone."""

    rotation = 90

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    def __getattr__(self, name: str) -> object:
        return getattr(self._frame, name)


def picture(luma: Luma, form: str, full_range: bool) -> av.VideoFrame:
    """A frame with these samples in its first plane; of packed formats, in every other byte of it, or in all three."""
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], form)
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    plane = frame.planes[0]
    rows = np.zeros((luma.shape[0], plane.line_size), np.uint8)
    if form == "rgb24":
        rows[:, : 3 * luma.shape[1]] = np.repeat(luma, 3, axis=1)
    else:
        step = 2 if form == "yuyv422" else 1
        rows[:, : step * luma.shape[1] : step] = luma
    plane.update(rows.tobytes())
    return frame


def noise(seed: int, shape: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> Luma:
    return np.random.default_rng(seed).integers(16, 236, shape).astype(np.uint8)


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "yuyv422", "gray"])
@pytest.mark.parametrize("full_range", [True, False])
def test_a_frame_reads_the_same_whatever_was_read_before_it(form: str, full_range: bool) -> None:
    pictures = [noise(0), noise(1), noise(2, (32, 64)), noise(3)]
    reader = LumaReader()
    for luma in pictures:
        frame = picture(luma, form, full_range)
        read = reader.read(frame)
        assert read.shape == luma.shape
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, LumaReader().read(frame))
        wanted = luma if full_range else np.rint((luma - 16.0) * 255.0 / 219.0)
        np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize(("form", "full_range"), [("yuv420p", False), ("yuyv422", True), ("yuv420p", True)])
def test_pictures_of_one_size_share_their_memory(form: str, full_range: bool) -> None:
    reader = LumaReader()
    first = reader.read(picture(noise(0), form, full_range))
    second = reader.read(picture(noise(1), form, full_range))
    assert np.shares_memory(first, second)


@pytest.mark.parametrize("width_px", [256, 257, 3])
def test_every_level_of_video_range_is_expanded_to_the_nearest(width_px: int) -> None:
    luma = np.resize(np.arange(256, dtype=np.uint8), (-(-256 // width_px) + 1, width_px))
    read = LumaReader().read(picture(luma, "gray", full_range=False))
    wanted = np.clip(np.rint((luma - 16.0) * 255.0 / 219.0), 0, 255)
    np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("form", ["yuv420p", "yuyv422", "gray", "rgb24"])
@pytest.mark.parametrize("full_range", [True, False])
def test_written_elsewhere_a_frame_is_the_same(form: str, full_range: bool) -> None:
    frame = picture(noise(0), form, full_range)
    assert size_of(frame) == (HEIGHT_PX, WIDTH_PX)
    out = np.full(size_of(frame), 7, np.uint8)
    LumaReader().read_into(frame, out)
    np.testing.assert_array_equal(out, LumaReader().read(frame))
    assert np.corrcoef(out.ravel(), noise(0).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("form", ["yuv420p", "yuyv422", "gray"])
@pytest.mark.parametrize("full_range", [True, False])
def test_written_elsewhere_a_turned_frame_is_upright(form: str, full_range: bool) -> None:
    frame = picture(noise(0), form, full_range)
    turned: Any = Turned(frame)
    assert size_of(turned) == (WIDTH_PX, HEIGHT_PX)
    out = np.full(size_of(turned), 7, np.uint8)
    LumaReader().read_into(turned, out)
    np.testing.assert_array_equal(np.rot90(out, -1), LumaReader().read(frame))
