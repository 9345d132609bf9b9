"""Labelled training crops of any corpus in one frozen type, and how they are stored."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from engines.preprocess import Luma
from training.concepts import EXPRESSIONS, NAMES
from training.data.pictures import DataError, open_npz
from training.data.writing import replaced

F32 = npt.NDArray[np.float32]

MARGIN_PX = 16
"""Stored crops carry this much more on each side, so that augmentation can turn and shift them."""
_LATER = ("names",)
"""Arrays that files of earlier versions do not have; they load as unknown."""


@dataclass(frozen=True, slots=True)
class Samples:
    """crops uint8 [N, S, S]; found bool [N]; votes [N, 8] (NaN rows: unknown); concepts [N, K] and their weights
    (0: unknown); score [N] in [0, 1] (NaN: unknown); subjects [N] (-1: unknown); colour flags [N]; names [N] ("":
    unknown), a picture's path in its corpus, or CLIP@SECONDS for a frame of a video.
    """

    crops: npt.NDArray[np.uint8]
    found: npt.NDArray[np.bool_]
    votes: F32
    concepts: F32
    weights: F32
    score: F32
    subjects: npt.NDArray[np.int64]
    colour: npt.NDArray[np.bool_]
    names: npt.NDArray[np.str_]

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
        np.full(n, "", np.str_),
    )


def join(parts: list[Samples]) -> Samples:
    """All rows of all parts."""
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Samples.__slots__))


def save(path: Path, samples: Samples) -> None:
    """Write atomically: an interrupted run leaves no half a file. Raises DataError if it cannot be written."""
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, **{name: getattr(samples, name) for name in Samples.__slots__})


def load(path: Path) -> Samples:
    """Read a prepared file. Raises DataError naming what is missing, or what does not belong together."""
    if not path.is_file():
        raise DataError(f"prepared crops not found: {path}; run python -m training.prepare first")
    required = [name for name in Samples.__slots__ if name not in _LATER]
    with open_npz(path, required, "a prepared file") as file:
        arrays = {name: file[name] for name in required}
        names = file["names"] if "names" in file else np.full(len(arrays["found"]), "", np.str_)
    samples = Samples(**arrays, names=names)
    _check(path, samples)
    return samples


def _check(path: Path, samples: Samples) -> None:
    """Raises DataError naming an array that has not a row for every crop or not a column for every class or concept,
    or a concept label that counts and is no number."""
    columns = {"votes": len(EXPRESSIONS), "concepts": len(NAMES), "weights": len(NAMES)}
    for name in Samples.__slots__:
        if name == "crops":
            continue
        shape, wanted = getattr(samples, name).shape, (len(samples), *([columns[name]] if name in columns else []))
        if shape != wanted:
            raise DataError(f"{path}: {name} is {list(shape)}, {len(samples)} crops need {list(wanted)}; prepare again")
    wrong = np.argwhere((samples.weights > 0) & ~np.isfinite(samples.concepts))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(f"{path}: {NAMES[column]} of crop {row} ({samples.names[row]}) is no number")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One crop and what is known of it; the fields are those of Samples."""

    crop: Luma
    found: bool
    name: str
    votes: F32
    score: float = float("nan")
    subject: int = -1
    colour: bool = False


def save_rows(path: Path, rows: Iterable[Row], side_px: int) -> tuple[int, int]:
    """Write rows one by one, so that memory does not grow with the corpus; how many crops, how many with a face.

    The crops lie in a temporary file beside `path` until their number is known. Atomic like `save`. Raises DataError
    if there is not a single row or if the disk is full.
    """
    small: dict[str, list[object]] = {name: [] for name in ("found", "votes", "score", "subjects", "colour", "names")}
    with replaced(path) as partial, tempfile.TemporaryFile(dir=path.parent) as raw:
        for row in rows:
            raw.write(np.ascontiguousarray(row.crop).tobytes())
            values = (row.found, row.votes, row.score, row.subject, row.colour, row.name)
            for column, value in zip(small.values(), values, strict=True):
                column.append(value)
        count = len(small["found"])
        if count == 0:
            raise DataError(f"nothing to write to {path}: no picture could be used")
        raw.seek(0)
        _write_npz(partial, raw, (count, side_px, side_px), _columns(small, count))
    return count, int(np.sum(np.array(small["found"])))


def _columns(small: Mapping[str, list[object]], count: int) -> dict[str, npt.NDArray[np.generic]]:
    kinds = {
        "found": np.bool_, "votes": np.float32, "score": np.float32, "subjects": np.int64, "colour": np.bool_,
        "names": np.str_,
    }  # fmt: skip
    unknown = np.zeros((count, len(NAMES)), np.float32)
    arrays: dict[str, npt.NDArray[np.generic]] = {name: np.array(small[name], kinds[name]) for name in small}
    return {**arrays, "concepts": unknown, "weights": unknown}


def _write_npz(
    path: Path, raw: IO[bytes], shape: tuple[int, ...],
    arrays: Mapping[str, npt.NDArray[np.generic]],
) -> None:  # fmt: skip
    """The zip of npy files that np.load reads; the crops are copied from `raw` piece by piece."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("crops.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
