"""Crops of faces, out of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.crops import CropsError, crops_of
from pipeline.sources import DEMO


def test_faces_of_a_video_are_cut_out() -> None:
    found = crops_of(DEMO, 112)
    assert found.shape[1:] == (112, 112) and found.dtype == np.uint8
    assert len(found) > 64
    assert found.std() > 20


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.npz", "is not there"),
        ("text.npz", "has no array of crops"),
        ("other.npz", "has no array of crops"),
        ("bare.npz", "has no array of crops"),
        ("small.npz", r"crops are uint8\[5, 8, 8\], uint8 \[N, 112, 112\] are needed"),
        ("text.mp4", "text.mp4"),
    ],
)
def test_crops_that_cannot_be_used_are_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "text.mp4").write_text("no")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with (tmp_path / "bare.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(tmp_path / "small.npz", crops=np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(CropsError, match=says) as told:
        crops_of(tmp_path / name, 112)
    assert "\n" not in str(told.value)
