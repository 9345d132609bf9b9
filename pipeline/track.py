"""The sound of a media file: its audio track as consecutive 16 kHz mono chunks on the file's own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from numpy.typing import NDArray

from pipeline.clock import NS_PER_S
from pipeline.timeline import to_ns

RATE_HZ = 16_000
CHUNK = 320
CHUNK_NS = CHUNK * NS_PER_S // RATE_HZ
SMALLEST_GAP_NS = 40_000_000
FULL_SCALE = 2.0**31
LONGEST_GAP_NS = 10 * NS_PER_S

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chunk:
    """media_ns: place of the first sample; samples [N] float32 in [-1, 1], N == CHUNK but for the last."""

    media_ns: int
    samples: Samples


def resampler() -> av.AudioResampler:
    """To mono at RATE_HZ. In integers several channels are mixed to fit; in floats they would add up beyond 1."""
    return av.AudioResampler(format="s32", layout="mono", rate=RATE_HZ)


def flat(frame: av.AudioFrame) -> Samples:
    """The samples [N] of a resampled frame, in [-1, 1]."""
    return (frame.to_ndarray().reshape(-1) / FULL_SCALE).astype(np.float32)


def chunks(container: InputContainer, stream: AudioStream, origin_ns: int) -> Iterator[Chunk]:
    """The sound from the first picture on (`origin_ns` in the file's timestamps), without gap or overlap.

    Chunk n begins n x 20 ms after chunk 0. What the file leaves out for more than 40 ms is silence.
    """
    waiting = np.zeros(0, np.float32)
    start_ns: int | None = None
    place = before = 0
    for t_ns, samples in _resampled(container, stream, origin_ns):
        if start_ns is None:
            start_ns, before = max(0, t_ns), round(max(0, -t_ns) * RATE_HZ / NS_PER_S)
        if before:
            before, samples = max(0, before - len(samples)), samples[before:]
            t_ns = 0
        gap_ns = t_ns - (start_ns + (place + len(waiting)) * NS_PER_S // RATE_HZ)
        if place + len(waiting) and SMALLEST_GAP_NS < gap_ns < LONGEST_GAP_NS:
            waiting = np.concatenate([waiting, np.zeros(round(gap_ns * RATE_HZ / NS_PER_S), np.float32)])
        waiting = np.concatenate([waiting, samples])
        whole = len(waiting) // CHUNK * CHUNK
        for at in range(0, whole, CHUNK):
            yield Chunk(start_ns + (place + at) * NS_PER_S // RATE_HZ, waiting[at : at + CHUNK])
        place += whole
        waiting = waiting[whole:]
    if len(waiting) and start_ns is not None:
        yield Chunk(start_ns + place * NS_PER_S // RATE_HZ, waiting)


def _resampled(container: InputContainer, stream: AudioStream, origin_ns: int) -> Iterator[tuple[int, Samples]]:
    """(file time of the first sample, samples) per decoded stretch; the resampler's delay is made up for."""
    convert, kind = resampler(), None
    t_ns = 0
    for frame in _frames(container, stream):
        if kind not in (None, _kind(frame)):
            # A resampler serves one kind of sound; what is left in the old one is a millisecond.
            convert = resampler()
        kind = _kind(frame)
        if frame.pts is not None and frame.time_base is not None:
            t_ns = to_ns(frame.pts, frame.time_base) - origin_ns
        frame.pts = None
        for part in convert.resample(frame):
            samples = flat(part)
            yield t_ns, samples
            t_ns += len(samples) * NS_PER_S // RATE_HZ
    for part in convert.resample(None):
        yield t_ns, flat(part)


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    try:
        for packet in container.demux(stream):
            try:
                yield from (frame for frame in packet.decode() if isinstance(frame, av.AudioFrame))
            except InvalidDataError:
                continue
    except FFmpegError:
        # A damaged end: the sound is over, the pictures go on.
        return
