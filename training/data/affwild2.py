"""Aff-Wild2, expression track (Kollias and Zafeiriou; ABAW challenges): videos cut into aligned face pictures.

Layout, as public code of several ABAW teams reads it: cropped_aligned/VIDEO/00001.jpg (later videos of a challenge may
lie in further folders cropped_aligned*), and, below any folder such as "6th ABAW Annotations",
EXPR_Recognition_Challenge or, up to the fifth challenge, EXPR_Classification_Challenge with Train_Set/VIDEO.txt and
Validation_Set/VIDEO.txt: one header line with the class names, then one number a frame, -1 where a frame is not
annotated. Frame 00001 is the first line after the header. A frame in which the organisers found no face has no
picture. The test labels are held by the organisers. Subjects are not released; a video is in one split only.
"""

from __future__ import annotations

from pathlib import Path

from training.data.corpus import Corpus, Expressions, Item, need_folder, pick, read_text
from training.data.ferplus import POINT_SHARES
from training.data.pictures import DataError
from training.data.splits import check_filled

CLASSES = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
SPLITS = ("train", "valid")
FRAMES_PER_S = 30.0
"""Taken for every video; the release does not say how fast each one is beside its pictures."""
_FOLDERS = {"train": "Train_Set", "valid": "Validation_Set"}


def load(folder: Path, split: str, rate_hz: float) -> Corpus:
    """Every k-th frame, so that about `rate_hz` of each second remain; 30 or more takes every frame.

    Raises DataError naming a missing folder, a video without pictures, a bad line or a video in two splits.
    """
    wanted = label_files(folder, pick(split, SPLITS, "Aff-Wild2"))
    others = [path.stem for other in SPLITS if other != split for path in label_files(folder, other)]
    shared = sorted({path.stem for path in wanted} & set(others))
    if shared:
        raise DataError(f"Aff-Wild2: video {shared[0]} is labelled in two splits")
    roots = sorted(path for path in folder.glob("cropped_aligned*") if path.is_dir())
    if not roots:
        need_folder(folder / "cropped_aligned", "Aff-Wild2")
    every = max(1, round(FRAMES_PER_S / rate_hz))
    items: list[Item] = []
    unlabelled = 0
    for path in wanted:
        pictures = next((root / path.stem for root in roots if (root / path.stem).is_dir()), None)
        if pictures is None:
            raise DataError(f"{path}: labels a video whose pictures are missing ({roots[0] / path.stem})")
        labels = _labels(path)
        for picture in sorted(pictures.glob("*.jpg")):
            frame = _number(picture) - 1
            if frame % every:
                continue
            if frame >= len(labels) or labels[frame] < 0:
                unlabelled += 1
                continue
            items.append(Item(f"{path.stem}/{picture.name}", picture, labels[frame]))
    left_out = {"frames that nobody annotated": unlabelled}
    return Corpus("Aff-Wild2", split, Expressions(CLASSES), tuple(items), POINT_SHARES, left_out=left_out)


def label_files(folder: Path, split: str) -> list[Path]:
    """The label file of every video of a split."""
    patterns = ("EXPR_*_Challenge", "*/EXPR_*_Challenge", "*/*/EXPR_*_Challenge")
    tracks = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_dir())
    if not tracks:
        raise DataError(f"Aff-Wild2 needs a folder EXPR_Recognition_Challenge below {folder}, which is missing")
    base = need_folder(tracks[-1] / _FOLDERS[split], "Aff-Wild2")
    found = sorted(base.glob("*.txt"))
    check_filled(split, len(found), str(base))
    return found


def _labels(path: Path) -> list[int]:
    lines = read_text(path).splitlines()
    if not lines or not any(letter.isalpha() for letter in lines[0]):
        raise DataError(f"{path}: the first line names no classes")
    names = tuple(name.strip().lower() for name in lines[0].split(","))
    if names != CLASSES:
        raise DataError(f"{path}: classes are {', '.join(names)}, expected {', '.join(CLASSES)}")
    values: list[int] = []
    for number, line in enumerate(filter(str.strip, lines[1:]), start=2):
        try:
            values.append(int(line))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {line!r} is no label") from error
        if not -1 <= values[-1] < len(CLASSES):
            raise DataError(f"{path}, line {number}: label {values[-1]} is not one of -1 .. {len(CLASSES) - 1}")
    return values


def _number(picture: Path) -> int:
    if not picture.stem.isdigit() or int(picture.stem) < 1:
        raise DataError(f"{picture}: not named by its frame number, such as 00001.jpg")
    return int(picture.stem)
