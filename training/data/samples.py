"""Labelled training crops of any corpus in one frozen type, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.concepts import EXPRESSIONS, NAMES
from training.data.pictures import DataError, open_npz

F32 = npt.NDArray[np.float32]

MARGIN_PX = 16
"""Stored crops carry this much more on each side, so that augmentation can turn and shift them."""


@dataclass(frozen=True, slots=True)
class Samples:
    """crops uint8 [N, S, S]; found bool [N]; votes [N, 8] (NaN rows: unknown); concepts [N, K] and their weights
    (0: unknown); score [N] in [0, 1] (NaN: unknown); subjects [N] (-1: unknown); colour flags [N].
    """

    crops: npt.NDArray[np.uint8]
    found: npt.NDArray[np.bool_]
    votes: F32
    concepts: F32
    weights: F32
    score: F32
    subjects: npt.NDArray[np.int64]
    colour: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.crops)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Samples:
        """The given rows."""
        return Samples(*(getattr(self, name)[rows] for name in self.__slots__))


def blank(crops: npt.NDArray[np.uint8], found: npt.NDArray[np.bool_]) -> Samples:
    """Crops of which nothing is known yet."""
    n = len(crops)
    return Samples(
        crops,
        found,
        np.full((n, len(EXPRESSIONS)), np.nan, np.float32),
        np.zeros((n, len(NAMES)), np.float32),
        np.zeros((n, len(NAMES)), np.float32),
        np.full(n, np.nan, np.float32),
        np.full(n, -1, np.int64),
        np.zeros(n, bool),
    )


def join(parts: list[Samples]) -> Samples:
    """All rows of all parts."""
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Samples.__slots__))


def save(path: Path, samples: Samples) -> None:
    """Write atomically: an interrupted run leaves no half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{name: getattr(samples, name) for name in Samples.__slots__})
    partial.replace(path)


def load(path: Path) -> Samples:
    """Read a prepared file. Raises DataError naming what is missing."""
    if not path.is_file():
        raise DataError(f"prepared crops not found: {path}; run python -m training.prepare first")
    with open_npz(path, Samples.__slots__, "a prepared file") as file:
        return Samples(*(file[name] for name in Samples.__slots__))
