"""The supervisor with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from pipeline.bus import Publisher, Subscriber
from pipeline.config import LiveConfig, load
from pipeline.messages import Event, Health
from pipeline.preflight import check
from pipeline.processes import PROCESSES, Process
from pipeline.supervise import DONE, FAILED, MISTAKE, run
from tests.pipeline.workers import PUBLISHED, row

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/results"


def config(endpoint: str, *settings: str) -> LiveConfig:
    return load(None, ["capture.camera=demo", "engine.model=centerface", f"output.bind={endpoint}", *settings])


def hold(endpoint: str, rows: Sequence[Process], *settings: str) -> tuple[int, list[Event], list[Health]]:
    """Run a session to its end; its exit code, events and health as a subscriber from before the start saw them."""
    with Subscriber(endpoint, ["event", "health"]) as inbox:
        exit_code = run(config(endpoint, *settings), rows)
        events: list[Event] = []
        healths: list[Health] = []
        while (received := inbox.receive(200)) is not None:
            if isinstance(received.message, Event):
                events.append(received.message)
            elif isinstance(received.message, Health):
                healths.append(received.message)
        return exit_code, events, healths


def kinds(events: Sequence[Event]) -> list[str]:
    return [event.kind for event in events]


def test_a_session_is_over_when_every_sink_has_ended(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [row("source", stage=0, sink=False), row("short", stage=1)]
    exit_code, events, _ = hold(endpoint, rows, "session.purpose=to learn")
    assert exit_code == DONE
    assert "source ended" in [event.text for event in events], "a source that goes on is stopped, and heard out"
    shown = capfd.readouterr().err
    assert "Purpose: to learn" in shown
    assert "your face is being analysed" in shown
    assert f"Results: {endpoint}" in shown
    assert "Traceback" not in shown


def test_a_stage_starts_when_the_one_before_is_ready(endpoint: str) -> None:
    exit_code, _, healths = hold(
        endpoint, [row("source", stage=1, sink=False), row("steady", stage=0)], "session.duration_s=0.1"
    )
    assert exit_code == DONE
    ready = {health.source: health.t_ns for health in reversed(healths) if health.state == "ready"}
    assert ready["steady"] < ready["source"]


def test_a_worker_that_crashes_is_restarted(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    exit_code, events, _ = hold(endpoint, [row("crashes_twice")])
    assert exit_code == DONE
    assert kinds(events).count("restarted") == 2
    assert "crashes_twice: the cable is loose; crashes_twice is restarted (2 of at most 5" in capfd.readouterr().err


def test_a_worker_that_always_crashes_ends_the_session_by_name(
    endpoint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.status.PLAIN_LINE_HZ", 1e6)  # a status line whenever there may be one
    exit_code, events, _ = hold(endpoint, [row("crashes", restarts=2), row("source")])
    assert exit_code == FAILED
    assert kinds(events).count("restarted") == 2
    assert kinds(events).count("failed") == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("crashes: the cable is cut; that was failure 3 within 60 s")


def test_a_mistake_of_the_user_ends_the_session_at_once(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    exit_code, events, _ = hold(endpoint, [row("mistaken"), row("source")])
    assert exit_code == MISTAKE
    assert "restarted" not in kinds(events)
    lines = capfd.readouterr().err.splitlines()
    assert "mistaken: camera '7' is not there" in lines


def test_what_is_lost_in_a_session_and_cannot_be_used_again_is_no_mistake(endpoint: str) -> None:
    exit_code, events, _ = hold(endpoint, [row("lost")])
    assert exit_code == FAILED
    assert kinds(events).count("restarted") == 1
    assert any("the GPU cannot be used" in event.text for event in events if event.kind == "failed")


def test_a_gpu_that_fails_gets_another_chance_and_then_the_cpu_takes_over(endpoint: str) -> None:
    exit_code, events, _ = hold(endpoint, [row("loses_the_gpu")])
    assert exit_code == DONE
    once, twice = [event.text for event in events if event.kind == "restarted"]
    assert "loses_the_gpu: the GPU cannot finish its work; loses_the_gpu is restarted" in once
    assert "the GPU cannot finish its work; from here on the CPU takes over; loses_the_gpu is restarted" in twice
    published = [event.text for event in events if event.source == "loses_the_gpu" and event.kind == "notice"]
    lives = ("any", "any", "cpu")
    assert published == [f"{device} {i}" for device in lives for i in range(PUBLISHED)], "nothing of it is lost"


def test_a_gpu_that_fails_and_was_asked_for_by_name_ends_the_session_the_second_time(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code, events, _ = hold(endpoint, [row("loses_the_gpu"), row("source")], "engine.backend=tensorrt")
    assert exit_code == FAILED
    assert kinds(events).count("restarted") == 1
    (failed,) = (event.text for event in events if event.kind == "failed")
    assert "that is the second time, and tensorrt was asked for by name: the session ends" in failed
    assert capfd.readouterr().err.splitlines()[-1] == failed


def test_a_worker_that_was_killed_is_restarted_and_the_signal_named(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code, _, _ = hold(endpoint, [row("killed_once")])
    assert exit_code == DONE
    assert "killed_once: ended by signal SIGKILL; killed_once is restarted" in capfd.readouterr().err


def test_a_worker_that_falls_silent_is_killed_and_restarted(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    exit_code, _, _ = hold(endpoint, [row("hangs_once")])
    assert exit_code == DONE
    assert "hangs_once: it hung: no sign of life for" in capfd.readouterr().err


def test_a_worker_that_never_gets_ready_is_not_waited_for_forever(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code, _, _ = hold(endpoint, [row("never_ready", startup_s=0.5, restarts=0)])
    assert exit_code == FAILED
    assert "never_ready: it hung" in capfd.readouterr().err


def test_an_unforeseen_error_is_one_line_that_names_its_log(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    exit_code, _, _ = hold(endpoint, [row("blunders", restarts=0)])
    shown = capfd.readouterr().err
    assert exit_code == FAILED
    assert "Traceback" not in shown
    [line] = [line for line in shown.splitlines() if line.startswith("blunders: ZeroDivisionError: by zero")]
    log = Path(line.partition("(details in ")[2].partition(")")[0])
    assert "Traceback" in log.read_text()
    shutil.rmtree(log.parent)


def test_the_time_of_a_session_is_limited(endpoint: str) -> None:
    exit_code, events, _ = hold(endpoint, [row("steady")], "session.duration_s=0.3")
    assert exit_code == DONE
    assert kinds(events)[0] == "started"
    assert kinds(events)[-1] == "ended"


def test_a_worker_that_will_not_stop_is_made_to(endpoint: str) -> None:
    exit_code, _, _ = hold(endpoint, [row("stubborn"), row("steady")], "session.duration_s=0.1")
    assert exit_code == DONE
    assert not [child for child in psutil.Process().children() if "resource_tracker" not in " ".join(child.cmdline())]


def test_an_endpoint_in_use_is_found_before_anything_starts(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Publisher(endpoint, bind=True, lossless=True):
        assert run(config(endpoint), [row("steady")]) == MISTAKE
    assert (
        capfd.readouterr().err.strip() == f"endpoint {endpoint} is in use by another program; end it or choose another"
    )


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("engine.model=no-such", "unknown model 'no-such'"),
        ("engine.backend=openvin", "did you mean openvino?"),
        ("capture.camera=no-such.mp4", "camera 'no-such.mp4' is no index, device, URL or file that exists"),
        ("output.record=tests", "recording tests exists"),
        ("output.record=/proc/mine", "recording /proc/mine cannot be made"),
        (f"capture.camera={'x' * 300}", "cannot be reached: File name too long"),
        (f"capture.camera=file:///{'x' * 300}", "cannot be reached: File name too long"),
        (f"output.record={'x' * 300}", "cannot be reached: File name too long"),
        (f"engine.model={'x' * 300}", "cannot be read: File name too long"),
        ("calibration.sync=no-such.json", "calibration.sync: cannot read no-such.json"),
        ("calibration.sync=pyproject.toml", "pyproject.toml is no result of calibration.sync"),
        ("output.bind=here", "cannot bind endpoint 'here'"),
    ],
)
def test_what_can_be_known_is_checked_before_anything_starts(
    setting: str, says: str, endpoint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(config(endpoint, setting), [row("steady")]) == MISTAKE
    [line] = capfd.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    "camera", ["0", "demo", "rtsp://host/live", "http://host:8000/clip.mp4", "udp://@:5000", "video=A camera"]
)
def test_what_lies_elsewhere_is_left_to_the_worker_that_opens_it(camera: str) -> None:
    check(load(None, [f"capture.camera={camera}", "engine.model=centerface"]))


def test_the_table_of_processes_names_functions_that_exist_and_sinks_start_first() -> None:
    for process in PROCESSES:
        module, _, function = process.target.partition(":")
        assert (
            f"\ndef {function}(cfg: LiveConfig, link: Link, stop: StopFlag)"
            in (ROOT / f"{module.replace('.', '/')}.py").read_text()
        )
    assert max(row.stage for row in PROCESSES if row.sink) < min(row.stage for row in PROCESSES if not row.sink)


# --- signals, with the supervisor in a process of its own

SCRIPT = """
import sys
from tests.pipeline.test_supervise import config
from tests.pipeline.workers import PUBLISHED, row
from pipeline.supervise import run
rows = [row(name, stage=stage, sink=stage == 0) for stage, name in enumerate(sys.argv[2:])]
sys.exit(run(config(sys.argv[1]), rows))
"""


class Session:
    """A session in a process group of its own, as a terminal gives it to a command; all of it is running."""

    def __init__(self, endpoint: str, *workers: str) -> None:
        with Subscriber(endpoint, ["event"]) as inbox:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, endpoint, *workers],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            received = inbox.receive(round(PATIENCE_S * 1000))
        assert received is not None, "the session did not start"
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def end(self, signal_number: int, *, group: bool) -> tuple[int, float, str]:
        """Exit code, seconds until it was down, stderr."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signal_number)
        exit_code = self.process.wait(PATIENCE_S)
        taken_s = time.monotonic() - started
        assert self.process.stderr is not None
        psutil.wait_procs(self.family, timeout=PATIENCE_S)
        with self.process.stderr as stderr:
            return exit_code, taken_s, stderr.read()


