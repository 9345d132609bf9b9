"""The sound and the pictures of a media file with their times; both on the file's own clock.

Only the first LONGEST_S are looked at. What is damaged ends the file there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import ColorRange, VideoReformatter

from calibration.signals import Series, SyncError, loudness

LONGEST_S = 600.0
SMALL_PX = 160
_GAP_S = 0.02
_DEFAULT_RATE_HZ = 30.0

Luma = npt.NDArray[np.uint8]
Progress = Callable[[float], None]
"""Called with how many seconds of the file are done."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """luma: full range [H, W], upright; longest side SMALL_PX if it was asked for small."""

    time_s: float
    luma: Luma


def duration_s(path: Path) -> float:
    """How much of a file is looked at, by its header. Raises SyncError if it is no media file."""
    with _opened(path) as container:
        known_s = container.duration / av.time_base if container.duration else LONGEST_S
    return min(known_s, LONGEST_S)


def sound_of(path: Path) -> Series:
    """The loudness of the first audio track, its channels averaged. Raises SyncError if there is none to use."""
    with _opened(path) as container:
        if not container.streams.audio:
            raise SyncError(f"{path.name} has no sound")
        parts, rate_hz, start_s = _samples(container)
    if not parts:
        raise SyncError(f"{path.name} has an audio track without sound")
    return loudness(np.concatenate(parts), rate_hz, start_s)


def pictures(path: Path, progress: Progress, *, small: bool) -> Iterator[Picture]:
    """The first video track (cover art is none) in the order of time. Raises SyncError if there is none."""
    with _opened(path) as container:
        streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
        if not streams:
            raise SyncError(f"{path.name} has no pictures")
        rate_hz = float(streams[0].average_rate or _DEFAULT_RATE_HZ)
        grey, count, last_s = VideoReformatter(), 0, -np.inf
        for frame in _decoded(container, video=streams[0].index):
            if not isinstance(frame, av.VideoFrame):
                continue
            time_s = frame.time if frame.time is not None else count / rate_hz
            count += 1
            if time_s <= last_s or frame.is_corrupt:
                continue
            last_s = time_s
            yield Picture(time_s, _luma(grey, frame, small=small))
            progress(time_s)


def motion_of(path: Path, progress: Progress) -> Series:
    """Mean difference of the luma of each picture to the one before. Raises SyncError."""
    times_s, values = [], []
    before: Luma | None = None
    for picture in pictures(path, progress, small=True):
        if before is not None and before.shape == picture.luma.shape:
            times_s.append(picture.time_s)
            values.append(float(cv2.absdiff(picture.luma, before).mean()))
        before = picture.luma
    if len(values) < 2:
        raise SyncError(f"{path.name} has too few pictures")
    return Series(np.array(times_s), np.array(values))


def _luma(grey: VideoReformatter, frame: av.VideoFrame, *, small: bool) -> Luma:
    scale = min(1.0, SMALL_PX / max(frame.width, frame.height)) if small else 1.0
    width_px, height_px = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    plane = grey.reformat(
        frame, width_px, height_px, format="gray", interpolation="AREA", dst_color_range=ColorRange.JPEG
    )
    turned = np.rot90(plane.to_ndarray(), round(frame.rotation / 90))
    return np.ascontiguousarray(turned, dtype=np.uint8)


def _samples(container: InputContainer) -> tuple[list[npt.NDArray[np.float32]], int, float]:
    """Mono samples in parts, their rate, and the time of the first; what the file leaves out is silence."""
    parts: list[npt.NDArray[np.float32]] = []
    rate_hz, start_s, count = 0, 0.0, 0
    convert = av.AudioResampler(format="fltp")
    for frame in _decoded(container, audio=0):
        if not isinstance(frame, av.AudioFrame):
            continue
        if rate_hz and frame.sample_rate != rate_hz:
            break  # another recording begins
        if not rate_hz:
            rate_hz, start_s = frame.sample_rate, frame.time or 0.0
        if frame.time is not None:
            gap = round((frame.time - start_s) * rate_hz) - count
            if gap > _GAP_S * rate_hz:
                parts.append(np.zeros(min(gap, round(LONGEST_S * rate_hz)), np.float32))
                count += len(parts[-1])
        for part in convert.resample(frame):
            parts.append(part.to_ndarray().mean(axis=0).astype(np.float32))
            count += len(parts[-1])
    return parts, rate_hz, start_s


def _decoded(container: InputContainer, **streams: int) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """The frames of one track up to LONGEST_S after its first, or to where the file is damaged."""
    first_s: float | None = None
    try:
        for frame in container.decode(**streams):
            if not isinstance(frame, (av.VideoFrame, av.AudioFrame)):
                continue
            if frame.time is not None:
                first_s = frame.time if first_s is None else first_s
                if frame.time - first_s > LONGEST_S:
                    return
            yield frame
    except FFmpegError:
        return


def _opened(path: Path) -> InputContainer:
    if not path.is_file():
        raise SyncError(f"{path} is a folder; name a media file" if path.is_dir() else f"there is no file {path}")
    try:
        return av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise SyncError(f"{path} is no media file that can be read") from error
