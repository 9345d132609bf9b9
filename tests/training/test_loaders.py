"""The official layouts, read from tiny copies of them, and everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training import layouts
from training.concepts import EXPRESSIONS, INDEX
from training.data import cmose, noxi
from training.data.corpus import Corpus, Expressions, check_there
from training.data.datasets import DATASETS, found_in
from training.data.pictures import DataError

RATE_HZ = 5.0
MAKE: dict[str, Callable[[Path], Path]] = {
    "rafdb": layouts.rafdb, "affectnet7": layouts.affectnet, "affectnet8": layouts.affectnet,
    "affwild2": layouts.affwild2, "noxi": layouts.noxi, "daisee": layouts.daisee, "engagenet": layouts.engagenet,
}  # fmt: skip


def loaded(name: str, folder: Path, split: str, rate_hz: float = RATE_HZ) -> Corpus:
    load = DATASETS[name].load
    assert load is not None
    return load(folder, split, rate_hz)


def named_classes(corpus: Corpus) -> list[str]:
    assert isinstance(corpus.task, Expressions)
    return [corpus.task.classes[item.label] for item in corpus.items]


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_of_the_table_is_complete(name: str) -> None:
    row = DATASETS[name]
    assert row.measured in row.splits
    assert row.source.startswith("http")
    assert row.terms
    if isinstance(row.task, Expressions):
        ours = [each for each in row.task.classes if each in EXPRESSIONS]
        assert len(row.task.classes) - len(ours) <= 1, "only Aff-Wild2's 'other' is none of ours"
        for label, each in enumerate(row.task.classes):
            votes = row.task.votes(label)
            assert np.isnan(votes).all() if each not in EXPRESSIONS else EXPRESSIONS[int(votes.argmax())] == each


@pytest.mark.parametrize("name", DATASETS)
def test_the_page_says_what_the_table_says(name: str) -> None:
    page = (layouts.ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("| `") and f"`{name}`" in line)
    row = DATASETS[name]
    assert row.source in line
    splits = line.split("|")[4]
    assert splits.replace("*", "").replace(" ", "").split(",") == list(row.splits)
    assert f"**{row.measured}**" in splits


def test_rafdb_counts_from_one_and_splits_by_name(tmp_path: Path) -> None:
    folder = layouts.rafdb(tmp_path)
    assert named_classes(loaded("rafdb", folder, "train")) == ["happiness", "neutral", "surprise"]
    test = loaded("rafdb", folder, "test")
    assert named_classes(test) == ["sadness", "anger"]
    assert [item.name for item in test.items] == ["test_0001_aligned.jpg", "test_0002_aligned.jpg"]


def test_affectnet_with_and_without_contempt(tmp_path: Path) -> None:
    folder = layouts.affectnet(tmp_path)
    assert named_classes(loaded("affectnet8", folder, "train")) == ["neutral", "happiness", "contempt", "anger"]
    seven = loaded("affectnet7", folder, "valid")
    assert named_classes(seven) == ["surprise", "sadness"]
    assert seven.left_out == {"of a class that is not among these": 1}


def test_affwild2_pairs_frames_with_lines(tmp_path: Path) -> None:
    folder = layouts.affwild2(tmp_path)
    train = loaded("affwild2", folder, "train", 30.0)
    assert [item.name for item in train.items][:4] == ["1-30/00001.jpg", "1-30/00002.jpg", "1-30/00004.jpg",
                                                       "1-30/00005.jpg"]  # fmt: skip
    assert named_classes(train)[:4] == ["happiness", "happiness", "other", "neutral"]
    assert train.left_out == {"frames that nobody annotated": 1}
    valid = loaded("affwild2", folder, "valid", 30.0)
    assert named_classes(valid) == ["surprise", "neutral", "sadness", "sadness"], "frame 2 has no picture"
    assert [item.name for item in loaded("affwild2", folder, "train", 15.0).items][:2] == ["1-30/00001.jpg",
                                                                                         "1-30/00005.jpg"]  # fmt: skip


def test_the_folder_of_the_earlier_challenges_is_read(tmp_path: Path) -> None:
    folder = layouts.affwild2(tmp_path)
    track = folder / "6th ABAW Annotations" / "EXPR_Recognition_Challenge"
    track.rename(folder / "EXPR_Classification_Challenge")
    assert len(loaded("affwild2", folder, "valid", 30.0).items) == 4


def test_daisee_takes_engagement_and_the_subject(tmp_path: Path) -> None:
    corpus = loaded("daisee", layouts.daisee(tmp_path), "train")
    assert [(item.label, item.subject, item.name) for item in corpus.items] == [
        (0, 110001, "Train/1100011002"), (3, 110002, "Train/1100021003"),
    ]  # fmt: skip


def test_engagenet_reads_both_kinds_of_table(tmp_path: Path) -> None:
    folder = layouts.engagenet(tmp_path)
    train = loaded("engagenet", folder, "train")
    assert [(item.label, item.subject) for item in train.items] == [(3, 10), (1, 11)]
    assert train.left_out == {"clips without a person": 1}
    assert [item.label for item in loaded("engagenet", folder, "valid").items] == [0]
    assert [item.label for item in loaded("engagenet", folder, "test").items] == [2]


def test_noxi_drops_what_nobody_annotated(tmp_path: Path) -> None:
    corpus = loaded("noxi", layouts.noxi(tmp_path), "train")
    assert [(item.name, item.subject) for item in corpus.items] == [("train/001/expert", 2), ("train/001/novice", 3)]
    track = corpus.items[1].track
    assert track is not None
    assert len(track) == 50
    np.testing.assert_allclose(track[:3], [0.3, 0.31, 0.32], rtol=1e-6)
    assert np.isnan(track[38:]).all()


def test_noxi_without_videos_gives_concepts_from_its_streams(tmp_path: Path) -> None:
    folder = layouts.noxi(tmp_path, videos=False)
    with pytest.raises(DataError, match=r"expert\.video\.mp4 is missing; .*--features"):
        loaded("noxi", folder, "train")
    moments = list(noxi.moments(folder, "valid", 5.0))
    expert = [each for each in moments if each.person.role == "expert"]
    assert [round(each.time_s, 3) for each in expert] == [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4], "38 labels are 1.52 s"
    np.testing.assert_allclose([each.score for each in expert], 0.2 + 0.05 * np.arange(8), atol=1e-5)
    smile = np.array([each.activations[INDEX["AU12"]] for each in expert])
    np.testing.assert_allclose(smile, np.arange(8) * 5 / 49, atol=1e-4)


def test_cmose_has_levels_and_concepts_and_no_pictures(tmp_path: Path) -> None:
    folder = layouts.cmose(tmp_path)
    clips = cmose.load(folder, "train")
    assert [(clip.name, clip.level, clip.subject) for clip in clips] == [
        ("video1_1_person0", 0, 1000), ("video1_2_person1", 2, 1001),
    ]  # fmt: skip
    (_, first), (_, second) = cmose.tables(clips)
    mean, share = cmose.mean_concepts(first)
    assert mean[INDEX["AU12"]] == pytest.approx(0.5), "the last row has no face"
    assert share[INDEX["AU12"]] == share[INDEX["AU1"]] == 0.75
    np.testing.assert_array_equal(second.weights.shape, first.weights.shape)
    assert cmose.people_in_two_splits(folder) == 0
    with pytest.raises(DataError, match=r"split 'valid' of .*final_data_1\.json is empty"):
        cmose.load(folder, "valid")


def test_a_face_that_was_lost_does_not_enter_the_mean(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    path = layouts.openface_csv(
        folder / "a.csv", layouts.openface_rows(4, AU12_r=np.array([5.0, 5, 0, 0]), success=np.array([1, 1, 0, 0]))
    )
    mean, share = cmose.mean_concepts(next(cmose.tables((cmose.Clip("a", path, 0, 0),)))[1])
    assert (mean[INDEX["AU12"]], share[INDEX["AU12"]]) == (1.0, 0.5)


@pytest.mark.parametrize("name", MAKE)
def test_an_unknown_split_is_answered_with_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"has no split 'moon' \(it has train, "):
        loaded(name, MAKE[name](tmp_path), "moon")


@pytest.mark.parametrize("name", MAKE)
def test_a_folder_of_another_kind_is_refused_by_what_it_lacks(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"needs (the file|the folder|a folder) .*missing"):
        loaded(name, tmp_path, "train")


Broken = Callable[[Path], object]


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("rafdb", lambda f: layouts.picture(f / "basic/Image/aligned/train_00009_aligned.jpg"),
         r"train_00009_aligned\.jpg: has no label in .*list_patition_label"),
        ("rafdb", lambda f: (f / "basic/EmoLabel/list_patition_label.txt").write_text("train_00001.jpg 8\n"),
         r"line 1.*label 8 is not one of the 8"),
        ("rafdb", lambda f: (f / "basic/EmoLabel/list_patition_label.txt").write_text("train_00001.jpg\n"),
         r"line 1: expected NAME LABEL"),
        ("rafdb", lambda f: (f / "basic/EmoLabel/list_patition_label.txt").write_text(""),
         r"train_0000\d_aligned\.jpg: has no label"),
        ("affectnet8", lambda f: (f / "train_set/annotations/11_exp.npy").unlink(),
         r"needs the file .*11_exp\.npy, which is missing"),
        ("affectnet8", lambda f: (f / "train_set/images/11.jpg").unlink(),
         r"11_exp\.npy: labels a picture that is missing"),
        ("affectnet8", lambda f: (f / "train_set/annotations/11_exp.npy").write_bytes(b""),
         r"11_exp\.npy: holds no label"),
        ("affwild2", lambda f: (f / "cropped_aligned/2").rename(f / "elsewhere"),
         r"2\.txt: labels a video whose pictures are missing"),
        ("affwild2", lambda f: (f / "6th ABAW Annotations/EXPR_Recognition_Challenge/Validation_Set/2.txt").write_text(
            "x\n"), r"video 2 is labelled in two splits"),
        ("affwild2", lambda f: (f / "6th ABAW Annotations/EXPR_Recognition_Challenge/Train_Set/2.txt").write_text(
            "Neutral,Happiness\n1\n"), r"2\.txt: classes are neutral, happiness, expected neutral, anger"),
        ("affwild2", lambda f: (f / "6th ABAW Annotations/EXPR_Recognition_Challenge/Train_Set/2.txt").write_text(
            "1\n1\n"), r"2\.txt: the first line names no classes"),
        ("daisee", lambda f: (f / "DataSet/Train/110002/1100021003/1100021003.avi").unlink(),
         r"1100021003\.avi: labelled, but the file is missing$"),
        ("daisee", lambda f: (f / "Labels/TrainLabels.csv").write_text("ClipID,Boredom\na.avi,1\n"),
         r"TrainLabels\.csv has no column Engagement \(it has clipid, boredom\)"),
        ("daisee", lambda f: (f / "Labels/TrainLabels.csv").write_text("ClipID,Engagement\n1100011002.avi,\n"),
         r"clip 1100011002\.avi: '' is no label"),
        ("daisee", lambda f: (f / "Labels/TrainLabels.csv").write_text("ClipID,Engagement\n"), r"'train' .*is empty"),
        ("daisee", lambda f: (f / "Labels/ValidationLabels.csv").write_text("ClipID,Engagement\n1100029999.avi,1\n"),
         r"subject 110002: in the splits train and valid"),
        ("engagenet", lambda f: layouts.sheet(f / "validation_engagement_labels.xlsx",
                                              [("chunk", "label"), ("subject_11_zz_vid_0_9.mp4", "Engaged")]),
         r"subject 11: in the splits train and valid"),
        ("engagenet", lambda f: [path.unlink() for path in (f / "Train").iterdir()],
         r"subject_10_ab_vid_0_0\.mp4: labelled, but the file is missing; 2 of 2 are$"),
        ("engagenet", lambda f: (f / "train_engagement_labels.xlsx").write_bytes(b"no workbook"),
         r"train_engagement_labels\.xlsx is no XLSX file"),
        ("engagenet", lambda f: layouts.sheet(f / "train_engagement_labels.xlsx",
                                              [("chunk", "label"), ("subject_10_ab_vid_0_0.mp4", "Asleep")]),
         r"subject_10_ab_vid_0_0\.mp4: unknown label 'Asleep'"),
        ("noxi", lambda f: (f / "train/001/novice.engagement.annotation.csv").unlink(),
         r"needs the file .*novice\.engagement\.annotation\.csv"),
        ("noxi", lambda f: (f / "train/001/novice.engagement.annotation.csv").write_text("0.5\nhigh\n"),
         r"line 2: 'high' is no value"),
        ("noxi", lambda f: (f / "train/001/novice.engagement.annotation.csv").write_text("0.5\n1.5\n"),
         r"line 2: engagement 1\.5 is not in \[0, 1\]"),
        ("noxi", lambda f: (f / "train/001/novice.engagement.annotation.csv").write_text("-nan(ind)\n"),
         r"holds no engagement value"),
        ("rafdb", lambda f: (f / "basic/EmoLabel/list_patition_label.txt").write_bytes(b"\xff\xfe\0"),
         r"list_patition_label\.txt: is no text"),
        ("affwild2", lambda f: (f / "6th ABAW Annotations/EXPR_Recognition_Challenge/Train_Set/2.txt").write_bytes(
            b"\xff\xfe\0"), r"2\.txt: is no text"),
        ("noxi", lambda f: (f / "train/001/novice.engagement.annotation.csv").write_bytes(b"\xff\xfe\0"),
         r"novice\.engagement\.annotation\.csv: is no text"),
        ("noxi", lambda f: (f / "train/001").rename(f / "train/007"), r"007: a validation session lies in train"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, name: str, spoil: Broken, words: str) -> None:
    folder = MAKE[name](tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=words) as error:
        check_there(loaded(name, folder, "train"))
    assert "\n" not in str(error.value)


def test_data_sets_are_found_by_their_marks(tmp_path: Path) -> None:
    assert [name for name in DATASETS if found_in(tmp_path, name)] == []
    layouts.rafdb(tmp_path / "rafdb")
    layouts.affectnet(tmp_path / "affectnet")
    layouts.cmose(tmp_path / "cmose" / "CMOSE-1.0")
    np.savez(tmp_path / "ferplus.npz", images=np.zeros(1))
    assert [name for name in DATASETS if found_in(tmp_path, name)] == [
        "rafdb", "affectnet7", "affectnet8", "cmose", "ferplus",
    ]  # fmt: skip
    assert found_in(tmp_path, "cmose") == tmp_path / "cmose" / "CMOSE-1.0"