@pytest.fixture
def session(endpoint: str, request: pytest.FixtureRequest) -> Iterator[Session]:
    made = Session(endpoint, *request.param)
    yield made
    for process in [made.process, *made.family]:
        if isinstance(process, psutil.Process) and not process.is_running():
            continue
        process.kill()
    made.process.wait(PATIENCE_S)


CALM = [pytest.param(("steady", "source"), id="calm")]
STUBBORN = [pytest.param(("stubborn", "source"), id="stubborn")]


@pytest.mark.parametrize("session", CALM + STUBBORN, indirect=True)
@pytest.mark.parametrize("group", [True, False], ids=["everybody", "supervisor"])
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_session_within_two_seconds_and_leaves_nothing(
    session: Session, signal_number: int, group: bool
) -> None:
    exit_code, taken_s, stderr = session.end(signal_number, group=group)
    assert exit_code == DONE
    assert taken_s < 2.0
    assert not [process for process in session.family if process.is_running()]
    assert "Traceback" not in stderr
    assert "restarted" not in stderr
    assert "source ended" in stderr


@pytest.mark.parametrize("session", CALM, indirect=True)
def test_workers_leave_when_their_supervisor_is_killed(session: Session) -> None:
    _, _, stderr = session.end(signal.SIGKILL, group=False)
    assert not [process for process in session.family if process.is_running()]
    assert "Traceback" not in stderr
