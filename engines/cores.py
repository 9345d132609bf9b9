"""The processor cores of this machine: how many networks may use, which a process keeps to, who is first."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from engines.base import EngineError

MOST_THREADS = 4  # of one network; more rarely help it, and others want the cores too
_LAST = 10  # as `nice` counts
_TOPOLOGY = Path("/sys/devices/system/cpu")


def usable() -> tuple[int, ...]:
    """Numbers of the logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def physical(numbers: tuple[int, ...], topology: Path = _TOPOLOGY) -> int:
    """How many physical cores these logical ones are; where the system does not say, each is one."""
    return len({_siblings(number, topology) for number in numbers})


def _siblings(number: int, topology: Path) -> str:
    file = topology / f"cpu{number}" / "topology" / "thread_siblings_list"
    return file.read_text().strip() if file.is_file() else str(number)


def keep_to(count: int) -> tuple[int, ...]:
    """Keep this process, with all threads that it starts from now on, to the last `count` of the cores that it may use;
    interrupts and other programs are mostly on the first. Linux only. The numbers of the cores.

    Raises EngineError where this cannot be done, or there are not as many.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise EngineError("a process can be kept to cores on Linux only; set engine.pin to 0")
    numbers = usable()
    if not 1 <= count <= len(numbers):
        raise EngineError(f"engine.pin = {count}: this process may use {len(numbers)} cores; 0 keeps it to none")
    os.sched_setaffinity(0, numbers[-count:])
    return numbers[-count:]


def give_way() -> None:
    """Let whoever else wants the processor have it before the thread that calls this. Only Linux gives the threads of a
    process priorities of their own; elsewhere this changes nothing."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LAST)
