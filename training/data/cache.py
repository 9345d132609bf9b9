"""Face crops kept by content: the same picture, cut by the same rule with the same detector, is never cut twice.

One SQLite file; every few crops are committed together, so that an interrupted preparation loses seconds at most and
goes on where it stopped. The key is what the crop is made of, so nothing in the file can be out of date.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.preprocess import TEMPLATE, Luma, Points
from training.data.pictures import DataError

_COMMIT_EVERY = 64
_VERSION = b"crop-1"
"""Changes when the way from a picture to its crop changes."""


@dataclass(frozen=True, slots=True, eq=False)
class CropRule:
    """All that a crop depends on besides its picture. shares: see pictures.cut_crops."""

    size_px: int
    margin_px: int
    shares: Points
    detector_sha256: str

    def digest(self) -> bytes:
        """Different for different rules."""
        parts = f"{self.size_px} {self.margin_px} {self.detector_sha256}".encode()
        return hashlib.sha256(_VERSION + parts + self.shares.tobytes() + TEMPLATE.tobytes()).digest()


def key_of(luma: Luma, rule: bytes) -> bytes:
    """The name of a picture's crop under a rule's digest."""
    shape = f"{luma.shape[0]} {luma.shape[1]} ".encode()
    return hashlib.sha256(rule + shape + np.ascontiguousarray(luma).data).digest()


class CropCache:
    """Crops by key. Not for several threads; several processes may share the file."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        self._pending = 0

    def get(self, key: bytes) -> tuple[Luma, bool] | None:
        """The crop, and whether a face was found in its picture; None if it was never cut."""
        row = self._base.execute("SELECT found, png FROM crops WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        crop = cv2.imdecode(np.frombuffer(row[1], np.uint8), cv2.IMREAD_GRAYSCALE)
        return None if crop is None else (np.asarray(crop, np.uint8), bool(row[0]))

    def put(self, key: bytes, crop: Luma, *, found: bool) -> None:
        """Keep a crop; PNG, so that not a bit is lost."""
        png = cv2.imencode(".png", crop)[1].tobytes()
        self._base.execute("INSERT OR REPLACE INTO crops VALUES (?, ?, ?)", (key, found, png))
        self._pending += 1
        if self._pending >= _COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        """What was put so far survives whatever happens next."""
        self._base.commit()
        self._pending = 0


@contextmanager
def open_cache(path: Path) -> Iterator[CropCache]:
    """The cache in a file, which is made if it is not there. Raises DataError if it cannot be used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"crop cache {path}: {error.strerror or error}") from error
    try:
        base = sqlite3.connect(path, timeout=60.0)
        try:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("CREATE TABLE IF NOT EXISTS crops (key BLOB PRIMARY KEY, found INTEGER, png BLOB)")
            cache = CropCache(base)
            try:
                yield cache
            finally:
                cache.commit()
        finally:
            base.close()
    except sqlite3.Error as error:
        raise DataError(f"crop cache {path}: {error}; free some space, or delete the file") from error
