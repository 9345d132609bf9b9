"""Publisher and Subscriber: the messages of `pipeline.messages` over ZeroMQ.

Start-up is a handshake: a Publisher sees who subscribes (its socket is XPUB), so no first message is lost and
nobody sleeps. A topic with `keep_latest` on a lossy Publisher gives way when its reader is slow; everything else
waits for the reader. What was lost is counted at the reader from the gaps in seq. A reader acknowledges the end of a
stream, and the sender stays until then: ZeroMQ forgets what waits in the pipe of a sender that has gone.

One object belongs to one thread.
"""

from __future__ import annotations

import socket as os_socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from pipeline.clock import NS_PER_S, StopFlag, now_ns
from pipeline.messages import TOPICS, FramePacket, StreamEnd, Wire, counted_by, decode, encode, topic_of
from pipeline.slots import Slot, SlotReader

__all__ = ["BusError", "Publisher", "Received", "StopFlag", "Subscriber", "WorkerError", "bind", "reachable"]

CHECK_STOP_MS = 50
FRAMES_SENT_AHEAD = 4  # what a Publisher holds for a reader; small because it may be whole pictures
FRAMES_RECEIVED_AHEAD = 16  # a reader that stalls for half a second still finds the newest picture
MESSAGES_AHEAD = 100_000  # small messages wait here rather than get lost
END_READ_S = 10.0  # how long close() waits for readers to take the end of a stream
FLUSH_MS = 500  # how long close() waits for whatever else is on its way
END_TOPIC = topic_of(StreamEnd).name.encode()
GPU_FAILED = 3
DRAIN_LIMIT = 1_000  # a sender faster than the reader must not keep it draining


class BusError(RuntimeError):
    """An endpoint cannot be used; one line that names it."""


