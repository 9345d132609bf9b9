"""Tiny data sets in the official layouts of the big ones, made of the synthetic faces in models/faces.png."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import openpyxl

from engines.preprocess import Luma
from training.data.affwild2 import CLASSES as AFFWILD2
from training.data.features import openface_columns

ROOT = Path(__file__).parents[2]
_FACE_PX = 112
FRAME_HZ = 10


@cache
def faces() -> tuple[Luma, ...]:
    """The synthetic faces, uint8 [112, 112] each."""
    strip = cv2.imread(str(ROOT / "models" / "faces.png"), cv2.IMREAD_GRAYSCALE)
    return tuple(np.ascontiguousarray(strip[:, i : i + _FACE_PX]) for i in range(0, strip.shape[1], _FACE_PX))


def picture(path: Path, which: int = 0) -> Path:
    """A face as a picture file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), faces()[which])
    return path


def video(path: Path, which: Sequence[int] = (0, 1), frames_each: int = FRAME_HZ, rate_hz: int = FRAME_HZ) -> Path:
    """A video of some faces in turn, each in the middle of a larger picture, `frames_each` frames each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate_hz)
        stream.width, stream.height, stream.pix_fmt = 224, 160, "yuv420p"
        for each in which:
            canvas = np.full((160, 224), 110, np.uint8)
            canvas[24:136, 56:168] = faces()[each]
            for _ in range(frames_each):
                frame = av.VideoFrame.from_ndarray(np.repeat(canvas[..., None], 3, axis=2), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rafdb(folder: Path) -> Path:
    """Three training pictures and two for the test; the labels are 4 (happiness), 7 (neutral), 1, 5, 6."""
    names = ["train_00001", "train_00002", "train_00003", "test_0001", "test_0002"]
    label = folder / "basic" / "EmoLabel" / "list_patition_label.txt"
    label.parent.mkdir(parents=True)
    label.write_text("".join(f"{name}.jpg {value}\n" for name, value in zip(names, (4, 7, 1, 5, 6), strict=True)))
    for i, name in enumerate(names):
        picture(folder / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg", i)
    return folder


def affectnet(folder: Path) -> Path:
    """Four training and three validation pictures; one contempt in each."""
    for part, labels in (("train_set", (0, 1, 7, 6)), ("val_set", (3, 7, 2))):
        (folder / part / "annotations").mkdir(parents=True)
        for i, label in enumerate(labels):
            picture(folder / part / "images" / f"{i + 10}.jpg", i)
            np.save(folder / part / "annotations" / f"{i + 10}_exp.npy", np.array(str(label)))
            np.save(folder / part / "annotations" / f"{i + 10}_val.npy", np.array("0.5"))
    return folder


def affwild2(folder: Path) -> Path:
    """Two training videos and one for validation, five frames each; a frame without a label, one without a picture."""
    track = folder / "6th ABAW Annotations" / "EXPR_Recognition_Challenge"
    labels = {"Train_Set/1-30": (4, 4, -1, 7, 0), "Train_Set/2": (1, 1, 1, 1, 1), "Validation_Set/3": (6, 6, 0, 5, 5)}
    for name, values in labels.items():
        (track / name).parent.mkdir(parents=True, exist_ok=True)
        header = ",".join(each.capitalize() for each in AFFWILD2)
        (track / f"{name}.txt").write_text("\n".join([header, *map(str, values)]) + "\n")
        for frame in range(1, 6):
            if (name, frame) != ("Validation_Set/3", 2):
                picture(folder / "cropped_aligned" / Path(name).name / f"{frame:05d}.jpg", frame)
    return folder


def daisee(folder: Path) -> Path:
    """Two training clips, one for validation, one for the test; four subjects."""
    clips = {"Train": (("1100011002", 0), ("1100021003", 3)), "Validation": (("4000221001", 2),),
             "Test": (("5000441001", 1),)}  # fmt: skip
    (folder / "Labels").mkdir(parents=True)
    for part, rows in clips.items():
        lines = ["ClipID,Boredom,Engagement,Confusion,Frustration "]
        for i, (clip, level) in enumerate(rows):
            video(folder / "DataSet" / part / clip[:6] / clip / f"{clip}.avi", (i, i + 1))
            lines.append(f"{clip}.avi,1,{level},0,0")
        (folder / "Labels" / f"{part}Labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def sheet(path: Path, rows: Sequence[Sequence[str | int]]) -> Path:
    """An XLSX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    page = book.worksheets[0]
    for row in rows:
        page.append(list(row))
    book.save(path)
    return path


