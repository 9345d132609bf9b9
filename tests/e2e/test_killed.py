"""Workers of a real session that are killed: their pictures lie in memory that others had in use."""

from __future__ import annotations

import sys

import psutil
import pytest

from engines.spec import MODELS_DIR
from tests.e2e.session import Session, check_results, left_behind, live_session, members

pytestmark = [
    pytest.mark.skipif(not (MODELS_DIR / "agcm-av-live" / "manifest.json").is_file(), reason="no models/agcm-av-live"),
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of Unix"),
]


def worker(session: Session, name: str) -> psutil.Process:
    """A worker is known by the log file that it holds open."""
    (found,) = (
        each
        for each in members(session.process.pid)
        if any(file.path.endswith(f"/{name}.log") for file in each.open_files())
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("slots", [8, 0])
def test_a_session_goes_on_when_capture_and_analysis_are_killed(slots: int) -> None:
    arguments = ("--camera", "demo", "--mic", "none", "--pace", "realtime", "--set", f"capture.slots={slots}")
    with live_session(*arguments) as session:
        for name in ("analyze", "capture_video"):
            session.read(until_results=len(session.results) + 30)
            worker(session, name).kill()
            session.read(until_event="restarted")
            before = len(session.results)
            session.read(until_results=before + 60)
            assert {result.status for result in session.results[before + 30 :]} == {"tracked"}
        session.interrupt()
        session.leave(5.0)
        assert left_behind(session.process.pid) == []
        assert session.process.returncode in (0, 130)
    check_results(session.results)
    restarted = [event.text.partition(":")[0] for event in session.events if event.kind == "restarted"]
    assert restarted == ["analyze", "capture_video"]
