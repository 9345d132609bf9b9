"""Processes are told apart by the logs that they hold open, as the workers of a session do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.workers import SUPERVISOR, Share, Usage, Workers, shares, total_percent

CHILD = "import sys; log = open(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("open", flush=True)
sys.stdin.read()
child.communicate()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="open files of others are seen on Unix only")
def test_a_worker_is_found_by_its_log_and_gone_when_it_ends() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PARENT, str(Path(folder) / "analyze.log")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            workers = Workers(parent.pid)
            assert [each.worker for each in workers.sample(())] == [SUPERVISOR]
            usage = workers.sample({"analyze"})
            assert [each.worker for each in usage] == [SUPERVISOR, "analyze"]
            assert all(each.rss_mb > 1.0 and each.cpu_s >= 0.0 for each in usage)
            parent.communicate()
        assert workers.sample({"analyze"}) == []


def test_shares_are_of_the_time_between_two_moments() -> None:
    usage = [Usage(round(s * 1e9), "analyze", cpu_s=s * 0.25, rss_mb=100.0 + s) for s in range(11)]
    usage.append(Usage(3_000_000_000, "record", cpu_s=1.0, rss_mb=40.0))
    usage.append(Usage(20_000_000_000, "late", cpu_s=1.0, rss_mb=40.0))
    found = shares(usage, 2_000_000_000, 8_000_000_000)
    assert found == {"analyze": Share(25.0, 108.0), "record": Share(None, 40.0)}


def test_a_total_is_of_all_or_of_none() -> None:
    assert total_percent([Share(40.0, 1.0), Share(2.5, 1.0)]) == 42.5
    assert total_percent([Share(40.0, 1.0), Share(None, 1.0)]) is None
    assert total_percent([]) is None
