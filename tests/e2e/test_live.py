"""The whole system as users start it: real processes on a real clip, read over the socket that users read."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from engines.spec import MODELS_DIR
from pipeline.bus import Subscriber
from pipeline.messages import EngagementFrame, Event, Health
from pipeline.recording import Results, from_batch, read_session

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"
CLIPS = ROOT.parent / "shared" / "clips"
FRAMES = 720
LIMIT_S = 120.0

pytestmark = pytest.mark.skipif(
    not (MODELS_DIR / "agcm-live" / "manifest.json").is_file(), reason="models/agcm-live is not there yet"
)


@dataclass
class Session:
    """A session that runs, and what it said so far."""

    process: subprocess.Popen[str]
    inbox: Subscriber
    results: list[EngagementFrame] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stderr: str = ""

    def read(self, until_results: int | None = None) -> None:
        """Read until the analysis has ended, or so many results have come."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            received = self.inbox.receive(200)
            said = None if received is None else received.message
            if isinstance(said, EngagementFrame):
                self.results.append(said)
            elif isinstance(said, Health):
                self.health.append(said)
            elif isinstance(said, Event):
                self.events.append(said)
                if (said.kind, said.source) == ("ended", "analyze"):
                    return
            if until_results is not None and len(self.results) >= until_results:
                return
            if said is None and self.process.poll() is not None:
                pytest.fail(f"the session was over too soon, exit code {self.process.returncode}: {self.leave(5)}")
        pytest.fail(f"the session did not end within {LIMIT_S} s")

    def leave(self, timeout_s: float) -> str:
        """Wait for the end of the process; what it wrote to stderr."""
        _, self.stderr = self.process.communicate(timeout=timeout_s)
        return self.stderr

    @property
    def account(self) -> str:
        """What the analysis said of its frames at the end."""
        (text,) = (event.text for event in self.events if (event.kind, event.source) == ("ended", "analyze"))
        return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _session(*arguments: str) -> Iterator[Session]:
    """`python run_live.py` with a reader that was there before it."""
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    command = [sys.executable, "run_live.py", "--bind", endpoint, *arguments]
    with Subscriber(endpoint, ("engagement", "health", "event")) as inbox:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield Session(process, inbox)
        finally:
            for member in _members(process.pid):
                member.kill()
            if process.stderr is not None:
                process.stderr.close()
            process.wait(10)


def _members(group: int) -> list[psutil.Process]:
    """The living processes of a group; an ended one that nobody has waited for is not alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _left_behind(group: int) -> list[psutil.Process]:
    """Who still lives; Python's own helper processes see a moment later that theirs is gone."""
    deadline_s = time.monotonic() + 1.0
    while (living := _members(group)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return living


def _check_results(results: Sequence[EngagementFrame]) -> None:
    """What holds for every result of every session."""
    for result in results:
        age_ms = (result.t_publish_ns - result.t_capture_ns) / 1e6
        assert sum(msgspec.structs.astuple(result.stages_ms)) == pytest.approx(age_ms, abs=0.1)
        if result.status == "tracked":
            assert result.score is not None and result.base is not None
            total = result.base + sum(share.contribution for share in result.contributions)
            assert total == pytest.approx(result.score, abs=1e-4)
        else:
            assert (result.score, result.base, result.smoothed, result.contributions) == (None, None, None, ())


@pytest.fixture(scope="module")
def full_speed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Path]:
    """The demo clip, every frame of it, recorded."""
    folder = tmp_path_factory.mktemp("recording") / "session"
    with _session("--camera", "demo", "--pace", "max", "--record", str(folder)) as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
        assert _left_behind(session.process.pid) == []
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
    _check_results(session.results)
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
    with _session("--camera", "demo", "--pace", "realtime") as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
    numbers = [result.seq for result in session.results]
    assert numbers == sorted(set(numbers))
    _check_results(session.results)
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
    with _session("--camera", str(clip), "--pace", "max") as session:
        session.read()
        session.leave(20)
        assert session.process.returncode == 0, session.stderr
    numbers = [result.seq for result in session.results]
    assert sorted(set(numbers)) == list(range(numbers[-1] + 1))
    count = numbers[-1] + 1
    assert session.account == f"captured {count} = published {count} + stale 0, decode errors 0"
    _check_results(session.results)
    tracked = {result.seq for result in session.results if result.status == "tracked"}
    assert len(tracked) > 0.8 * count
    assert np.std([result.score for result in session.results if result.score is not None]) > 0.0


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGINT are of Unix")
def test_ctrl_c_ends_everything_within_two_seconds() -> None:
    with _session("--camera", "demo", "--pace", "realtime") as session:
        session.read(until_results=10)
        # As a terminal does: the signal goes to the whole group.
        os.killpg(session.process.pid, signal.SIGINT)
        session.leave(2.0)
        assert _left_behind(session.process.pid) == []
        assert "Traceback" not in session.stderr
        assert session.process.returncode in (0, 130)
