"""EngageNet (Singh et al. 2023, EmotiW): 11,311 ten-second clips of 127 people, engagement in four classes.

Layout, as public code of several EmotiW teams reads it: train_engagement_labels.xlsx, validation_engagement_labels.xlsx
and test_engagement_labels.csv with the columns chunk (the clip's file name) and label, and the folders Train,
Validation and Test with the clips. A file name is subject_S_..._vid_V_C.mp4. Clips labelled "SNP(Subject Not Present)"
are not part of the task. The official splits share no subject (90, 11 and 26 people), which is checked.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from training.data.corpus import CENTRE_SHARES, Corpus, Item, Levels, need_folder, pick
from training.data.pictures import DataError
from training.data.sheets import read_columns
from training.data.splits import check_disjoint

LEVELS = ("not engaged", "barely engaged", "engaged", "highly engaged")
SPLITS = ("train", "valid", "test")
_FOLDERS = {"train": "Train", "valid": "Validation", "test": "Test"}
_FILES = {"train": "train", "valid": "validation", "test": "test"}
_ABSENT = "snp(subject not present)"
_NAME = re.compile(r"subject_(\d+)_", re.IGNORECASE)


def load(folder: Path, split: str, rate_hz: float) -> Corpus:
    """One split. Raises DataError naming what is missing, or who is in two splits."""
    pick(split, SPLITS, "EngageNet")
    rows = {each: _rows(folder, each) for each in SPLITS if each == split or _file(folder, each).is_file()}
    check_disjoint({each: np.array([_subject(clip) for clip, _ in table]) for each, table in rows.items()})
    base = need_folder(folder / _FOLDERS[split], "EngageNet")
    items, absent = [], 0
    for clip, label in rows[split]:
        if label.lower() == _ABSENT:
            absent += 1
            continue
        items.append(Item(f"{base.name}/{clip}", base / clip, _level(clip, label), _subject(clip)))
    left_out = {"clips without a person": absent}
    return Corpus("EngageNet", split, Levels(LEVELS), tuple(items), CENTRE_SHARES, rate_hz, left_out)


def _file(folder: Path, split: str) -> Path:
    """The release mixes two formats; a table that was saved in the other one is taken as well."""
    stem = f"{_FILES[split]}_engagement_labels"
    xlsx, csv = folder / f"{stem}.xlsx", folder / f"{stem}.csv"
    return csv if csv.is_file() and not xlsx.is_file() else xlsx


def _rows(folder: Path, split: str) -> list[tuple[str, str]]:
    return [(clip, label) for clip, label in read_columns(_file(folder, split), ("chunk", "label"), "EngageNet")]


def _level(clip: str, label: str) -> int:
    name = label.lower().replace("-", " ")
    if name not in LEVELS:
        raise DataError(f"EngageNet clip {clip}: unknown label {label!r} (known: {', '.join(LEVELS)})")
    return LEVELS.index(name)


def _subject(clip: str) -> int:
    match = _NAME.match(clip)
    if match is None:
        raise DataError(f"EngageNet clip {clip!r} is not named subject_S_...")
    return int(match[1])
