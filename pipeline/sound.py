"""The sound of a session, taken from its socket and joined with the frames."""

from __future__ import annotations

import numpy as np

from pipeline.align import AudioWindow, level_dbfs
from pipeline.bus import Subscriber
from pipeline.clock import NS_PER_S, StopFlag, now_ns
from pipeline.messages import AudioChunk, StreamEnd

WAIT_MS = 50
LEVEL_S = 0.1
PATIENCE_S = 3.0


class Sound:
    """The sound of a session beside its frames; without a microphone there is never any.

    in_file_time: frames and sound are joined by their place in the file, and a frame waits for its sound.
    """

    def __init__(self, subscriber: Subscriber | None, *, in_file_time: bool) -> None:
        self._subscriber = subscriber
        self._in_file_time = in_file_time
        self._window = AudioWindow()
        self._over = subscriber is None

    def level_dbfs(self, t_ns: int, stop: StopFlag) -> float | None:
        """Level of the sound that belongs to a frame; None if there is none."""
        if self._in_file_time:
            self._wait_for(t_ns, stop)
        samples = self._window.window(t_ns, LEVEL_S)
        return None if samples is None else level_dbfs(samples)

    def drain(self) -> None:
        """Take what has come, without waiting. In file time nothing is taken ahead of the frames."""
        while not self._over and not self._in_file_time and self._take(0):
            pass

    def _wait_for(self, t_ns: int, stop: StopFlag) -> None:
        deadline_ns = now_ns() + round(PATIENCE_S * NS_PER_S)
        while not self._over and (self._window.end_ns or 0) < t_ns and not stop.is_set():
            if self._take(WAIT_MS):
                deadline_ns = now_ns() + round(PATIENCE_S * NS_PER_S)
            elif now_ns() > deadline_ns:
                self._over = True

    def _take(self, timeout_ms: int) -> bool:
        received = None if self._subscriber is None else self._subscriber.receive(timeout_ms)
        if received is None:
            return False
        chunk = received.message
        if isinstance(chunk, StreamEnd):
            # A device may come back; a file is over.
            self._over = self._in_file_time
        elif isinstance(chunk, AudioChunk) and received.payload is not None:
            t_ns = chunk.media_ns if self._in_file_time else chunk.t_capture_ns
            # A device beside a file at full speed: its sound has no place in the file.
            self._over = t_ns is None
            if t_ns is not None:
                self._window.add(t_ns, np.frombuffer(received.payload, np.float32), chunk.sample_rate_hz)
        return True
