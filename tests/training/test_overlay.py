"""AU tables laid over prepared crops: which row belongs to which picture, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training import layouts
from tests.training.material import learnable
from training.concepts import INDEX
from training.data.overlay import lay_over, read_tables
from training.data.pictures import DataError
from training.data.samples import Samples

AU12 = INDEX["AU12"]


def named(*names: str) -> Samples:
    return replace(learnable(len(names)), names=np.array(names))


def pyfeat(path: Path, **smiles: float) -> Path:
    rows = [f"pictures/{name}.jpg,0.99,{value}" for name, value in smiles.items()]
    path.write_text("\n".join(["input,FaceScore,AU12", *rows]) + "\n")
    return path


def test_rows_are_matched_by_the_pictures_name(tmp_path: Path) -> None:
    tables = read_tables(pyfeat(tmp_path / "t.csv", b=0.2, a=0.9))
    laid = lay_over(named("train/a.jpg", "train/b.jpg"), tables)
    np.testing.assert_allclose(laid.concepts[:, AU12], [0.9, 0.2], rtol=1e-6)
    assert (laid.weights[:, AU12] == 1).all()
    assert laid.weights.sum() == 2, "what the samples had is replaced"


def test_a_table_without_names_goes_row_by_row(tmp_path: Path) -> None:
    path = layouts.openface_csv(tmp_path / "t.csv", layouts.openface_rows(2, AU12_r=np.array([1.0, 4.0])))
    laid = lay_over(named("", ""), read_tables(path))
    np.testing.assert_allclose(laid.concepts[:, AU12], [0.2, 0.8], rtol=1e-6)
    with pytest.raises(DataError, match="the labels have 2 rows, there are 3 crops"):
        lay_over(named("", "", ""), read_tables(path))


def test_frames_take_the_row_nearest_in_time(tmp_path: Path) -> None:
    """A folder of OpenFace's, one table a video, at 25 Hz."""
    for clip, smile in (("one", 5.0), ("two", 1.0)):
        times = np.arange(50) / 25
        rows = layouts.openface_rows(50, timestamp=times, AU12_r=np.where(times < 1, 0.0, smile))
        layouts.openface_csv(tmp_path / "f" / f"{clip}.csv", rows)
    laid = lay_over(named("Train/one@0.500", "Train/one@1.500", "Train/two@1.010"), read_tables(tmp_path / "f"))
    np.testing.assert_allclose(laid.concepts[:, AU12], [0, 1, 0.2], atol=1e-6)
    with pytest.raises(DataError, match=r"one@9\.000: has no AU labels"):
        lay_over(named("one@9.000", "two@0.000"), read_tables(tmp_path / "f"))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    tables = read_tables(pyfeat(tmp_path / "t.csv", a=0.5, z=0.5))
    with pytest.raises(DataError, match=r"labels for 'z': no such picture was prepared"):
        lay_over(named("a.jpg"), tables)
    with pytest.raises(DataError, match=r"c\.jpg: has no AU labels \(--allow-missing"):
        lay_over(named("a.jpg", "z.jpg", "c.jpg"), tables)
    laid = lay_over(named("a.jpg", "z.jpg", "c.jpg"), tables, allow_missing=True)
    assert laid.weights[:, AU12].tolist() == [1, 1, 0]
    with pytest.raises(DataError, match="earlier version"):
        lay_over(named("", ""), tables)


def test_a_folder_must_hold_tables_and_none_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no CSV file"):
        read_tables(tmp_path)
    for place in ("x", "y"):
        layouts.openface_csv(tmp_path / place / "a.csv", layouts.openface_rows(1))
    with pytest.raises(DataError, match=r"two files a\.csv"):
        read_tables(tmp_path)
