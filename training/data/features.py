"""AU, head and gaze columns of other programs -> our concepts: OpenFace 2, Py-Feat, and this project's own export.

What is sure of each format, and where from:

OpenFace 2 (its wiki's page "Output Format"): AU01_r .. AU45_r are intensities 0 to 5, AU01_c .. AU45_c presence 0 or
1 (AU28 has presence only); success is 0 or 1, confidence 0 to 1; column names may begin with a space. pose_Rx, pose_Ry
are radians about x (right in the picture) and y (down), R = Rx Ry Rz with z away from the camera: a head that looks up
has a negative pose_Rx, one turned to the person's own right a positive pose_Ry (the maintainers' tracker says the same,
issue 966). gaze_angle_x, gaze_angle_y are radians in the same axes, of the eyes in the room: positive to the person's
own left, and down. Ours is the eye in the head, so the head's angle is taken off; without head columns gaze is unknown.

Py-Feat: AU01 .. AU43 from 0 to 1; AU43, eyes closed, is our AU45; FaceScore from 0 to 1, empty without a face. Pitch
and Yaw: degrees, positive up and to the person's own right, by the code of versions up to 0.6; version 0.7 wrote
radians (issue 248), so where no angle exceeds 3.2 the unit must be said (`angles`). Py-Feat has no gaze column here.

`pipeline.export --to openface` writes OpenFace's names without pose and gaze; `--to csv` writes AU1_activation and so
on, which are activations already.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.concepts import INDEX, NAMES, PITCH_FULL_DEG, YAW_FULL_DEG
from training.data.corpus import need_file
from training.data.pictures import DataError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Angles = Literal["auto", "degrees", "radians", "ignore"]

GAZE_SIDE_FULL_DEG, GAZE_HEIGHT_FULL_DEG = 30.0, 25.0
"""Eye angles at which a gaze concept is 1, as training.concepts states them."""
MIN_CONFIDENCE = 0.7
"""Rows of less confidence count as not found; OpenFace's tracker has mostly lost the face below it."""
OPENFACE_FULL = 5.0
_RADIANS_AT_MOST = 3.2
_OPENFACE_R = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
_OPENFACE_C = (*_OPENFACE_R[:-1], 28, 45)
_TEXTS = frozenset(("input", "name", "file", "status"))
_NUMBERS = re.compile(
    r"AU\d\d(_[rc])?|\w+_activation|pose_R[xyz]|gaze_angle_[xy]|confidence|success|timestamp|FaceScore|Pitch|Yaw"
)
"""Columns that are read; what else a table has, such as Py-Feat's approx_time, may be anything."""
_AUS = tuple(int(name.removeprefix("AU")) for name in NAMES if name.startswith("AU"))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """activations [T, K] in [0, 1] and weights [T, K], 0 where a concept has no column or the row no face;
    found bool [T]; names [T], the picture of a row ("": the table does not say); times_s [T] (NaN: it does not say).
    """

    activations: F32
    weights: F32
    found: npt.NDArray[np.bool_]
    names: npt.NDArray[np.str_]
    times_s: F64

    def __len__(self) -> int:
        return len(self.found)


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """What is read of a table. numbers: [T] by column, NaN where a cell is empty; texts: the columns of words; header:
    all names."""

    path: Path
    count: int
    header: tuple[str, ...]
    numbers: Mapping[str, F64]
    texts: Mapping[str, tuple[str, ...]]

    def need(self, format_name: str, *columns: str) -> None:
        missing = [name for name in columns if name not in self.numbers]
        if missing:
            raise DataError(f"{self.path} looks like a table of {format_name} but has no column {', '.join(missing)}")


def read_csv(path: Path, angles: Angles = "auto") -> FeatureTable:
    """A table of any of the three formats, told apart by its column names. angles: unit of Py-Feat's head columns.

    Raises DataError naming the file and what it lacks, or the line and column that hold no number.
    """
    sheet = _read(need_file(path, "AU labels"))
    has = sheet.numbers
    if any(f"AU{au:02d}_{kind}" in has for au in _AUS for kind in "rc"):
        return _openface(sheet)
    if any(f"AU{au:02d}" in has for au in _AUS):
        return _pyfeat(sheet, angles)
    if any(f"{name}_activation" in has for name in NAMES):
        return _own(sheet)
    raise DataError(
        f"{path} has no AU columns: expected AU01_r (OpenFace), AU01 (Py-Feat) or AU1_activation (pipeline.export); "
        f"it has {', '.join(sheet.header[:6])}"
    )


def from_openface(values: F32, what: Path) -> FeatureTable:
    """OpenFace 2's numbers [T, 714] without a header, such as a feature stream. Raises DataError for another width."""
    columns = openface_columns()
    if values.ndim != 2 or values.shape[1] != len(columns):
        raise DataError(f"{what} has {values.shape[-1]} columns; OpenFace 2 writes {len(columns)}")
    numbers = {name: values[:, i].astype(np.float64) for i, name in enumerate(columns)}
    return _openface(_Sheet(what, len(values), columns, numbers, {}))


