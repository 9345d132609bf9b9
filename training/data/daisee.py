"""DAiSEE (Gupta et al. 2016): 9,068 ten-second clips of 112 people before a web camera, engagement in four levels.

Layout, as public code reads it: Labels/{Train,Validation,Test}Labels.csv with the columns ClipID, Boredom,
Engagement, Confusion, Frustration (0 to 3 each), and DataSet/{Train,Validation,Test}/SUBJECT/CLIP/CLIP.avi, where
SUBJECT is the first six digits of CLIP (some clips are .mp4). Clips that no table labels are left out, as everywhere.
The official splits share no subject, which is checked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data.corpus import CENTRE_SHARES, Corpus, Item, Levels, need_folder, number, pick
from training.data.pictures import DataError
from training.data.sheets import read_columns
from training.data.splits import check_disjoint

LEVELS = ("very low", "low", "high", "very high")
SPLITS = ("train", "valid", "test")
_FOLDERS = {"train": "Train", "valid": "Validation", "test": "Test"}
_SUBJECT_DIGITS = 6


def load(folder: Path, split: str, rate_hz: float) -> Corpus:
    """One split. Raises DataError naming what is missing, or who is in two splits."""
    pick(split, SPLITS, "DAiSEE")
    tables = {each: _table(folder, each) for each in SPLITS if each == split or _file(folder, each).is_file()}
    check_disjoint({each: np.array([_subject(clip) for clip, _ in rows]) for each, rows in tables.items()})
    base = need_folder(folder / "DataSet" / _FOLDERS[split], "DAiSEE")
    items = []
    for clip, level in tables[split]:
        stem = Path(clip).stem
        path = base / stem[:_SUBJECT_DIGITS] / stem / clip
        items.append(Item(f"{_FOLDERS[split]}/{stem}", path, level, _subject(clip)))
    return Corpus("DAiSEE", split, Levels(LEVELS), tuple(items), CENTRE_SHARES, rate_hz)


def _file(folder: Path, split: str) -> Path:
    return folder / "Labels" / f"{_FOLDERS[split]}Labels.csv"


def _table(folder: Path, split: str) -> list[tuple[str, int]]:
    path = _file(folder, split)
    rows = read_columns(path, ("ClipID", "Engagement"), "DAiSEE")
    return [(clip, number(level, f"{path}, clip {clip}", len(LEVELS))) for clip, level in rows]


def _subject(clip: str) -> int:
    digits = clip[:_SUBJECT_DIGITS]
    if not digits.isdigit():
        raise DataError(f"DAiSEE clip {clip!r} does not begin with the six digits of its subject")
    return int(digits)