def engagenet(folder: Path) -> Path:
    """Two training clips, one of nobody, one for validation, one for the test."""
    train = [("subject_10_ab_vid_0_0.mp4", "Highly-Engaged"), ("subject_11_cd_vid_0_1.mp4", "Barely-engaged"),
             ("subject_12_cd_vid_0_1.mp4", "SNP(Subject Not Present)")]  # fmt: skip
    valid, test = ("subject_20_ef_vid_1_0.mp4", "Not-Engaged"), ("subject_30_gh_vid_2_0.mp4", "Engaged")
    sheet(
        folder / "train_engagement_labels.xlsx", [("", "chunk", "label"), *((i, *row) for i, row in enumerate(train))]
    )
    sheet(folder / "validation_engagement_labels.xlsx", [("chunk", "label"), valid])
    (folder / "test_engagement_labels.csv").write_text(f"chunk,label\n{','.join(test)}\n")
    for part, clips in (("Train", train[:2]), ("Validation", [valid]), ("Test", [test])):
        for i, (clip, _) in enumerate(clips):
            video(folder / part / clip, (i, i + 1))
    return folder


def stream(path: Path, values: npt.NDArray[np.float32], rate_hz: float) -> Path:
    """An SSI feature stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = len(values) // 2
    chunks = "".join(f'<chunk from="0" to="1" byte="0" num="{count}" />' for count in (half, len(values) - half))
    info = f'<info ftype="BINARY" sr="{rate_hz:.3f}" dim="{values.shape[1]}" byte="4" type="FLOAT" delim=" " />'
    path.write_text(f'<?xml version="1.0" ?>\n<stream ssi-v="2">\n{info}<meta type="" />{chunks}\n</stream>\n')
    path.with_name(path.name + "~").write_bytes(values.astype("<f4").tobytes())
    return path


def openface_rows(count: int, **columns: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """OpenFace's 714 numbers a row: a found face at rest, but for the given columns."""
    names = openface_columns()
    values = np.zeros((count, len(names)), np.float32)
    for name, value in {"confidence": 0.98, "success": 1.0, **columns}.items():
        values[:, names.index(name)] = value
    return values


def noxi(folder: Path, videos: bool = True) -> Path:
    """A training and a validation session of two seconds; engagement rises, the last half second is not annotated."""
    for place in ("train/001", "val/007"):
        for i, role in enumerate(("expert", "novice")):
            track = [f"{0.2 + 0.01 * frame + 0.1 * i:.4f}" for frame in range(38)] + ["-nan(ind)"] * 12
            path = folder / place / f"{role}.engagement.annotation.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(track) + "\n")
            smile = np.linspace(0, 5, 50)
            stream(folder / place / f"{role}.video.openface2.stream", openface_rows(50, AU12_r=smile), 25.0)
            if videos:
                video(folder / place / f"{role}.video.mp4", (i, i + 1))
    return folder


def openface_csv(path: Path, rows: npt.NDArray[np.float32]) -> Path:
    """OpenFace's table, with the space that it writes before every name but the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [", ".join(openface_columns()), *(", ".join(f"{value:.4f}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def cmose(folder: Path) -> Path:
    """Two training clips, one for validation without a label, one for the test."""
    entries = {
        "video1_1_person0": {"split": "train", "label": "Highly Disengage", "annotators": [1, 2]},
        "video1_2_person1": {"split": "train", "label": "Engage"},
        "video2_1_person0": {"split": "unlabel", "label": None},
        "video3_1_person0": {"split": "test", "label": "Highly Engage"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "final_data_1.json").write_text(json.dumps(entries))
    for i, name in enumerate(entries):
        rows = openface_rows(4, AU12_r=np.array([0.0, 5.0, 2.5, 5.0]), success=np.array([1, 1, 1, i != 0]))
        openface_csv(folder / "secondFeature" / "secondFeature" / f"{name}.csv", rows)
    return folder
