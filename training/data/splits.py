"""Nobody may be in two splits: a model that has seen a person is measured on how well it remembers, not on how well
it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from training.data.pictures import DataError

_NAMED = 3


def check_disjoint(subjects: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """subjects: of every picture, by split; -1 is unknown and is not compared. Raises DataError naming who is in two.

    Several rows of one subject in one split are what a split is made of; only a subject that two splits share counts.
    """
    known = {split: set(np.unique(each[each >= 0]).tolist()) for split, each in subjects.items()}
    for one, other in combinations(known, 2):
        shared = sorted(known[one] & known[other])
        if shared:
            rest = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
            who = f"subject {', '.join(map(str, shared[:_NAMED]))}{rest}"
            raise DataError(f"{who}: in the splits {one} and {other}; a subject may be in one only")


def check_filled(split: str, count: int, where: str) -> None:
    """Raises DataError if a split holds nothing. where: the file or folder that says so."""
    if count == 0:
        raise DataError(f"split {split!r} of {where} is empty")
