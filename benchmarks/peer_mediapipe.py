"""Times MediaPipe's FaceLandmarker on frames: `PYTHON benchmarks/peer_mediapipe.py FRAMES.npy MODEL.task`.

Run by benchmarks.peers in the environment that has MediaPipe, whose build of OpenCV clashes with ours; it imports
nothing else of this repository. Prints milliseconds of every frame and whether a face was found, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import mediapipe
import numpy as np

PERIOD_MS = 1000 / 30


def landmarker(model: str) -> Any:
    """One face, with blendshapes and pose, for a stream of pictures."""
    vision = mediapipe.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=model),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=1,
    )
    return vision.FaceLandmarker.create_from_options(options)


def main(frames_file: str, model: str) -> None:
    """Every frame once, in order."""
    frames = np.load(frames_file, mmap_mode="r")
    times_ms, found = [], 0
    with landmarker(model) as network:
        for number, frame in enumerate(frames):
            picture = np.ascontiguousarray(frame)
            start_ns = time.perf_counter_ns()
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, picture)
            result = network.detect_for_video(image, round(number * PERIOD_MS))
            times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
            found += bool(result.face_blendshapes)
    print(json.dumps({"version": mediapipe.__version__, "times_ms": times_ms, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
