"""AU labels of other programs laid over prepared crops, row by row, so that training reads them like a teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from training.data.features import Angles, FeatureTable, read_csv
from training.data.pictures import DataError
from training.data.samples import Samples

NEAREST_S = 0.1
"""A frame takes the row that is nearest in time, if it is as near as this."""


def read_tables(path: Path, angles: Angles = "auto") -> dict[str, FeatureTable]:
    """Tables by name: of a folder every CSV by its stem, as OpenFace writes one a picture or video; of a file that
    names its pictures the rows of each; else the file's rows under "". Raises DataError if there is none.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.csv"))
        if not files:
            raise DataError(f"{path} holds no CSV file")
        stems = [file.stem for file in files]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None) if len(set(stems)) < len(stems) else None
        if twice is not None:
            raise DataError(f"{path} holds two files {twice}.csv; the labels of a picture must be in one")
        return {file.stem: read_csv(file, angles) for file in files}
    table = read_csv(path, angles)
    if not table.names.any():
        return {"": table}
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in table.names]
    rows: dict[str, list[int]] = {}
    for row, stem in enumerate(stems):
        rows.setdefault(stem, []).append(row)
    return {stem: _take(table, np.array(places)) for stem, places in rows.items()}


def lay_over(samples: Samples, tables: Mapping[str, FeatureTable], *, allow_missing: bool = False) -> Samples:
    """The samples with the tables' concepts and weights; what the samples had is replaced.

    A table under "" is taken row by row and must have as many rows. Otherwise each sample takes the table named like
    its picture or video: of a picture the row of a found face, of a video the row nearest in time. A row without
    labels weighs nothing. Raises DataError naming a sample without labels (unless allow_missing) or a table whose
    picture is not among the samples.
    """
    if set(tables) == {""}:
        table = tables[""]
        if len(table) != len(samples):
            raise DataError(f"the labels have {len(table)} rows, there are {len(samples)} crops, and no names to match")
        return replace(samples, concepts=table.activations, weights=table.weights)
    if not samples.names.any():
        raise DataError("the prepared file is of an earlier version and does not name its pictures; prepare it again")
    stems = [PurePosixPath(str(name).rpartition("@")[0] or str(name)).stem for name in samples.names]
    strange = sorted(set(tables) - set(stems))
    if strange:
        raise DataError(f"labels for {strange[0]!r}: no such picture was prepared ({len(strange)} in all)")
    concepts, weights = np.zeros_like(samples.concepts), np.zeros_like(samples.weights)
    for row, (stem, name) in enumerate(zip(stems, samples.names, strict=True)):
        own = tables.get(stem)
        at = None if own is None else _row_for(own, str(name))
        if own is not None and at is not None:
            concepts[row], weights[row] = own.activations[at], own.weights[at]
        elif not allow_missing:
            raise DataError(f"{name}: has no AU labels (--allow-missing leaves such pictures without)")
    return replace(samples, concepts=concepts, weights=weights)


def _row_for(table: FeatureTable, name: str) -> int | None:
    """The row of a table that belongs to a picture, or to the moment of a video that `name` ends with."""
    _, at, seconds = name.rpartition("@")
    if not at:
        return int(np.argmax(table.found)) if len(table) else None
    away = np.abs(table.times_s - float(seconds))
    if np.isnan(away).all():
        raise DataError(f"{name}: its table has no column timestamp, so a frame cannot be found in it")
    nearest = int(np.nanargmin(away))
    return nearest if away[nearest] <= NEAREST_S else None


def _take(table: FeatureTable, rows: npt.NDArray[np.int64]) -> FeatureTable:
    return FeatureTable(*(getattr(table, name)[rows] for name in FeatureTable.__slots__))
