"""From a corpus on disk to prepared crops, through the command that people run; a real face."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from engines.preprocess import Luma
from training.concepts import EXPRESSIONS, NAMES
from training.data.samples import MARGIN_PX, load
from training.prepare import CROP_PX, from_renders, from_wacv2016

ROOT = Path(__file__).parents[2]
STORED_PX = CROP_PX + 2 * MARGIN_PX


@pytest.fixture(scope="module")
def portrait() -> Luma:
    """The astronaut's head, close."""
    luma = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(luma[45:185, 155:295])


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "training.prepare", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_ferplus_becomes_aligned_crops(portrait: Luma, tmp_path: Path) -> None:
    faces = [cv2.resize(each, (48, 48), interpolation=cv2.INTER_AREA) for each in (portrait, portrait[:, ::-1])]
    votes = np.zeros((4, 10), np.uint8)
    votes[np.arange(4), [1, 1, 0, 9]] = 10
    np.savez(
        tmp_path / "ferplus.npz", images=np.stack([*faces, np.full((48, 48), 90, np.uint8), faces[0]]), votes=votes,
        split=np.array(["train"] * 4), vote_columns=np.array([*EXPRESSIONS, "unknown", "not_face"]),
    )  # fmt: skip
    out = tmp_path / "made" / "crops.npz"
    ran = command("ferplus", tmp_path / "ferplus.npz", "--out", out, "--split", "train")
    assert ran.returncode == 0, ran.stderr
    assert "3 crops, face found in 66.67%" in ran.stdout
    samples = load(out)
    assert samples.found.tolist() == [True, True, False]
    assert samples.votes[:, :2].tolist() == [[0, 1], [0, 1], [1, 0]]
    assert samples.crops.shape == (3, STORED_PX, STORED_PX)
    assert np.isnan(samples.score).all()
    assert not samples.weights.any(), "concepts are the teacher's to give"
    mirrored = np.corrcoef(samples.crops[0].ravel(), samples.crops[1][:, ::-1].ravel())[0, 1]
    assert mirrored > 0.9, "alignment brings a face and its mirror image to the same place"


def test_an_aligned_face_lies_where_the_template_says(portrait: Luma, tmp_path: Path) -> None:
    """The same face, larger and somewhere else in a larger picture, gives the same crop."""
    folder = tmp_path / "wacv"
    wide = np.full((300, 420), 128, np.uint8)
    wide[60:270, 150:360] = cv2.resize(portrait, (210, 210))
    for label, picture in ((1, portrait), (2, wide), (3, portrait)):
        (folder / str(label)).mkdir(parents=True)
        assert cv2.imwrite(str(folder / str(label) / f"img{label + 4}_1.jpg"), picture)
    samples = from_wacv2016(folder)
    assert samples.found.all()
    assert samples.score.tolist() == [0.0, 0.5, 1.0]
    assert samples.subjects.tolist() == [5, 6, 7]
    assert not samples.colour.any()
    inner = samples.crops[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].reshape(3, -1).astype(float)
    assert np.corrcoef(inner)[0, 1] > 0.85
    np.testing.assert_array_equal(samples.crops[0], samples.crops[2])


def test_renders_without_a_found_face_are_left_out(portrait: Luma, tmp_path: Path) -> None:
    concepts = np.random.default_rng(0).uniform(size=(3, len(NAMES))).astype(np.float32)
    pictures = np.stack([portrait, np.full_like(portrait, 100), portrait])
    np.savez(tmp_path / "renders.npz", images=pictures, concepts=concepts, names=np.array(NAMES))
    samples = from_renders(tmp_path / "renders.npz")
    np.testing.assert_array_equal(samples.concepts, concepts[[0, 2]])
    assert (samples.weights == 1).all()
    assert samples.found.all()
    assert np.isnan(samples.votes).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ferplus", "none.npz", "--split", "train"), "FER+ file not found"),
        (("renders", "none.npz"), "renders not found"),
        (("renders", "other.npz"), "rendered for other concepts"),
        (("wacv2016", "."), "needs the folders 1/, 2/ and 3/"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    np.savez(tmp_path / "other.npz", images=np.zeros((1, 8, 8)), concepts=np.zeros((1, 1)), names=np.array(["AU1"]))
    corpus, source, *rest = arguments
    ran = command(corpus, tmp_path / source, *rest, "--out", tmp_path / "crops.npz")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "crops.npz").exists()
