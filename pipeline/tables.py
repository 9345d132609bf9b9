"""Recorded results as flat tables: which columns there are, and what each holds for one result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipeline.messages import Contribution, Drops, EngagementFrame, Stages

Value = int | float | str | None
_KINDS = ("au", "pose", "gaze", "voice")
_OPENFACE_INTENSITY = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
_OPENFACE_PRESENCE = (*_OPENFACE_INTENSITY[:-1], 28, 45)
_OPENFACE_FULL_INTENSITY = 5.0
_PRESENT = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """One result, its contributions by concept, and when the recording's first picture was taken."""

    frame: EngagementFrame
    of: Mapping[str, Contribution]
    start_ns: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `value` is None where the result has none."""

    name: str
    type: pa.DataType
    value: Callable[[Row], Value]


@dataclass(frozen=True, slots=True)
class Contents:
    """The names that occur in a recording: concepts in the order of the columns, the others as they first came."""

    concepts: tuple[str, ...]
    expressions: tuple[str, ...]
    sounds: tuple[str, ...]
    start_ns: int


def survey(frames: Iterable[EngagementFrame]) -> Contents:
    """Reads a whole recording to learn what its tables must have room for."""
    kinds: dict[str, str] = {}
    expressions: dict[str, None] = {}
    sounds: dict[str, None] = {}
    start_ns: int | None = None
    for frame in frames:
        start_ns = frame.t_capture_ns if start_ns is None else min(start_ns, frame.t_capture_ns)
        kinds.update((item.concept, item.kind) for item in frame.contributions)
        expressions.update(dict.fromkeys(frame.expression or {}))
        sounds.update(dict.fromkeys(frame.audio or {}))
    concepts = sorted(kinds, key=lambda name: (_KINDS.index(kinds[name]), _natural(name)))
    return Contents(tuple(concepts), tuple(expressions), tuple(sounds), start_ns or 0)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts AU2 before AU10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def flat(contents: Contents) -> list[Column]:
    """Every field of the message but its version, a column each, and the age of the result."""
    return [
        *(_field(name, pa.string()) for name in ("session", "source")),
        *(_field(name, pa.int64()) for name in ("seq", "face", "t_capture_ns", "t_publish_ns")),
        _field("wall_time", pa.string()),
        _field("media_ns", pa.int64()),
        _field("status", pa.string()),
        *(_field(name, pa.float64()) for name in ("score", "base", "smoothed", "uncertainty")),
        *(column for concept in contents.concepts for column in _concept(concept)),
        *(_member("expression", name) for name in contents.expressions),
        *(_member("audio", name) for name in contents.sounds),
        Column("age_ms", pa.float64(), lambda row: (row.frame.t_publish_ns - row.frame.t_capture_ns) / 1e6),
        *(_part("stages_ms", f"{name}_ms", name, pa.float64()) for name in Stages.__struct_fields__),
        *(_part("dropped", f"dropped_{name}", name, pa.int64()) for name in Drops.__struct_fields__),
        *(_field(name, pa.string()) for name in ("model", "backend", "calibration")),
    ]


def openface(contents: Contents) -> list[Column]:
    """OpenFace 2's columns, in its order, as far as a result says what they need; the others are left out."""
    has = set(contents.concepts)
    return [
        Column("frame", pa.int64(), lambda row: row.frame.seq + 1),
        Column("face_id", pa.int64(), lambda row: row.frame.face),
        Column("timestamp", pa.float64(), lambda row: round(_place_ns(row) / 1e9, 6)),
        Column("confidence", pa.float64(), lambda row: float(row.frame.status == "tracked")),
        Column("success", pa.int64(), lambda row: int(row.frame.status == "tracked")),
        *(_openface_au(number, "r") for number in _OPENFACE_INTENSITY if f"AU{number}" in has),
        *(_openface_au(number, "c") for number in _OPENFACE_PRESENCE if f"AU{number}" in has),
    ]


def _place_ns(row: Row) -> int:
    """Since the start: of the file, or of the recording of a device."""
    return row.frame.t_capture_ns - row.start_ns if row.frame.media_ns is None else row.frame.media_ns


def _openface_au(number: int, kind: Literal["r", "c"]) -> Column:
    concept = f"AU{number}"

    def value(row: Row) -> Value:
        item = row.of.get(concept)
        if item is None:
            return None
        return item.activation * _OPENFACE_FULL_INTENSITY if kind == "r" else float(item.activation >= _PRESENT)

    return Column(f"AU{number:02d}_{kind}", pa.float64(), value)


def _field(name: str, kind: pa.DataType) -> Column:
    return Column(name, kind, lambda row: getattr(row.frame, name))


def _part(field: str, column: str, name: str, kind: pa.DataType) -> Column:
    return Column(column, kind, lambda row: getattr(getattr(row.frame, field), name))


def _member(field: str, name: str) -> Column:
    return Column(f"{field}_{name}", pa.float64(), lambda row: (getattr(row.frame, field) or {}).get(name))


def _concept(concept: str) -> list[Column]:
    def read(part: Callable[[Contribution], Value]) -> Callable[[Row], Value]:
        return lambda row: part(row.of[concept]) if concept in row.of else None

    return [
        Column(f"{concept}_activation", pa.float64(), read(lambda item: item.activation)),
        Column(f"{concept}_contribution", pa.float64(), read(lambda item: item.contribution)),
        Column(f"{concept}_x", pa.float64(), read(lambda item: item.at[0] if item.at else None)),
        Column(f"{concept}_y", pa.float64(), read(lambda item: item.at[1] if item.at else None)),
    ]
