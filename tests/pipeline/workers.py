"""Workers for the tests of the supervisor: each does one thing that a real one does on a bad day."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from pipeline.bus import GPU_FAILED, Publisher, StopFlag, WorkerError
from pipeline.config import Link, LiveConfig
from pipeline.processes import Process, always
from pipeline.report import Reporter

HERE = __name__
BEAT_S = 0.05
HEARTBEAT_S = 0.5
PUBLISHED = 300


def row(function: str, *, name: str = "", stage: int = 0, sink: bool = True, **policy: float) -> Process:
    """A row of a table of processes for one of the functions below."""
    policy.setdefault("heartbeat_s", HEARTBEAT_S)
    restarts = int(policy.pop("restarts", 5))
    return Process(name or function, f"{HERE}:{function}", always, stage, sink, restarts=restarts, **policy)


def life(link: Link, name: str) -> int:
    """How often this worker has been started in this session, this time included."""
    file = Path(link.results_in.removeprefix("ipc://")).with_name(f"{name}.lives")
    with file.open("a+") as lives:
        lives.write("x")
        lives.flush()
        return lives.tell()


def live(link: Link, name: str, stop: StopFlag, beats: int | None = None) -> None:
    """Say that all is well until `stop` is set, or for so many beats."""
    with Publisher(link.results_in, bind=False, lossless=True) as results:
        results.wait_for_subscriber("health", stop, 10.0)
        reporter = Reporter(link.session, name, results)
        reporter.enter("ready")
        while beats != 0 and not stop.wait(BEAT_S):
            reporter.enter("running")
            beats = None if beats is None else beats - 1
        reporter.event("ended", f"{name} ended")
        reporter.enter("ended")


def steady(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    live(link, "steady", stop)


def source(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    live(link, "source", stop)


def short(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    live(link, "short", stop, beats=2)


def crashes_twice(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    if life(link, "crashes_twice") <= 2:
        raise WorkerError("the cable is loose")
    live(link, "crashes_twice", stop, beats=2)


def crashes(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    raise WorkerError("the cable is cut")


def blunders(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    raise ZeroDivisionError("by\nzero")


def mistaken(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    raise WorkerError("camera '7' is not there", 2)


def lost(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    if life(link, "lost") == 1:
        live(link, "lost", stop, beats=2)
        raise WorkerError("the GPU cannot finish its work")
    raise WorkerError("the GPU cannot be used", 2)


def loses_the_gpu(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    """As an analysis on a GPU that fails each time that it is used, when PUBLISHED results have left."""
    life(link, "loses_the_gpu")
    with Publisher(link.results_in, bind=False, lossless=True) as results:
        results.wait_for_subscriber("health", stop, 10.0)
        reporter = Reporter(link.session, "loses_the_gpu", results)
        reporter.enter("ready")
        for number in range(PUBLISHED):
            reporter.event("notice", f"{cfg.engine.device} {number}")
        if cfg.engine.device == "any":
            raise WorkerError("the GPU cannot finish its work", GPU_FAILED)
        reporter.enter("ended")


def killed_once(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    if life(link, "killed_once") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    live(link, "killed_once", stop, beats=2)


def hangs_once(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    first = life(link, "hangs_once") == 1
    live(link, "hangs_once", stop, beats=2) if not first else _hang(link, "hangs_once")


def never_ready(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    threading.Event().wait()


def stubborn(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Publisher(link.results_in, bind=False, lossless=True) as results:
        results.wait_for_subscriber("health", stop, 10.0)
        reporter = Reporter(link.session, "stubborn", results)
        while True:
            reporter.enter("running")
            threading.Event().wait(BEAT_S)


def _hang(link: Link, name: str) -> None:
    with Publisher(link.results_in, bind=False, lossless=True) as results:
        results.wait_for_subscriber("health", None, 10.0)
        Reporter(link.session, name, results).enter("ready")
        threading.Event().wait()
