"""Frames of a video at a stated rate, as luma planes like those of the live path; one frame in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream

from engines.preprocess import Luma
from training.data.pictures import DataError

_WHOLE = 0.95
"""A file that gives less than this share of the frames it promises is cut off; containers miscount a little."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """time_s: since the first frame. luma: full range [H, W]."""

    time_s: float
    luma: Luma


def frames(path: Path, rate_hz: float) -> Iterator[Frame]:
    """The first frame of each 1 / rate_hz seconds, in order.

    Raises DataError if the file is no video, is damaged, or ends before the frames that its header promises.
    """
    if not path.is_file():
        raise DataError(f"{path}: labelled, but the file is missing")
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise DataError(f"{path}: not a readable video") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: has no pictures")
        yield from _sampled(container, container.streams.video[0], path, rate_hz)


def _sampled(container: InputContainer, stream: VideoStream, path: Path, rate_hz: float) -> Iterator[Frame]:
    grey = VideoReformatter()
    decoded, due, start_s, time_s = 0, 0, 0.0, 0.0
    try:
        for picture in container.decode(stream):
            # A container without time stamps has at least a rate.
            stamp_s = picture.time if picture.time is not None else decoded / float(stream.average_rate or 25)
            start_s = stamp_s if decoded == 0 else start_s
            time_s = stamp_s - start_s
            decoded += 1
            if time_s * rate_hz >= due - 1e-6:
                due = math.floor(time_s * rate_hz + 1e-6) + 1
                plane = grey.reformat(picture, format="gray", dst_color_range=ColorRange.JPEG, threads=1)
                yield Frame(time_s, np.ascontiguousarray(plane.to_ndarray(), dtype=np.uint8))
    except FFmpegError as error:
        raise DataError(f"{path}: damaged after {time_s:.1f} s ({decoded} frames)") from error
    if decoded < max(1, _WHOLE * stream.frames):
        raise DataError(f"{path}: cut off, {decoded} of {max(1, stream.frames)} frames are there")
