"""Runs a capture worker and takes what arrives on its sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.bus import Received, StopFlag, Subscriber
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import CaptureConfig, Link, LiveConfig
from pipeline.forwarder import Forwarder
from pipeline.messages import AudioChunk, Event, FramePacket, Health, StreamEnd, Wire

Worker = Callable[[LiveConfig, Link, StopFlag], None]

LIMIT_S = 30.0
WAIT_MS = 20


@dataclass
class Rig:
    """A running worker and everything that has come from it so far."""

    link: Link
    stop: threading.Event
    frames: list[FramePacket] = field(default_factory=list)
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    chunks: list[AudioChunk] = field(default_factory=list)
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    ends: list[StreamEnd] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    healths: list[Health] = field(default_factory=list)
    error: BaseException | None = None
    thread: threading.Thread | None = None
    readers: list[Subscriber] = field(default_factory=list)

    def until(self, reached: Callable[[Rig], bool]) -> Rig:
        """Take what comes until `reached`; fails after LIMIT_S."""
        deadline_ns = now_ns() + round(LIMIT_S * NS_PER_S)
        while not reached(self):
            assert now_ns() < deadline_ns, f"waited {LIMIT_S} s; {len(self.frames)} frames, ends {self.ends}"
            self._read()
        return self

    def to_the_end(self) -> Rig:
        """Take what comes until the worker has ended; raises what it raised."""
        assert self.thread is not None
        thread = self.thread
        self.until(lambda _: not thread.is_alive())
        while self._read():
            pass
        if self.error is not None:
            raise self.error
        return self

    def texts(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]

    @property
    def sound(self) -> NDArray[np.float32]:
        return np.concatenate([np.zeros(0, np.float32), *self.samples])

    def _read(self) -> bool:
        got = False
        for reader in self.readers:
            while received := reader.receive(0 if got else WAIT_MS):
                got = True
                self._take(received.message, received)
        return got

    def _take(self, message: Wire, received: Received) -> None:
        if isinstance(message, FramePacket):
            self.frames.append(message)
            shape = message.height_px, message.width_px
            self.pictures.append(np.array(received.payload, np.uint8).reshape(shape))
        elif isinstance(message, AudioChunk):
            assert received.payload is not None
            self.chunks.append(message)
            self.samples.append(np.frombuffer(bytes(received.payload), np.float32))
        elif isinstance(message, StreamEnd):
            self.ends.append(message)
        elif isinstance(message, Event):
            self.events.append(message)
        elif isinstance(message, Health):
            self.healths.append(message)


@contextmanager
def running(worker: Worker, folder: Path, capture: CaptureConfig) -> Iterator[Rig]:
    """The worker in a thread, its readers connected before it starts."""
    video, audio, inbox, outlet = (f"ipc://{folder}/{name}" for name in ("video", "audio", "inbox", "outlet"))
    link = Link(session="test", video=video, audio=audio, results_in=inbox)
    rig = Rig(link, threading.Event())

    def work() -> None:
        try:
            worker(LiveConfig(capture=capture), link, rig.stop)
        except Exception as error:  # handed to the test
            rig.error = error

    with ExitStack() as stack:
        stack.enter_context(Forwarder(inbox, outlet))
        rig.readers = [
            stack.enter_context(Subscriber(video, ("frame", "stream_end"))),
            stack.enter_context(Subscriber(audio, ("audio", "stream_end"))),
            stack.enter_context(Subscriber(outlet, ("event", "health"))),
        ]
        rig.thread = threading.Thread(target=work, daemon=True)
        rig.thread.start()
        try:
            yield rig
        finally:
            rig.stop.set()
            rig.thread.join(LIMIT_S)
