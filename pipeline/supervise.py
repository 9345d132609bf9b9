"""Starts the processes of a session, watches over them and stops them.

In: health, event, engagement of every worker. Out: event. Owns: the endpoint of the results.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.bus import GPU_FAILED, BusError, Publisher, StopFlag, Subscriber
from pipeline.child import Child, Job
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import ConfigError, Link, LiveConfig
from pipeline.forwarder import Forwarder
from pipeline.messages import Event, Health
from pipeline.preflight import check, notices
from pipeline.processes import PROCESSES, Process
from pipeline.report import Reporter
from pipeline.status import Status, Terminal

NAME = "supervise"
DONE, FAILED, MISTAKE = 0, 1, 2  # exit codes
HEARTBEATS = 3
LOOK_MS = 50
READ_LIMIT = 1_000
PAUSED_NS = NS_PER_S  # a loop that takes longer was stopped itself (Ctrl-Z, a debugger), and so were the workers
STOP_S, STOP_ONE_S = 1.2, 0.4  # altogether less than 2 s
SHOWN = {"camera_lost", "camera_found", "microphone_missing", "recording_lost", "notice", "ended"}


def run(cfg: LiveConfig, processes: Sequence[Process] = PROCESSES) -> int:
    """Hold a session until its source ends, its time is over or the user stops it; the exit code."""
    terminal = Terminal()
    folder = Path(tempfile.mkdtemp(prefix="agcm-live-"))
    try:
        check(cfg)
        with contextlib.ExitStack() as stack:
            inbox, video, audio = (_endpoint(folder, name) for name in ("results", "video", "audio"))
            forwarder = stack.enter_context(Forwarder(inbox, cfg.output.bind))
            cfg = msgspec.structs.replace(cfg, output=msgspec.structs.replace(cfg.output, bind=forwarder.outlet))
            link = Link(session=_session_name(), video=video, audio=audio, results_in=forwarder.inbox)
            for line in notices(cfg):
                terminal.say(line)
            stop = stack.enter_context(_stop_on_signals())
            supervisor = stack.enter_context(Supervisor(cfg, link, processes, folder, terminal))
            return supervisor.run(stop)
    except (ConfigError, BusError) as error:
        terminal.say(str(error))
        return MISTAKE
    finally:
        _clean(folder)


@dataclass(slots=True)
class Seat:
    """A row of the table and the child that holds it now; times are when it started and last gave a sign of life."""

    row: Process
    child: Child | None = None
    ready: bool = False
    closing: bool = False
    done: bool = False
    seen_ns: int = 0
    failures: deque[int] = field(default_factory=deque)

    def silent_for_s(self, t_ns: int) -> float | None:
        """How long it has been silent, if that is longer than it may."""
        silent_s = (t_ns - self.seen_ns) / NS_PER_S
        watched = self.ready and not self.closing
        return silent_s if silent_s > (HEARTBEATS * self.row.heartbeat_s if watched else self.row.startup_s) else None


class Supervisor:
    """The processes of one session. Leaving the context stops them all."""

    def __init__(
        self, cfg: LiveConfig, link: Link, processes: Sequence[Process], folder: Path, terminal: Terminal
    ) -> None:
        self._cfg, self._link, self._folder, self._terminal = cfg, link, folder, terminal
        self._seats = [Seat(row) for row in sorted(processes, key=lambda row: row.stage) if row.enabled(cfg)]
        self._status = Status()
        self._verdict: int | None = None
        self._started_ns: int | None = None
        self._restarts: list[str] = []
        self._gpu_failures = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Supervisor:
        self._inbox = self._stack.enter_context(Subscriber(self._cfg.output.bind, ("engagement", "event", "health")))
        results = self._stack.enter_context(Publisher(self._link.results_in, bind=False, lossless=True))
        self._reporter = Reporter(self._link.session, NAME, results)
        results.wait_for_subscriber("event", None, STOP_S)
        self._stack.enter_context(self._terminal)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop_all()
        self._read(LOOK_MS)  # their last words
        self._stack.close()

    def run(self, stop: StopFlag) -> int:
        """Watch over the session to its end; the exit code."""
        looked_ns = now_ns()
        while self._verdict is None:
            self._read(LOOK_MS)
            looked_ns = self._forgive_a_pause(looked_ns)
            self._start_due()
            for seat in self._seats:
                self._look_after(seat)
            self._announce_restarts()
            if self._verdict is None:  # else the last line is why the session ends
                self._terminal.show(self._status)
            if self._verdict is None and (stop.is_set() or self._time_is_over()):
                self._verdict = DONE
                self._reporter.event("ended", "stopped on request")
        return self._verdict

    def _read(self, wait_ms: int) -> None:
        for _ in range(READ_LIMIT):
            received = self._inbox.receive(wait_ms)
            if received is None:
                return
            wait_ms = 0
            message = received.message
            self._status.take(message)
            if isinstance(message, Health):
                self._note(message)
            elif isinstance(message, Event) and message.kind in SHOWN and self._verdict in (None, DONE):
                self._terminal.say(message.text)

    def _note(self, health: Health) -> None:
        for seat in self._seats:
            if seat.row.name == health.source and seat.child is not None:
                seat.seen_ns = now_ns()
                seat.ready = seat.ready or health.state != "starting"
                seat.closing = health.state == "ended"

    def _start_due(self) -> None:
        for seat in self._seats:
            before = [other for other in self._seats if other.row.stage < seat.row.stage]
            if seat.child is None and not seat.done and all(other.ready or other.done for other in before):
                self._start(seat)
        if self._started_ns is None and all(seat.ready or seat.done for seat in self._seats):
            self._started_ns = now_ns()
            self._reporter.event("started", f"purpose: {self._cfg.session.purpose or 'not stated'}")

    def _start(self, seat: Seat) -> None:
        row = seat.row
        seat.ready = seat.closing = False
        seat.seen_ns = now_ns()
        seat.child = Child(Job(row.name, row.target, self._cfg, self._link, self._folder / f"{row.name}.log"))

    def _look_after(self, seat: Seat) -> None:
        if seat.child is None or self._verdict is not None:
            return
        silent_s = seat.silent_for_s(now_ns())
        if silent_s is not None and seat.child.exit_code is None:
            seat.child.kill()
            self._bury(seat)
            self._failed(seat, f"it hung: no sign of life for {silent_s:.1f} s")
        elif seat.child.exit_code == DONE:
            self._bury(seat)
            seat.done = True
            if all(other.done for other in self._seats if other.row.sink):
                self._verdict = DONE
        elif seat.child.exit_code == MISTAKE:
            # What failed in the session and cannot be used again, such as a lost GPU, is no mistake of the user.
            self._give_up(FAILED if seat.failures else MISTAKE, _line(seat.row.name, self._bury(seat)))
        elif seat.child.exit_code == GPU_FAILED:
            self._gpu_failed(seat, self._bury(seat))
        elif seat.child.exit_code is not None:
            self._failed(seat, self._bury(seat))

    def _gpu_failed(self, seat: Seat, reason: str) -> None:
        """It gets one more chance; after that the CPU takes over, where the engine was not asked for by name."""
        self._gpu_failures += 1
        engine = self._cfg.engine
        if self._gpu_failures > 1 and engine.backend != "auto":
            why = f"that is the second time, and {engine.backend} was asked for by name: the session ends"
            self._give_up(FAILED, f"{_line(seat.row.name, reason)}; {why}")
            return
        if self._gpu_failures > 1:
            self._cfg = msgspec.structs.replace(self._cfg, engine=msgspec.structs.replace(engine, device="cpu"))
            reason += "; from here on the CPU takes over"
        self._failed(seat, reason)

    def _bury(self, seat: Seat) -> str:
        """Release an ended child; its last words."""
        child, seat.child = seat.child, None
        return child.close() if child is not None else ""

    def _failed(self, seat: Seat, reason: str) -> None:
        row, t_ns = seat.row, now_ns()
        seat.failures.append(t_ns)
        while t_ns - seat.failures[0] > row.per_s * NS_PER_S:
            seat.failures.popleft()
        count = len(seat.failures)
        line = _line(row.name, reason)
        if count > row.restarts:
            self._give_up(FAILED, f"{line}; that was failure {count} within {row.per_s:.0f} s, the session ends")
            return
        line += f"; {row.name} is restarted ({count} of at most {row.restarts} times in {row.per_s:.0f} s)"
        self._terminal.say(line)
        self._restarts.append(line)
        self._start(seat)

    def _announce_restarts(self) -> None:
        """As an event, once whoever records the session is there to hear it: it may be what was restarted."""
        recorders = [seat for seat in self._seats if seat.row.stage == 0]
        if self._verdict is not None or all(seat.ready or seat.done for seat in recorders):
            for line in self._restarts:
                self._reporter.event("restarted", line)
            self._restarts.clear()

    def _give_up(self, exit_code: int, line: str) -> None:
        self._verdict = exit_code
        self._terminal.say(line)
        self._reporter.event("failed", line)

    def _time_is_over(self) -> bool:
        duration_s = self._cfg.session.duration_s
        return bool(duration_s and self._started_ns and now_ns() - self._started_ns > duration_s * NS_PER_S)

    def _forgive_a_pause(self, looked_ns: int) -> int:
        t_ns = now_ns()
        if t_ns - looked_ns > PAUSED_NS:
            for seat in self._seats:
                seat.seen_ns += t_ns - looked_ns
        return t_ns

    def _stop_all(self) -> None:
        """Sources first, so that what they captured is still taken; whoever does not leave in time is made to."""
        deadline_s = time.monotonic() + STOP_S
        alive = [seat.child for seat in reversed(self._seats) if seat.child is not None]
        for child in alive:
            child.ask_to_stop()
            child.join(min(STOP_ONE_S, deadline_s - time.monotonic()))
        for child in [child for child in alive if not child.join(deadline_s - time.monotonic())]:
            child.kill()
        for seat in self._seats:
            self._bury(seat)


def _line(name: str, reason: str) -> str:
    return f"{name}: {reason.removeprefix(f'{name}: ')}"


def _session_name() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}"


def _endpoint(folder: Path, name: str) -> str:
    if sys.platform != "win32":
        return f"ipc://{folder / name}"
    with Publisher("tcp://127.0.0.1:*", bind=True, lossless=False) as probe:  # no Unix sockets: a port that is free
        return probe.endpoint


def _clean(folder: Path) -> None:
    """Remove the session's folder, unless a log in it is still to be read."""
    if not any(log.stat().st_size for log in folder.glob("*.log")):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[StopFlag]:
    """A flag that Ctrl-C, a closed terminal or a request to terminate sets; stopping takes 2 s at most."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda *_: stop.set()) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
