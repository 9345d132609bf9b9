"""The processor cores of this machine: how many networks may use, which a process keeps to, who is first."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from pathlib import Path

from engines.base import EngineError

MOST_THREADS = 4  # of one network; more rarely help it, and others want the cores too
_LAST = 10  # as `nice` counts
_SHORT_NS = 100_000  # the least that Linux takes
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # no library has this system call
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
        _take_turns(0)


def come_promptly() -> None:
    """Have the thread that calls this, and all that it starts from now on, wait less for the processor when others want
    it too: it asks for short turns, and of those that have had no more than their share Linux lets in first whose
    turn would end first. The shares stay. Linux 6.12 or later; elsewhere this changes nothing."""
    _take_turns(_SHORT_NS)


def _take_turns(slice_ns: int) -> None:
    """How long the turns of the calling thread are to be; 0: the system's own length."""
    call = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or call is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    # struct sched_attr of sched_setattr(2): size, policy, flags, nice, priority, runtime, deadline, period.
    wish = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    ctypes.CDLL(None).syscall(call, 0, wish, 0)
