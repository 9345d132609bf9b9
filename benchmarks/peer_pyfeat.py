"""Times Py-Feat's detector on frames: `PYTHON benchmarks/peer_pyfeat.py FRAMES.npy`.

Run by benchmarks.peers in an environment that has py-feat 2 and its weights, which it fetches when it is first used;
imports nothing else of this repository. Prints milliseconds of every frame and whether a face was found, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np
import torch

CONFIDENCE = 0.5  # Py-Feat's own


def main(frames_file: str) -> None:
    """Every frame once, in order, as a stream is shown to it: one picture a call, without telling people apart."""
    feat: Any = importlib.import_module("feat")  # by its name: this project does not ask anybody to have it
    detector = feat.Detectorv2(device="cpu", identity_model=None)
    times_ms, found = [], 0
    for frame in np.load(frames_file, mmap_mode="r"):
        picture = np.array(frame)
        start_ns = time.perf_counter_ns()
        tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
        result = detector.detect(tensor, data_type="tensor", progress_bar=False)
        times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        found += bool((result["FaceScore"] >= CONFIDENCE).any())
    print(json.dumps({"version": feat.__version__, "times_ms": times_ms, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
