"""Processor time and memory of each worker of a session, seen from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from pipeline.clock import now_ns

SUPERVISOR = "supervise"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one worker has used at one moment. cpu_s: user and system time since it began. rss_mb: 10^6 bytes."""

    t_ns: int
    worker: str
    cpu_s: float
    rss_mb: float


class Share(msgspec.Struct, frozen=True):
    """cpu_percent: of one core, mean over the samples; None if there were fewer than two. rss_mb: the highest."""

    cpu_percent: float | None
    rss_mb: float


class Workers:
    """The processes of a session below `supervisor`.

    A worker is known by its log file, which it holds open as <name>.log: its command line names nobody.
    """

    def __init__(self, supervisor: int) -> None:
        self._root = psutil.Process(supervisor)
        self._processes: dict[str, psutil.Process] = {SUPERVISOR: self._root}

    def sample(self, announced: Iterable[str]) -> list[Usage]:
        """What every living worker has used. announced: who has spoken; only for a new one is the process table read,
        which costs as much as the machine has processes."""
        if set(announced) - set(self._processes):
            self._find()
        return [usage for name, process in self._processes.items() if (usage := _usage(name, process))]

    def _find(self) -> None:
        try:
            for child in self._root.children():
                name = _name(child)
                if name:
                    self._processes.setdefault(name, child)
        except psutil.NoSuchProcess:
            return


def _name(process: psutil.Process) -> str:
    try:
        logs = [Path(file.path) for file in process.open_files() if file.path.endswith(".log")]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
    return logs[0].stem if logs else ""


def _usage(name: str, process: psutil.Process) -> Usage | None:
    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            times, rss_bytes = process.cpu_times(), process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return Usage(now_ns(), name, times.user + times.system, rss_bytes / 1e6)


def shares(usage: Sequence[Usage], from_ns: int, to_ns: int) -> dict[str, Share]:
    """By worker, what it used between two moments."""
    names = dict.fromkeys(each.worker for each in usage)
    inside = {name: [each for each in usage if each.worker == name and from_ns <= each.t_ns <= to_ns] for name in names}
    return {name: _share(mine) for name, mine in inside.items() if mine}


def total_percent(used: Iterable[Share]) -> float | None:
    """Of one core, all of them together; None where one of them was too short to say, or there is none."""
    percents = [each.cpu_percent for each in used]
    known = [each for each in percents if each is not None]
    return sum(known) if known and len(known) == len(percents) else None


def _share(usage: Sequence[Usage]) -> Share:
    first, last = usage[0], usage[-1]
    took_s = (last.t_ns - first.t_ns) / 1e9
    percent = 100.0 * (last.cpu_s - first.cpu_s) / took_s if took_s > 0 else None
    return Share(percent, max(each.rss_mb for each in usage))
