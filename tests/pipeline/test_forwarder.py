from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from pipeline.bus import BusError, Publisher, Subscriber
from pipeline.forwarder import Forwarder
from pipeline.messages import Event

WAIT_MS = 5000


def event(seq: int, source: str) -> Event:
    return Event(session="s", source=source, seq=seq, t_ns=seq, kind="notice", text="")


@pytest.fixture
def inbox(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/inbox"


def test_many_publishers_reach_many_subscribers_without_loss(inbox: str) -> None:
    count = 2000
    with (
        Forwarder(inbox, "tcp://127.0.0.1:*") as forwarder,
        Publisher(inbox, bind=False, lossless=True) as one,
        Publisher(inbox, bind=False, lossless=True) as two,
        Subscriber(forwarder.outlet, ["event"]) as first,
        Subscriber(forwarder.outlet, ["event"]) as second,
    ):
        assert one.wait_for_subscriber("event", None, 5.0)
        assert two.wait_for_subscriber("event", None, 5.0)
        # That somebody subscribed does not say who: each reader is known to be there once it hears something.
        waiting = {first, second}
        knocks = 0
        while waiting:
            one.send(event(knocks, "knock"))
            knocks += 1
            waiting = {reader for reader in waiting if reader.receive(20) is None}
        for seq in range(count):
            one.send(event(seq, "one"))
            two.send(event(seq, "two"))
        for reader in (first, second):
            seen: dict[str, int] = {"one": 0, "two": 0}
            while seen != {"one": count, "two": count}:
                received = reader.receive(WAIT_MS)
                assert received is not None
                if received.message.source != "knock":
                    assert received.message.seq == seen[received.message.source]
                    seen[received.message.source] += 1
            assert reader.lost["event", "one"] == reader.lost["event", "two"] == 0


def test_what_was_sent_before_close_still_arrives(inbox: str, tmp_path: Path) -> None:
    forwarder = Forwarder(inbox, f"ipc://{tmp_path}/outlet")
    with Subscriber(forwarder.outlet, ["event"]) as subscriber:
        with Publisher(inbox, bind=False, lossless=True) as publisher:
            assert publisher.wait_for_subscriber("event", None, 5.0)
            publisher.send(event(0, "last"))
        assert subscriber.receive(WAIT_MS) is not None
        forwarder.close()
        forwarder.close()


def test_what_outsiders_send_does_no_harm(inbox: str, tmp_path: Path) -> None:
    outlet = f"ipc://{tmp_path}/outlet"
    with (
        Forwarder(inbox, outlet),
        Publisher(inbox, bind=False, lossless=True) as publisher,
        Subscriber(outlet, ["event"]) as subscriber,
        zmq.Context() as context,
        context.socket(zmq.XSUB) as outsider,
    ):
        assert publisher.wait_for_subscriber("event", None, 5.0)
        outsider.connect(outlet)
        for note in (b"", b"\x02nonsense", b"\x00event", b"\x01no_such_topic"):
            outsider.send(note)
        assert publisher.wait_for_subscriber("no_such_topic", None, 5.0)
        assert publisher.wait_for_subscriber("event", None, 5.0)
        publisher.send(event(0, "one"))
        assert subscriber.receive(WAIT_MS) is not None


def test_an_endpoint_in_use_is_refused_and_releases_the_other(inbox: str, tmp_path: Path) -> None:
    outlet = f"ipc://{tmp_path}/outlet"
    with Publisher(inbox, bind=True, lossless=True), pytest.raises(BusError, match="is in use"):
        Forwarder(inbox, outlet)
    Forwarder(inbox, outlet).close()
