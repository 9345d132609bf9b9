"""Prepared crops: joined, taken and stored without loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from tests.training.material import learnable
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError
from training.data.samples import Row, Samples, blank, join, load, save, save_rows


def same(one: Samples, other: Samples) -> None:
    for name in Samples.__slots__:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def mixed() -> Samples:
    """Known and unknown rows, found and not, with and without a subject."""
    known = learnable(6)
    unknown = blank(known.crops[:2], np.array([True, False]))
    return join([known, replace(unknown, colour=np.array([True, False]))])


def test_of_blank_crops_nothing_is_known() -> None:
    samples = blank(np.zeros((3, 8, 8), np.uint8), np.ones(3, bool))
    assert len(samples) == 3
    assert np.isnan(samples.votes).all()
    assert np.isnan(samples.score).all()
    assert not samples.weights.any()
    assert (samples.subjects == -1).all()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "new" / "crops.npz", mixed())
    same(load(tmp_path / "new" / "crops.npz"), mixed())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["crops.npz"]


def test_taking_and_joining_undo_each_other() -> None:
    samples = mixed()
    same(join([samples.take(np.arange(3)), samples.take(np.arange(3, 8))]), samples)
    same(samples.take(np.array([5, 0])), join([samples.take(np.array([5])), samples.take(np.array([0]))]))
    same(samples.take(samples.found), samples.take(np.nonzero(samples.found)[0]))
    assert len(samples.take(np.zeros(8, bool))) == 0


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "crops.npz"
    save(path, mixed())

    def half(target: IO[bytes], **arrays: np.ndarray) -> None:
        target.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", half)
    for target in (path, tmp_path / "other.npz"):
        with pytest.raises(DataError, match=rf"cannot write {target}: No space left on device"):
            save(target, learnable(2))
    same(load(path), mixed())
    assert [left.name for left in tmp_path.iterdir()] == ["crops.npz"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (lambda path: save(path, learnable(2)), lambda path: save_rows(path, rows(2), 6)):
        with pytest.raises(DataError, match=r"cannot write .*crops\.npz"):
            write(tmp_path / "file" / "crops.npz")


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"votes": np.zeros((3, 8), np.float32)}, r"votes is \[3, 8\], 6 crops need \[6, 8\]"),
        ({"concepts": np.zeros((6, 5), np.float32)}, r"concepts is \[6, 5\], 6 crops need \[6, 26\]"),
        ({"subjects": np.zeros(7, np.int64)}, r"subjects is \[7\], 6 crops need \[6\]"),
        ({"concepts": np.full((6, 26), np.nan, np.float32)}, r"AU1 of crop 0 \(\) is no number"),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path: Path, spoilt: dict[str, np.ndarray], words: str) -> None:
    save(tmp_path / "crops.npz", replace(learnable(6), **spoilt))
    with pytest.raises(DataError, match=words):
        load(tmp_path / "crops.npz")


def test_a_file_with_damaged_bytes_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "crops.npz"
    save(path, learnable(2))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"crops\.npz is damaged: Bad CRC-32 for file 'crops\.npy'"):
        load(path)


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prepared crops not found: .*; run python -m training\.prepare first"):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("lacking", [name for name in Samples.__slots__ if name != "names"])
def test_another_npz_is_refused_by_what_it_lacks(tmp_path: Path, lacking: str) -> None:
    samples, path = learnable(2), tmp_path / "crops.npz"
    np.savez(path, **{name: getattr(samples, name) for name in Samples.__slots__ if name != lacking})
    with pytest.raises(DataError, match=f"not a prepared file: no array {lacking}"):
        load(path)


def test_a_file_that_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.npz is no npz"):
        load(tmp_path / "text.npz")


def test_a_file_of_an_earlier_version_loads_with_unknown_names(tmp_path: Path) -> None:
    samples, path = learnable(2), tmp_path / "crops.npz"
    np.savez(path, **{name: getattr(samples, name) for name in Samples.__slots__ if name != "names"})
    same(load(path), samples)
    assert load(path).names.tolist() == ["", ""]


def rows(count: int) -> Iterator[Row]:
    rng = np.random.default_rng(3)
    for i in range(count):
        votes = np.eye(len(EXPRESSIONS), dtype=np.float32)[i % len(EXPRESSIONS)]
        crop = rng.integers(0, 256, (6, 6), dtype=np.uint8)
        yield Row(crop, i % 2 == 0, f"clip/{i}@0.{i}", votes, score=i / 10, subject=i, colour=i == 1)


def test_rows_written_one_by_one_are_the_samples_written_at_once(tmp_path: Path) -> None:
    assert save_rows(tmp_path / "new" / "crops.npz", rows(5), 6) == (5, 3)
    loaded, made = load(tmp_path / "new" / "crops.npz"), list(rows(5))
    np.testing.assert_array_equal(loaded.crops, [row.crop for row in made])
    np.testing.assert_array_equal(loaded.votes, [row.votes for row in made])
    assert loaded.names.tolist() == [row.name for row in made]
    assert loaded.subjects.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(loaded.score, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert loaded.colour.tolist() == [False, True, False, False, False]
    assert not loaded.weights.any()
    save(tmp_path / "again.npz", loaded)
    same(load(tmp_path / "again.npz"), loaded)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["crops.npz"]


def test_rows_that_break_off_leave_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield from rows(2)
        raise DataError("img7.jpg: not a readable picture")

    save_rows(tmp_path / "crops.npz", rows(3), 6)
    with pytest.raises(DataError, match="img7"):
        save_rows(tmp_path / "crops.npz", broken(), 6)
    assert len(load(tmp_path / "crops.npz")) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_no_row_at_all_is_an_error_not_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture could be used"):
        save_rows(tmp_path / "crops.npz", rows(0), 6)
    assert not list(tmp_path.iterdir())
