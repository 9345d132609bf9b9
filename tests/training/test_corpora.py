"""The corpora as they lie on disk, and everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from training.concepts import EXPRESSIONS
from training.data import ferplus, wacv2016
from training.data.pictures import DataError

Arrays = dict[str, npt.NDArray[np.generic]]
# One row each: a clear majority, an even vote, majority unknown, majority not a face, of the other split, few votes.
VOTES = [
    [7, 3, 0, 0, 0, 0, 0, 0, 0, 0],
    [0, 5, 0, 0, 0, 0, 0, 5, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0, 8, 0],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    [0, 0, 0, 0, 0, 0, 10, 0, 0, 0],
    [0, 0, 0, 4, 2, 0, 0, 0, 3, 1],
]


def layout() -> Arrays:
    """A FER+ file of six pictures; each is filled with its row number."""
    return {
        "images": np.repeat(np.arange(6, dtype=np.uint8), 48 * 48).reshape(6, 48, 48),
        "votes": np.array(VOTES, np.uint8),
        "split": np.array(["train"] * 4 + ["valid", "train"]),
        "vote_columns": np.array([*EXPRESSIONS, "unknown", "not_face"]),
    }


def written(folder: Path, arrays: Arrays) -> Path:
    path = folder / "ferplus.npz"
    np.savez(path, **arrays)
    return path


def test_a_split_of_ferplus_without_pictures_of_no_expression(tmp_path: Path) -> None:
    corpus = ferplus.load(written(tmp_path, layout()), "train")
    assert corpus.rows.tolist() == [0, 1, 5]
    assert corpus.majority.tolist() == [0, 1, 3]
    assert (corpus.pictures == corpus.rows[:, None, None]).all()
    np.testing.assert_allclose(corpus.votes.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(corpus.votes[0, :2], [0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(corpus.votes[2, 3:5], [4 / 6, 2 / 6], rtol=1e-6)
    assert corpus.agreed.tolist() == [True, False, False]  # 7 of 10; 5 of 10; 4 of the 9 that do not stand alone
    assert ferplus.load(tmp_path / "ferplus.npz", "valid").majority.tolist() == [EXPRESSIONS.index("fear")]


def test_the_authors_keep_what_more_than_half_of_the_votes_say_once_single_ones_are_dropped() -> None:
    votes = [
        [5, 1, 1, 1, 1, 1, 0, 0, 0, 0],  # all others stand alone
        [5, 3, 0, 0, 0, 0, 0, 0, 2, 0],  # exactly half
        [2, 0, 0, 0, 0, 0, 0, 0, 7, 1],  # unknown
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],  # nobody agrees with anybody
    ]
    assert ferplus.is_agreed(np.array(votes, np.float32)).tolist() == [True, False, False, False]


@pytest.mark.parametrize("lacking", ["images", "votes", "split", "vote_columns"])
def test_another_npz_is_refused_by_what_it_lacks(tmp_path: Path, lacking: str) -> None:
    arrays = layout()
    del arrays[lacking]
    with pytest.raises(DataError, match=rf"not in the FER\+ layout: no array {lacking}"):
        ferplus.load(written(tmp_path, arrays), "train")


def test_an_unknown_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test' \(it has train, valid\)"):
        ferplus.load(written(tmp_path, layout()), "test")


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    arrays = layout()
    arrays["vote_columns"] = arrays["vote_columns"][::-1]
    with pytest.raises(DataError, match=r"vote columns are .* expected"):
        ferplus.load(written(tmp_path, arrays), "train")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("images", r"4 images, 6 votes and 6 splits"),
        ("votes", r"6 images, 4 votes and 6 splits"),
        ("vote_columns", r"10 columns of votes, vote_columns names 4"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, name: str, words: str) -> None:
    arrays = layout()
    arrays[name] = arrays[name][:4]
    with pytest.raises(DataError, match=words):
        ferplus.load(written(tmp_path, arrays), "train")


def test_a_picture_that_nobody_voted_on_is_left_out(tmp_path: Path) -> None:
    arrays = layout()
    arrays["votes"][0] = 0
    assert ferplus.load(written(tmp_path, arrays), "train").rows.tolist() == [1, 5]


USAGES = ("Training", "Training", "Training", "Training", "PublicTest", "PrivateTest")


def official(folder: Path, nameless: int | None = None) -> Path:
    """The same six pictures as Kaggle and microsoft/FERPlus release them; one may have no name."""
    arrays = layout()
    names = ("Usage", "Image name", *EXPRESSIONS, "unknown", "NF")
    labels, pictures = [",".join(names)], ["emotion,pixels,Usage"]
    for i, usage in enumerate(USAGES):
        name = "" if i == nameless else f"fer{i:07d}.png"
        labels.append(",".join([usage, name, *map(str, arrays["votes"][i])]))
        pictures.append(f"0,{' '.join(map(str, arrays['images'][i].ravel()))},{usage}")
    folder.mkdir(exist_ok=True)
    (folder / "fer2013new.csv").write_text("\n".join(labels) + "\n")
    (folder / "fer2013.csv").write_text("\n".join(pictures) + "\n")
    return folder


def test_the_official_files_say_the_same_as_the_npz(tmp_path: Path) -> None:
    ours = ferplus.load(official(tmp_path / "csv"), "train")
    packed = ferplus.load(written(tmp_path, layout()), "train")
    assert ours.rows.tolist() == [0, 1]
    assert (ours.pictures == packed.pictures[:2]).all()
    np.testing.assert_array_equal(ours.votes, packed.votes[:2])
    assert ferplus.load(tmp_path / "csv", "test").majority.tolist() == [3]
    assert ferplus.load(official(tmp_path / "csv", nameless=0), "train").majority.tolist() == [1]
    assert ferplus.load(tmp_path, "train").rows.tolist() == [0, 1, 5], "a folder with an npz is read from that"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("fer2013.csv", lambda text: text.replace("pixels", "pictures"), r"fer2013\.csv has no column 'pixels'"),
        ("fer2013.csv", lambda text: text.replace("0 0 0", "0 x 0", 1), r"fer2013\.csv, line 2: .*'x'"),
        ("fer2013.csv", lambda text: text.replace("0 0 0", "0 0", 1), r"line 2: 2304 numbers from 0 to 255 are needed"),
        ("fer2013.csv", lambda text: text.replace("0 0 0", "0 256 0", 1), r"line 2: 2304 numbers from 0 to 255"),
        ("fer2013.csv", lambda text: text[: text.rindex("0,5")], r"not as many rows; one ends before line 7"),
        ("fer2013.csv", lambda text: text.replace("PublicTest", "PrivateTest"), r"line 6 of .* belong to one picture"),
        ("fer2013new.csv", lambda text: text.replace("7,3,0", "7,3"), r"fer2013new\.csv, line 2: 11 cells, 12 columns"),
        ("fer2013new.csv", lambda text: text.replace("neutral", "calm"), r"vote columns are .* expected"),
        ("fer2013new.csv", lambda text: "", r"fer2013new\.csv has no column 'Usage'"),
    ],
)
def test_official_files_that_are_wrong_are_one_line(
    tmp_path: Path, name: str, change: Callable[[str], str], words: str
) -> None:
    folder = official(tmp_path)
    path = folder / name
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=words) as error:
        ferplus.load(folder, "train")
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match=rf"FER\+ file not found: .*{name}"):
        ferplus.load(folder, "train")


def test_a_missing_or_foreign_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FER\+ file not found"):
        ferplus.load(tmp_path / "none.npz", "train")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.npz is no npz"):
        ferplus.load(tmp_path / "text.npz", "train")


def folders(root: Path) -> Path:
    """Five pictures of three subjects; one in colour, one grey stored as colour."""
    rng = np.random.default_rng(0)
    for name, colour in (
        ("1/img3_1", True),
        ("1/img3_2", False),
        ("2/img11_7", False),
        ("3/img3_4", False),
        ("3/img5_1", False),
    ):
        path = (root / name).with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.repeat(rng.integers(0, 256, (6, 5, 1), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
        cv2.imwrite(
            str(path), picture * np.array([1, 1, 1], np.uint8) if not colour else picture * np.array([1.0, 0.5, 0.2])
        )
    return root


def test_a_folder_is_the_label_and_the_name_the_subject(tmp_path: Path) -> None:
    corpus = wacv2016.load(folders(tmp_path))
    assert corpus.names == ("1/img3_1.jpg", "1/img3_2.jpg", "2/img11_7.jpg", "3/img3_4.jpg", "3/img5_1.jpg")
    assert corpus.labels.tolist() == [1, 1, 2, 3, 3]
    assert corpus.subjects.tolist() == [3, 3, 11, 3, 5]
    assert corpus.colour.tolist() == [True, False, False, False, False]
    for picture in corpus.pictures:
        assert picture.shape == (48, 40)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("label", ["1", "2", "3"])
def test_a_missing_folder_is_named(tmp_path: Path, label: str) -> None:
    folders(tmp_path)
    (tmp_path / label).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"needs the folders 1/, 2/ and 3/: .*{label} is missing"):
        wacv2016.load(tmp_path)


@pytest.mark.parametrize("name", ["img3.jpg", "img_3_1.jpg", "portrait.jpg", "img3_1_copy.jpg"])
def test_a_file_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    (folders(tmp_path) / "2/img11_7.jpg").rename(tmp_path / "2" / name)
    with pytest.raises(DataError, match=rf"{name}: not named imgS_N\.jpg"):
        wacv2016.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_corrupt_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (folders(tmp_path) / "2/img11_7.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"img11_7\.jpg: not a readable picture"):
        wacv2016.load(tmp_path)


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """It still decodes, to grey below the cut."""
    path = folders(tmp_path) / "2/img11_7.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    assert cv2.imread(str(path)) is not None
    with pytest.raises(DataError, match=r"img11_7\.jpg: not a readable picture"):
        wacv2016.load(tmp_path)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    for label in "123":
        (tmp_path / label).mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        wacv2016.load(tmp_path)
