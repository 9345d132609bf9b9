"""FER+ (Barsoum et al. 2016): 48x48 grey faces, ten votes each.

Layout: a folder with `fer2013.csv` (Kaggle: emotion, pixels, Usage) and `fer2013new.csv` (microsoft/FERPlus: Usage,
Image name, ten columns of votes), whose rows are in the same order; a row without a name is no picture of FER+. Or the
same in one npz: `images` uint8 [N, 48, 48], `votes` uint8 [N, 10], `split` [N], `vote_columns` [10].

Two protocols are in use, and figures of one are no figures of the other. Most later work keeps every picture whose most
votes are for one of the eight expressions. The authors, and all who compare with their VGG13 (84.99 %), keep a picture
only if annotators agree: votes that stand alone are dropped first, then one expression must have more than half of the
votes that are left (their `src/ferplus.py`, mode "majority", which their `src/train.py` uses for valid and test).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.preprocess import Points
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError, open_npz

# Mean of the detected points over the training split, as shares of the picture.
POINT_SHARES: Points = np.array(
    [[0.317, 0.400], [0.669, 0.394], [0.490, 0.596], [0.365, 0.756], [0.645, 0.750]], dtype=np.float32
)
_USAGES = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
_COLUMNS = {"NF": "not_face"}
_Parts = tuple[npt.NDArray[np.str_], list[str], npt.NDArray[np.float32], npt.NDArray[np.uint8]]
"""Split of each picture, names of the columns of votes, votes [N, 10], pictures [N, 48, 48]."""
_KEYS = ("images", "votes", "split", "vote_columns")


@dataclass(frozen=True, slots=True)
class FerPlus:
    """Pictures uint8 [N, 48, 48]; votes float32 [N, 8] summing to 1; how many annotators voted for each column [N, 10];
    class with the most votes int [N]; whether the authors' protocol keeps the picture bool [N]; row numbers [N]."""

    pictures: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    majority: npt.NDArray[np.int64]
    agreed: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]


def load(path: Path, split: str) -> FerPlus:
    """One split of a folder with the two CSV files, of an npz, or of a folder with `ferplus.npz`. Raises DataError if
    the split or a file is not there, or if the files do not belong together."""
    packed = path / "ferplus.npz"
    names, columns, votes, pictures = (
        _from_csv(path) if path.is_dir() and not packed.is_file() else _from_npz(packed if path.is_dir() else path)
    )
    if split not in names:
        raise DataError(f"{path} has no split {split!r} (it has {', '.join(sorted(set(names.tolist())))})")
    if not len(pictures) == len(votes) == len(names):
        raise DataError(f"{path}: {len(pictures)} images, {len(votes)} votes and {len(names)} splits; one each needed")
    if len(columns) != votes.shape[1]:
        raise DataError(f"{path}: {votes.shape[1]} columns of votes, vote_columns names {len(columns)}")
    if tuple(columns[: len(EXPRESSIONS)]) != EXPRESSIONS:
        raise DataError(f"{path}: vote columns are {columns}, expected {list(EXPRESSIONS)} first")
    expressive = (votes.argmax(1) < len(EXPRESSIONS)) & votes.any(1)
    rows = np.nonzero((names == split) & expressive)[0]
    kept = votes[rows, : len(EXPRESSIONS)]
    agreed = is_agreed(votes[rows])
    shares, counts = kept / kept.sum(1, keepdims=True), votes[rows].astype(np.int64)
    return FerPlus(pictures[rows], shares, counts, kept.argmax(1), agreed, rows)


def is_agreed(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which rows of votes [N, 10] have one expression with more than half of the votes that do not stand alone."""
    counted = np.where(votes > 1, votes, 0)
    clear = counted.max(1) > counted.sum(1) / 2
    return np.asarray(clear & (counted.argmax(1) < len(EXPRESSIONS)))


def _from_npz(path: Path) -> _Parts:
    if not path.is_file():
        raise DataError(f"FER+ file not found: {path}")
    with open_npz(path, _KEYS, "in the FER+ layout") as file:
        columns = [str(name) for name in file["vote_columns"]]
        return file["split"].astype(str), columns, file["votes"].astype(np.float32), file["images"]


def _from_csv(folder: Path) -> _Parts:
    labels, pictures = (
        _rows(folder / name, needed)
        for name, needed in (("fer2013new.csv", ("Usage", "Image name")), ("fer2013.csv", ("pixels", "Usage")))
    )
    columns = [_COLUMNS.get(name, name) for name in next(labels)[1][2:]]
    head = next(pictures)[1]
    pixels, usage = head.index("pixels"), head.index("Usage")
    splits, votes, images = [], [], []
    for one, other in zip_longest(labels, pictures):
        if one is None or other is None:
            line = (one or other)[0]
            raise DataError(
                f"{folder}: fer2013new.csv and fer2013.csv have not as many rows; one ends before line {line}"
            )
        (line, label), (other_line, picture) = one, other
        if label[0] != picture[usage] or label[0] not in _USAGES:
            where = f"line {line} of fer2013new.csv and line {other_line} of fer2013.csv"
            raise DataError(f"{folder}: {where} are of {label[0]!r} and {picture[usage]!r}; they belong to one picture")
        if not label[1]:
            continue
        splits.append(_USAGES[label[0]])
        votes.append(_numbers(label[2:], len(columns), folder / "fer2013new.csv", line))
        images.append(_numbers(picture[pixels].split(), 48 * 48, folder / "fer2013.csv", other_line).reshape(48, 48))
    if not images:
        raise DataError(f"{folder}: no row of fer2013new.csv names a picture")
    return np.array(splits), columns, np.stack(votes).astype(np.float32), np.stack(images)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells, the names of the columns first. Raises DataError if the file is not there or another."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            if missing := [name for name in needed if name not in names]:
                raise DataError(f"{path} has no column {missing[0]!r}")
            yield 1, names
            for row in reader:
                if len(row) != len(names):
                    raise DataError(f"{path}, line {reader.line_num}: {len(row)} cells, {len(names)} columns")
                yield reader.line_num, [cell.strip() for cell in row]
    except FileNotFoundError as error:
        raise DataError(f"FER+ file not found: {path}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _numbers(cells: list[str], count: int, path: Path, line: int) -> npt.NDArray[np.uint8]:
    """Cells as numbers from 0 to 255."""
    try:
        found = np.array(cells, np.int64)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {error}") from error
    if len(found) != count or found.min() < 0 or found.max() > 255:
        raise DataError(f"{path}, line {line}: {count} numbers from 0 to 255 are needed")
    return found.astype(np.uint8)
