"""From an opened source to its pictures; corrupt packets are counted and passed over."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.error import EOFError as EndOfStream
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.clock import now_ns

GIVE_UP_AFTER = 100


@dataclass(slots=True)
class Losses:
    """decode: packets so far that held no whole picture."""

    decode: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture and when the packet that completed it was read from its source."""

    frame: av.VideoFrame
    t_read_ns: int


def pictures(container: InputContainer, stream: VideoStream, losses: Losses) -> Iterator[Decoded]:
    """Every whole picture, in the order of presentation, to the end of the source.

    Raises FFmpegError when the source itself fails (a camera was unplugged, a sender fell silent).
    """
    for packet in _packets(container, stream, losses):
        t_read_ns = now_ns()
        try:
            frames = packet.decode()
        except EndOfStream:
            continue
        except FFmpegError:
            losses.decode += 1
            continue
        for frame in frames:
            if isinstance(frame, av.VideoFrame) and not frame.is_corrupt:
                yield Decoded(frame, t_read_ns)
            else:
                losses.decode += 1


def _packets(container: InputContainer, stream: VideoStream, losses: Losses) -> Iterator[Packet[VideoStream]]:
    """The packets of a stream; a damaged stretch of the container is passed over."""
    in_a_row = 0
    while True:
        try:
            for packet in container.demux(stream):
                in_a_row = 0
                yield packet
        except FFmpegError as error:
            in_a_row += 1
            damaged = isinstance(error, InvalidDataError) or error.errno == errno.EAGAIN
            if not damaged or in_a_row > GIVE_UP_AFTER:
                raise
            losses.decode += isinstance(error, InvalidDataError)
        else:
            return
