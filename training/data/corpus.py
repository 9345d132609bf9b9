"""What every data set becomes before a picture is read: items with their labels, and what the labels mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.preprocess import Luma, Points
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError
from training.data.splits import check_filled

F32 = npt.NDArray[np.float32]

CENTRE_SHARES: Points = np.array(
    [[0.44, 0.40], [0.56, 0.40], [0.50, 0.48], [0.455, 0.56], [0.545, 0.56]], dtype=np.float32
)
"""Where the five points are assumed in a picture of unknown framing; such crops are marked as not found."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """One expression a picture. classes: names in the data set's own order; those that are ours have our names."""

    classes: tuple[str, ...]

    def votes(self, label: int) -> F32:
        """One-hot over our expressions [8]; NaN where the class is none of ours (Aff-Wild2's "other")."""
        name = self.classes[label]
        if name not in EXPRESSIONS:
            return np.full(len(EXPRESSIONS), np.nan, np.float32)
        return np.array([float(each == name) for each in EXPRESSIONS], np.float32)


@dataclass(frozen=True, slots=True)
class Levels:
    """One of several ordered levels of engagement, the lowest first."""

    names: tuple[str, ...]

    def score(self, level: int) -> float:
        """The level on the scale [0, 1], levels at equal distances."""
        return level / (len(self.names) - 1)

    @property
    def cuts(self) -> tuple[float, ...]:
        """Halfway between neighbouring levels: thresholds that no data were needed for."""
        return tuple((i + 0.5) / (len(self.names) - 1) for i in range(len(self.names) - 1))


@dataclass(frozen=True, slots=True)
class Continuous:
    """Engagement in [0, 1] at every moment, `label_hz` values a second."""

    label_hz: float


Task = Expressions | Levels | Continuous


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One picture or one video and what is known of it.

    name: its path in the corpus. media: the file, or the luma plane itself. label: class or level in the data set's
    order. track [T]: engagement at Continuous.label_hz, NaN where nobody labelled. votes [8]: shares of our
    expressions where there are several annotators. subject: -1 if the release does not say.
    """

    name: str
    media: Path | Luma
    label: int = -1
    subject: int = -1
    track: F32 | None = None
    votes: F32 | None = None
    colour: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """One split of a data set. rate_hz: how many frames of each second of a video are taken, 0 for pictures.
    left_out: how many pictures the data set itself excludes, by reason. point_shares: see pictures.cut_crops.
    """

    name: str
    split: str
    task: Task
    items: tuple[Item, ...]
    point_shares: Points
    rate_hz: float = 0.0
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_filled(self.split, len(self.items), self.name)


def check_there(corpus: Corpus) -> None:
    """Raises DataError naming the first labelled file that is missing, before any is read."""
    missing = [item.media for item in corpus.items if isinstance(item.media, Path) and not item.media.is_file()]
    if missing:
        more = f"; {len(missing)} of {len(corpus.items)} are" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: labelled, but the file is missing{more}")


def need_folder(path: Path, what: str) -> Path:
    """The folder. Raises DataError naming it and what it belongs to."""
    if not path.is_dir():
        raise DataError(f"{what} needs the folder {path}, which is missing")
    return path


def need_file(path: Path, what: str) -> Path:
    """The file. Raises DataError naming it and what it belongs to."""
    if not path.is_file():
        raise DataError(f"{what} needs the file {path}, which is missing")
    return path


def read_text(path: Path) -> str:
    """A file of labels. Raises DataError if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text") from error


def pick(split: str, splits: tuple[str, ...], what: str) -> str:
    """The split. Raises DataError with those there are."""
    if split not in splits:
        raise DataError(f"{what} has no split {split!r} (it has {', '.join(splits)})")
    return split


def number(text: str, where: str, below: int) -> int:
    """A class or level from a label file. Raises DataError if it is none of 0 .. below - 1."""
    try:
        value = int(text)
    except ValueError as error:
        raise DataError(f"{where}: {text!r} is no label") from error
    if not 0 <= value < below:
        raise DataError(f"{where}: label {value} is not one of the {below} there are")
    return value
