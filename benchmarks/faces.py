"""Real face crops to run a network on: faces of a clip, found and aligned as the live path does it.

`python -m benchmarks.faces` writes models/faces.png, the faces of the demo clip (synthetic, ICT-FaceKit) in a row, on
which a session chooses its engine.
"""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import typer

from benchmarks.keyframes import open_detector
from engines.face import FaceFinder, align
from engines.preprocess import Luma
from pipeline.bus import WorkerError
from pipeline.decode import Losses, pictures
from pipeline.luma import LumaReader
from pipeline.networks import FACES
from pipeline.sources import DEMO, source_of, video_stream

COUNT, SIZE_PX, EVERY = 16, 112, 35


def face_crops(path: Path, count: int, size_px: int, every: int) -> npt.NDArray[np.uint8]:
    """Luma crops [count, size_px, size_px]: the largest face of every so many pictures.

    Raises WorkerError if the clip shows fewer faces.
    """
    detector = open_detector("onnxruntime", "fp32")
    reader = LumaReader()
    crops: list[Luma] = []
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container, source_of(str(path)))
            for number, picture in enumerate(pictures(container, stream, Losses())):
                if number % every or len(crops) == count:
                    continue
                luma = reader.read(picture.frame)
                faces = [each for each in FaceFinder(detector).locate(luma, 0).faces if each.status == "tracked"]
                crops += [align(luma, face, size_px).luma for face in faces[:1]]
    finally:
        detector.close()
    if len(crops) < count:
        raise WorkerError(f"{path.name} shows a face in {len(crops)} of the pictures looked at; {count} are needed", 2)
    return np.stack(crops)


def main() -> None:
    """Writes models/faces.png, the faces on which a session chooses its engine, from the demo clip."""
    crops = face_crops(DEMO, COUNT, SIZE_PX, EVERY)
    cv2.imwrite(str(FACES), np.hstack([*crops]))
    print(f"written: {COUNT} faces of {DEMO.name} in {FACES}")


if __name__ == "__main__":
    typer.run(main)
