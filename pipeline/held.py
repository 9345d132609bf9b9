"""Pure: frames of a live session that wait until the sound that belongs to them is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from pipeline.bus import Received
from pipeline.messages import FramePacket

_PATIENCE_NS: Final = 250_000_000
_READY: Final = 2


class Held:
    """Frames in the order they came, and what ends them. waits: whether any has to; more: whether another is ready.

    lag_ns: how much later the sound comes than its picture; a frame waits no more than a quarter of a second beyond
    it. 0: nothing waits. Of frames that are ready at once, all but the newest two are passed over: sound comes in
    chunks, so that two may be; more are a worker that is too slow.
    """

    def __init__(self, lag_ns: int = 0) -> None:
        self._most_ns = lag_ns + _PATIENCE_NS if lag_ns > 0 else 0
        self._items: deque[Received] = deque()
        self.waits = lag_ns > 0
        self.more = False

    def add(self, received: Received) -> None:
        """Take the newest."""
        self._items.append(received)

    def next(self, has_sound: Callable[[int], bool], t_ns: int) -> Received | None:
        """What is to be done at `t_ns`. has_sound: whether the sound of a frame of that time is there."""
        ready = 0
        for item in self._items:
            message = item.message
            if isinstance(message, FramePacket):
                waited_ns = t_ns - message.t_capture_ns
                if waited_ns < self._most_ns and not has_sound(message.t_capture_ns):
                    break
                ready += 1
            elif ready == 0:
                return self._items.popleft()
        while ready > _READY:
            self._items.popleft()
            ready -= 1
        self.more = ready > 1
        return self._items.popleft() if ready else None
