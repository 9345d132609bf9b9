"""A worker in a process of its own: `Child` is the supervisor's side of it, `main` what runs inside."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

from pipeline.bus import BusError, WorkerError
from pipeline.config import ConfigError, Link, LiveConfig

ORPHAN_GRACE_S = 1.0
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads, sockets and devices


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is started with. log: the file for what only a programmer can read."""

    name: str
    target: str
    cfg: LiveConfig
    link: Link
    log: Path


class Child:
    """One running worker, seen from outside. It is started by the constructor."""

    def __init__(self, job: Job) -> None:
        with _signals_held_back():  # the first flag starts Python's helper process, which ignores no closed terminal
            self._stop = SPAWN.Event()
        self._words, words = SPAWN.Pipe(duplex=False)
        self._process = SPAWN.Process(target=main, args=(job, self._stop, words), name=job.name, daemon=True)
        with _signals_held_back():  # once more: starting the helper lets Ctrl-C through
            self._process.start()
        words.close()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.exitcode

    def ask_to_stop(self) -> None:
        """Set its stop flag."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended."""
        self._process.join(max(0.0, timeout_s))
        return self._process.exitcode is not None

    def kill(self) -> None:
        """End it from outside."""
        self._process.kill()

    def close(self) -> str:
        """Release what is left of an ended child; its last words, or what its exit code says."""
        self._process.join()
        words = ""
        with contextlib.suppress(EOFError, OSError):
            words = self._words.recv() if self._words.poll() else ""
        code = self._process.exitcode or 0
        self._words.close()
        self._process.close()
        return words or (f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")


def _to_everybody() -> set[signal.Signals]:
    """What Ctrl-C, a closed terminal and a service manager send to every process of a command; here it is the
    supervisor's to answer."""
    return {getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)}


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Such a signal reaches a child before it can ignore it, unless it is born with the signal blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _to_everybody())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(job: Job, stop: Flag, words: Connection) -> None:
    """Run a worker to its end. Exit codes: 0 finished, 1 failed, 2 the user's to mend, 3 its GPU failed; `words` gets
    the reason."""
    for number in _to_everybody():
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(stop,), daemon=True).start()
    with job.log.open("a", encoding="utf-8") as log:
        faulthandler.enable(log)
        code, reason = _run(job, stop, log.name)
        faulthandler.disable()
    if not job.log.stat().st_size:
        job.log.unlink()
    with contextlib.suppress(OSError):  # nobody listens when the supervisor was killed
        words.send(reason)
    sys.exit(code)


def _run(job: Job, stop: Flag, log: str) -> tuple[int, str]:
    module, _, function = job.target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(job.cfg, job.link, stop)
    except WorkerError as error:
        return error.exit_code, str(error)
    except ConfigError as error:
        return 2, str(error)
    except BusError as error:
        return 1, str(error)
    except Exception as error:
        with Path(log).open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        return 1, f"{type(error).__name__}: {error} (details in {log})".replace("\n", " ")
    return 0, ""


def _leave_with_parent(stop: Flag) -> None:
    """A supervisor that was killed cannot stop anybody: leave by oneself, with a moment to put things in order."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    stop.set()
    threading.Event().wait(ORPHAN_GRACE_S)
    os._exit(1)
