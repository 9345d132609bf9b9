"""From a corpus on disk to prepared crops, through the command that people run; a real face."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from engines.preprocess import Luma
from tests.training import layouts
from training.concepts import EXPRESSIONS, INDEX, NAMES
from training.data import cut
from training.data.samples import MARGIN_PX, load
from training.prepare import STORED_PX, from_renders, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def portrait() -> Luma:
    """The astronaut's head, close."""
    luma = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(luma[45:185, 155:295])


@dataclass(frozen=True, slots=True)
class Ran:
    """How the command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str | Path) -> Ran:
    """The command line, in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return Ran(int(end.value.code or 0), out.getvalue(), errors.getvalue())


def prepared(name: str, source: Path, *arguments: str | Path) -> tuple[str, Path]:
    """What the command says, and the file that it wrote; the cache lies beside."""
    out = source.parent / "made" / "crops.npz"
    ran = command(name, source, "--out", out, "--cache", source.parent / "c.sqlite", *arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, out


def test_ferplus_becomes_aligned_crops(portrait: Luma, tmp_path: Path) -> None:
    faces = [cv2.resize(each, (48, 48), interpolation=cv2.INTER_AREA) for each in (portrait, portrait[:, ::-1])]
    votes = np.zeros((4, 10), np.uint8)
    votes[np.arange(4), [1, 1, 0, 9]] = 10
    np.savez(
        tmp_path / "ferplus.npz", images=np.stack([*faces, np.full((48, 48), 90, np.uint8), faces[0]]), votes=votes,
        split=np.array(["train"] * 4), vote_columns=np.array([*EXPRESSIONS, "unknown", "not_face"]),
    )  # fmt: skip
    said, out = prepared("ferplus", tmp_path / "ferplus.npz", "--split", "train")
    assert "3 crops, face found in 66.67%" in said
    samples = load(out)
    assert samples.found.tolist() == [True, True, False]
    assert samples.votes[:, :2].tolist() == [[0, 1], [0, 1], [1, 0]]
    assert samples.crops.shape == (3, STORED_PX, STORED_PX)
    assert np.isnan(samples.score).all()
    assert not samples.weights.any(), "concepts are the teacher's to give"
    assert samples.names.tolist() == ["fer0000000", "fer0000001", "fer0000002"]
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
    samples = load(prepared("wacv2016", folder)[1])
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


def test_a_render_is_never_cut_twice(portrait: Luma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    concepts = np.zeros((2, len(NAMES)), np.float32)
    np.savez(
        tmp_path / "r.npz", images=np.stack([portrait, portrait[:, ::-1]]), concepts=concepts, names=np.array(NAMES)
    )
    first = from_renders(tmp_path / "r.npz", tmp_path / "c.sqlite")
    assert len(first) == 2

    def again(*arguments: Any) -> tuple[Luma, bool]:
        raise AssertionError("cut again")

    monkeypatch.setattr(cut, "cut_crop", again)
    np.testing.assert_array_equal(from_renders(tmp_path / "r.npz", tmp_path / "c.sqlite").crops, first.crops)
    with pytest.raises(AssertionError, match="cut again"):
        from_renders(tmp_path / "r.npz")


def test_classes_are_mapped_by_name(tmp_path: Path) -> None:
    """RAF-DB's 1 to 7 in our order of eight; what we have no name for has no votes and stays."""
    samples = load(prepared("rafdb", layouts.rafdb(tmp_path / "raf"), "--split", "train")[1])
    assert [EXPRESSIONS[i] for i in samples.votes.argmax(1)] == ["happiness", "neutral", "surprise"]
    assert samples.found.all()
    said, out = prepared("affwild2", layouts.affwild2(tmp_path / "aff"), "--split", "train", "--rate", "30")
    wild = load(out)
    assert "left out: 1 frames that nobody annotated" in said
    assert np.isnan(wild.votes).any(1).tolist() == [False, False, True] + [False] * 6
    assert wild.names[0] == "1-30/00001.jpg"


def test_videos_become_frames_with_the_label_of_their_clip(tmp_path: Path) -> None:
    samples = load(prepared("daisee", layouts.daisee(tmp_path / "d"), "--split", "train", "--rate", "2")[1])
    assert samples.names.tolist() == [
        f"Train/{clip}@{time}" for clip in ("1100011002", "1100021003") for time in ("0.000", "0.500", "1.000", "1.500")
    ]
    assert samples.score.tolist() == [0.0] * 4 + [1.0] * 4
    assert samples.subjects.tolist() == [110001] * 4 + [110002] * 4


def test_frames_of_noxi_have_the_label_of_their_moment_with_and_without_videos(tmp_path: Path) -> None:
    folder = layouts.noxi(tmp_path / "n")
    seen = load(prepared("noxi", folder, "--split", "valid", "--rate", "5")[1])
    expert = np.array([name.startswith("val/007/expert") for name in seen.names])
    np.testing.assert_allclose(seen.score[expert], 0.2 + 0.05 * np.arange(8), atol=0.011)
    _, out = prepared("noxi", folder, "--split", "valid", "--rate", "5", "--features")
    heard = load(out)
    assert heard.crops.size == 0
    assert heard.weights[:, INDEX["AU12"]].all()
    np.testing.assert_allclose(heard.score[:8], 0.2 + 0.05 * np.arange(8), atol=1e-5)


def test_cmose_becomes_concepts(tmp_path: Path) -> None:
    samples = load(prepared("cmose", layouts.cmose(tmp_path / "c"), "--split", "train")[1])
    assert samples.score.tolist() == pytest.approx([0, 2 / 3])
    assert samples.concepts[:, INDEX["AU12"]].tolist() == pytest.approx([0.5, 0.625])
    assert samples.crops.size == 0


def test_an_unreadable_clip_stops_and_may_be_passed_over(tmp_path: Path) -> None:
    folder = layouts.daisee(tmp_path / "d")
    clip = folder / "DataSet/Train/110002/1100021003/1100021003.avi"
    clip.write_bytes(b"")
    arguments = ("daisee", folder, "--split", "train", "--out", tmp_path / "o.npz", "--cache", tmp_path / "c.sqlite")
    ran = command(*arguments)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "1100021003.avi: not a readable video" in ran.stderr
    assert not (tmp_path / "o.npz").exists()
    ran = command(*arguments, "--skip-broken")
    assert ran.returncode == 0
    assert "passed over: " in ran.stdout and "1100021003.avi" in ran.stdout.replace("\n", "")
    assert set(load(tmp_path / "o.npz").subjects.tolist()) == {110001}


def test_labels_of_openface_are_laid_over_prepared_frames(tmp_path: Path) -> None:
    out = prepared("daisee", layouts.daisee(tmp_path / "d"), "--split", "train", "--rate", "1")[1]
    times = np.arange(50) / 25
    for clip, smile in (("1100011002", 1.0), ("1100021003", 5.0)):
        layouts.openface_csv(tmp_path / "of" / f"{clip}.csv", layouts.openface_rows(50, timestamp=times, AU12_r=smile))
    ran = command("labels-csv", out, tmp_path / "of", "--out", tmp_path / "labelled.npz")
    assert ran.returncode == 0, ran.stderr
    labelled = load(tmp_path / "labelled.npz")
    assert labelled.concepts[:, INDEX["AU12"]].tolist() == pytest.approx([0.2, 0.2, 1.0, 1.0])
    np.testing.assert_array_equal(labelled.crops, load(out).crops)
    (tmp_path / "of" / "1100011002.csv").unlink()
    ran = command("labels-csv", out, tmp_path / "of", "--out", tmp_path / "labelled.npz")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "Train/1100011002@0.000: has no AU labels" in ran.stderr


def test_a_subject_in_two_prepared_files_is_named(tmp_path: Path) -> None:
    one = prepared("daisee", layouts.daisee(tmp_path / "d"), "--split", "test")[1]
    ran = command("check-splits", one, one.rename(tmp_path / "x.npz"))
    assert ran.returncode == 2 and "prepared crops not found" in ran.stderr
    copy = tmp_path / "y.npz"
    copy.write_bytes((tmp_path / "x.npz").read_bytes())
    ran = command("check-splits", copy, tmp_path / "x.npz")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "subject 500044: in the splits" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ferplus", "none.npz", "--split", "train"), "FER+ file not found"),
        (("ferplus", "none.npz"), "FER+ has the splits train, valid, test; say which with --split"),
        (("renders", "none.npz"), "renders not found"),
        (("renders", "other.npz"), "rendered for other concepts"),
        (("renders", "none_there.npz"), "split 'renders' of"),
        (("renders", "no_face.npz"), "no face was found in any of the 2 renders"),
        (("wacv2016", "."), "needs the folders 1/, 2/ and 3/"),
        (("engagenet", ".", "--split", "test"), "EngageNet needs the file"),
        (("rafdb", ".", "--split", "train", "--features"), "--features is for noxi"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    np.savez(tmp_path / "other.npz", images=np.zeros((1, 8, 8)), concepts=np.zeros((1, 1)), names=np.array(["AU1"]))
    for name, count in (("none_there", 0), ("no_face", 2)):
        empty = {"images": np.zeros((count, 64, 64), np.uint8), "concepts": np.zeros((count, len(NAMES)), np.float32)}
        np.savez(tmp_path / f"{name}.npz", names=np.array(NAMES), **empty)
    corpus, source, *rest = arguments
    ran = command(corpus, tmp_path / source, *rest, "--out", tmp_path / "crops.npz")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "crops.npz").exists()


def test_an_interruption_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cut_crop, made = layouts.rafdb(tmp_path / "r"), cut.cut_crop, iter(range(9))

    def stopped(*arguments: Any) -> tuple[Luma, bool]:
        if next(made) == 2:
            raise KeyboardInterrupt
        return cut_crop(*arguments)

    monkeypatch.setattr(cut, "cut_crop", stopped)
    arguments = ("rafdb", folder, "--split", "train", "--out", tmp_path / "o.npz", "--cache", tmp_path / "c.sqlite")
    ran = command(*arguments)
    assert ran.returncode != 0
    assert "interrupted: the crops are kept" in ran.stderr
    assert not (tmp_path / "o.npz").exists()
    assert command(*arguments).returncode == 0
    assert len(load(tmp_path / "o.npz")) == 3
    assert next(made) == 4, "two were kept, so that one was left to cut"


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "training.prepare", "rafdb", str(tmp_path), "--split", "test", "--out", "o.npz"]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: RAF-DB needs the file") and ran.stderr.count("\n") == 1
