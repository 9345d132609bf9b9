"""Where captured pictures and sound leave: luma plane, numbering, the handshake and the end of the stream."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from pipeline.bus import Publisher
from pipeline.clock import StopFlag, now_ns
from pipeline.luma import LumaReader, size_of
from pipeline.messages import AudioChunk, FramePacket, StreamEnd
from pipeline.slots import Slot, SlotWriter

Reason = Literal["end_of_file", "stopped", "failed"]


class VideoOutlet:
    """Numbers frames from 0 and sends them, or where they lie. slots: how many pictures may lie in shared memory."""

    def __init__(self, publisher: Publisher, session: str, source: str, stop: StopFlag, slots: int = 0) -> None:
        self._publisher, self._session, self._source, self._stop = publisher, session, source, stop
        self._luma = LumaReader()
        self._slots = SlotWriter(slots)
        self._listener = False
        self._seq = 0

    def has_listener(self, timeout_s: float = 0.0) -> bool:
        """Whether somebody has ever subscribed to frames."""
        self._listener = self._listener or self._publisher.wait_for_subscriber("frame", self._stop, timeout_s)
        return self._listener

    def send(self, frame: av.VideoFrame, t_capture_ns: int, media_ns: int | None, decode_errors: int) -> float:
        """Convert and send; the milliseconds from capture to here. A frame that `stop` cut off has no number."""
        height_px, width_px = size_of(frame)
        room = self._slots.room(height_px, width_px)
        slot: Slot | UnsetType = UNSET
        if room is None:
            payload = self._luma.read(frame).data.cast("B")
        else:
            self._luma.read_into(frame, room)
            slot, payload = self._slots.filled(), memoryview(b"")
        t_send_ns = now_ns()
        packet = FramePacket(
            session=self._session,
            source=self._source,
            seq=self._seq,
            t_capture_ns=t_capture_ns,
            t_send_ns=t_send_ns,
            width_px=width_px,
            height_px=height_px,
            decode_errors=decode_errors,
            media_ns=media_ns,
            slot=slot,
        )
        self._seq += self._publisher.send(packet, payload, self._stop)
        return (t_send_ns - t_capture_ns) / 1e6

    def end(self, reason: Reason) -> None:
        """Say that no frame follows."""
        end = StreamEnd(session=self._session, source=self._source, seq=self._seq, stream="video", reason=reason)
        self._publisher.send(end, stop=self._stop)


class AudioOutlet:
    """Numbers chunks of sound from 0 and sends them."""

    def __init__(self, publisher: Publisher, session: str, source: str, stop: StopFlag) -> None:
        self._publisher, self._session, self._source, self._stop = publisher, session, source, stop
        self._seq = 0
        self._ended = False

    def has_listener(self, timeout_s: float = 0.0) -> bool:
        """Whether somebody has subscribed to sound."""
        return self._publisher.wait_for_subscriber("audio", self._stop, timeout_s)

    def send(
        self, samples: NDArray[np.float32], rate_hz: int, t_capture_ns: int, media_ns: int | None, overflows: int = 0
    ) -> None:
        """Send contiguous mono samples [N]."""
        chunk = AudioChunk(
            session=self._session,
            source=self._source,
            seq=self._seq,
            t_capture_ns=t_capture_ns,
            sample_rate_hz=rate_hz,
            samples=len(samples),
            overflows=overflows,
            media_ns=media_ns,
        )
        self._seq += self._publisher.send(chunk, samples.data.cast("B"), self._stop)

    def end(self, reason: Reason) -> None:
        """Say that no sound follows; a second time says nothing."""
        if self._ended:
            return
        self._ended = True
        end = StreamEnd(session=self._session, source=self._source, seq=self._seq, stream="audio", reason=reason)
        self._publisher.send(end, stop=self._stop)
