"""Times plain torch on frames: `python -m benchmarks.peer_torch MODEL FRAMES.npy`.

Run by benchmarks.peers in a process of its own: a session never has torch beside it, and is slower where it does.
Prints milliseconds of every frame and whether a face was found, as JSON.
"""

from __future__ import annotations

import sys
from importlib import metadata

import cv2
import msgspec
import numpy as np

from benchmarks.peer_ways import Plain


def main(model: str, frames_file: str) -> None:
    """Every frame once, in order; the luma of it is no part of the time."""
    lumas = [cv2.cvtColor(np.array(frame), cv2.COLOR_RGB2GRAY) for frame in np.load(frames_file, mmap_mode="r")]
    turn = Plain(model, "torch").turn(np.stack(lumas).astype(np.uint8))
    said = {"version": metadata.version("torch"), "times_ms": turn.times_ms, "found": turn.found}
    print(msgspec.json.encode(said).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
