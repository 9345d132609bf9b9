from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.bus import FRAMES_RECEIVED_AHEAD, BusError, Publisher, Subscriber, reachable
from pipeline.messages import Event, FramePacket, MessageError, StreamEnd

WAIT_MS = 5000


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/bus"


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    flag = threading.Event()
    yield flag
    flag.set()


def event(seq: int, source: str = "test") -> Event:
    return Event(session="s", source=source, seq=seq, t_ns=seq, kind="notice", text="")


def frame(seq: int, width_px: int = 2) -> FramePacket:
    return FramePacket(
        session="s", source="cam", seq=seq, t_capture_ns=seq, t_send_ns=seq, width_px=width_px, height_px=1
    )


def stream_end(seq: int) -> StreamEnd:
    return StreamEnd(session="s", source="cam", seq=seq, stream="video", reason="end_of_file")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_handshake_loses_nothing_from_the_first_message(endpoint: str, stop: threading.Event) -> None:
    def send() -> None:
        with Publisher(endpoint, bind=True, lossless=True) as publisher:
            assert publisher.wait_for_subscriber("event", stop, 5.0)
            for seq in range(3):
                publisher.send(event(seq), stop=stop)

    with Subscriber(endpoint, ["event"]) as subscriber:
        thread = in_thread(send)
        received = [subscriber.receive(WAIT_MS) for _ in range(3)]
        thread.join(5)
    assert [item.message.seq for item in received if item] == [0, 1, 2]


def test_waiting_for_a_subscriber_ends_at_the_timeout_at_stop_and_ignores_other_topics(
    endpoint: str, stop: threading.Event
) -> None:
    with Publisher(endpoint, bind=True, lossless=True) as publisher, Subscriber(endpoint, ["health"]):
        assert publisher.wait_for_subscriber("health", stop, 5.0)
        assert not publisher.wait_for_subscriber("event", stop, 0.01)
        stop.set()
        assert not publisher.wait_for_subscriber("event", stop, 60.0)


def test_lossless_waits_for_a_slow_reader_and_loses_none_of_ten_thousand(endpoint: str, stop: threading.Event) -> None:
    count = 10_000

    def send() -> None:
        with Publisher(endpoint, bind=True, lossless=True) as publisher:
            publisher.wait_for_subscriber("frame", stop, 5.0)
            for seq in range(count):
                publisher.send(frame(seq, 4), seq.to_bytes(4, "little"), stop)
            publisher.send(stream_end(count), stop=stop)

    with Subscriber(endpoint, ["frame", "stream_end"]) as subscriber:
        thread = in_thread(send)
        for seq in range(count):
            item = subscriber.receive(WAIT_MS)
            assert item is not None
            assert item.message.seq == seq
            assert item.payload is not None
            assert int.from_bytes(item.payload, "little") == seq
        end = subscriber.receive(WAIT_MS)
        thread.join(5)
        assert end is not None
        assert isinstance(end.message, StreamEnd)
        assert sum(subscriber.lost.values()) == 0


def test_newest_wins_under_overload_and_every_loss_is_counted(endpoint: str, stop: threading.Event) -> None:
    """The reader sleeps through 1000 frames: far more than any queue holds, so some are lost on the way."""
    count = 1000
    payload = bytes(1 << 16)
    with (
        Publisher(endpoint, bind=True, lossless=False) as publisher,
        Subscriber(endpoint, ["frame", "stream_end"]) as subscriber,
    ):
        publisher.wait_for_subscriber("frame", stop, 5.0)
        for seq in range(count):
            publisher.send(frame(seq, len(payload)), payload)
        kept = []
        end = None
        sender = in_thread(lambda: publisher.send(stream_end(count), stop=stop))
        while end is None:
            item = subscriber.receive_latest("frame", WAIT_MS)
            assert item is not None, "the end of the stream got lost"
            if isinstance(item.message, StreamEnd):
                end = item.message
            else:
                kept.append(item.message.seq)
        sender.join(5)
        assert kept == sorted(set(kept))
        assert len(kept) <= 4, "old frames are passed over, not worked off"
        assert len(kept) + subscriber.lost["frame", "cam"] == count, "the end of the stream accounts for its tail"


def test_receive_latest_returns_the_newest_of_what_waits(endpoint: str, stop: threading.Event) -> None:
    count = FRAMES_RECEIVED_AHEAD
    with (
        Publisher(endpoint, bind=True, lossless=True) as publisher,
        Subscriber(endpoint, ["frame", "event"]) as subscriber,
    ):
        publisher.wait_for_subscriber("frame", stop, 5.0)
        publisher.send(event(0))
        first = subscriber.receive(WAIT_MS)  # all that follows is sent before the next look
        assert first is not None
        for seq in range(3):
            publisher.send(frame(seq), b"ab")
        publisher.send(event(1))
        for seq in range(3, count - 3):
            publisher.send(frame(seq), b"ab")
        publisher.send(event(2))
        seen: list[tuple[str, int]] = []
        while not seen or seen[-1] != ("Event", 2):
            item = subscriber.receive_latest("frame", WAIT_MS)
            assert item is not None
            seen.append((type(item.message).__name__, item.message.seq))
        events = [seq for name, seq in seen if name == "Event"]
        frames = [seq for name, seq in seen if name == "FramePacket"]
        assert events == [1, 2], "other topics are never passed over"
        assert frames == sorted(set(frames))
        assert frames[-1] == count - 4, "the newest frame before the last event comes, and comes before it"
        assert len(frames) + subscriber.lost["frame", "cam"] == count - 3


