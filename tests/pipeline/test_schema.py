from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

from pipeline.messages import Contribution, Drops, EngagementFrame, Event, Health, Stages, encode
from pipeline.schema import COMMAND, FILE, build, render

DOC = Path(__file__).parents[2] / "docs" / "messages.md"
Body = dict[str, object]


def example() -> bytes:
    """The result that docs/messages.md shows."""
    found = re.search(r"```json\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].encode()


def valid(body: object) -> bool:
    return bool(jsonschema.Draft202012Validator(build()).is_valid(body))


def sent(message: EngagementFrame | Health | Event) -> Body:
    return msgspec.json.decode(bytes(encode(message)[1]), type=Body)


def test_the_file_is_what_the_types_say() -> None:
    assert FILE.is_file() and FILE.read_text(encoding="utf-8") == render(), f"run `{COMMAND}` and commit {FILE.name}"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(build())


def test_the_example_of_the_docs_is_a_true_message() -> None:
    message = msgspec.json.decode(example(), type=EngagementFrame)
    assert message.score is not None and message.base is not None
    assert message.base + sum(item.contribution for item in message.contributions) == pytest.approx(message.score)
    age_ms = (message.t_publish_ns - message.t_capture_ns) / 1e6
    assert sum(msgspec.to_builtins(message.stages_ms).values()) == pytest.approx(age_ms)
    assert valid(sent(message))
    assert sent(message) == msgspec.json.decode(example())


@pytest.mark.parametrize(
    "message",
    [
        Health(session="s", source="record", seq=0, t_ns=1, state="ready", fps=0.0, drops={"results": 0}),
        Event(session="s", source="record", seq=0, t_ns=1, kind="notice", text="good morning"),
    ],
)
def test_health_and_events_are_valid(message: Health | Event) -> None:
    assert valid(sent(message))


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"status": "bored"}, {"score": "0.63"}, {"seq": -1}, {"surprise": 1}, {"contributions": [{"at": None}]}],
)
def test_what_is_no_message_is_refused(change: Body) -> None:
    body = msgspec.json.decode(example(), type=Body)
    assert valid(body)
    assert not valid({**body, **change})


@pytest.mark.parametrize("missing", EngagementFrame.__struct_fields__)
def test_every_field_is_required(missing: str) -> None:
    body = msgspec.json.decode(example(), type=Body)
    assert not valid({name: value for name, value in body.items() if name != missing})


def test_the_docs_explain_every_field() -> None:
    text = DOC.read_text(encoding="utf-8")
    for kind in (EngagementFrame, Contribution, Stages, Drops, Health, Event):
        for name in kind.__struct_fields__:
            assert f"`{name}`" in text, f"{kind.__name__}.{name} is not explained in {DOC.name}"
