"""Worker `record`: keeps what a session says in a folder, safe from a kill up to the last second.

In: engagement, health, event. Out: health, event. Pictures and sound never reach it. A full disk does not end the
session: what waits is written when there is room again; what had to be given up meanwhile is counted and announced.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Literal

from pipeline.bus import Publisher, StopFlag, Subscriber, WorkerError
from pipeline.clock import NS_PER_S, Rate, WallClock, now_ns
from pipeline.config import ConfigError, Link, LiveConfig
from pipeline.messages import VERSION, EngagementFrame, Event, Health
from pipeline.recording import How, RecordingError, SessionInfo
from pipeline.recording_writer import RecordingWriter
from pipeline.report import Reporter

NAME = "record"
LAST_WORD = "analyze"  # whose Event "ended" no result follows
REQUEST = "supervise"  # whose Event "ended" says that somebody asked for the end
FLUSH_HZ = 2.0
ANNOUNCE_HZ = 0.1  # while the disk is full
AFTER_STOP_S = 1.0  # how long the others may go on after `stop`
HEARD_S = 10.0  # how long the forwarder may take to know this worker
PACKAGES = ("agcm-live", "av", "msgspec", "numpy", "onnxruntime", "openvino", "pyarrow", "pyzmq")


def run(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    """Records until the analysis has ended or `stop` is set. Raises WorkerError, exit code 2, on an unfit folder."""
    try:
        recording = RecordingWriter(Path(cfg.output.record), session_info(cfg, link))
    except (ConfigError, RecordingError) as error:
        raise WorkerError(str(error), 2) from error
    with (
        Publisher(link.results_in, bind=False, lossless=True) as results,
        Subscriber(cfg.output.bind, ("engagement", "event", "health")) as inbox,
    ):
        reporter = Reporter(link.session, NAME, results)
        _wait_until_heard(inbox, recording, reporter, stop)
        reporter.enter("ready")
        keeper = Keeper(recording, reporter)
        how = _take_all(inbox, keeper, reporter, stop)
        keeper.close(how)
        reporter.enter("ended", keeper.drops)


def session_info(cfg: LiveConfig, link: Link) -> SessionInfo:
    """What is known of a session before its first result."""
    t_ns = now_ns()
    return SessionInfo(
        v=VERSION,
        session=link.session,
        purpose=cfg.session.purpose,
        consent=cfg.session.consent,
        started_wall_time=WallClock().iso(t_ns),
        started_ns=t_ns,
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        config=cfg,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _wait_until_heard(inbox: Subscriber, recording: RecordingWriter, reporter: Reporter, stop: StopFlag) -> None:
    """Until this worker's own health comes back: from then on the forwarder sends here whatever it is sent."""
    deadline_ns = now_ns() + round(HEARD_S * NS_PER_S)
    while not stop.is_set():
        reporter.enter("starting")
        received = inbox.receive(timeout_ms=50)
        if received is not None:
            recording.add(received.message)
            if isinstance(received.message, Health) and received.message.source == NAME:
                return
        if now_ns() > deadline_ns:
            raise WorkerError(f"{NAME}: nothing comes back from the endpoint of the results")


def _take_all(inbox: Subscriber, keeper: Keeper, reporter: Reporter, stop: StopFlag) -> How:
    """Takes messages until there are no more; how the session ended."""
    how: How = "source_ended"
    stopped_ns: int | None = None
    while True:
        received = inbox.receive(timeout_ms=50)
        t_ns = now_ns()
        if received is not None:
            message = received.message
            keeper.recording.add(message)
            if isinstance(message, EngagementFrame):
                reporter.handled((t_ns - message.t_capture_ns) / 1e6)
            elif isinstance(message, Event) and message.kind == "ended":
                if message.source == LAST_WORD:
                    return how
                how = "stopped" if message.source == REQUEST else how
        keeper.tick(t_ns)
        reporter.tick(keeper.drops)
        if stop.is_set():
            how = "stopped"
            stopped_ns = t_ns if stopped_ns is None else stopped_ns
            if t_ns - stopped_ns > AFTER_STOP_S * NS_PER_S:
                return how


class Keeper:
    """Brings a recording to the disk twice a second, and says when that fails, how it goes on, and when it works."""

    def __init__(self, recording: RecordingWriter, reporter: Reporter) -> None:
        self.recording = recording
        self._reporter = reporter
        self._flush = Rate(FLUSH_HZ)
        self._announce = Rate(ANNOUNCE_HZ)
        self._problem: str | None = None

    @property
    def drops(self) -> dict[str, int]:
        """Results that will never be in the recording."""
        return {"results": self.recording.lost}

    def tick(self, t_ns: int) -> None:
        """To be called often, with the time."""
        if not self._flush.due(t_ns):
            return
        problem = self.recording.flush()
        if problem is None and self._problem is not None:
            self._say("notice", f"is written again; {self.recording.lost} results are missing")
        elif problem is not None and (self._problem is None or self._announce.due(t_ns)):
            self._announce = Rate(ANNOUNCE_HZ, t_ns)
            self._say("recording_lost", f"{problem}: {self._count()}; the session goes on")
        self._problem = problem

    def close(self, how: How) -> None:
        """The last flush; says what did not get to the disk."""
        problem = self.recording.close(how)
        lost = self.recording.lost + self.recording.waiting
        if problem is not None or lost:
            self._say("recording_lost", f"ended with {lost} results missing" + (f": {problem}" if problem else ""))

    def _count(self) -> str:
        return f"{self.recording.lost} results are missing, {self.recording.waiting} wait for room"

    def _say(self, kind: Literal["notice", "recording_lost"], text: str) -> None:
        self._reporter.event(kind, f"recording {self.recording.folder}: {text}")
