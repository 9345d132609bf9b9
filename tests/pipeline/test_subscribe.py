from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.bus import Publisher
from pipeline.messages import Contribution, Drops, EngagementFrame, Stages
from pipeline.subscribe import describe, why

ROOT = Path(__file__).parents[2]
SHARES = {"AU1": 0.001, "AU12": 0.2, "AU45": -0.1, "gaze_on": 0.05, "AU4": -0.031}


def result(score: float | None) -> EngagementFrame:
    tracked = score is not None
    return EngagementFrame(
        session="s",
        source="demo",
        seq=7,
        face=1,
        t_capture_ns=0,
        t_publish_ns=12_300_000,
        wall_time="2026-11-23T19:28:45.123456Z",
        status="tracked" if tracked else "no_face",
        score=score,
        base=0.5 if tracked else None,
        smoothed=score,
        uncertainty=None,
        contributions=tuple(Contribution(name, "au", 0.5, share, None) for name, share in SHARES.items()),
        expression=None,
        audio=None,
        stages_ms=Stages(1.0, 2.0, 3.0, 4.0, 2.0, 0.3),
        dropped=Drops(),
        model="m@0",
        backend="b/fp32",
        calibration=None,
    )


def test_the_terms_that_are_shown_sum_to_the_score() -> None:
    line = why(result(0.5 + sum(SHARES.values())))
    assert line == "score 0.620 = base 0.500, AU12 +0.200, AU45 -0.100, gaze_on +0.050, 2 others -0.030"
    total, *terms = [float(number) for number in re.findall(r"(?<= )[-+]?\d+\.\d+", line)]
    assert total == pytest.approx(sum(terms), abs=0.0025)


def test_how_far_the_score_may_be_off_stands_beside_it() -> None:
    known = msgspec.structs.replace(result(0.62), uncertainty=0.4204)
    assert "score 0.620 ± 0.420 = base 0.500" in describe(known)


def test_no_score_is_no_number() -> None:
    line = describe(result(None))
    assert "face 1: no_face (age 12.3 ms)" in line
    assert "score" not in line


@pytest.mark.parametrize("as_json", [False, True])
def test_it_prints_what_is_published_and_ctrl_c_ends_it_cleanly(tmp_path: Path, as_json: bool) -> None:
    endpoint = f"ipc://{tmp_path}/results"
    with Publisher(endpoint, bind=True, lossless=True) as publisher:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.subscribe", endpoint, *(["--json"] if as_json else [])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert publisher.wait_for_subscriber("engagement", None, 30.0)
        message = result(0.62)
        publisher.send(message)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert line == (msgspec.json.encode(message).decode() if as_json else describe(message))
    assert (process.returncode, rest) == (0, "")
    assert errors.splitlines() == [f"waiting for results at {endpoint} (Ctrl-C ends this)"]


def test_a_bad_endpoint_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.subscribe", "5570"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot connect to '5570'" in done.stderr
