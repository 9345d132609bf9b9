"""A media file as a camera and a microphone: pictures and sound leave in one order, on one clock.

The sound of a file is decoded beside its pictures, in the same loop: one zero, no clock to be agreed between two
processes, and with pace=max the sound keeps step with the pictures without a buffer that grows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from av.container import InputContainer
from av.error import FFmpegError

from pipeline.bus import WorkerError
from pipeline.clock import NS_PER_S, StopFlag, now_ns, sleep_until
from pipeline.decode import Decoded, Losses, pictures
from pipeline.outlet import AudioOutlet, Reason, VideoOutlet
from pipeline.report import Reporter
from pipeline.sources import Source, video_stream
from pipeline.timeline import DEFAULT_RATE_HZ, Timeline
from pipeline.track import RATE_HZ, Chunk, chunks

Pace = Literal["realtime", "max"]

LISTEN_S = 0.5


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that leaves at its place in the file."""

    release_ns: int
    decoded: Decoded


@dataclass(frozen=True, slots=True)
class Sound:
    """A chunk that leaves when its last sample would have been heard; at full speed already at its first."""

    release_ns: int
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more of `stream`."""

    release_ns: int
    stream: Literal["video", "audio"]


Item = Picture | Sound | End


class FileClock:
    """When each place of a file is due; it starts at the first place waited for.

    What comes more than `slack_ns` late moves the clock: the rest follows at its own distances, not in a burst.
    """

    def __init__(self, slack_ns: int) -> None:
        self._slack_ns = slack_ns
        self._zero_ns: int | None = None

    def due_ns(self, media_ns: int) -> int:
        """The moment of a place of the file. Raises RuntimeError before the start."""
        if self._zero_ns is None:
            raise RuntimeError("the clock of the file has not started")
        return self._zero_ns + media_ns

    def wait(self, media_ns: int, stop: StopFlag) -> bool:
        """Sleep until a place is due; whether `stop` is set."""
        t_ns = now_ns()
        if self._zero_ns is None:
            self._zero_ns = t_ns - media_ns
        late_ns = t_ns - self.due_ns(media_ns)
        if late_ns > self._slack_ns:
            self._zero_ns += late_ns
        return sleep_until(self.due_ns(media_ns), stop)


class Player:
    """Plays one file to its end. audio: where its sound goes, None if it is not wanted.

    ahead_ns: how much sooner than at its place the sound leaves at full speed.
    """

    def __init__(
        self,
        source: Source,
        pace: Pace,
        video: VideoOutlet,
        audio: AudioOutlet | None,
        reporter: Reporter,
        ahead_ns: int = 0,
    ) -> None:
        self._source, self._paced = source, pace == "realtime"
        self._ahead_ns = 0 if self._paced else ahead_ns
        self._video, self._audio, self._reporter = video, audio, reporter

    def play(self, container: InputContainer, sound: InputContainer | None, losses: Losses, stop: StopFlag) -> None:
        """Send everything in its order and time. sound: the same file, opened once more.

        Raises WorkerError if no picture of the file can be read.
        """
        stream = video_stream(container, self._source)
        timeline = Timeline(stream.time_base or 1 / DEFAULT_RATE_HZ, stream.average_rate)
        decoded = _to_the_end(pictures(container, stream, losses), losses)
        first = next(decoded, None)
        if first is None:
            raise WorkerError(f"no picture of {self._source.text!r} can be read ({losses.decode} damaged packets)", 2)
        shown = [Picture(timeline.place(first.frame.pts), first)]
        heard = self._heard(sound, timeline.origin_ns)
        self._reporter.enter("ready")
        while not self._video.has_listener(LISTEN_S) and not stop.is_set():
            self._reporter.tick({"decode": losses.decode})
        if self._audio is not None:
            # Whoever listens to the pictures connects to the sound at the same time, or does not want it.
            self._audio.has_listener(LISTEN_S)
        order = heapq.merge(heard, chain(shown, _shown(decoded, timeline)), key=lambda item: item.release_ns)
        reason: Reason = "end_of_file" if self._release(order, timeline.period_ns, losses, stop) else "stopped"
        if self._audio is not None:
            self._audio.end(reason)
        self._video.end(reason)

    def _release(self, order: Iterable[Item], slack_ns: int, losses: Losses, stop: StopFlag) -> bool:
        """Whether the pictures came to their end before `stop` was set."""
        clock = FileClock(slack_ns)
        for item in order:
            stopped = clock.wait(item.release_ns, stop) if self._paced else stop.is_set()
            if stopped or (isinstance(item, End) and item.stream == "video"):
                return not stopped
            if isinstance(item, Picture):
                t_ns = clock.due_ns(item.release_ns) if self._paced else item.decoded.t_read_ns
                age_ms = self._video.send(item.decoded.frame, t_ns, item.release_ns, losses.decode)
                self._reporter.handled(age_ms)
            elif self._audio is not None:
                self._send_sound(self._audio, item, clock)
            self._reporter.tick({"decode": losses.decode})
        return False

    def _send_sound(self, audio: AudioOutlet, item: Sound | End, clock: FileClock) -> None:
        if isinstance(item, End):
            audio.end("end_of_file")
            return
        place_ns = item.chunk.media_ns
        t_ns = clock.due_ns(place_ns) if self._paced else now_ns()
        audio.send(item.chunk.samples, RATE_HZ, t_ns, place_ns)

    def _heard(self, sound: InputContainer | None, origin_ns: int) -> Iterator[Item]:
        """The chunks and their end; at once the end, and an event, if the file has no sound."""
        if self._audio is None or sound is None:
            return
        if not sound.streams.audio:
            text = f"{self._source.text!r} has no sound; the session goes on without (--mic none says so on purpose)"
            self._reporter.event("microphone_missing", text)
            yield End(0, "audio")
            return
        end_ns = 0
        for chunk in chunks(sound, sound.streams.audio[0], origin_ns):
            end_ns = chunk.media_ns + len(chunk.samples) * NS_PER_S // RATE_HZ
            yield Sound(end_ns if self._paced else chunk.media_ns - self._ahead_ns, chunk)
        yield End(end_ns - self._ahead_ns, "audio")


def _shown(decoded: Iterable[Decoded], timeline: Timeline) -> Iterator[Item]:
    """The pictures at their places, and the end, when the last one has been seen for its time."""
    last_ns = 0
    for picture in decoded:
        last_ns = timeline.place(picture.frame.pts)
        yield Picture(last_ns, picture)
    yield End(last_ns + timeline.period_ns, "video")


def _to_the_end(decoded: Iterator[Decoded], losses: Losses) -> Iterator[Decoded]:
    """A file that breaks off ends there; the break is counted."""
    try:
        yield from decoded
    except FFmpegError:
        losses.decode += 1