def test_gaps_are_counted_per_source_and_a_restarted_sender_counts_none(endpoint: str, stop: threading.Event) -> None:
    with Publisher(endpoint, bind=True, lossless=True) as publisher, Subscriber(endpoint, ["event"]) as subscriber:
        publisher.wait_for_subscriber("event", stop, 5.0)
        for seq, source in [(7, "a"), (0, "b"), (10, "a"), (1, "b"), (0, "a"), (1, "a")]:
            publisher.send(event(seq, source))
        for _ in range(6):
            assert subscriber.receive(WAIT_MS) is not None
        assert subscriber.lost["event", "a"] == 2
        assert subscriber.lost["event", "b"] == 0


def test_stop_ends_a_send_that_waits_for_its_reader(endpoint: str, stop: threading.Event) -> None:
    sent: list[int] = []

    def send() -> None:
        seq = 0
        while publisher.send(frame(seq, 1 << 20), bytes(1 << 20), stop):
            seq += 1
        sent.append(seq)

    with Publisher(endpoint, bind=True, lossless=True) as publisher, Subscriber(endpoint, ["frame"]):
        assert publisher.wait_for_subscriber("frame", stop, 5.0)
        thread = in_thread(send)
        threading.Timer(0.1, stop.set).start()
        thread.join(5)
        assert sent, "send still waits"


def test_a_payload_may_be_reused_after_send_and_is_received_whole(endpoint: str, stop: threading.Event) -> None:
    with Publisher(endpoint, bind=True, lossless=True) as publisher, Subscriber(endpoint, ["frame"]) as subscriber:
        publisher.wait_for_subscriber("frame", stop, 5.0)
        pixels = bytearray(b"ab")
        publisher.send(frame(0), memoryview(pixels))
        pixels[:] = b"xy"
        item = subscriber.receive(WAIT_MS)
        assert item is not None
        assert item.payload is not None
        assert bytes(item.payload) == b"ab"
        with pytest.raises(MessageError, match="takes 2 bytes as its payload, got nothing"):
            publisher.send(frame(1))


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_a_second_bind_is_refused_by_name_and_leaves_the_first_alone(
    kind: str, endpoint: str, stop: threading.Event
) -> None:
    with Publisher(endpoint if kind == "ipc" else "tcp://127.0.0.1:*", bind=True, lossless=True) as first:
        with pytest.raises(BusError, match=f"{first.endpoint} is in use"):
            Publisher(first.endpoint, bind=True, lossless=True)
        with Subscriber(first.endpoint, ["event"]) as subscriber:
            assert first.wait_for_subscriber("event", stop, 5.0)
            first.send(event(0))
            assert subscriber.receive(WAIT_MS) is not None


def test_an_endpoint_can_be_bound_again_after_close(endpoint: str) -> None:
    for _ in range(2):
        publisher = Publisher(endpoint, bind=True, lossless=True)
        publisher.close()
        publisher.close()


@pytest.mark.parametrize(
    "bad", ["5570", "", "tcp://", "tcp://127.0.0.1:99999", "tcp://no.such.interface:1", "ftp://x:1"]
)
def test_a_bad_endpoint_is_refused_by_name(bad: str) -> None:
    with pytest.raises(BusError, match="cannot bind endpoint"):
        Publisher(bad, bind=True, lossless=True)


def test_an_endpoint_of_every_interface_is_reached_by_loopback() -> None:
    assert reachable("tcp://*:5570") == reachable("tcp://0.0.0.0:5570") == "tcp://127.0.0.1:5570"
    assert reachable("tcp://10.0.0.7:5570") == "tcp://10.0.0.7:5570"


def test_nothing_in_time_is_none(endpoint: str) -> None:
    with Subscriber(endpoint, ["frame"]) as subscriber:
        assert subscriber.receive(1) is None
        assert subscriber.receive_latest("frame", 1) is None


def test_close_waits_until_the_end_of_the_stream_is_read(endpoint: str, stop: threading.Event) -> None:
    """More is on its way than any queue holds; ZeroMQ alone forgets it when the sender goes."""
    count = 500
    gone = threading.Event()

    def send() -> None:
        with Publisher(endpoint, bind=True, lossless=True) as publisher:
            publisher.wait_for_subscriber("stream_end", stop, 5.0)
            for seq in range(count):
                publisher.send(frame(seq), b"ab", stop)
            publisher.send(stream_end(count), stop=stop)
        gone.set()

    with Subscriber(endpoint, ["frame", "stream_end"]) as subscriber:
        thread = in_thread(send)
        assert not gone.wait(0.2)
        received = [subscriber.receive(WAIT_MS) for _ in range(count + 1)]
        assert all(received)
        assert gone.wait(5), "the sender stays although its end was read"
        thread.join(5)


def test_close_does_not_wait_for_a_reader_that_left(endpoint: str, stop: threading.Event) -> None:
    publisher = Publisher(endpoint, bind=True, lossless=True)
    subscriber = Subscriber(endpoint, ["frame", "stream_end"])
    publisher.wait_for_subscriber("stream_end", stop, 5.0)
    publisher.send(stream_end(0))
    subscriber.close()
    closing = in_thread(publisher.close)
    closing.join(5)
    assert not closing.is_alive()
