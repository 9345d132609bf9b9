"""The luma plane of a frame, read into memory that the next frame uses again."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from pipeline.luma import Luma, LumaReader

WIDTH_PX, HEIGHT_PX = 90, 48  # FFmpeg pads rows of 90 samples


def picture(luma: Luma, form: str, full_range: bool) -> av.VideoFrame:
    """A frame with these samples in its first plane; of packed formats, in every other byte of it."""
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], form)
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    plane = frame.planes[0]
    rows = np.zeros((luma.shape[0], plane.line_size), np.uint8)
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
