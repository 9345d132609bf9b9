"""The sound of a session, taken from its socket and joined with the frames."""

from __future__ import annotations

import numpy as np

from pipeline.align import AudioWindow, level_dbfs
from pipeline.bus import Subscriber
from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import AudioChunk, StreamEnd

WAIT_MS = 50
LEVEL_S = 0.1
PATIENCE_S = 30.0


class Sound:
    """The sound of a session beside its frames; without a microphone there is never any.

    in_file_time: frames and sound are joined by their place in the file, and a frame waits for its sound.
    lag_ns: see AudioWindow. Live, sound that lags is not waited for: the newest is taken while it is not too old.
    """

    def __init__(self, subscriber: Subscriber | None, *, in_file_time: bool, lag_ns: int = 0) -> None:
        self._subscriber = subscriber
        self._in_file_time = in_file_time
        self._window = AudioWindow(lag_ns=lag_ns)
        self._over = subscriber is None
        self._waiting_since_ns: int | None = None

    def has(self, t_ns: int) -> bool:
        """Whether the sound up to `t_ns` is there or need not be waited for; in file time it is taken, for a moment.

        A file's sound that stays away for PATIENCE_S is taken to be none.
        """
        if not self._in_file_time or self._over or (self._window.end_ns or 0) >= t_ns:
            self._waiting_since_ns = None
            return True
        if self._take(WAIT_MS) or self._waiting_since_ns is None:
            self._waiting_since_ns = now_ns()
        self._over = self._over or now_ns() - self._waiting_since_ns > PATIENCE_S * NS_PER_S
        return False

    def level_dbfs(self, t_ns: int) -> float | None:
        """Level of the sound that belongs to a frame; None if there is none."""
        samples = self._window.window(t_ns, LEVEL_S)
        return None if samples is None else level_dbfs(samples)

    def drain(self) -> None:
        """Take what has come, without waiting. In file time nothing is taken ahead of the frames."""
        while not self._in_file_time and self._take(0):
            pass

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
