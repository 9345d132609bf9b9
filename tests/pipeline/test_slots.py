"""Pictures in shared memory: none changes while it is read, and none is taken for another."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.slots import Plane, Slot, SlotReader, SlotWriter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")

HIGH, WIDE = 6, 10
SPAWN = multiprocessing.get_context("spawn")


def written(writer: SlotWriter, level: int, size_px: tuple[int, int] = (HIGH, WIDE)) -> Slot:
    room = writer.room(*size_px)
    assert room is not None
    room[:] = level
    return writer.filled()


def borrowed(reader: SlotReader, slot: Slot, size_px: tuple[int, int] = (HIGH, WIDE)) -> Plane:
    view = reader.borrow(slot, size_px[0] * size_px[1])
    assert view is not None
    return np.frombuffer(view, np.uint8).reshape(size_px)


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_picture_is_read_where_it_was_written() -> None:
    writer, reader = SlotWriter(3), SlotReader()
    for level in range(10):
        picture = borrowed(reader, written(writer, level))
        assert (picture == level).all()
        assert not picture.flags.writeable


def test_a_picture_stays_while_anything_views_it() -> None:
    writer, reader = SlotWriter(3), SlotReader()
    part = borrowed(reader, written(writer, 50))[1:3, ::2]
    gc.collect()
    for level in range(20):
        written(writer, level)
    assert (part == 50).all()
    fds = {written(writer, 0).fd for _ in range(6)}
    assert len(fds) == 2, "the slot that is read is left out"
    del part
    assert len({written(writer, 0).fd for _ in range(6)}) == 3, "it is used again"


def test_a_reader_that_comes_too_late_finds_nothing() -> None:
    writer, reader = SlotWriter(3), SlotReader()
    early = written(writer, 1)
    for level in range(2):
        written(writer, level)
    assert reader.borrow(early, HIGH * WIDE) is not None, "two newer pictures have slots of their own"
    written(writer, 9)
    assert reader.borrow(early, HIGH * WIDE) is None


def test_a_picture_that_is_being_written_is_not_read() -> None:
    writer, reader = SlotWriter(1), SlotReader()
    slot = written(writer, 1)
    assert reader.borrow(slot, HIGH * WIDE) is not None
    assert writer.room(HIGH, WIDE) is not None
    assert reader.borrow(slot, HIGH * WIDE) is None


def test_there_is_no_room_while_all_slots_are_read() -> None:
    writer, reader = SlotWriter(2), SlotReader()
    held = [borrowed(reader, written(writer, level)) for level in range(2)]
    assert writer.room(HIGH, WIDE) is None
    assert [int(picture[0, 0]) for picture in held] == [0, 1]
    held.pop()
    assert writer.room(HIGH, WIDE) is not None


def test_several_readers_hold_one_picture() -> None:
    writer, readers = SlotWriter(1), (SlotReader(), SlotReader())
    slot = written(writer, 5)
    first, second = (borrowed(reader, slot) for reader in readers)
    del first
    assert writer.room(HIGH, WIDE) is None
    assert (second == 5).all()
    del second
    assert writer.room(HIGH, WIDE) is not None


def test_pictures_of_another_size_have_slots_of_their_own() -> None:
    writer, reader = SlotWriter(2), SlotReader()
    old = written(writer, 1)
    held = borrowed(reader, old)
    large = written(writer, 2, (40, 200))
    assert (borrowed(reader, large, (40, 200)) == 2).all()
    assert (held == 1).all()
    assert reader.borrow(old, HIGH * WIDE) is None, "its descriptor may be another's by now"
    small = written(writer, 3)
    assert (borrowed(reader, small) == 3).all()


def test_a_picture_of_before_is_not_taken_for_another_where_a_descriptor_is_used_again() -> None:
    writer, reader = SlotWriter(1), SlotReader()
    earlier: list[Slot] = []
    for number in range(6):
        size_px = (HIGH + number % 2, WIDE)
        slot = written(writer, number, size_px)
        assert all(reader.borrow(each, HIGH * WIDE) is None for each in earlier)
        earlier.append(slot)
    assert len({slot.fd for slot in earlier}) < len(earlier), "they are used again"


def test_more_than_a_slot_holds_is_refused() -> None:
    writer, reader = SlotWriter(1), SlotReader()
    assert reader.borrow(written(writer, 1), 10 * os.sysconf("SC_PAGESIZE")) is None


@given(pid=st.integers(-3, 70_000) | st.just(os.getpid()), fd=st.integers(-1, 300), turn=st.integers(0, 3))
def test_what_is_no_slot_is_no_picture(pid: int, fd: int, turn: int) -> None:
    try:
        assert SlotReader().borrow(Slot(pid, 0, fd, turn), 60) is None
    except PermissionError:
        assert pid != os.getpid()


def test_a_reader_that_finds_no_picture_for_long_says_so() -> None:
    """As where other processes cannot be looked into; one that is started anew finds nothing for a moment only."""
    writer, reader = SlotWriter(2), SlotReader()
    nobody = Slot(-1, 1, 5, 1)
    for _ in range(3):
        for _ in range(40):
            assert reader.borrow(nobody, HIGH * WIDE) is None
        assert (borrowed(reader, written(writer, 3)) == 3).all()
    with pytest.raises(FileNotFoundError):
        for _ in range(100):
            assert reader.borrow(nobody, HIGH * WIDE) is None


def test_memory_and_descriptors_are_given_back() -> None:
    before = open_files()
    writer, reader = SlotWriter(4), SlotReader()
    for number in range(50):
        size_px = (HIGH + number, WIDE)
        view = borrowed(reader, written(writer, 1, size_px), size_px)
    assert open_files() <= before + 2 * (4 + 1), "of earlier sizes nothing is left; a mapping has a descriptor as well"
    del writer, reader
    assert (view == 1).all()
    del view
    assert open_files() == before


@pytest.mark.parametrize("failing", ["memfd_create", "ftruncate"])
def test_without_memory_pictures_travel(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(24, "Too many open files")

    before = open_files()
    monkeypatch.setattr(os, failing, refuse)
    assert SlotWriter(2).room(HIGH, WIDE) is None
    assert open_files() == before


def test_without_slots_pictures_travel() -> None:
    assert SlotWriter(0).room(HIGH, WIDE) is None


def test_elsewhere_than_on_linux_pictures_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert SlotWriter(2).room(HIGH, WIDE) is None


def _write_on(slots: Connection, size_px: tuple[int, int]) -> None:
    writer, number = SlotWriter(3), 0
    while not slots.poll():
        room = writer.room(*size_px)
        if room is not None:
            number = (number + 1) % 251
            room[:] = number
            slots.send((number, writer.filled()))
    slots.recv()
    slots.send(None)
    slots.recv()


def test_between_processes_no_picture_is_ever_torn() -> None:
    """The writer does not wait for the reader, as a camera does not."""
    size_px = (480, 640)
    slots, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_write_on, args=(theirs, size_px), daemon=True)
    process.start()
    theirs.close()
    reader, read, late = SlotReader(), 0, 0
    held: list[tuple[int, Plane]] = []
    while read < 300:
        level, slot = slots.recv()
        while slots.poll() and late % 2:  # every second time what waits longest, which is gone more often
            level, slot = slots.recv()
        view = reader.borrow(slot, size_px[0] * size_px[1])
        if view is None:
            late += 1
            continue
        read += 1
        held = [*held[-1:], (level, np.frombuffer(view, np.uint8))]
        for wanted, picture in held:
            assert (picture == wanted).all()
    slots.send("enough")
    while slots.recv() is not None:
        pass
    process.kill()
    process.join()
    level, last = held[-1]
    assert (last == level).all(), "a picture outlives its sender"
    assert SlotReader().borrow(slot, size_px[0] * size_px[1]) is None, "nobody finds it any more"


def _read_one(slot: Slot, answers: Connection) -> None:
    view = SlotReader().borrow(slot, HIGH * WIDE)
    answers.send(view is not None)
    answers.recv()


def test_a_reader_that_is_killed_holds_nothing() -> None:
    writer = SlotWriter(1)
    answers, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_read_one, args=(written(writer, 1), theirs), daemon=True)
    process.start()
    assert answers.recv()
    assert writer.room(HIGH, WIDE) is None
    process.kill()
    process.join()
    assert writer.room(HIGH, WIDE) is not None
