"""The source of a benchmark: what it holds, and a longer one made of its own packets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import msgspec
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from pipeline.config import CaptureConfig
from pipeline.decode import Losses, pictures
from pipeline.sources import open_source, source_of, video_stream


class Clip(msgspec.Struct, frozen=True):
    """A media file. duration_s: to the end of its last picture or sound, as far as its packets say."""

    name: str
    width_px: int
    height_px: int
    fps_hz: float
    duration_s: float


def file_of(camera: str) -> Path | None:
    """The media file that a camera names; None for a device or a stream."""
    source = source_of(camera)
    return Path(source.address) if source.kind == "file" else None


def look_at(camera: str) -> Clip:
    """What a file holds. Raises WorkerError if it is no video."""
    source = source_of(camera)
    with open_source(source, CaptureConfig()) as container:
        stream = video_stream(container, source)
        begin, end = _span(list(container.demux(*_played(container))))
        return Clip(
            name=source.name,
            width_px=stream.width,
            height_px=stream.height,
            fps_hz=float(stream.average_rate or 0),
            duration_s=float(end - begin),
        )


def count_pictures(camera: str) -> int:
    """How many whole pictures a file holds, by decoding it. Raises WorkerError if it is no video."""
    source = source_of(camera)
    with open_source(source, CaptureConfig()) as container:
        return sum(1 for _ in pictures(container, video_stream(container, source), Losses()))


def lengthen(path: Path, folder: Path, seconds: float) -> Path:
    """A new file in `folder`: the packets of `path` again and again until it lasts `seconds`, none encoded anew.

    Each round begins where the longest stream of the round before ends, so that sound and picture stay together.
    Raises FFmpegError, ValueError if the file holds no timed packets.
    """
    target = folder / f"{path.stem}-{seconds:.0f}s{path.suffix if path.suffix in ('.mp4', '.mov') else '.mkv'}"
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        streams = _played(source)
        copies = {stream.index: container.add_stream_from_template(stream) for stream in streams}
        begin, end = _span(list(source.demux(*streams)))
        if end <= begin:
            raise ValueError(f"{path.name} has no duration: it cannot be repeated")
        rounds = -(-Fraction(seconds) // (end - begin))
        for number in range(max(1, int(rounds))):
            for packet in _again(source, streams, shift_s=number * (end - begin)):
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    return target


def _played(container: InputContainer) -> tuple[Stream, ...]:
    """The pictures and the sound that a session plays."""
    return (*container.streams.video[:1], *container.streams.audio[:1])


def _span(packets: list[Packet]) -> tuple[Fraction, Fraction]:  # type: ignore[type-arg]
    """Where the packets begin and end, in seconds."""
    timed = [(each.pts, each.duration or 0, each.time_base) for each in packets if each.pts is not None]
    begin = min((pts * base for pts, _, base in timed), default=Fraction(0))
    return begin, max(((pts + duration) * base for pts, duration, base in timed), default=Fraction(0))


def _again(source: InputContainer, streams: tuple[Stream, ...], shift_s: Fraction) -> Iterator[Packet]:  # type: ignore[type-arg]
    """The packets of a file from its beginning, `shift_s` later."""
    source.seek(0)
    for packet in source.demux(*streams):
        if packet.dts is None:
            continue  # the empty packet behind the last one
        shift = round(shift_s / packet.time_base)
        packet.dts += shift
        packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet
