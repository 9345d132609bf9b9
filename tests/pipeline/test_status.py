from __future__ import annotations

import msgspec
import pytest

from pipeline.messages import Contribution, Drops, EngagementFrame, Health, Stages
from pipeline.status import Status, Terminal

HEALTH = Health(
    session="s",
    source="analyze",
    seq=0,
    t_ns=0,
    state="running",
    fps=29.97,
    drops={"stale": 4, "decode": 0},
    age_p50_ms=11.6,
    age_p95_ms=18.2,
    age_p99_ms=30.0,
)
RESULT = EngagementFrame(
    session="s",
    source="camera-0",
    seq=7,
    face=1,
    t_capture_ns=0,
    t_publish_ns=1,
    wall_time="2026-11-23T19:28:45.123456Z",
    status="tracked",
    score=0.63,
    base=0.5,
    smoothed=0.6,
    uncertainty=None,
    contributions=(
        Contribution("AU1", "au", 0.5, 0.01, None),
        Contribution("AU12", "au", 0.5, 0.2, None),
        Contribution("AU45", "au", 0.5, -0.08, None),
    ),
    expression=None,
    audio={"level_dbfs": -31.7},
    stages_ms=Stages(0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    dropped=Drops(),
    model="m@0",
    backend="openvino/bf16",
    calibration=None,
)


def status(*messages: Health | EngagementFrame) -> str:
    made = Status()
    for message in messages:
        made.take(message)
    return made.line()


def test_everything_that_matters_is_in_the_line() -> None:
    assert status(HEALTH, RESULT) == (
        "score 0.63 AU12+0.20 AU45-0.08 · 30.0 fps · age 12 ms, p95 18 · dropped 4 stale · openvino/bf16 · sound -32 dB"
    )


def test_how_far_the_score_may_be_off_stands_beside_it() -> None:
    known = msgspec.structs.replace(RESULT, uncertainty=0.4195)
    assert status(HEALTH, known).startswith("score 0.63±0.42 AU12+0.20")


def test_before_the_first_result_it_says_what_is_waited_for() -> None:
    assert status() == "starting"
    assert status(msgspec.structs.replace(HEALTH, state="starting")) == "analyze starting"


def test_no_face_is_no_score_and_no_microphone_is_no_sound() -> None:
    empty = msgspec.structs.replace(RESULT, status="no_face", score=None, base=None, contributions=(), audio=None)
    line = status(HEALTH, empty)
    assert line.startswith("no face · ")
    assert line.endswith("no sound")
    assert "score" not in line


def test_all_faces_of_the_newest_frame_are_shown_and_none_of_an_older_one() -> None:
    other = msgspec.structs.replace(RESULT, face=2, score=1.3)
    later = msgspec.structs.replace(RESULT, face=3, seq=8)
    assert status(HEALTH, RESULT, other).count("score") == 2
    assert "score 1.00" in status(HEALTH, RESULT, other), "clipped for display, not on the wire"
    assert status(HEALTH, RESULT, other, later).count("score") == 1


def test_without_a_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal:
        terminal.say("[bold]a notice[/bold] with a very " + "long " * 40 + "tail")
        terminal.show(Status())
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("[bold]a notice[/bold] with")
    assert line.endswith("tail")
    assert "\x1b" not in line
