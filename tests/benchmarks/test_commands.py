"""The commands as people type them: one line for a mistake, and a whole report for a short run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.allocations import AllocationsReport
from benchmarks.engine_figures import Difference, EngineReport
from benchmarks.following import FollowingReport
from benchmarks.frame_path import STAGES, WORKER
from benchmarks.live_figures import LiveReport
from benchmarks.peer_figures import PeersReport
from benchmarks.voice import VoiceReport
from engines.backends import BACKENDS
from engines.spec import MODELS_DIR

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0

has_model = pytest.mark.skipif(
    not (MODELS_DIR / "agcm-live" / "manifest.json").is_file(), reason="models/agcm-live is not there yet"
)


def run(*arguments: str, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["benchmarks.live", "--camera", "no-such.mp4"], "camera 'no-such.mp4'"),
        (["benchmarks.live", "--model", "no-such"], "unknown model 'no-such'"),
        (["benchmarks.live", "--seconds", "-1"], "--seconds"),
        (["benchmarks.live", "--set", "capture.pace=max"], "capture.pace is set by the benchmark itself"),
        (["benchmarks.live", "--rate", "61"], "--rate"),
        (["benchmarks.pairs", "--b", "engine.pim=1"], "did you mean engine.pin?"),
        (["benchmarks.pairs", "--a", "engine.pin=1", "--b", "engine.pin=1"], "A and B have the same settings"),
        (["benchmarks.allocations", "--camera", "0"], "camera '0' is no media file"),
        (["benchmarks.faces_cost", "--engine", "no-such"], "'no-such' engine"),
        (["benchmarks.engine", "--model", "centerface"], "'centerface' is no concept model"),
        (["benchmarks.engine", "--bogus"], "--bogus"),
        (["benchmarks.voice", "--model", "centerface"], "'centerface' is no voice network"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert says in lines[0]


@pytest.mark.parametrize(
    "module",
    [
        f"{path.parent.name}.{path.stem}"
        for room in ("benchmarks", "pipeline")
        for path in sorted((ROOT / room).glob("*.py"))
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        and path.stem not in ("peer_mediapipe", "peer_pyfeat", "peer_torch")  # run by benchmarks.peers
    ],
)
def test_help_explains_and_does_nothing_else(module: str) -> None:
    done = run(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: python -m {module}" in done.stdout


@has_model
@pytest.mark.slow
def test_a_short_live_session_is_reported_and_balances(tmp_path: Path) -> None:
    short = ("--seconds", "2", "--warm-up", "1", "--minutes", "0.03", "--height", "480", "--rate", "30")
    done = run("benchmarks.live", *short, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "live.json").read_bytes(), type=LiveReport)
    assert report.realtime.account is not None and report.full_speed is not None and report.memory is not None
    assert report.realtime.account.captured >= 30
    assert report.realtime.age_ms is not None and 0.0 < report.realtime.age_ms.p50 <= report.realtime.age_ms.p99
    assert report.realtime.key_frames is not None and 0.0 < report.realtime.key_frames.share < 1.0
    assert report.full_speed.account is not None and report.full_speed.account.stale == 0
    assert {"supervise", "analyze", "capture_video"} <= set(report.realtime.workers)
    assert set(report.memory.growth_mb.values()) == {None}, "too short to say"
    kept_up, pressed = report.matrix
    assert (kept_up.name, pressed.name) == ("480p, 30/s, 1x", "480p, 30/s, 3x")
    for row in report.matrix:
        assert row.account is not None and row.account.captured == row.account.published + row.account.stale >= 80
        assert row.mean_age_ms is not None and sum(row.stages_ms.values()) == pytest.approx(row.mean_age_ms)
        assert all(check.holds for check in row.checks), row.checks
    assert pressed.account is not None and pressed.account.stale > 0
    assert (tmp_path / "live.md").read_text(encoding="utf-8").startswith("# Live sessions")
    assert (tmp_path / "live.png").stat().st_size > 10_000


@has_model
@pytest.mark.slow
def test_what_a_frame_allocates_is_told_stage_by_stage(tmp_path: Path) -> None:
    """The picture has 230 kB, a crop 12.5 and its tensor 50, the largest map of the detector 154: a copy of any would
    be a block larger than these."""
    frames = ("--frames", "60", "--warm-up", "20")
    done = run("benchmarks.allocations", *frames, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "allocations.json").read_bytes(), type=AllocationsReport)
    assert tuple(report.stages) == (*STAGES, WORKER)
    stages = report.stages
    assert all(each.between is not None and each.between < 40_000 for each in stages.values()), stages
    assert all(each.on_key_frames is not None for each in stages.values())
    assert all(each.block is not None and each.block < 10_000 for each in stages.values()), stages
    on_keys = {name: each.block_on_key_frames for name, each in stages.items() if name != WORKER}
    assert all(count is not None and count < 10_000 for count in on_keys.values()), on_keys
    assert report.follows == "landmarks"
    assert (tmp_path / "allocations.md").read_text(encoding="utf-8").startswith("# Allocations")


@has_model
@pytest.mark.slow
def test_every_engine_is_compared(tmp_path: Path) -> None:
    done = run("benchmarks.engine", "--seconds", "0", "--out", str(tmp_path), limit_s=5 * LIMIT_S)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "engine.json").read_bytes(), type=EngineReport)
    on_cpu = [row for row in report.rows if row.device == "cpu"]
    assert {(row.batch, row.threads) for row in on_cpu} == {(b, t) for b in (1, 4, 16, 64) for t in (1, 2)}
    exact = [row for row in on_cpu if row.precision == "fp32" and row.difference is not None]
    assert len(exact) >= 16
    assert all(row.difference.score <= 1e-4 for row in exact if row.difference is not None)
    assert report.reference == "torch/fp32"
    own = [row.difference for row in on_cpu if row.engine == "torch/fp32" and row.batch == 1 and row.threads == 1]
    assert own == [Difference(0.0, 0.0, 0.0)], "an engine is as far from itself as from another"
    assert all(row.memory is not None and row.memory.rss_mb > 10.0 for row in on_cpu)
    assert report.gpu == "" or (report.roofline == () and report.no_roofline != "")
    assert (tmp_path / "engine.md").is_file() and (tmp_path / "engine.png").stat().st_size > 10_000


@has_model
@pytest.mark.slow
def test_the_cost_of_hearing_is_told_for_every_backend(tmp_path: Path) -> None:
    done = run("benchmarks.voice", "--rounds", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "voice.json").read_bytes(), type=VoiceReport)
    assert {row.backend for row in report.rows} == {name for name, each in BACKENDS.items() if not each.by_name}
    on_cpu = [row for row in report.rows if not BACKENDS[row.backend].driver]
    assert all(row.missing for row in report.rows if row.both_ms is None)
    for row in on_cpu:
        assert row.network_ms is not None and row.reading_ms is not None and row.both_ms is not None
        assert row.both_ms.count > 600
        assert 0.0 < row.reading_ms.p50 < row.both_ms.p50
    assert (tmp_path / "voice.md").read_text(encoding="utf-8").startswith("# Hearing")


@has_model
@pytest.mark.slow
def test_peers_have_the_same_frames_and_who_is_not_there_is_not_measured(tmp_path: Path) -> None:
    done = run("benchmarks.peers", "--frames", "30", "--turns", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "peers.json").read_bytes(), type=PeersReport)
    *ours, runtime, torch, mediapipe, pyfeat, openface = report.peers
    assert len(ours) == 3
    assert ours[1].name == "agcm-live, openvino/int8"
    assert (runtime.name, torch.name) == ("plain ONNX Runtime, agcm-live", "plain torch, agcm-live")
    for each in (*ours, runtime, torch):
        assert each.times_ms is not None and each.times_ms.count == 20 and each.found == 1.0
        assert each.model.startswith(("agcm-live@", "agcm-lite@"))
    for each, option in ((mediapipe, "--mediapipe"), (pyfeat, "--pyfeat"), (openface, "--openface")):
        assert each.times_ms is None and each.mean_ms is None and option in each.missing
    assert "not measured" in (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
    wrong = run("benchmarks.peers", "--mediapipe", sys.executable)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    absent = run(
        "benchmarks.peers", "--frames", "30", "--turns", "1", "--mediapipe", sys.executable, "--landmarker", "x"
    )
    assert absent.returncode == 2
    assert "MediaPipe did not run in" in absent.stderr


@has_model
@pytest.mark.slow
def test_two_ways_to_follow_are_compared_on_the_same_frames(tmp_path: Path) -> None:
    done = run("benchmarks.following", "--frames", "40", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "following.json").read_bytes(), type=FollowingReport)
    flow, own = report.ways
    assert (flow.name, own.name) == ("optical flow", "landmarks")
    assert flow.followed == own.followed == 1.0
    assert 0 < report.apart < 0.03, "they follow the same face in ways of their own"
    wrong = run("benchmarks.following", "--model", "centerface")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "does not say where the face lies" in wrong.stderr
