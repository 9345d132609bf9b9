"""AffectNet, manually annotated part in the layout of arrays (Mollahosseini, Hasani, Mahoor 2017).

Layout: train_set/ and val_set/, each with images/N.jpg and annotations/N_exp.npy (besides N_val, N_aro, N_lnd); the
class order 0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt. AffectNet-7 leaves
contempt out. There is no public test split: published figures are those of val_set. The older releases with a CSV
table list further labels from 8 on (none, uncertain, no face); should the arrays hold one, the picture is left out.
Subjects are not released.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from training.data.corpus import Corpus, Expressions, Item, need_file, need_folder, pick
from training.data.ferplus import POINT_SHARES
from training.data.pictures import DataError

CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
SPLITS = ("train", "valid")
_FOLDERS = {"train": "train_set", "valid": "val_set"}


def load_7(folder: Path, split: str) -> Corpus:
    """Seven classes; see load_8."""
    return _load(folder, split, "AffectNet-7", CLASSES[:7])


def load_8(folder: Path, split: str) -> Corpus:
    """Eight classes. Raises DataError naming a missing folder, a picture without a label or a label without one."""
    return _load(folder, split, "AffectNet-8", CLASSES)


def _load(folder: Path, split: str, name: str, classes: tuple[str, ...]) -> Corpus:
    base = folder / _FOLDERS[pick(split, SPLITS, name)]
    pictures = need_folder(base / "images", name)
    annotations = need_folder(base / "annotations", name)
    found = sorted(pictures.glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
    stems = {path.stem for path in found}
    for path in annotations.glob("*_exp.npy"):
        if path.name.removesuffix("_exp.npy") not in stems:
            raise DataError(f"{path}: labels a picture that is missing")
    items, others = [], 0
    for path in track(found, description=f"{name} labels"):
        label = _label(need_file(annotations / f"{path.stem}_exp.npy", name))
        if label < len(classes):
            items.append(Item(f"{base.name}/images/{path.name}", path, label))
        else:
            others += 1
    left_out = {"of a class that is not among these": others}
    return Corpus(name, split, Expressions(classes), tuple(items), POINT_SHARES, left_out=left_out)


def _label(path: Path) -> int:
    """The release stores the number as text of a zero-dimensional array; numbers are taken as well."""
    try:
        value = int(np.load(path, allow_pickle=False).item())
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: holds no label") from error
    if value < 0:
        raise DataError(f"{path}: label {value}")
    return value
