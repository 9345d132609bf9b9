"""Pictures in memory that processes of one machine share: a message says where its picture lies, and nothing is copied.

A writer fills a few slots in turn. Whoever reads one holds its lock (flock), and it is not filled anew; where all are
being read, a picture travels in its message. The memory has no name in the file system and goes with the last process
that has it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
import weakref
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

if sys.platform == "linux":
    import fcntl

_HEADER_BYTES: Final = mmap.PAGESIZE  # the turn, then a picture that begins with a page
_PATIENCE: Final = 50

Plane = NDArray[np.uint8]


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a picture lies: in the memory that process `pid` made at `made_ns` and has at descriptor `fd`, as long as
    that is in its `turn`."""

    pid: int
    made_ns: int
    fd: int
    turn: int


class SlotWriter:
    """The slots of one sender; made when the first picture comes, and anew for pictures of another size.

    count: how many there are. A reader that comes as many pictures late finds its picture gone.
    """

    def __init__(self, count: int) -> None:
        # Others reach memory without a name through /proc.
        self._count = count if sys.platform == "linux" and Path("/proc/self/fd").is_dir() else 0
        self._slots: list[_Memory] = []
        self._shape = (0, 0)
        self._made_ns = 0
        self._at = self._turn = 0

    def room(self, height_px: int, width_px: int) -> Plane | None:
        """Where the next picture [H, W] is to be written, before `filled` is called. None where all slots are being
        read, or this system has none."""
        if self._shape != (height_px, width_px):
            self._shape = (height_px, width_px)
            self._made_ns = time.monotonic_ns()
            self._slots = _made(self._count, height_px * width_px)
        for _ in self._slots:
            self._at = (self._at + 1) % self._count
            slot = self._slots[self._at]
            if slot.lock(fcntl.LOCK_EX):
                self._turn += 1  # no two pictures of a sender have the same: descriptors are used again
                slot.turn[0] = self._turn
                return slot.plane(height_px * width_px).reshape(self._shape)
        return None

    def filled(self) -> Slot:
        """Where the picture lies that was written to what `room` gave last."""
        slot = self._slots[self._at]
        slot.unlock()
        return Slot(os.getpid(), self._made_ns, slot.fd, self._turn)


class SlotReader:
    """Borrows pictures from the slots of a sender, each once."""

    def __init__(self) -> None:
        self._set = (0, 0)
        self._seen: dict[int, _Memory] = {}
        self._missed = 0

    def borrow(self, slot: Slot, size_bytes: int) -> memoryview | None:
        """The picture, read-only, which stays as it is until nobody views it any more; None if it is gone.

        Raises OSError if this process may not read the sender's memory, or finds that of no picture for long.
        """
        if self._set != (slot.pid, slot.made_ns):
            self._set, self._seen = (slot.pid, slot.made_ns), {}
        try:
            memory = self._seen.get(slot.fd) or self._open(slot)
            plane = memory.plane(size_bytes)
        except ValueError:  # what is there now is something else
            return None
        except OSError as error:
            # Mostly its sender has gone, or has pictures of another size by now.
            self._missed += 1
            if isinstance(error, PermissionError) or self._missed > _PATIENCE:
                raise
            return None
        if not memory.lock(fcntl.LOCK_SH):  # it is being filled anew
            return None
        if memory.turn[0] != slot.turn:
            memory.unlock()
            return None
        # NumPy leaves out arrays between a view and its memory, and would not hold this one, but holds a memoryview.
        weakref.finalize(plane, memory.unlock)
        return plane.data

    def _open(self, slot: Slot) -> _Memory:
        memory = _Memory(os.open(f"/proc/{slot.pid}/fd/{slot.fd}", os.O_RDONLY | os.O_CLOEXEC), mmap.PROT_READ)
        self._seen[slot.fd] = memory
        self._missed = 0
        return memory


class _Memory:
    """One slot, mapped; its descriptor is closed when nothing needs it any more. size_bytes: of new memory."""

    def __init__(self, fd: int, access: int, size_bytes: int = 0) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)
        if size_bytes:
            os.ftruncate(fd, size_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # who reads what is gone would be ended
        self._map = mmap.mmap(fd, 0, prot=access)
        self.turn = np.frombuffer(self._map, np.uint64, 1)

    def plane(self, size_bytes: int) -> Plane:
        """Raises ValueError if there is less."""
        return np.frombuffer(self._map, np.uint8, size_bytes, _HEADER_BYTES)

    def lock(self, kind: int) -> bool:
        """Whether the lock could be had at once."""
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """For whoever waits for it."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)


def _made(count: int, size_bytes: int) -> list[_Memory]:
    """None where this process may not have so many."""
    flags, access = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING, mmap.PROT_READ | mmap.PROT_WRITE
    try:
        return [
            _Memory(os.memfd_create("agcm-live-picture", flags), access, _HEADER_BYTES + size_bytes)
            for _ in range(count)
        ]
    except OSError:
        return []
