"""Passes what the workers publish on to whoever subscribed: many publishers behind one endpoint."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import zmq

from pipeline.bus import FLUSH_MS, MESSAGES_AHEAD, bind


class Forwarder:
    """Bound at two endpoints and running in a thread of its own until it is closed.

    inbox: where Publishers connect. outlet: where Subscribers connect; a reader that falls far behind loses messages
    and sees the gap in seq, and never delays the others. Raises BusError if an endpoint cannot be bound.
    """

    def __init__(self, inbox: str, outlet: str) -> None:
        self._context = zmq.Context()
        self._in: zmq.Socket[bytes] = self._context.socket(zmq.XSUB)
        self._out: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        self._in.setsockopt(zmq.RCVHWM, MESSAGES_AHEAD)
        self._out.setsockopt(zmq.SNDHWM, MESSAGES_AHEAD)
        self._thread = threading.Thread(target=self._forward, name="forwarder", daemon=True)
        try:
            self.outlet = bind(self._out, outlet)
            self.inbox = bind(self._in, inbox)
        except BaseException:
            self._close_sockets()
            self._context.term()
            raise
        self._thread.start()

    def _forward(self) -> None:
        try:
            zmq.proxy(self._in, self._out)
        except zmq.ContextTerminated:
            pass
        finally:
            self._close_sockets()

    def _close_sockets(self) -> None:
        self._in.close(linger=0)
        self._out.close(linger=FLUSH_MS)

    def close(self) -> None:
        """Stop passing on; what was taken over is still sent. Calling it twice is allowed."""
        self._context.term()  # ends the proxy with ContextTerminated, and waits until its sockets are closed
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
