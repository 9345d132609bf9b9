"""CMOSE (Wu et al. 2023): 12,197 clips of online lessons, engagement in four levels; released as features, not videos.

Layout, as public code reads it: final_data_1.json {"videoV_S_personP": {"split": "train" | "unlabel" | "test",
"label": ...}}, labels "Highly Disengage", "Disengage", "Engage", "Highly Engage"; and secondFeature/secondFeature/
SAMPLE.csv with OpenFace's columns, a row a frame. "unlabel" is the validation part of the release, used as `valid`
where its clips carry labels. A person is known within a video only, and the official splits are by clip, so that a
person may be in two of them; `people_in_two_splits` says how many are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from training.data.corpus import Levels, need_file, need_folder, pick
from training.data.features import FeatureTable, read_csv
from training.data.pictures import DataError
from training.data.splits import check_filled

LEVELS = ("highly disengage", "disengage", "engage", "highly engage")
SPLITS = ("train", "valid", "test")
_OFFICIAL = {"train": "train", "valid": "unlabel", "test": "test"}
_NAME = re.compile(r"video(\d+)_(\d+)_person(\d+)$")
_PEOPLE_IN_A_VIDEO = 1000


class _Entry(msgspec.Struct, frozen=True):
    """A sample of final_data_1.json; further keys are allowed."""

    split: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """name; its features; level, the lowest is 0; subject: video and person in one number."""

    name: str
    features: Path
    level: int
    subject: int


def load(folder: Path, split: str) -> tuple[Clip, ...]:
    """The labelled clips of a split. Raises DataError naming what is missing or wrong."""
    entries = _entries(folder)
    base = need_folder(folder / "secondFeature" / "secondFeature", "CMOSE")
    official = _OFFICIAL[pick(split, SPLITS, "CMOSE")]
    clips = []
    for name, entry in sorted(entries.items()):
        if entry.split != official or entry.label is None:
            continue
        clips.append(Clip(name, need_file(base / f"{name}.csv", "CMOSE"), _level(name, entry.label), subject(name)))
    check_filled(split, len(clips), str(folder / "final_data_1.json"))
    return tuple(clips)


def people_in_two_splits(folder: Path) -> int:
    """How many people the official splits share."""
    entries = _entries(folder)
    splits: dict[int, set[str]] = {}
    for name, entry in entries.items():
        splits.setdefault(subject(name), set()).add(entry.split)
    return sum(len(each) > 1 for each in splits.values())


def tables(clips: tuple[Clip, ...]) -> Iterator[tuple[Clip, FeatureTable]]:
    """The concepts of every clip, row by row; one clip in memory at a time."""
    for clip in clips:
        yield clip, read_csv(clip.features)


def mean_concepts(table: FeatureTable) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean activation [K] over the rows with a face, and the share of all rows that it stands on [K]."""
    weight = table.weights.sum(0)
    mean = (table.activations * table.weights).sum(0) / np.maximum(weight, 1e-9)
    return mean.astype(np.float32), (weight / max(1, len(table))).astype(np.float32)


def task() -> Levels:
    """What the labels mean."""
    return Levels(LEVELS)


def subject(name: str) -> int:
    """Video and person of a sample's name. Raises DataError for another name."""
    match = _NAME.match(name)
    if match is None:
        raise DataError(f"CMOSE sample {name!r} is not named videoV_S_personP")
    return int(match[1]) * _PEOPLE_IN_A_VIDEO + int(match[3])


def _entries(folder: Path) -> dict[str, _Entry]:
    path = need_file(folder / "final_data_1.json", "CMOSE")
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: {error}") from error


def _level(name: str, label: str) -> int:
    if label.strip().lower() not in LEVELS:
        raise DataError(f"CMOSE sample {name}: unknown label {label!r} (known: {', '.join(LEVELS)})")
    return LEVELS.index(label.strip().lower())
