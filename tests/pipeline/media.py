"""Media files with one bad habit each, made by code."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from calibration.stored import SyncResult, write_sync

Picture = NDArray[np.uint8]

MS = Fraction(1, 1000)
FIRST_MS = 1000
SOUND_HZ = 48_000
GARBAGE = b"\x00garbage\xff" * 8


def numbered(count: int, width_px: int = 64, height_px: int = 48) -> list[Picture]:
    """Grey pictures [H, W] whose number can be read from their first pixel (times 10), with a mark in a corner."""
    shown = [np.full((height_px, width_px), 10 * number, np.uint8) for number in range(count)]
    for picture in shown:
        picture[: height_px // 4, -width_px // 4 :] = 255
    return shown


def planes(picture: Picture, pixel_format: str) -> av.VideoFrame:
    """A frame whose luma samples are `picture` as they are, its colour neutral."""
    height_px, width_px = picture.shape
    frame = av.VideoFrame(width_px, height_px, pixel_format)
    deep = frame.format.components[0].bits > 8
    for index, plane in enumerate(frame.planes):
        item = np.uint16 if deep else np.uint8
        rows = np.full((plane.height, plane.line_size // np.dtype(item).itemsize), 512 if deep else 128, item)
        if index == 0 and pixel_format == "yuyv422":
            rows[:, : 2 * width_px : 2] = picture
        elif index == 0:
            rows[:, :width_px] = picture.astype(item) * (4 if deep else 1)
        plane.update(rows.tobytes())
    return frame


def video(path: Path, frames: Sequence[av.VideoFrame], codec: str, full_range: bool | None = None) -> Path:
    """Frames of one format and size at 30 Hz, kept without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        if codec == "libx264":
            stream.options = {"qp": "0", "bf": "0"}
        if full_range is not None:
            stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def at_times(path: Path, pictures: Iterable[Picture | None], times_ms: Sequence[int]) -> Path:
    """Every picture (None: a packet of garbage) at its time, whatever the times; sizes may differ."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuvj420p", MS
        container.start_encoding()
        for number, (picture, t_ms) in enumerate(zip(pictures, times_ms, strict=True)):
            packet = av.Packet(GARBAGE if picture is None else jpeg(picture))
            packet.stream, packet.time_base, packet.is_keyframe = stream, MS, True
            # A muxer insists on order among the decoding times only.
            packet.pts, packet.dts = FIRST_MS + t_ms, number
            container.mux_one(packet)
    return path


def jpeg(picture: Picture) -> bytes:
    """A grey picture [H, W] as JPEG of the highest quality."""
    return bytes(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 100))[1])


def turned(path: Path, clockwise_deg: int) -> Path:
    """An MP4 whose display matrix says how it is to be turned when shown, as phones write it."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise_deg]
    matrix = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 0)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *(each << 16 for each in matrix[:8]), 1 << 30)
    path.write_bytes(data)
    return path


def sine(seconds: float, rate_hz: int = SOUND_HZ, tone_hz: float = 440.0) -> NDArray[np.float32]:
    """Half of full scale [N]."""
    return (0.5 * np.sin(2 * np.pi * tone_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def with_sound(path: Path, pictures: Sequence[Picture], sound: NDArray[np.float32], delay_ms: int = 0) -> Path:
    """Pictures at 30 Hz and stereo sound at SOUND_HZ that starts `delay_ms` after the first picture (before: < 0)."""
    with av.open(str(path), "w", format="matroska") as container:
        seen = container.add_stream("ffv1", rate=30)
        seen.width, seen.height, seen.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "gray"
        heard = container.add_stream("pcm_f32le", rate=SOUND_HZ, layout="stereo")
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts, frame.time_base = number * 100 // 3 + FIRST_MS, MS
            container.mux(seen.encode(frame))
        container.mux(seen.encode())
        _write_sound(container, heard, sound, FIRST_MS + delay_ms)
    return path


def sync_file(path: Path, lag_ms: float) -> Path:
    """A stored lag between picture and sound."""
    result = SyncResult(
        lag_ms=lag_ms,
        uncertainty_ms=3.0,
        method="clap",
        events=5,
        measured_at=datetime(2026, 11, 26, 4, 2, tzinfo=UTC),
        camera="",
        microphone="",
        source="claps.mp4",
    )
    write_sync(path, result)
    return path


def sound_only(path: Path, sound: NDArray[np.float32]) -> Path:
    """A file without pictures."""
    with av.open(str(path), "w", format="matroska") as container:
        _write_sound(container, container.add_stream("pcm_f32le", rate=SOUND_HZ, layout="stereo"), sound, 0)
    return path


def _write_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, sound: NDArray[np.float32], start_ms: int
) -> None:
    for at in range(0, len(sound), 1024):
        part = np.repeat(sound[at : at + 1024], 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout="stereo")
        frame.sample_rate, frame.time_base = SOUND_HZ, Fraction(1, SOUND_HZ)
        frame.pts = at + start_ms * SOUND_HZ // 1000
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
