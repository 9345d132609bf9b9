"""What a teacher said of a picture, kept by content: the same picture is never shown to the same teacher twice.

One SQLite file; every few pictures are committed together, so that an interrupted labelling loses seconds at most and
goes on where it stopped. The key is what an answer depends on, so nothing in the file can be out of date. Imports
nothing but numpy, since the teacher's environment has little else.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_COMMIT_EVERY = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """Scores of one picture by name, and measures; both empty where no face was found."""

    scores: dict[str, float]
    measures: tuple[float, ...]


class KeptLabels:
    """Answers by picture. rule: everything else that an answer depends on. Not for several threads; several processes
    may share the file."""

    def __init__(self, base: sqlite3.Connection, rule: str) -> None:
        self._base, self._rule = base, rule.encode()
        self._pending = 0

    def get(self, picture: npt.NDArray[np.uint8]) -> Seen | None:
        """The answer; None if the picture was never shown."""
        row = self._base.execute("SELECT seen FROM labels WHERE key = ?", (self._key(picture),)).fetchone()
        if row is None:
            return None
        scores, measures = json.loads(row[0])
        return Seen(scores, tuple(measures))

    def put(self, picture: npt.NDArray[np.uint8], seen: Seen) -> None:
        """Keep an answer; JSON holds a float to the last bit."""
        text = json.dumps([seen.scores, seen.measures])
        self._base.execute("INSERT OR REPLACE INTO labels VALUES (?, ?)", (self._key(picture), text))
        self._pending += 1
        if self._pending >= _COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        """What was put so far survives whatever happens next."""
        self._base.commit()
        self._pending = 0

    def _key(self, picture: npt.NDArray[np.uint8]) -> bytes:
        shape = " ".join(map(str, picture.shape)).encode()
        return hashlib.sha256(self._rule + b"\0" + shape + b"\0" + picture.tobytes()).digest()


@contextmanager
def open_labels(path: Path, rule: str) -> Iterator[KeptLabels]:
    """The labels in a file, which is made if it is not there. Raises sqlite3.Error or OSError if it cannot be used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(path, timeout=60.0)
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("CREATE TABLE IF NOT EXISTS labels (key BLOB PRIMARY KEY, seen TEXT)")
        labels = KeptLabels(base, rule)
        try:
            yield labels
        finally:
            labels.commit()
    finally:
        base.close()
