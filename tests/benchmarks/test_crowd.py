"""Pictures of several faces: all are found, and the network is called once for them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crowd import MOST, STEPS, crowd_of, side_by_side, tiles_of
from pipeline.bus import WorkerError
from pipeline.config import load
from pipeline.networks import load as load_networks
from pipeline.sources import DEMO


def test_the_picture_has_one_size_for_any_number_of_faces() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (8, 6)).astype(np.uint8)
    for faces in range(1, MOST + 1):
        luma = side_by_side(tile, faces)
        assert luma.shape == (8, MOST * 6)
        for place in range(MOST):
            part = luma[:, 6 * place : 6 * (place + 1)]
            assert (part == (tile if place < faces else 128)).all()


def test_too_few_pictures_are_one_line() -> None:
    with pytest.raises(WorkerError, match="has 720 pictures; 721 are needed"):
        tiles_of(DEMO, 721)


def test_all_faces_of_a_crowd_are_tracked_and_are_one_call() -> None:
    names = ["capture.camera=demo", "capture.mic=none", "engine.model=agcm-live", "engine.backend=onnxruntime"]
    cfg = load(None, [*names, "face.max_faces=4"])
    networks, tiles = load_networks(cfg), tiles_of(DEMO, 6)
    for faces in (1, 3):
        crowd = crowd_of(faces, cfg, networks)
        crowd.turn(tiles)
        row = crowd.row()
        assert (row.faces, row.frames, row.tracked, row.calls) == (faces, 4, 1.0, 1.0)
        assert tuple(row.stages_ms) == STEPS
        assert row.frame_ms.p50 > 0.0
    networks.close()
