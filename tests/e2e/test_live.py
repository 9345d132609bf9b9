"""The whole system as users start it: real processes on a real clip, read over the socket that users read."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engines.spec import MODELS_DIR
from engines.voice import CONCEPTS
from pipeline.recording import Results, from_batch, read_session
from tests.e2e.session import ROOT, Session, check_results, left_behind, live_session

DEMO = ROOT / "examples" / "demo"
CLIPS = ROOT.parent / "shared" / "clips"
FRAMES = 720

pytestmark = pytest.mark.skipif(
    not (MODELS_DIR / "agcm-av-live" / "manifest.json").is_file(), reason="models/agcm-av-live is not there yet"
)


@pytest.fixture(scope="module")
def full_speed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Path]:
    """The demo clip, every frame of it, recorded."""
    folder = tmp_path_factory.mktemp("recording") / "session"
    with live_session("--camera", "demo", "--pace", "max", "--record", str(folder)) as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
        assert left_behind(session.process.pid) == []
    return session, folder


@pytest.fixture(scope="module")
def truth() -> list[dict[str, str]]:
    """One row per frame of the demo clip."""
    with (DEMO / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES
    return rows


def test_at_full_speed_every_frame_is_answered_once(full_speed: tuple[Session, Path]) -> None:
    session, _ = full_speed
    assert [result.seq for result in session.results] == list(range(FRAMES))
    assert session.results[-1].dropped.stale == 0
    assert session.account == f"captured {FRAMES} = published {FRAMES} + stale 0, decode errors 0"
    check_results(session.results)
    assert "Traceback" not in session.stderr


def test_who_is_there_is_scored_and_nobody_else(
    full_speed: tuple[Session, Path], truth: Sequence[dict[str, str]]
) -> None:
    session, _ = full_speed
    present = np.array([row["present"] == "1" for row in truth])
    # Where the face crosses the border of the picture either answer is right.
    settled = np.array([len(set(present[max(0, i - 10) : i + 11])) == 1 for i in range(FRAMES)])
    status = np.array([result.status for result in session.results])
    assert set(status[settled & ~present]) == {"no_face"}
    assert np.mean(status[settled & present] == "tracked") > 0.98


@pytest.mark.parametrize("names", [("AU4",), ("AU12",), ("AU25", "AU26"), ("AU45",)], ids="/".join)
def test_activations_follow_what_the_face_does(
    full_speed: tuple[Session, Path], truth: Sequence[dict[str, str]], names: tuple[str, ...]
) -> None:
    session, _ = full_speed
    pairs = [
        (row, {share.concept: share.activation for share in result.contributions})
        for row, result in zip(truth, session.results, strict=True)
        if row["present"] == "1" and result.status == "tracked"
    ]
    found = {
        name: float(np.corrcoef([float(row[name]) for row, _ in pairs], [said[name] for _, said in pairs])[0, 1])
        for name in names
    }
    assert max(found.values()) >= 0.6, found


def test_the_voice_of_the_clip_is_heard_in_its_place(
    full_speed: tuple[Session, Path], truth: Sequence[dict[str, str]]
) -> None:
    session, _ = full_speed
    level = np.array([np.nan if each.audio is None else each.audio["level_dbfs"] for each in session.results])
    speaking = np.array([row["speaking"] == "1" for row in truth])
    assert np.isfinite(level).mean() > 0.95
    assert np.nanmedian(level[speaking]) > np.nanmedian(level[~speaking]) + 20.0


def test_who_speaks_is_heard(full_speed: tuple[Session, Path], truth: Sequence[dict[str, str]]) -> None:
    """A sentence is from its first to its last sound."""
    session, _ = full_speed
    said = np.array([row["speaking"] == "1" for row in truth])
    heard = np.array([(result.audio or {}).get("speaking", 0.0) >= 0.5 for result in session.results])
    assert (said == heard).mean() >= 0.95


def test_a_voice_is_listed_with_the_face_and_does_not_count_unasked(full_speed: tuple[Session, Path]) -> None:
    session, _ = full_speed
    tracked = [result for result in session.results if result.status == "tracked"]
    voices = [{share.concept: share for share in result.contributions if share.kind == "voice"} for result in tracked]
    assert np.mean([set(each) == set(CONCEPTS) for each in voices]) > 0.98
    assert {(share.source, share.contribution) for each in voices for share in each.values()} == {("prior", 0.0)}


def test_a_prior_counts_where_it_is_asked_for(full_speed: tuple[Session, Path]) -> None:
    asked = ("--set", "readout.voice_prior=true")
    with live_session("--camera", "demo", "--pace", "max", *asked) as session:
        session.read(until_results=300)
        session.interrupt()
        session.leave(20)
    check_results(session.results)
    alone = {result.seq: result.score for result in full_speed[0].results}
    moved = []
    for result in session.results:
        own = [share for share in result.contributions if share.kind == "voice"]
        if result.score is not None and own:
            assert {share.source for share in own} == {"prior"}
            assert result.uncertainty is None
            moved.append(sum(share.contribution for share in own))
            # Each session takes the fastest engine of the moment, which may be another.
            assert result.score - moved[-1] == pytest.approx(alone[result.seq], abs=0.03)
    assert len(moved) > 100
    assert 0.01 < np.ptp(moved) < 0.1


def alike(ours: dict[str, float] | None, theirs: dict[str, float] | None) -> bool:
    """The same values but for rounding, which depends on how many steps are heard at once. A step is 0.01 s."""
    if ours is None or theirs is None or ours.keys() != theirs.keys():
        return ours is theirs
    return all(abs(ours[name] - theirs[name]) < 2e-3 for name in ours)


def test_in_real_time_a_frame_has_the_sound_that_it_has_at_full_speed(full_speed: tuple[Session, Path]) -> None:
    with live_session("--camera", "demo") as session:
        session.read(until_results=180)
        session.interrupt()
        session.leave(20)
    known = {result.seq: result.audio for result in full_speed[0].results}
    same = [alike(result.audio, known[result.seq]) for result in session.results if result.seq >= 10]
    assert len(same) > 150
    assert np.mean(same) > 0.98, "a busy machine may be late with a chunk now and then"


def test_the_recording_holds_what_was_sent(full_speed: tuple[Session, Path]) -> None:
    session, folder = full_speed
    reader = Results(folder)
    assert [frame for batch in reader.batches() for frame in from_batch(batch)] == session.results
    assert reader.complete
    info = read_session(folder)
    assert info.model == session.results[0].model
    assert info.ended is not None and info.ended.how == "source_ended"


def test_every_worker_says_how_it_is(full_speed: tuple[Session, Path]) -> None:
    session, _ = full_speed
    assert {health.source for health in session.health} >= {"analyze", "capture_video", "record"}
    last = [health for health in session.health if health.source == "analyze"][-1]
    assert (last.state, last.drops) == ("ended", {"stale": 0, "decode": 0})


@pytest.mark.slow
def test_in_real_time_every_captured_frame_is_published_or_counted() -> None:
    with live_session("--camera", "demo", "--pace", "realtime") as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
    numbers = [result.seq for result in session.results]
    assert numbers == sorted(set(numbers))
    check_results(session.results)
    for published, result in enumerate(session.results):
        assert result.dropped.stale == result.seq - published
    stale = FRAMES - len(numbers)
    assert session.account == f"captured {FRAMES} = published {len(numbers)} + stale {stale}, decode errors 0"
    captured_s = (session.results[-1].t_capture_ns - session.results[0].t_capture_ns) / 1e9
    # A busy machine may play the clip longer, never shorter.
    assert captured_s > (numbers[-1] - numbers[0]) / 30.0 - 0.05, "the pace of the clip"


@pytest.mark.shared
@pytest.mark.parametrize("clip", sorted(CLIPS.glob("*.mp4")) or [None], ids=lambda clip: clip.stem if clip else "none")
def test_a_real_person_is_scored_on_every_frame(clip: Path | None) -> None:
    if clip is None:
        pytest.skip("no clips in ../shared/clips")
    with live_session("--camera", str(clip), "--pace", "max") as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
    numbers = [result.seq for result in session.results]
    assert sorted(set(numbers)) == list(range(numbers[-1] + 1))
    count = numbers[-1] + 1
    assert session.account == f"captured {count} = published {count} + stale 0, decode errors 0"
    check_results(session.results)
    tracked = {result.seq for result in session.results if result.status == "tracked"}
    assert len(tracked) > 0.8 * count
    assert np.std([result.score for result in session.results if result.score is not None]) > 0.0


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGINT are of Unix")
def test_ctrl_c_ends_everything_within_two_seconds() -> None:
    with live_session("--camera", "demo", "--pace", "realtime") as session:
        session.read(until_results=10)
        session.interrupt()
        session.leave(2.0)
        assert left_behind(session.process.pid) == []
        assert "Traceback" not in session.stderr
        assert session.process.returncode in (0, 130)


def test_a_score_fitted_to_ones_own_labels_runs_live(
    full_speed: tuple[Session, Path], truth: Sequence[dict[str, str]], tmp_path: Path
) -> None:
    """Whoever labels smiles and speech as engaged gets a score that follows both, and adds up."""
    _, recording = full_speed
    table, labels, model = tmp_path / "results.parquet", tmp_path / "labels.csv", tmp_path / "models" / "ours"
    wanted = [0.2 + 0.4 * float(row["AU12"]) + 0.3 * int(row["speaking"]) for row in truth]
    lines = [f"{float(row['t_s']):.4f},{value:.4f}" for row, value in zip(truth, wanted, strict=True)]
    labels.write_text("\n".join(["t_s,engagement", *lines]) + "\n")
    for command in (
        ["pipeline.export", str(recording), "--to", "parquet", "--out", str(table)],
        ["calibration.refit", f"{table}={labels}", "--out", str(model), "--taps", "1", "--habit", "20"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
    with live_session("--camera", "demo", "--pace", "max", "--model", str(model)) as session:
        session.read()
        session.leave(20)
    check_results(session.results)
    assert len(session.results) == FRAMES
    assert session.results[0].model.startswith("ours@")
    pairs = [
        (label, result.score)
        for row, label, result in zip(truth, wanted, session.results, strict=True)
        if result.score is not None and row["present"] == "1"
    ]
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.8
    spoken = [share for share in session.results[75].contributions if share.concept == "speaking"]
    assert [share.source for share in spoken] == ["learned"]
    assert spoken[0].contribution > 0.02
