"""Frames wait for their sound, in order, and no longer than they have to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus import Received
from pipeline.held import Held
from pipeline.messages import FramePacket, StreamEnd

MS = 1_000_000


def frame(seq: int, t_ms: int) -> Received:
    packet = FramePacket(
        session="s", source="camera-0", seq=seq, t_capture_ns=t_ms * MS, t_send_ns=t_ms * MS, width_px=8, height_px=8
    )
    return Received(packet, None)


END = Received(StreamEnd(session="s", source="camera-0", seq=3, stream="video", reason="end_of_file"), None)


def test_without_a_lag_nothing_waits() -> None:
    held = Held()
    assert not held.waits
    held.add(frame(0, 0))
    found = held.next(lambda _: False, 0)
    assert found is not None and found.message.seq == 0
    assert held.next(lambda _: False, 0) is None


def test_a_frame_waits_until_its_sound_is_there_and_the_end_waits_for_the_frames() -> None:
    held = Held(100 * MS)
    for item in (frame(0, 0), frame(1, 33), END):
        held.add(item)
    assert held.next(lambda _: False, 50 * MS) is None
    first = held.next(lambda t_ns: t_ns <= 10 * MS, 130 * MS)
    assert first is not None and first.message.seq == 0 and not held.more
    assert held.next(lambda t_ns: t_ns <= 10 * MS, 130 * MS) is None
    second = held.next(lambda _: True, 160 * MS)
    assert second is not None and second.message.seq == 1
    assert held.next(lambda _: True, 160 * MS) is END


def test_sound_that_never_comes_is_not_waited_for_for_ever() -> None:
    held = Held(100 * MS)
    held.add(frame(0, 0))
    assert held.next(lambda _: False, 349 * MS) is None
    assert held.next(lambda _: False, 350 * MS) is not None


@given(st.integers(1, 20))
def test_a_worker_that_is_too_slow_takes_the_newest(count: int) -> None:
    held = Held(100 * MS)
    for seq in range(count):
        held.add(frame(seq, 33 * seq))
    found = held.next(lambda _: True, 10_000 * MS)
    assert found is not None and found.message.seq == max(0, count - 2)
    assert held.more == (count > 1)
