"""RAF-DB, single-label part (Li, Deng, Du 2017): 12,271 training and 3,068 test pictures, seven expressions.

Layout, as public loaders of several groups read it: basic/EmoLabel/list_patition_label.txt (the release's own
spelling) with one "train_00001.jpg 5" a line, and basic/Image/aligned/train_00001_aligned.jpg. The prefix of the name
is the split. Who is in a picture is not released.
"""

from __future__ import annotations

from pathlib import Path

from training.data.corpus import Corpus, Expressions, Item, need_file, need_folder, number, pick, read_text
from training.data.ferplus import POINT_SHARES
from training.data.pictures import DataError

CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
SPLITS = ("train", "test")
_LABELS = Path("basic/EmoLabel/list_patition_label.txt")
_PICTURES = Path("basic/Image/aligned")


def load(folder: Path, split: str) -> Corpus:
    """One split. Raises DataError naming a missing folder, a bad line, or a picture that no line labels."""
    pick(split, SPLITS, "RAF-DB")
    path = need_file(folder / _LABELS, "RAF-DB")
    pictures = need_folder(folder / _PICTURES, "RAF-DB")
    items, labelled = [], set()
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        parts = text.split()
        if not parts:
            continue
        if len(parts) != 2:
            raise DataError(f"{path}, line {line}: expected NAME LABEL, found {text!r}")
        label = number(parts[1], f"{path}, line {line} (labels count from 1)", len(CLASSES) + 1) - 1
        if label < 0:
            raise DataError(f"{path}, line {line}: label 0; the labels are 1 to {len(CLASSES)}")
        name = f"{Path(parts[0]).stem}_aligned.jpg"
        labelled.add(name)
        if parts[0].startswith(f"{split}_"):
            items.append(Item(name, pictures / name, label))
    for picture in pictures.glob(f"{split}_*.jpg"):
        if picture.name not in labelled:
            raise DataError(f"{picture}: has no label in {path}")
    return Corpus("RAF-DB", split, Expressions(CLASSES), tuple(items), POINT_SHARES)
