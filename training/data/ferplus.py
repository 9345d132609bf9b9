"""FER+ (Barsoum et al. 2016): 48x48 grey faces, ten votes each, in one npz.

Layout: `images` uint8 [N, 48, 48], `votes` uint8 [N, 10], `split` [N], `vote_columns` [10]. The usual protocol drops
pictures whose majority is "unknown" or "not a face", and reports the accuracy of the majority of eight classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.preprocess import Points
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError, open_npz

# Mean of the detected points over the training split, as shares of the picture.
POINT_SHARES: Points = np.array(
    [[0.317, 0.400], [0.669, 0.394], [0.490, 0.596], [0.365, 0.756], [0.645, 0.750]], dtype=np.float32
)
_KEYS = ("images", "votes", "split", "vote_columns")


@dataclass(frozen=True, slots=True)
class FerPlus:
    """Pictures uint8 [N, 48, 48]; votes float32 [N, 8] summing to 1; majority class int [N]; row numbers [N]."""

    pictures: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.float32]
    majority: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def load(path: Path, split: str) -> FerPlus:
    """One split. Raises DataError if the file or the split is not there."""
    if not path.is_file():
        raise DataError(f"FER+ file not found: {path}")
    with open_npz(path, _KEYS, "in the FER+ layout") as file:
        splits = file["split"].astype(str)
        if split not in splits:
            raise DataError(f"{path} has no split {split!r} (it has {', '.join(sorted(set(splits.tolist())))})")
        columns = [str(name) for name in file["vote_columns"]]
        votes = file["votes"].astype(np.float32)
        pictures = file["images"]
    if not len(pictures) == len(votes) == len(splits):
        raise DataError(f"{path}: {len(pictures)} images, {len(votes)} votes and {len(splits)} splits; one each needed")
    if len(columns) != votes.shape[1]:
        raise DataError(f"{path}: {votes.shape[1]} columns of votes, vote_columns names {len(columns)}")
    if tuple(columns[: len(EXPRESSIONS)]) != EXPRESSIONS:
        raise DataError(f"{path}: vote columns are {columns}, expected {list(EXPRESSIONS)} first")
    expressive = (votes.argmax(1) < len(EXPRESSIONS)) & votes.any(1)
    rows = np.nonzero((splits == split) & expressive)[0]
    kept = votes[rows, : len(EXPRESSIONS)]
    return FerPlus(pictures[rows], kept / kept.sum(1, keepdims=True), kept.argmax(1), rows)
