"""Every topic and every wire type of the system; a topic that is not here can be neither sent nor subscribed to.

A message is ZeroMQ multipart: [topic, header] or [topic, header, payload]. Headers inside a session are msgpack;
what users read (`engagement`, `health`, `event`) is JSON. Every header carries `v`; a decoder refuses another
version and names both. Times are nanoseconds of CLOCK_MONOTONIC unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from pipeline.slots import Slot

VERSION = 1

WorkerState = Literal["starting", "ready", "running", "ended"]
EventKind = Literal[
    "started",
    "restarted",
    "failed",
    "camera_lost",
    "camera_found",
    "microphone_missing",
    "recording_lost",
    "marker",
    "ended",
    "notice",
]

UNCERTAINTY = (
    "Half-width of the interval around the score in which the label of a person not seen in training lies nine times "
    "in ten, in units of the score; null unless tracked, and while the model's manifest has no interval."
)

Channel = Literal["video", "audio", "results"]
Size = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class OneLineError(ValueError):
    """An error whose text is one printable line, whatever the input is that it quotes."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(char if char.isprintable() else " " for char in text))


class MessageError(OneLineError):
    """Bytes that are not a message of this version; the text says what was found and what was expected."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every header has. seq counts from 0 per topic and source, without gaps at the sender."""

    v: int = VERSION
    session: str
    source: str
    seq: Count

    def payload_bytes(self) -> int | None:
        """How long the payload of this message is; None for a type without one."""
        return None


class FramePacket(Wire, frozen=True, kw_only=True):
    """One captured picture: full-range luma plane, rows top to bottom, upright, height x width uint8. It is the
    payload, which is empty where the picture lies in a slot.

    decode_errors: corrupt packets met so far by the decoder (they never become a frame and have no seq).
    media_ns: place in a file's own time, 0 at its first picture, the same every time; None from a device.
    """

    t_capture_ns: int
    t_send_ns: int
    width_px: Size
    height_px: Size
    pixel_format: Literal["gray8"] = "gray8"
    decode_errors: Count = 0
    media_ns: int | None = None
    slot: Slot | msgspec.UnsetType = msgspec.UNSET

    def payload_bytes(self) -> int:
        """One byte a pixel, unless the picture lies elsewhere."""
        return 0 if isinstance(self.slot, Slot) else self.width_px * self.height_px


class AudioChunk(Wire, frozen=True, kw_only=True):
    """Consecutive mono samples; payload is `samples` float32 in [-1, 1]. t_capture_ns belongs to the first sample.

    overflows: samples lost so far because nobody took them from the device in time.
    media_ns: place of the first sample in the same file time as FramePacket.media_ns; None from a device. Of a file
    it, and not t_capture_ns, says which sound belongs to a frame.
    """

    t_capture_ns: int
    sample_rate_hz: Size
    samples: Count
    overflows: Count = 0
    media_ns: int | None = None

    def payload_bytes(self) -> int:
        """Four bytes a sample."""
        return 4 * self.samples


class StreamEnd(Wire, frozen=True, kw_only=True):
    """A capture worker is done for good; seq is the number of messages that it sent on `stream` before."""

    stream: Literal["video", "audio"]
    reason: Literal["end_of_file", "stopped", "failed"]


class Contribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One concept's share in the score. activation in [0, 1]; at: image-relative [x, y] where it was seen.
    source: whether its weight was learnt from labels, or is a prior that the model's card gives.
    """

    concept: str
    kind: Literal["au", "pose", "gaze", "voice"]
    activation: float
    contribution: float
    at: tuple[float, float] | None
    source: Literal["learned", "prior"] = "learned"


class Stages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds from t_capture_ns to t_publish_ns, stage by stage; they sum to the age of the result."""

    capture: float
    transport: float
    detect: float
    align: float
    infer: float
    readout: float


