"""Messages whose pictures lie in slots."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from pipeline.bus import BusError, Publisher, Subscriber
from pipeline.messages import StreamEnd
from pipeline.slots import Slot, SlotWriter
from tests.pipeline.test_bus import WAIT_MS, frame, in_thread, stream_end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/bus"


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def test_a_picture_that_lies_in_a_slot_is_found_there(endpoint: str, stop: threading.Event) -> None:
    writer = SlotWriter(2)
    with (
        Publisher(endpoint, bind=True, lossless=False) as publisher,
        Subscriber(endpoint, ["frame"]) as subscriber,
    ):
        publisher.wait_for_subscriber("frame", stop, 5.0)
        for seq in range(3):
            room = writer.room(1, 2)
            assert room is not None
            room[:] = seq
            publisher.send(msgspec.structs.replace(frame(seq), slot=writer.filled()), b"")
        assert subscriber.receive(WAIT_MS) is None, "two newer ones have its place"
        for seq in range(1, 3):
            item = subscriber.receive(WAIT_MS)
            assert item is not None
            assert item.payload is not None
            assert (item.message.seq, bytes(item.payload)) == (seq, bytes([seq, seq]))
        assert subscriber.lost["frame", "cam"] == 1, "what has gone is counted"


def test_of_pictures_in_slots_the_newest_wins(endpoint: str, stop: threading.Event) -> None:
    """Messages that say where a picture lies are small: many wait, most of them for pictures that are gone."""
    count, writer = 1000, SlotWriter(4)
    with (
        Publisher(endpoint, bind=True, lossless=False) as publisher,
        Subscriber(endpoint, ["frame", "stream_end"]) as subscriber,
    ):
        publisher.wait_for_subscriber("frame", stop, 5.0)
        for seq in range(count):
            room = writer.room(1, 2)
            assert room is not None
            room[:] = seq % 251
            publisher.send(msgspec.structs.replace(frame(seq), slot=writer.filled()), b"")
        sender = in_thread(lambda: publisher.send(stream_end(count), stop=stop))
        seen = []
        while True:
            item = subscriber.receive_latest("frame", WAIT_MS)
            if item is None:
                continue
            if isinstance(item.message, StreamEnd):
                break
            assert item.payload is not None
            assert item.payload[0] == item.message.seq % 251
            seen.append(item.message.seq)
        sender.join(5)
        assert len(seen) + subscriber.lost["frame", "cam"] == count


def test_memory_that_may_not_be_read_says_what_to_do(
    endpoint: str, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    with (
        Publisher(endpoint, bind=True, lossless=False) as publisher,
        Subscriber(endpoint, ["frame"]) as subscriber,
    ):
        publisher.wait_for_subscriber("frame", stop, 5.0)
        publisher.send(msgspec.structs.replace(frame(0), slot=Slot(1, 1, 5, 1)), b"")
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(BusError, match=r"process 1 cannot be read .*Permission denied.*capture\.slots=0"):
            subscriber.receive(WAIT_MS)
