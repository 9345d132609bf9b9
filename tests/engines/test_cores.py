"""Which cores there are, and keeping a process to some of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.base import EngineError
from engines.cores import give_way, keep_to, physical, usable

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
