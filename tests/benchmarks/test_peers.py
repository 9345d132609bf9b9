"""The figures of the others, and how their programs are run: as their authors describe them, by stand-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import look
from benchmarks.peer_figures import MEDIAPIPE, WARM_UP, Peer, PeersReport, measured, notes, spreads, table
from benchmarks.peer_others import mediapipe_turn, openface_turn, pyfeat_turn
from benchmarks.peer_ways import U8, Turn
from pipeline.bus import WorkerError

COUNT = 30
FEAT = """
import torch
__version__ = "2.9"
class Result(dict):
    pass
class Detectorv2:
    def __init__(self, device, identity_model):
        assert (device, identity_model) == ("cpu", None)
    def detect(self, inputs, data_type, progress_bar):
        assert inputs.dtype == torch.uint8 and tuple(inputs.shape) == (1, 3, 24, 32)
        assert (data_type, progress_bar) == ("tensor", False)
        red, green, blue = inputs[0].float().mean((1, 2))
        assert red > blue, "RGB, as Py-Feat wants it"
        return {"FaceScore": torch.tensor([0.0, 0.9 if green > 9 else 0.1])}
"""
EXTRACTION = """#!{python}
import pathlib, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
pictures = sorted(pathlib.Path(sys.argv[sys.argv.index("-fdir") + 1]).glob("*.bmp"))
out = pathlib.Path(sys.argv[sys.argv.index("-out_dir") + 1])
assert pictures and "-aus" in sys.argv
time.sleep(0.3 + 0.02 * len(pictures))
out.mkdir(parents=True)
rows = [f"{{i + 1}}, 0, {{i / 30}}, 0.98, {{int(i % 3 > 0)}}, 1.5" for i in range(len(pictures))]
(out / "pictures.csv").write_text("\\n".join(["frame, face_id, timestamp, confidence, success, AU01_r", *rows]))
"""


@pytest.fixture
def colours() -> U8:
    """RGB [N, H, W, 3], reddish; the later half is greenish as well."""
    frames = np.zeros((COUNT, 24, 32, 3), np.uint8)
    frames[..., 0] = 200
    frames[COUNT // 2 :, ..., 1] = 90
    return frames


def program(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def report(*peers: Peer) -> PeersReport:
    return PeersReport(look(), COUNT, 2, peers)


def test_the_first_frames_of_each_turn_do_not_count() -> None:
    turns = [Turn([50.0] * WARM_UP + [1.0] * 20, 30), Turn([50.0] * WARM_UP + [3.0] * 20, 15)]
    found = measured(Peer("a", "b"), turns, COUNT)
    assert found.times_ms is not None
    assert (found.times_ms.count, found.times_ms.max, found.mean_ms, found.found) == (40, 3.0, 2.0, 0.75)
    assert found.times_ms.p50 == 2.0


def test_who_times_whole_runs_has_a_mean_and_is_compared_by_it() -> None:
    theirs = measured(Peer(MEDIAPIPE, ""), [Turn([10.0] * COUNT, COUNT, "0.10")], COUNT)
    whole = measured(Peer("OpenFace", ""), [Turn([], 15, mean_ms=40.0), Turn([], 15, mean_ms=60.0)], COUNT)
    absent = Peer("Py-Feat", "", missing="no environment")
    found = report(theirs, whole, absent)
    rows = table(found).rows
    assert rows[0] == (f"{MEDIAPIPE} 0.10", "10.00", "10.00", "10.00", "10.00", "1.00", "1.00", "100.0%")
    assert rows[1] == ("OpenFace", "–", "–", "–", "50.00", "–", "5.00", "50.0%")
    assert rows[2] == ("Py-Feat", *["not measured"] * 7)
    assert list(spreads(found)) == [MEDIAPIPE]
    assert notes(found)[-1] == "Py-Feat: not measured, no environment."


def test_pyfeat_is_asked_as_for_a_stream(colours: U8, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    (tmp_path / "feat").mkdir()
    (tmp_path / "feat" / "__init__.py").write_text(FEAT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    np.save(tmp_path / "frames.npy", colours)
    turn = pyfeat_turn(Path(sys.executable), tmp_path / "frames.npy")
    assert (len(turn.times_ms), turn.found, turn.version) == (COUNT, COUNT - COUNT // 2, "2.9")
    assert min(turn.times_ms) > 0.0


@pytest.mark.clock
def test_openface_is_timed_without_its_start(colours: U8, tmp_path: Path) -> None:
    """The stand-in takes .3 s to start, which is fifteen times what a frame takes."""
    path = program(tmp_path / "FeatureExtraction", EXTRACTION.format(python=sys.executable))
    turn = openface_turn(path, colours, WARM_UP)
    assert turn.found == 20
    assert turn.times_ms == []
    assert turn.mean_ms is not None and 15.0 < turn.mean_ms < 30.0


def test_a_program_that_cannot_be_run_is_one_line(colours: U8, tmp_path: Path) -> None:
    stored, python = tmp_path / "frames.npy", Path(sys.executable)
    np.save(stored, colours)
    silent = program(tmp_path / "silent", "#!/bin/sh\nexit 0\n")
    failing = program(tmp_path / "failing", "#!/bin/sh\necho first >&2\necho no model >&2\nexit 3\n")
    for says, ask in (
        ("OpenFace: .*/nowhere cannot be run: No such file", lambda: openface_turn(tmp_path / "nowhere", colours, 9)),
        ("OpenFace wrote no table: is .*/silent OpenFace 2's", lambda: openface_turn(silent, colours, 9)),
        ("OpenFace did not run in .*/failing: no model", lambda: openface_turn(failing, colours, 9)),
        ("Py-Feat did not run in .*/failing: no model", lambda: pyfeat_turn(failing, stored)),
        ("Py-Feat did not run in .*: ModuleNotFound", lambda: pyfeat_turn(python, stored)),
        ("MediaPipe: .*/x cannot be run", lambda: mediapipe_turn(tmp_path / "x", tmp_path / "y", tmp_path / "z")),
    ):
        with pytest.raises(WorkerError, match=says) as caught:
            ask()
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
