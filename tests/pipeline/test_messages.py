from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import (
    TOPICS,
    VERSION,
    AudioChunk,
    Contribution,
    Drops,
    EngagementFrame,
    Event,
    FramePacket,
    Health,
    MessageError,
    Stages,
    StreamEnd,
    Wire,
    counted_by,
    decode,
    encode,
    topic_of,
)
from pipeline.slots import Slot

FRAME = FramePacket(
    session="s", source="camera-0", seq=3, t_capture_ns=1, t_send_ns=2, width_px=2, height_px=1, media_ns=0
)
AUDIO = AudioChunk(session="s", source="mic-0", seq=0, t_capture_ns=1, sample_rate_hz=16000, samples=1)
END = StreamEnd(session="s", source="camera-0", seq=4, stream="video", reason="end_of_file")
RESULT = EngagementFrame(
    session="s",
    source="camera-0",
    seq=3,
    face=1,
    t_capture_ns=1,
    t_publish_ns=2,
    wall_time="2026-11-23T19:28:45.123456Z",
    status="tracked",
    score=0.5,
    base=0.25,
    smoothed=None,
    uncertainty=None,
    contributions=(Contribution("AU12", "au", 0.75, 0.25, (0.5, 0.75)),),
    expression={"neutral": 1.0},
    audio=None,
    stages_ms=Stages(0.5, 0.5, 0.0, 0.0, 0.0, 0.0),
    dropped=Drops(stale=4),
    model="agcm-live@0123456789ab",
    backend="openvino/bf16",
    calibration=None,
)
HEALTH = Health(session="s", source="analyze", seq=0, t_ns=1, state="ready", fps=30.0, drops={"stale": 1})
EVENT = Event(session="s", source="supervise", seq=0, t_ns=1, kind="restarted", text="why")

# The bytes as they are on the wire. Whoever changes one of them changes the protocol, and so VERSION.
GOLDEN: list[tuple[Wire, bytes | None, list[bytes]]] = [
    (
        FRAME,
        b"ab",
        [
            b"frame",
            b"\x8b\xa1v\x01\xa7session\xa1s\xa6source\xa8camera-0\xa3seq\x03\xact_capture_ns\x01\xa9t_send_ns\x02"
            b"\xa8width_px\x02\xa9height_px\x01\xacpixel_format\xa5gray8\xaddecode_errors\x00\xa8media_ns\x00",
            b"ab",
        ],
    ),
    (
        msgspec.structs.replace(FRAME, slot=Slot(7, 1, 9, 5)),
        b"",
        [
            b"frame",
            b"\x8c\xa1v\x01\xa7session\xa1s\xa6source\xa8camera-0\xa3seq\x03\xact_capture_ns\x01\xa9t_send_ns\x02"
            b"\xa8width_px\x02\xa9height_px\x01\xacpixel_format\xa5gray8\xaddecode_errors\x00\xa8media_ns\x00"
            b"\xa4slot\x84\xa3pid\x07\xa7made_ns\x01\xa2fd\x09\xa4turn\x05",
            b"",
        ],
    ),
    (
        AUDIO,
        b"\0\0\0\0",
        [
            b"audio",
            b"\x89\xa1v\x01\xa7session\xa1s\xa6source\xa5mic-0\xa3seq\x00\xact_capture_ns\x01"
            b"\xaesample_rate_hz\xcd>\x80\xa7samples\x01\xa9overflows\x00\xa8media_ns\xc0",
            b"\0\0\0\0",
        ],
    ),
    (
        END,
        None,
        [
            b"stream_end",
            b"\x86\xa1v\x01\xa7session\xa1s\xa6source\xa8camera-0\xa3seq\x04\xa6stream\xa5video\xa6reason\xabend_of_file",
        ],
    ),
    (
        RESULT,
        None,
        [
            b"engagement",
            b'{"v":1,"session":"s","source":"camera-0","seq":3,"face":1,"t_capture_ns":1,"t_publish_ns":2,'
            b'"wall_time":"2026-11-23T19:28:45.123456Z","media_ns":null,"status":"tracked","score":0.5,"base":0.25,"smoothed":null,'
            b'"uncertainty":null,"contributions":[{"concept":"AU12","kind":"au","activation":0.75,"contribution":0.25,'
            b'"at":[0.5,0.75],"source":"learned"}],"expression":{"neutral":1.0},"audio":null,'
            b'"stages_ms":{"capture":0.5,"transport":0.5,'
            b'"detect":0.0,"align":0.0,"infer":0.0,"readout":0.0},"dropped":{"stale":4,"decode":0},'
            b'"model":"agcm-live@0123456789ab","backend":"openvino/bf16","calibration":null}',
        ],
    ),
    (
        HEALTH,
        None,
        [
            b"health",
            b'{"v":1,"session":"s","source":"analyze","seq":0,"t_ns":1,"state":"ready","fps":30.0,"drops":{"stale":1},'
            b'"age_p50_ms":null,"age_p95_ms":null,"age_p99_ms":null,"rss_mb":null}',
        ],
    ),
    (
        EVENT,
        None,
        [b"event", b'{"v":1,"session":"s","source":"supervise","seq":0,"t_ns":1,"kind":"restarted","text":"why"}'],
    ),
]
IDS = [type(message).__name__ for message, _, _ in GOLDEN]


