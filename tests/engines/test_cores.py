"""Which cores there are, and keeping a process to some of them."""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.base import EngineError
from engines.cores import come_promptly, give_way, keep_to, physical, usable

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes are kept to cores on Linux only")


def test_two_threads_of_one_core_are_one(tmp_path: Path) -> None:
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert physical((0, 1, 2, 3), tmp_path) == 2
    assert physical((0, 2), tmp_path) == 1
    assert physical((0, 1), tmp_path) == 2
    assert physical((7, 8, 9), tmp_path) == 3, "nothing is known of these"


@linux_only
def test_a_process_is_kept_to_the_last_cores_with_the_threads_that_it_starts() -> None:
    program = (
        "import os, threading; from engines.cores import keep_to, usable\n"
        "before = usable(); kept = keep_to(1); assert kept == before[-1:] == usable(), (before, kept)\n"
        "seen = []; thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))\n"
        "thread.start(); thread.join(); assert seen == [set(kept)], seen\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@linux_only
def test_more_cores_than_there_are_is_one_clear_line() -> None:
    with pytest.raises(EngineError, match=r"^engine\.pin = 4096: this process may use") as told:
        keep_to(4096)
    assert "\n" not in str(told.value)
    assert len(usable()) < 4096


@pytest.mark.skipif(sys.platform != "linux", reason="threads of a process have no priorities of their own")
def test_a_thread_that_gives_way_is_the_only_one_that_does() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        assert thread.submit(priority).result() == max(10, before)
    assert priority() == before


_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine())


def _turn_ns() -> int:
    """How long the turns of this thread are asked to be, of struct sched_attr of sched_getattr(2); 0: not at all."""
    answer = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall(_SCHED_GETATTR, 0, answer, 56, 0) == 0
    (turn_ns,) = struct.unpack_from("=Q", answer, 24)
    return int(turn_ns)


def _linux() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(itertools.takewhile(str.isdigit, minor)))


has_turns = pytest.mark.skipif(
    sys.platform != "linux" or _SCHED_GETATTR is None or _linux() < (6, 12),
    reason="threads have turns of their own on Linux from 6.12 on",
)


@has_turns
def test_short_turns_are_for_the_threads_that_follow_and_not_for_those_that_give_way() -> None:
    def promptly() -> tuple[int, int, int]:
        come_promptly()
        with ThreadPoolExecutor(1) as follows, ThreadPoolExecutor(1, initializer=give_way) as gives_way:
            return _turn_ns(), follows.submit(_turn_ns).result(), gives_way.submit(_turn_ns).result()

    before = _turn_ns()
    with ThreadPoolExecutor(1) as thread:
        own, following, giving = thread.submit(promptly).result()
    assert own == following == 100_000
    assert giving == before == _turn_ns() != own


@has_turns
def test_on_a_processor_that_is_not_known_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")

    def promptly() -> tuple[int, int]:
        before = _turn_ns()
        come_promptly()
        return before, _turn_ns()

    with ThreadPoolExecutor(1) as thread:
        before, after = thread.submit(promptly).result()
    assert before == after != 100_000
