"""Groups cover the pictures once, and a group that is worse is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.explain.fairness import GroupRow, angles, blur_of, quarters, said, worse
from training.explain.intervals import Estimate


def test_quarters_hold_every_known_value_once() -> None:
    values = np.random.default_rng(0).random(101) * 50
    values[7] = np.nan
    rows = np.stack([chosen for _, chosen in quarters(values)])
    assert rows.sum(axis=0).tolist() == [0 if i == 7 else 1 for i in range(101)]
    assert rows.sum(axis=1).min() >= 24
    names = [name for name, _ in quarters(values)]
    assert names[0].startswith("< ") and names[-1].startswith("≥ ")


def test_angles_are_taken_from_the_camera_to_either_side() -> None:
    found = dict(angles(np.array([-25.0, -10.0, 0.0, 9.9, 15.0, 20.0])))
    assert [np.flatnonzero(rows).tolist() for rows in found.values()] == [[2, 3], [1, 4], [0, 5]]


def test_a_blurred_crop_is_less_sharp() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    sharp, soft = blur_of(np.stack([crop, np.asarray(cv2.GaussianBlur(crop, (0, 0), 2), np.uint8)]))
    assert soft < 0.1 * sharp


def row(group: str, value: float, figure: str, factor: str = "face size") -> GroupRow:
    return GroupRow("corpus", factor, group, 50, figure, Estimate(value, value - 0.02, value + 0.02))


@pytest.mark.parametrize(("figure", "bad"), [("accuracy", 0.6), ("error", 0.4)])
def test_a_worse_group_is_named_and_others_are_not(figure: str, bad: float) -> None:
    overall = row("all", 0.8 if figure == "accuracy" else 0.2, figure, "all")
    groups = [row("small", bad, figure), row("large", overall.value.value, figure)]
    assert [worse(each, overall) for each in groups] == [True, False]
    assert "clearly worse for face size small" in said([overall, *groups])[0]
    assert "no group is clearly worse" in said([overall, groups[1]])[0]