def openface_columns() -> tuple[str, ...]:
    """The 714 columns that OpenFace 2's FeatureExtraction writes, in its order (its wiki's page "Output Format")."""

    def numbered(*stems: str, count: int) -> list[str]:
        return [f"{stem}_{i}" for stem in stems for i in range(count)]

    return (
        "frame", "face_id", "timestamp", "confidence", "success",
        *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"), "gaze_angle_x", "gaze_angle_y",
        *numbered("eye_lmk_x", "eye_lmk_y", "eye_lmk_X", "eye_lmk_Y", "eye_lmk_Z", count=56),
        *(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"), *numbered("x", "y", "X", "Y", "Z", count=68),
        "p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty", *numbered("p", count=34),
        *(f"AU{au:02d}_r" for au in _OPENFACE_R), *(f"AU{au:02d}_c" for au in _OPENFACE_C),
    )  # fmt: skip


def _openface(sheet: _Sheet) -> FeatureTable:
    sheet.need("OpenFace", "confidence", "success")
    has = sheet.numbers
    found = (has["success"] == 1) & (has["confidence"] >= MIN_CONFIDENCE)
    given: dict[str, F64] = {}
    for au in _AUS:
        if f"AU{au:02d}_r" in has:
            given[f"AU{au}"] = has[f"AU{au:02d}_r"] / OPENFACE_FULL
        elif f"AU{au:02d}_c" in has:
            given[f"AU{au}"] = has[f"AU{au:02d}_c"]
    if "pose_Rx" in has and "pose_Ry" in has:
        left_deg, up_deg = -np.degrees(has["pose_Ry"]), -np.degrees(has["pose_Rx"])
        given |= _head(left_deg, up_deg)
        if "gaze_angle_x" in has and "gaze_angle_y" in has:
            given |= _gaze(np.degrees(has["gaze_angle_x"]) - left_deg, -np.degrees(has["gaze_angle_y"]) - up_deg)
    return _table(sheet, given, found)


def _pyfeat(sheet: _Sheet, angles: Angles) -> FeatureTable:
    sheet.need("Py-Feat", "FaceScore")
    has = sheet.numbers
    found = has["FaceScore"] >= MIN_CONFIDENCE
    given = {f"AU{au}": has[f"AU{au:02d}"] for au in _AUS if f"AU{au:02d}" in has}
    if "AU43" in has:
        given["AU45"] = has["AU43"]
    if angles != "ignore" and "Pitch" in has and "Yaw" in has:
        unit = _unit(sheet, angles)
        given |= _head(-has["Yaw"] * unit, has["Pitch"] * unit)
    return _table(sheet, given, found)


def _unit(sheet: _Sheet, angles: Angles) -> float:
    """Degrees in one unit of the head columns."""
    largest = np.nanmax(np.abs([*sheet.numbers["Pitch"], *sheet.numbers["Yaw"], 0.0]))
    if angles == "auto" and largest <= _RADIANS_AT_MOST:
        raise DataError(
            f"{sheet.path}: no head angle exceeds {largest:.2f}, so degrees and radians (Py-Feat 0.7) cannot be told "
            "apart; say --angles degrees, radians or ignore"
        )
    return float(np.degrees(1.0)) if angles == "radians" else 1.0


def _own(sheet: _Sheet) -> FeatureTable:
    given = {name: sheet.numbers[f"{name}_activation"] for name in NAMES if f"{name}_activation" in sheet.numbers}
    statuses = sheet.texts.get("status")
    if statuses is None:
        raise DataError(f"{sheet.path} looks like a table of pipeline.export but has no column status")
    return _table(sheet, given, np.array([status == "tracked" for status in statuses]))


def _head(left_deg: F64, up_deg: F64) -> dict[str, F64]:
    """Head concepts, not yet clipped; see training.concepts.head_concepts."""
    yaw, pitch = left_deg / YAW_FULL_DEG, up_deg / PITCH_FULL_DEG
    return {"head_left": yaw, "head_right": -yaw, "head_up": pitch, "head_down": -pitch}


def _gaze(left_deg: F64, up_deg: F64) -> dict[str, F64]:
    """Gaze concepts of eye angles in the head, not yet clipped."""
    side, height = left_deg / GAZE_SIDE_FULL_DEG, up_deg / GAZE_HEIGHT_FULL_DEG
    return {"gaze_left": side, "gaze_right": -side, "gaze_up": height, "gaze_down": -height}


def _table(sheet: _Sheet, given: Mapping[str, F64], found: npt.NDArray[np.bool_]) -> FeatureTable:
    activations = np.zeros((sheet.count, len(NAMES)), np.float32)
    weights = np.zeros_like(activations)
    for name, values in given.items():
        known = found & np.isfinite(values)
        activations[known, INDEX[name]] = np.clip(values[known], 0.0, 1.0)
        weights[known, INDEX[name]] = 1.0
    unsaid = tuple("" for _ in range(sheet.count))
    names = next((sheet.texts[key] for key in ("input", "name", "file") if key in sheet.texts), unsaid)
    times_s = sheet.numbers.get("timestamp", np.full(sheet.count, np.nan))
    return FeatureTable(activations, weights, found, np.array(names, np.str_), times_s)


def _read(path: Path) -> _Sheet:
    """The columns that concepts are made of. Raises DataError naming what is no number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file") from error
    if len(lines) < 2:
        raise DataError(f"{path} has no rows")
    header, *rows = lines
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}")
    numbers: dict[str, F64] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for name, cells in zip(map(str.strip, header), zip(*rows, strict=True), strict=True):
        if name in _TEXTS:
            texts[name] = tuple(cell.strip() for cell in cells)
        elif _NUMBERS.fullmatch(name):
            numbers[name] = np.array([_number(cell, path, i, name) for i, cell in enumerate(cells, start=2)])
    return _Sheet(path, len(rows), tuple(map(str.strip, header)), numbers, texts)


def _number(cell: str, path: Path, line: int, column: str) -> float:
    text = cell.strip()
    try:
        return float(text) if text else float("nan")
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {column} is {text!r}, no number") from error
