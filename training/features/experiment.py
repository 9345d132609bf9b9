"""One TOML per experiment with columns, typed and strict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from training.data.pictures import DataError

Method = Literal["linear", "boosting"]
Task = Literal["expression", "engagement"]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prepared file, whose pictures are not looked at. teacher: a teacher's labels for it; csv: a table of OpenFace,
    Py-Feat or our own export; without both, the file's own concept labels."""

    file: str
    teacher: str = ""
    csv: str = ""

    def __post_init__(self) -> None:
        if self.teacher and self.csv:
            raise ValueError("give teacher or csv, not both")


class FeatureExperiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: of the exported folder. valid: what is measured on; without it people are left out one by one.
    dataset, split: of `valid` (or of `train`), for training.reproduce. seed: of the boosted trees. shared_people:
    people may be in both files, as in CMOSE's official splits."""

    name: str
    train: Columns
    task: Task = "expression"
    method: Method = "linear"
    valid: Columns | None = None
    dataset: str = ""
    split: str = ""
    seed: int = 1
    shared_people: bool = False

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"name is a folder's name and holds no / and no leading dot, not {self.name!r}")


def load(path: Path) -> FeatureExperiment:
    """Read an experiment. Raises DataError if it is not there, on an unknown key or a wrong type."""
    if not path.is_file():
        raise DataError(f"experiment file not found: {path}")
    try:
        return msgspec.toml.decode(path.read_bytes(), type=FeatureExperiment)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
