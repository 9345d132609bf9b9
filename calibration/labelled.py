"""A recorded session with labels: its table (`pipeline.export`) and what somebody says of its moments."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

F64 = npt.NDArray[np.float64]
Column = npt.NDArray[Any]
_NEEDED = ("t_capture_ns", "status", "face", "model")
_LABEL_COLUMNS = ("t_s", "engagement")


class LabelError(ValueError):
    """A table or its labels cannot be used; one line that names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One person's scored pictures in order. t_ns [T], of the file or of the capture; activation, share [T, K] of what
    is seen; heard [T, V], NaN where nothing was; label [T], NaN where there is none."""

    t_ns: npt.NDArray[np.int64]
    activation: F64
    share: F64
    heard: F64
    label: F64


def read(table: Path, labels: Path, seen: Sequence[str], heard: Sequence[str], model: str) -> Labelled:
    """seen, heard: names of the concepts; model: that the table must be of. Of several faces, the one that was scored
    most. Raises LabelError."""
    columns = _columns(table)
    wanted = [*_NEEDED, *(f"{name}_{part}" for name in seen for part in ("activation", "contribution"))]
    if missing := [name for name in wanted if name not in columns]:
        raise LabelError(f"{table}: no column {missing[0]}; make it with pipeline.export --to parquet or csv")
    models = set(map(str, np.unique(columns["model"].astype(str))))
    if models != {model}:
        raise LabelError(f"{table} was recorded with {', '.join(sorted(models)) or 'no model'}, and not with {model}")
    tracked, faces = columns["status"] == "tracked", columns["face"]
    if not tracked.any():
        raise LabelError(f"{table}: nobody was scored in it")
    ids, counts = np.unique(faces[tracked], return_counts=True)
    t_ns, start_ns = _times(columns)
    rows = np.flatnonzero(tracked & (faces == ids[counts.argmax()]))
    rows = rows[np.argsort(t_ns[rows], kind="stable")]
    known = [f"{name}_activation" for name in heard]

    def part(names: Sequence[str]) -> F64:
        found = [_numbers(columns[name], rows) if name in columns else np.full(len(rows), np.nan) for name in names]
        return np.stack(found, axis=1) if found else np.zeros((len(rows), 0))

    activation, share = (part([f"{name}_{kind}" for name in seen]) for kind in ("activation", "contribution"))
    return Labelled(
        t_ns[rows], activation, share, part(known), _at((t_ns[rows] - start_ns) / 1e9, *read_labels(labels))
    )


def _times(columns: Mapping[str, Column]) -> tuple[npt.NDArray[np.int64], int]:
    """Of all pictures, and of the first: in a file's own time, which no pace changes, where there is one."""
    media = columns.get("media_ns")
    if media is not None and media.dtype.kind == "i":  # where one is missing it is none
        return media.astype(np.int64), 0
    captured = columns["t_capture_ns"].astype(np.int64)
    return captured, int(captured.min())


def read_labels(path: Path) -> tuple[F64, F64]:
    """Times in seconds since the first picture, going forward, and labels, each of which holds until the next; an empty
    one says that from there on nothing is known. Raises LabelError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _LABEL_COLUMNS if name not in (reader.fieldnames or ())]:
                raise LabelError(f"{path}: no column {missing[0]}; labels have the columns t_s and engagement")
            lines = [(_number(path, row["t_s"]), _number(path, row["engagement"], empty=True)) for row in reader]
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} is no CSV file: {error}") from error
    t_s, label = (np.array(side, np.float64) for side in zip(*lines, strict=True)) if lines else (np.zeros(0),) * 2
    if np.isnan(label).all():
        raise LabelError(f"{path} holds no label")
    if (np.diff(t_s) <= 0).any():
        raise LabelError(f"{path}: t_s does not go forward at {t_s[1:][np.diff(t_s) <= 0][0]:g}")
    if np.nanmin(label) < 0 or np.nanmax(label) > 1:
        raise LabelError(f"{path}: engagement lies between 0 and 1, and not at {label[(label < 0) | (label > 1)][0]:g}")
    return t_s, label


def _at(wanted_s: F64, t_s: F64, label: F64) -> F64:
    """The label that holds at each time; NaN before the first."""
    place = np.searchsorted(t_s, wanted_s, side="right") - 1
    return np.where(place >= 0, label[np.maximum(place, 0)], np.nan)


def _number(path: Path, text: str | None, *, empty: bool = False) -> float:
    if empty and not (text or "").strip():
        return math.nan
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelError(f"{path}: {text!r} is no number")
    return value


def _columns(path: Path) -> Mapping[str, Column]:
    """The table, column by column."""
    try:
        table = pa.csv.read_csv(path) if path.suffix == ".csv" else pa.parquet.read_table(path)
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror or error}") from error
    except pa.ArrowInvalid as error:
        raise LabelError(f"{path} is no table: {str(error).splitlines()[0]}") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def _numbers(column: Column, rows: npt.NDArray[np.intp]) -> F64:
    return column[rows].astype(np.float64)