class Drops(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Losses so far in this session, by reason.

    stale: captured frames passed over because a newer one had arrived. decode: packets that held no picture.
    captured frames == frames published + stale.
    """

    stale: int = 0
    decode: int = 0


class EngagementFrame(Wire, frozen=True, kw_only=True):
    """The result for one face of one frame. score == base + sum of contributions; null unless `tracked`.

    media_ns: place of the frame in a file's own time, as in FramePacket; None from a device.
    """

    face: int
    t_capture_ns: int
    t_publish_ns: int
    wall_time: str
    media_ns: int | None = None
    status: Literal["tracked", "no_face", "low_quality"]
    score: float | None
    base: float | None
    smoothed: float | None
    uncertainty: Annotated[float | None, msgspec.Meta(description=UNCERTAINTY)]
    contributions: tuple[Contribution, ...]
    expression: dict[str, float] | None
    audio: dict[str, float] | None
    stages_ms: Stages
    dropped: Drops
    model: str
    backend: str
    calibration: str | None


class Health(Wire, frozen=True, kw_only=True):
    """Once a second from every worker; source is the worker's name. Ages are of what it handled in that second."""

    t_ns: int
    state: WorkerState
    fps: float
    drops: dict[str, int]
    age_p50_ms: float | None = None
    age_p95_ms: float | None = None
    age_p99_ms: float | None = None
    rss_mb: float | None = None


class Event(Wire, frozen=True, kw_only=True):
    """Something that a person or a recording should know of: lost, found, restarted, marker, end."""

    t_ns: int
    kind: EventKind
    text: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A row of TOPICS.

    channels: the sockets of a session that carry it; the end of a stream travels behind what it ends.
    keep_latest: a slow reader gets the newest and counts what it passed over; otherwise nothing is lost.
    """

    name: str
    type: type[Wire]
    channels: tuple[Channel, ...]
    codec: Literal["msgpack", "json"]
    payload: bool
    keep_latest: bool


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic("frame", FramePacket, ("video",), "msgpack", payload=True, keep_latest=True),
        Topic("audio", AudioChunk, ("audio",), "msgpack", payload=True, keep_latest=False),
        Topic("stream_end", StreamEnd, ("video", "audio"), "msgpack", payload=False, keep_latest=False),
        Topic("engagement", EngagementFrame, ("results",), "json", payload=False, keep_latest=False),
        Topic("health", Health, ("results",), "json", payload=False, keep_latest=False),
        Topic("event", Event, ("results",), "json", payload=False, keep_latest=False),
    )
}
_BY_TYPE = {topic.type: topic for topic in TOPICS.values()}
_COUNTED_BY_END = {"video": TOPICS["frame"], "audio": TOPICS["audio"]}
_ENCODE = {"msgpack": msgspec.msgpack.encode, "json": msgspec.json.encode}
_DECODE = {
    name: (msgspec.msgpack.Decoder if topic.codec == "msgpack" else msgspec.json.Decoder)(topic.type)
    for name, topic in TOPICS.items()
}


class _Version(msgspec.Struct):
    v: int


def topic_of(kind: type[Wire]) -> Topic:
    """The row of TOPICS that carries this type."""
    return _BY_TYPE[kind]


def counted_by(end: StreamEnd) -> Topic:
    """The topic whose messages `end.seq` counts."""
    return _COUNTED_BY_END[end.stream]


def encode(message: Wire, payload: bytes | memoryview | None = None) -> list[bytes | memoryview]:
    """The parts to send. Raises MessageError if the payload is not the one that the message announces."""
    topic = topic_of(type(message))
    _check_payload(topic, message, payload)
    head: list[bytes | memoryview] = [topic.name.encode(), _ENCODE[topic.codec](message)]
    return head if payload is None else [*head, payload]


def decode(parts: Sequence[bytes | memoryview]) -> tuple[Wire, memoryview | None]:
    """The message and its payload. Raises MessageError on anything but a whole message of this version."""
    if len(parts) < 2:
        raise MessageError(f"a message has a topic and a header, got {len(parts)} part(s)")
    name = bytes(parts[0]).decode(errors="replace")
    topic = TOPICS.get(name)
    if topic is None:
        raise MessageError(f"unknown topic {name!r} (known: {', '.join(TOPICS)})")
    if len(parts) != 2 + topic.payload:
        raise MessageError(f"topic {name!r} has {2 + topic.payload} parts, got {len(parts)}")
    try:
        message = _DECODE[name].decode(parts[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(_explain(topic, parts[1], error)) from error
    if message.v != VERSION:
        raise MessageError(_other_version(topic, message.v))
    payload = memoryview(parts[2]) if topic.payload else None
    _check_payload(topic, message, payload)
    return message, payload


def _check_payload(topic: Topic, message: Wire, payload: bytes | memoryview | None) -> None:
    wanted = message.payload_bytes()
    found = None if payload is None else memoryview(payload).nbytes
    if found != wanted:
        raise MessageError(f"topic {topic.name!r} takes {_size(wanted)} as its payload, got {_size(found)}")


def _size(count: int | None) -> str:
    return "nothing" if count is None else f"{count} bytes"


def _other_version(topic: Topic, found: int) -> str:
    return f"topic {topic.name!r} has version {found}; this program reads version {VERSION}"


def _explain(topic: Topic, header: bytes | memoryview, error: Exception) -> str:
    """A version difference explains a header that does not fit better than the first field that differs."""
    reader = msgspec.msgpack if topic.codec == "msgpack" else msgspec.json
    try:
        found = reader.decode(header, type=_Version).v
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = VERSION
    return f"topic {topic.name!r}: {error}" if found == VERSION else _other_version(topic, found)
