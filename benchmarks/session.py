"""One run of run_live.py as users start it, read over the socket that users read, with its processes watched."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from benchmarks.figures import Check, Sample, account_of, balance, one_a_frame, sample_of, sums
from benchmarks.machine import ROOT
from benchmarks.workers import Share, Usage, Workers, shares
from pipeline.bus import Subscriber, WorkerError
from pipeline.clock import Rate, now_ns
from pipeline.messages import EngagementFrame, Event, Health

LISTEN_MS = 200
LEAVE_S = 5.0
USAGE_HZ = 1.0


class SessionError(WorkerError):
    """A session that gave nothing to measure; one line, and the exit code that fits it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A session from its start to its end, on one clock.

    samples: every result in the order of arrival, of every face. usage: of its processes, once a second.
    started_ns, ended_ns: of the process run_live.py. model, backend: as its results name them.
    """

    samples: tuple[Sample, ...]
    usage: tuple[Usage, ...]
    events: tuple[Event, ...]
    model: str
    backend: str
    started_ns: int
    ended_ns: int

    @property
    def account_text(self) -> str:
        """The last event of the analysis."""
        texts = [each.text for each in self.events if (each.kind, each.source) == ("ended", "analyze")]
        return texts[-1] if texts else ""

    @property
    def faces(self) -> Counter[int]:
        """How many faces were tracked, by frame number."""
        return Counter(each.seq for each in self.samples if each.tracked)

    @property
    def shares(self) -> dict[str, Share]:
        """What each process used between the first result and the last."""
        return shares(self.usage, self.samples[0].t_publish_ns, self.samples[-1].t_publish_ns)

    def checks(self, captured: int | None) -> tuple[Check, ...]:
        """What must hold of every session; captured: see figures.balance."""
        failures = [event.text for event in self.events if event.kind in ("failed", "restarted")]
        return (
            *balance(one_a_frame(self.samples), account_of(self.account_text), captured),
            *sums(self.samples),
            Check("no worker failed", not failures, failures[0] if failures else "none"),
        )


def observe(options: Sequence[str], progress: Callable[[Sample], None]) -> Observed:
    """Run a session with these options of run_live.py to its end; its reader is there before it.

    Raises SessionError if it fails or publishes no result.
    """
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    command = [sys.executable, "run_live.py", "--bind", endpoint, *options]
    with Subscriber(endpoint, ("engagement", "health", "event")) as inbox, tempfile.TemporaryFile("w+") as words:
        started_ns = now_ns()
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
        )
        try:
            watch = _Watch(inbox, process, progress)
            watch.to_the_end()
        finally:
            _end(process)
        ended_ns = now_ns()
        if process.returncode != 0:
            raise SessionError(
                f"run_live.py failed: {_last_line(words)}", process.returncode if process.returncode == 2 else 1
            )
    if watch.model is None:
        raise SessionError("the session ended without a single result; is the source empty or too short?", 1)
    model, backend = watch.model
    return Observed(tuple(watch.samples), tuple(watch.usage), tuple(watch.events), model, backend, started_ns, ended_ns)


class _Watch:
    """What has come from a session so far."""

    def __init__(self, inbox: Subscriber, process: subprocess.Popen[bytes], progress: Callable[[Sample], None]) -> None:
        self._inbox, self._process, self._progress = inbox, process, progress
        self._workers = Workers(process.pid)
        self._announced: set[str] = set()
        self._rate = Rate(USAGE_HZ)
        self.samples: list[Sample] = []
        self.usage: list[Usage] = []
        self.events: list[Event] = []
        self.model: tuple[str, str] | None = None

    def to_the_end(self) -> None:
        """Read until the process has ended and nothing more comes."""
        ended = False
        while not ended:
            ended = self._process.poll() is not None
            while self._read():
                pass

    def _read(self) -> bool:
        received = self._inbox.receive(LISTEN_MS)
        t_ns = now_ns()
        if self._rate.due(t_ns):
            self.usage += self._workers.sample(self._announced)
        message = None if received is None else received.message
        if isinstance(message, EngagementFrame):
            if self.model is None:
                self.model = message.model, message.backend
                self.usage += self._workers.sample(self._announced)  # what came before the first result is start-up
            self.samples.append(sample_of(message, t_ns))
            self._progress(self.samples[-1])
        elif isinstance(message, Health):
            self._announced.add(message.source)
        elif isinstance(message, Event):
            self.events.append(message)
        return message is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened: no process is left behind."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(words: IO[str]) -> str:
    words.seek(0)
    lines = [line.strip() for line in words if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
