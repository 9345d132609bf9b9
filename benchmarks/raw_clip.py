"""A camera of any size and rate made of a clip: its pictures scaled, kept raw, and played forth and back.

Raw, because a decoder could not deliver three times what the analysis takes: reading a raw picture costs a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from pipeline.bus import WorkerError
from pipeline.decode import Losses, pictures
from pipeline.sources import source_of, video_stream

FASTEST_HZ = 1000  # the container counts milliseconds


@dataclass(frozen=True, slots=True)
class RawClip:
    """playlist: as `--camera` takes it. count: how many pictures it plays. rate_hz: in so many a second."""

    playlist: Path
    count: int
    rate_hz: int


def scaled(path: Path, height_px: int, count: int, every: int) -> list[av.VideoFrame]:
    """Every so many of the first `count` pictures of a clip, scaled to a height, in the clip's own shape.

    Raises WorkerError if it has fewer.
    """
    found: list[av.VideoFrame] = []
    with av.open(str(path)) as container:
        stream = video_stream(container, source_of(str(path)))
        width_px = 2 * round(height_px * stream.width / stream.height / 2)
        for number, picture in enumerate(pictures(container, stream, Losses())):
            if number == count:
                return found
            if number % every == 0:
                found.append(picture.frame.reformat(width=width_px, height=height_px, format="yuv420p"))
    raise WorkerError(f"{path.name} has fewer than {count} pictures, of which a source is to be made", 2)


def write(folder: Path, frames: Sequence[av.VideoFrame], rate_hz: float, count: int) -> RawClip:
    """A source in `folder` that plays the frames forth and back at a rate, `count` pictures or as few more as make
    whole rounds. What was there before under the same names is gone."""
    rate = max(1, min(FASTEST_HZ, round(rate_hz)))
    round_of = [*frames, *reversed(frames)]
    with av.open(str(folder / "raw.mkv"), "w") as container:
        stream = container.add_stream("rawvideo", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for place, frame in enumerate(round_of):
            frame.pts, frame.time_base = place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rounds = max(1, -(-count // len(round_of)))
    playlist = folder / "raw.ffconcat"
    playlist.write_text("ffconcat version 1.0\n" + "file raw.mkv\n" * rounds, encoding="utf-8")
    return RawClip(playlist, rounds * len(round_of), rate)