class WorkerError(RuntimeError):
    """A worker cannot go on, and a person can act on why; `exit_code` 2 says that it is the user's to mend, GPU_FAILED
    that a GPU was lost or has no memory left."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Received:
    """A message and its payload; the payload is a view of the bytes as they came, kept alive by the view."""

    message: Wire
    payload: memoryview | None


def reachable(endpoint: str) -> str:
    """The endpoint at which this machine reaches one that is bound to every interface."""
    return endpoint.replace("tcp://*:", "tcp://127.0.0.1:").replace("tcp://0.0.0.0:", "tcp://127.0.0.1:")


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind; the endpoint that others use (a port given as * is filled in). Raises BusError."""
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port.isdigit() and int(port) > 65535:  # ZeroMQ would take another port
        raise BusError(f"cannot bind endpoint {endpoint!r}: there is no port {port} (such as tcp://127.0.0.1:5570)")
    if endpoint.startswith("ipc://") and _answers(Path(endpoint.removeprefix("ipc://"))):
        raise BusError(f"endpoint {endpoint} is in use by another program; end it or choose another")
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise BusError(f"endpoint {endpoint} is in use by another program; end it or choose another") from error
        raise BusError(f"cannot bind endpoint {endpoint!r}: {error.strerror} (such as tcp://127.0.0.1:5570)") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def _answers(path: Path) -> bool:
    """Whether somebody listens at a Unix socket; ZeroMQ would take it away from them without a word."""
    if not path.is_socket():
        return False
    with os_socket.socket(os_socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> str:
    try:
        socket.connect(reachable(endpoint))
    except zmq.ZMQError as error:
        raise BusError(f"cannot connect to {endpoint!r}: {error.strerror} (such as tcp://127.0.0.1:5570)") from error
    return endpoint


class _Socket:
    """A socket with a context of its own: closing the context is what waits until everything is sent."""

    def __init__(self, kind: int, endpoint: str, bind_it: bool, options: dict[zmq.SocketOption, int]) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(kind)
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        try:
            self.endpoint = bind(self._socket, endpoint) if bind_it else _connect(self._socket, endpoint)
        except BusError:
            self.close()
            raise

    def close(self) -> None:
        """Send what is left, then release the endpoint. Calling it twice is allowed."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Publisher(_Socket):
    """Sends messages at an endpoint that it binds, or (bind=False) to a forwarder that is bound there.

    lossless: wait for slow readers on every topic; otherwise messages of topics with `keep_latest` are dropped while
    the slowest reader has enough to do, and it sees the gap in seq.
    endpoint: where it is; a port given as * is filled in. Raises BusError.
    """

    def __init__(self, endpoint: str, *, bind: bool, lossless: bool) -> None:
        self._lossless = lossless
        self._subscriptions: Counter[bytes] = Counter()
        self._end_unread_by = 0
        # A forwarder always reads, and what goes through it is small.
        ahead = FRAMES_SENT_AHEAD if bind else MESSAGES_AHEAD
        options = {zmq.SNDHWM: ahead, zmq.SNDTIMEO: CHECK_STOP_MS, zmq.LINGER: FLUSH_MS}
        options |= {zmq.XPUB_NODROP: 1, zmq.XPUB_VERBOSER: 1}
        super().__init__(zmq.XPUB, endpoint, bind, options)

    def wait_for_subscriber(self, topic: str, stop: StopFlag | None, timeout_s: float) -> bool:
        """Wait until somebody has subscribed to `topic`; False after `timeout_s` or when `stop` is set."""
        wanted = topic.encode()
        return self._wait_until(lambda: any(map(wanted.startswith, +self._subscriptions)), timeout_s, stop)

    def _wait_until(self, reached: Callable[[], bool], timeout_s: float, stop: StopFlag | None = None) -> bool:
        deadline_ns = now_ns() + round(timeout_s * NS_PER_S)
        while True:
            self._read_subscriptions()
            if reached():
                return True
            if now_ns() >= deadline_ns or (stop is not None and stop.is_set()):
                return False
            self._socket.poll(CHECK_STOP_MS)

    def _read_subscriptions(self) -> None:
        while self._socket.poll(0):
            note = self._socket.recv()
            kind, topic = note[:1], note[1:]
            if kind == b"\x01":
                self._subscriptions[topic] += 1
            elif kind == b"\x00":
                self._subscriptions[topic] -= 1
                self._end_unread_by -= topic == END_TOPIC

    def send(self, message: Wire, payload: bytes | memoryview | None = None, stop: StopFlag | None = None) -> bool:
        """Send to those who subscribed; False if `stop` was set while it waited for a slow reader.

        The payload may be reused when this returns. Raises MessageError if payload and type do not fit.
        """
        parts = encode(message, payload)
        if isinstance(message, StreamEnd):
            self._read_subscriptions()
            self._end_unread_by = self._subscriptions[END_TOPIC]
        wait = self._lossless or not topic_of(type(message)).keep_latest
        while True:
            try:
                self._socket.send_multipart(parts, 0 if wait else zmq.NOBLOCK)
            except zmq.Again:
                if not wait:
                    return True
                if stop is not None and stop.is_set():
                    return False
            else:
                return True

    def close(self) -> None:
        """As of every socket; after the end of a stream, first wait until its readers have it or are gone."""
        if not self._socket.closed:
            self._wait_until(lambda: self._end_unread_by <= 0, END_READ_S)
        super().close()


class Subscriber(_Socket):
    """Receives `topics` from an endpoint; `lost` counts, per topic and source, the messages that never came or that
    `receive_latest` passed over. What was sent before this subscribed does not count. Raises BusError, KeyError.
    """

    def __init__(self, endpoint: str, topics: Sequence[str], *, bind: bool = False) -> None:
        self._lost: Counter[tuple[str, str]] = Counter()
        self._expected: dict[tuple[str, str], int] = {}
        self._pending: deque[Received] = deque()
        self._slots = SlotReader()
        pictures = any(TOPICS[topic].keep_latest for topic in topics)
        ahead = FRAMES_RECEIVED_AHEAD if pictures else MESSAGES_AHEAD
        super().__init__(zmq.SUB, endpoint, bind, {zmq.RCVHWM: ahead, zmq.LINGER: 0})
        for topic in topics:
            self._socket.subscribe(topic)

    @property
    def lost(self) -> Mapping[tuple[str, str], int]:
        """(topic, source) -> messages lost so far; 0 for what never lost one."""
        return self._lost

    @property
    def has_pending(self) -> bool:
        """Whether a message was taken from the socket and not yet asked for."""
        return bool(self._pending)

    def enlist(self, poller: zmq.Poller) -> None:
        """Have `poller` wait for this socket too."""
        poller.register(self._socket, zmq.POLLIN)

    def receive(self, timeout_ms: int) -> Received | None:
        """The next message in order; None if none came in time, or its picture is gone. Raises MessageError on bytes
        that are none."""
        if not self._pending and self._socket.poll(timeout_ms):
            self._pending.append(self._take())
        return self._whole(self._pending.popleft()) if self._pending else None

    def receive_latest(self, topic: str, timeout_ms: int) -> Received | None:
        """As `receive`, but of the messages of `topic` that wait, all but the newest are passed over and counted.

        Other topics keep their place: each is returned, before whatever was sent after it.
        """
        if not self._pending and not self._socket.poll(timeout_ms):
            return None
        for _ in range(DRAIN_LIMIT):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:  # a poll makes a poller first
                break
            self._pending.append(self._take())
        self._pass_over(topic)
        return self._whole(self._pending.popleft())

    def _whole(self, received: Received) -> Received | None:
        """The message with its picture, where that lies in a slot; None, and it is lost, if that is gone."""
        packet = received.message
        if not isinstance(packet, FramePacket) or not isinstance(packet.slot, Slot):
            return received
        try:
            picture = self._slots.borrow(packet.slot, packet.width_px * packet.height_px)
        except OSError as error:
            what = f"the pictures of process {packet.slot.pid} cannot be read here ({error.strerror})"
            raise BusError(f"{what}; --set capture.slots=0 sends them") from error
        if picture is None:
            self._lost[_key(received)] += 1
            return None
        return Received(packet, picture)

    def _take(self) -> Received:
        parts = self._socket.recv_multipart(copy=False)
        received = Received(*decode([part.buffer for part in parts]))
        message = received.message
        if isinstance(message, StreamEnd):
            self._count((counted_by(message).name, message.source), message.seq)
            # Leaving the topic for a moment tells the sender that its end has arrived.
            self._socket.unsubscribe(END_TOPIC)
            self._socket.subscribe(END_TOPIC)
        else:
            self._count(_key(received), message.seq)
        return received

    def _count(self, key: tuple[str, str], seq: int) -> None:
        # A seq below the expected one is a sender that started anew: nothing is known to be lost.
        self._lost[key] += max(0, seq - self._expected.get(key, seq))
        self._expected[key] = seq + 1

    def _pass_over(self, topic: str) -> None:
        waiting = [item for item in self._pending if _key(item)[0] == topic]
        for item in waiting[:-1]:
            self._lost[_key(item)] += 1
        if len(waiting) > 1:
            stale = {id(item) for item in waiting[:-1]}
            self._pending = deque(item for item in self._pending if id(item) not in stale)


def wait_for_any(inboxes: Sequence[Subscriber | None], timeout_ms: int) -> None:
    """Wait until one of them has a message to take, or for `timeout_ms`."""
    poller = zmq.Poller()
    for inbox in filter(None, inboxes):
        if inbox.has_pending:
            return
        inbox.enlist(poller)
    poller.poll(timeout_ms)


def _key(received: Received) -> tuple[str, str]:
    return topic_of(type(received.message)).name, received.message.source
