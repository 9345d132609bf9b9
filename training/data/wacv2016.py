"""WACV 2016 engagement pictures (Kamath, Biswas, Balasubramanian): folders 1/, 2/, 3/ with imgS_N.jpg.

The folder is the label (1 disengaged, 2 engaged, 3 very engaged), S is the subject. Many of the disengaged pictures
are in colour and few of the others, so every picture becomes its luma plane, and `colour` is kept for grey-only
figures, never given to a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from engines.preprocess import Luma, Points
from training.data.pictures import DataError, read_pixels

CLASSES = (1, 2, 3)
POINT_SHARES: Points = np.array(
    [[0.38, 0.42], [0.62, 0.42], [0.50, 0.56], [0.40, 0.70], [0.60, 0.70]], dtype=np.float32
)
_NAME = re.compile(r"img(\d+)_(\d+)$")
_COLOUR_LEVELS = 8


@dataclass(frozen=True, slots=True)
class Wacv2016:
    """Luma pictures of any size; labels 1, 2, 3 [N]; subjects [N]; colour flags [N]; file names."""

    pictures: tuple[Luma, ...]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.int64]
    colour: npt.NDArray[np.bool_]
    names: tuple[str, ...]


def load(folder: Path) -> Wacv2016:
    """Every picture, sorted by name. Raises DataError on a missing folder, a corrupt picture or an unknown name."""
    pictures: list[Luma] = []
    rows: list[tuple[int, int, bool]] = []
    names: list[str] = []
    for label in CLASSES:
        if not (folder / str(label)).is_dir():
            raise DataError(f"WACV 2016 needs the folders 1/, 2/ and 3/: {folder / str(label)} is missing")
        for path in sorted((folder / str(label)).glob("*.jpg")):
            match = _NAME.match(path.stem)
            if match is None:
                raise DataError(f"{path}: not named imgS_N.jpg")
            picture = read_pixels(path, cv2.IMREAD_COLOR)
            spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
            pictures.append(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), dtype=np.uint8))
            rows.append((label, int(match[1]), bool(np.quantile(spread, 0.9) > _COLOUR_LEVELS)))
            names.append(f"{label}/{path.name}")
    if not rows:
        raise DataError(f"{folder} holds no pictures")
    labels, subjects, colour = (np.array(column) for column in zip(*rows, strict=True))
    return Wacv2016(tuple(pictures), labels, subjects, colour, tuple(names))
