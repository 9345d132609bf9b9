"""The sound of a session, taken from its socket, heard, and joined with the frames."""

from __future__ import annotations

import numpy as np

from engines.base import DeviceError, Engine, EngineError
from engines.hear import Heard
from engines.voice import BEHIND_S
from pipeline.align import AudioWindow, level_dbfs
from pipeline.bus import GPU_FAILED, Received, Subscriber, WorkerError
from pipeline.clock import NS_PER_S, now_ns
from pipeline.hearing import Ears, State
from pipeline.messages import AudioChunk, StreamEnd
from pipeline.track import RATE_HZ

WAIT_MS = 50
LEVEL_S = 0.1
PATIENCE_S = 30.0
BEHIND_NS = round(BEHIND_S * NS_PER_S)


class Sound:
    """The sound of a session beside its frames; without a microphone there is never any.

    voice: hears it; None for a session that only measures its level. in_file_time: frames and sound are of one file and
    joined by their place in it. waits: a frame waits for its sound; where it does not, the newest is taken while it is
    not too old. lag_ns: see AudioWindow.

    Raises WorkerError if the voice network fails.
    """

    def __init__(
        self,
        subscriber: Subscriber | None,
        voice: Engine | None = None,
        *,
        in_file_time: bool,
        waits: bool,
        lag_ns: int = 0,
    ) -> None:
        self._subscriber = subscriber
        self._in_file_time, self._waits = in_file_time, waits
        self._window = AudioWindow(lag_ns=lag_ns)
        self._ears = None if voice is None else Ears(voice)
        self._state = State()
        self._over = subscriber is None
        self._waiting_since_ns: int | None = None
        self._complaint = ""
        self._unusable = 0

    def has(self, t_ns: int) -> bool:
        """Whether the sound of a frame at `t_ns` is there or need not be waited for; else it is taken, for a moment. A
        file's sound that stays away for PATIENCE_S is taken to be none.
        """
        if not self._waits or self._over or self.holds(t_ns):
            self._waiting_since_ns = None
            return True
        if self._take(WAIT_MS) or self._waiting_since_ns is None:
            self._waiting_since_ns = now_ns()
        self._over = self._over or now_ns() - self._waiting_since_ns > PATIENCE_S * NS_PER_S
        return False

    def holds(self, t_ns: int) -> bool:
        """Whether the sound of a frame at `t_ns` has come."""
        return (self._window.end_ns or 0) >= t_ns - BEHIND_NS

    def at(self, t_ns: int) -> Heard | None:
        """The sound that belongs to a frame at `t_ns`; None if there is none."""
        samples = self._window.window(t_ns - BEHIND_NS, LEVEL_S)
        if samples is None:
            return None
        voice = None if self._ears is None else self._ears.reading(self._window, t_ns - BEHIND_NS)
        return Heard(level_dbfs(samples), voice)

    def complaint(self, t_ns: int, heard: Heard | None) -> str:
        """What people should know of the sound since it was asked last; nothing to say is ""."""
        text, self._complaint = self._complaint, ""
        if not text and heard is not None and heard.voice is not None:
            text = self._state.change(t_ns, heard.voice.sound)
        return text

    @property
    def losses(self) -> dict[str, int]:
        """For the health of the worker: samples that were left out, if any were."""
        return {"sound_samples": self._unusable} if self._unusable else {}

    def drain(self) -> None:
        """Take what has come, without waiting. Where frames wait for it, nothing is taken ahead of them."""
        while not self._waits and self._take(0):
            pass

    def _take(self, timeout_ms: int) -> bool:
        received = None if self._subscriber is None else self._subscriber.receive(timeout_ms)
        if received is None:
            return False
        if isinstance(received.message, StreamEnd):
            # A device may come back; a file is over.
            self._over = self._in_file_time
        elif isinstance(received.message, AudioChunk):
            self._add(received.message, received)
        return True

    def _add(self, chunk: AudioChunk, received: Received) -> None:
        t_ns = chunk.media_ns if self._in_file_time else chunk.t_capture_ns
        # A device beside a file at full speed: its sound has no place in the file.
        self._over = t_ns is None
        if t_ns is None or received.payload is None:
            return
        samples = np.frombuffer(received.payload, np.float32)
        if doubt := unusable(samples, chunk.sample_rate_hz):
            # It is missing, as if it had never come: a number that is none would stay in whatever is made of it.
            if not self._unusable:
                self._complaint = f"sound from {chunk.source} is left out: {doubt}"
            self._unusable += len(samples)
            return
        self._window.add(t_ns, samples, chunk.sample_rate_hz)
        if self._ears is not None:
            try:
                self._ears.listen(self._window)
            except EngineError as error:
                raise WorkerError(f"analyze: {error}", GPU_FAILED if isinstance(error, DeviceError) else 1) from error


def unusable(samples: np.ndarray, rate_hz: int) -> str:
    """Why samples [N] are not taken for sound, or nothing."""
    if rate_hz != RATE_HZ:
        return f"it has {rate_hz} samples a second, and {RATE_HZ} are heard"
    return "" if np.isfinite(samples).all() else "it has samples that are not numbers"
