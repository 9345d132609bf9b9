"""Files that only grow, by whole pieces, and a queue in front of each for the time in which its disk is full."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
PIECE_ITEMS = 512  # a long queue is written piece by piece, so that a little room takes at least a part of it


class AppendFile:
    """A piece is in the file as a whole and safe from a crash, or not at all. Not for more than one thread."""

    def __init__(self, path: Path, size_bytes: int = 0) -> None:
        """Opens or creates the file and cuts it to its first `size_bytes`. Raises OSError."""
        self.size_bytes = size_bytes
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        os.ftruncate(self._fd, size_bytes)

    def append(self, piece: bytes) -> None:
        """Raises OSError if there is no room, or the disk fails; the file is then as it was."""
        try:
            os.ftruncate(self._fd, self.size_bytes)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # the next append cuts again
                os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += len(piece)

    def close(self) -> None:
        """Calling it once is enough and allowed."""
        os.close(self._fd)


class Queue(Generic[T]):
    """Items on their way into a file. When `limit` of them wait, a new one displaces the oldest, which is lost."""

    def __init__(self, file: AppendFile, encode: Callable[[Sequence[T]], bytes], limit: int, written: int = 0) -> None:
        """`written`: how many items the file holds already."""
        self.file = file
        self.written = written
        self.lost = 0
        self._encode = encode
        self._limit = limit
        self._items: deque[T] = deque()

    @property
    def waiting(self) -> int:
        """Items that are not in the file yet."""
        return len(self._items)

    def add(self, item: T) -> None:
        """Takes the item; `flush` writes it."""
        if len(self._items) == self._limit:
            self._items.popleft()
            self.lost += 1
        self._items.append(item)

    def flush(self) -> None:
        """Writes what waits, oldest first. Raises OSError; what did not get into the file still waits."""
        while self._items:
            piece = list(islice(self._items, PIECE_ITEMS))
            self.file.append(self._encode(piece))
            for _ in piece:
                self._items.popleft()
            self.written += len(piece)
