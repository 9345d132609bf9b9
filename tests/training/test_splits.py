"""Who may be in which split."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.pictures import DataError
from training.data.splits import check_disjoint, check_filled


def test_splits_without_a_common_subject_pass() -> None:
    check_disjoint({"train": np.array([1, 1, 2]), "valid": np.array([3, 3]), "test": np.zeros(0, np.int64)})


def test_a_subject_in_two_splits_is_named_with_both() -> None:
    with pytest.raises(DataError, match=r"^subject 7: in the splits train and test; a subject may be in one only$"):
        check_disjoint({"train": np.array([1, 7, 7]), "valid": np.array([2]), "test": np.array([7, 9])})


def test_many_are_counted_not_listed() -> None:
    with pytest.raises(DataError, match=r"^subject 0, 1, 2 and 7 more: in the splits train and valid"):
        check_disjoint({"train": np.arange(10), "valid": np.arange(10)})


def test_unknown_subjects_are_not_compared() -> None:
    check_disjoint({"train": np.array([-1, 1]), "valid": np.array([-1, 2])})


def test_an_empty_split_is_named() -> None:
    check_filled("train", 1, "labels.csv")
    with pytest.raises(DataError, match=r"split 'test' of labels\.csv is empty"):
        check_filled("test", 0, "labels.csv")