@pytest.mark.parametrize(("message", "payload", "parts"), GOLDEN, ids=IDS)
def test_the_bytes_on_the_wire_stay_as_they_are(message: Wire, payload: bytes | None, parts: list[bytes]) -> None:
    assert encode(message, payload) == parts
    assert decode(parts) == (message, payload)


def test_every_topic_has_golden_bytes() -> None:
    assert {type(message) for message, _, _ in GOLDEN} == {topic.type for topic in TOPICS.values()}


def test_no_topic_is_the_prefix_of_another() -> None:
    """A ZeroMQ subscription matches by prefix: one would bring the other along."""
    for one, other in itertools.permutations(TOPICS, 2):
        assert not other.startswith(one)


def test_the_row_of_a_topic_agrees_with_its_type() -> None:
    for message, payload, _ in GOLDEN:
        topic = topic_of(type(message))
        assert topic.payload == (payload is not None)
        assert (topic.codec == "json") == (topic.channels == ("results",)), "what users read is JSON"


def test_the_end_of_a_stream_counts_what_travels_on_the_same_channel() -> None:
    for stream in ("video", "audio"):
        counted = counted_by(msgspec.structs.replace(END, stream=stream))
        assert counted.channels == (stream,)
        assert stream in topic_of(StreamEnd).channels


def _with_version(codec: str, header: bytes) -> bytes:
    future = {"v": VERSION + 1, "a_field_of_the_future": 1}
    if codec == "json":
        return msgspec.json.encode(msgspec.json.decode(header) | future)
    return msgspec.msgpack.encode(msgspec.msgpack.decode(header) | future)


@pytest.mark.parametrize(("message", "payload", "parts"), GOLDEN, ids=IDS)
def test_another_version_is_refused_and_both_are_named(
    message: Wire, payload: bytes | None, parts: list[bytes]
) -> None:
    topic = topic_of(type(message))
    future = [parts[0], _with_version(topic.codec, parts[1]), *parts[2:]]
    with pytest.raises(MessageError, match=f"has version {VERSION + 1}; this program reads version {VERSION}"):
        decode(future)
    plain = encode(msgspec.structs.replace(message, v=VERSION + 1), payload)
    with pytest.raises(MessageError, match=f"has version {VERSION + 1}; this program reads version {VERSION}"):
        decode(plain)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "got 0 part"),
        ([b"frame"], "got 1 part"),
        ([b"fram", b""], "unknown topic 'fram'"),
        ([b"\xff", b""], "unknown topic"),
        ([b"event", b"{}", b"x"], "has 2 parts, got 3"),
        ([b"event", b"{}"], "missing required field"),
        ([b"event", b"not json"], "topic 'event'"),
        ([b"event", GOLDEN[-1][2][1].replace(b'"seq":0', b'"seq":-1')], "seq"),
        ([b"event", GOLDEN[-1][2][1].replace(b"why", b"\xff\xfe")], "topic 'event'"),
        ([b"event", b"[" * 100_000], "topic 'event'"),
        ([*GOLDEN[0][2][:2], b"abc"], "takes 2 bytes as its payload, got 3"),
        ([*GOLDEN[1][2][:2], b"ab"], "takes 0 bytes as its payload, got 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_message_is_refused_with_a_reason(parts: list[bytes], says: str) -> None:
    with pytest.raises(MessageError, match=says):
        decode(parts)


_name = st.sampled_from([name.encode() for name in TOPICS])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["v", "seq", "t_ns"]), inner),
)


def _survives(parts: list[bytes]) -> None:
    try:
        message, payload = decode(parts)
    except MessageError as error:
        assert "\n" not in str(error)
    else:
        assert decode(encode(message, payload)) == (message, payload)


@given(st.lists(st.binary(), max_size=4))
def test_arbitrary_bytes_raise_message_errors_only(parts: list[bytes]) -> None:
    _survives(parts)


@given(_name, st.binary(), st.lists(st.binary(), max_size=1))
def test_arbitrary_headers_raise_message_errors_only(name: bytes, header: bytes, payload: list[bytes]) -> None:
    _survives([name, header, *payload])


@given(_name, _json, st.sampled_from([msgspec.json.encode, msgspec.msgpack.encode]))
def test_well_formed_headers_of_other_shapes_raise_message_errors_only(
    name: bytes, header: object, writer: Callable[[object], bytes]
) -> None:
    try:
        encoded = writer(header)
    except (OverflowError, ValueError):  # integers of more than 64 bits have no place in msgpack
        return
    _survives([name, encoded, b"ab"] if TOPICS[name.decode()].payload else [name, encoded])


@given(st.sampled_from(GOLDEN), st.data())
def test_one_damaged_byte_raises_message_errors_only(
    row: tuple[Wire, bytes | None, list[bytes]], data: st.DataObject
) -> None:
    parts = list(row[2])
    header = bytearray(parts[1])
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    parts[1] = bytes(header)
    _survives(parts)
