"""A session as users start it, and what it says on the socket that users read."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import pytest

from pipeline.bus import Subscriber
from pipeline.messages import EngagementFrame, Event, Health

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0


@dataclass
class Session:
    """A session that runs, and what it said so far."""

    process: subprocess.Popen[str]
    inbox: Subscriber
    results: list[EngagementFrame] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stderr: str = ""

    def read(self, until_results: int | None = None, until_event: str | None = None) -> None:
        """Read until the analysis has ended, so many results have come, or an event of this kind."""
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
                if (said.kind, said.source) == ("ended", "analyze") or said.kind == until_event:
                    return
            if until_results is not None and len(self.results) >= until_results:
                return
            if said is None and self.process.poll() is not None:
                pytest.fail(f"the session was over too soon, exit code {self.process.returncode}: {self.leave(5)}")
        pytest.fail(f"the session did not end within {LIMIT_S} s")

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal does: the signal goes to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

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
def live_session(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Session]:
    """`python run_live.py` with a reader that was there before it. env: of its processes, instead of this one's."""
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    command = [sys.executable, "run_live.py", "--bind", endpoint, *arguments]
    with Subscriber(endpoint, ("engagement", "health", "event")) as inbox:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield Session(process, inbox)
        finally:
            for member in members(process.pid):
                member.kill()
            if process.stderr is not None:
                process.stderr.close()
            process.wait(10)


def members(group: int) -> list[psutil.Process]:
    """The living processes of a group; an ended one that nobody has waited for is not alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_behind(group: int) -> list[psutil.Process]:
    """Who still lives; Python's own helper processes see a moment later that theirs is gone."""
    deadline_s = time.monotonic() + 1.0
    while (living := members(group)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return living


def check_results(results: Sequence[EngagementFrame]) -> None:
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
