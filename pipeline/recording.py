"""A recorded session on disk: its files, the Arrow schema of its results, and how to read it back without loss.

results.arrows   Arrow IPC stream, one row per EngagementFrame, in small batches
events.jsonl     one Event a line, as it was on the wire
health.jsonl     one Health a line, as it was on the wire
session.json     SessionInfo
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from pipeline.config import ConfigError, LiveConfig
from pipeline.messages import EngagementFrame

RESULTS, EVENTS, HEALTH, SESSION = "results.arrows", "events.jsonl", "health.jsonl", "session.json"
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""What an Arrow stream that was closed ends with; a killed recording lacks it."""


class RecordingError(ValueError):
    """A folder that holds no readable recording; one line that says what is wrong."""


class Counts(msgspec.Struct, frozen=True):
    """A number for each of the three files that grow."""

    results: int
    events: int
    health: int


How = Literal["source_ended", "stopped"]
"""The file or stream was over, or the session was asked to stop."""


class SessionEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a recording ended: what is in the files, and what came but found no room on the disk."""

    how: How
    wall_time: str
    t_ns: int
    written: Counts
    lost: Counts


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """session.json. started_wall_time and started_ns are one moment on both clocks.

    model and backend are known from the first result on. ended stays null when the recorder was killed.
    resumed: how often the recorder was started anew within the session.
    """

    v: int
    session: str
    purpose: str
    consent: str
    started_wall_time: str
    started_ns: int
    versions: dict[str, str]
    config: LiveConfig
    model: str | None = None
    backend: str | None = None
    resumed: int = 0
    ended: SessionEnd | None = None


def _struct(*names: str) -> pa.DataType:
    return pa.struct([pa.field(name, pa.float64(), nullable=False) for name in names])


_POINT = pa.list_(pa.field("xy", pa.float64(), nullable=False), 2)
_CONTRIBUTION = pa.struct(
    [
        pa.field("concept", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("activation", pa.float64(), nullable=False),
        pa.field("contribution", pa.float64(), nullable=False),
        pa.field("at", _POINT),
        pa.field("source", pa.string(), nullable=False),
    ]
)
_SCORES = pa.map_(pa.string(), pa.float64())
_COUNTS = pa.struct([pa.field(name, pa.int64(), nullable=False) for name in ("stale", "decode")])
SCHEMA = pa.schema(
    [
        pa.field("v", pa.int64(), nullable=False),
        pa.field("session", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("face", pa.int64(), nullable=False),
        pa.field("t_capture_ns", pa.int64(), nullable=False),
        pa.field("t_publish_ns", pa.int64(), nullable=False),
        pa.field("wall_time", pa.string(), nullable=False),
        pa.field("media_ns", pa.int64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("base", pa.float64()),
        pa.field("smoothed", pa.float64()),
        pa.field("uncertainty", pa.float64()),
        pa.field("contributions", pa.list_(pa.field("contribution", _CONTRIBUTION, nullable=False)), nullable=False),
        pa.field("expression", _SCORES),
        pa.field("audio", _SCORES),
        pa.field("stages_ms", _struct("capture", "transport", "detect", "align", "infer", "readout"), nullable=False),
        pa.field("dropped", _COUNTS, nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("calibration", pa.string()),
    ]
)
"""A column per field of EngagementFrame, of the same name and nullability (a test compares the two)."""


_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def encode_stream(batches: Sequence[pa.RecordBatch]) -> bytes:
    """A whole Arrow stream: HEADER, a message per batch, END_OF_STREAM."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA, options=_OPTIONS) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


HEADER = encode_stream([]).removesuffix(END_OF_STREAM)


def encode_results(frames: Sequence[EngagementFrame]) -> bytes:
    """What `frames` add to a stream."""
    return encode_stream([to_batch(frames)]).removeprefix(HEADER).removesuffix(END_OF_STREAM)


def to_batch(frames: Sequence[EngagementFrame]) -> pa.RecordBatch:
    """The rows of SCHEMA; raises pa.ArrowInvalid or OverflowError if an integer does not fit 64 bits."""
    rows = [msgspec.to_builtins(frame) for frame in frames]
    for row in rows:
        for name in ("expression", "audio"):
            row[name] = None if row[name] is None else list(row[name].items())
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def from_batch(batch: pa.RecordBatch) -> list[EngagementFrame]:
    """The frames that `to_batch` was given. Raises RecordingError if the columns are another version's."""
    rows = batch.to_pylist()
    try:
        for row in rows:
            for name in ("expression", "audio"):
                row[name] = None if row[name] is None else dict(row[name])
        return [msgspec.convert(row, EngagementFrame) for row in rows]
    except (msgspec.ValidationError, KeyError) as error:
        raise RecordingError(f"{RESULTS} has another layout than this version of the program: {error}") from error


class Results:
    """Reads results.arrows from the start, batch by batch, up to its last whole batch.

    So far, and in all after the iteration: `count` rows were read, `batch_bytes` was the size of the last batch and
    `whole_bytes` is where it ends; then `complete` says whether the recorder closed the stream. Raises RecordingError
    if there is no such file or it is no stream.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        if not folder.is_dir():
            raise RecordingError(f"{folder}: no such folder")
        if not self.path.is_file():
            raise RecordingError(f"{folder} holds no recording: it has no {RESULTS}")
        self.total_bytes = self.path.stat().st_size
        self.count = 0
        self.batch_bytes = 0
        self.whole_bytes = 0
        self.complete = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Whole batches in the order in which they were written."""
        self.count = 0
        with self.path.open("rb") as file:
            try:
                reader = pa.ipc.open_stream(file)
            except (pa.ArrowInvalid, OSError) as error:
                if HEADER.startswith(self.path.read_bytes()[: len(HEADER)]):  # killed at its very start
                    return
                raise RecordingError(f"{self.path} is no Arrow stream: {error}") from error
            self.whole_bytes = file.tell()
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    break
                except (pa.ArrowInvalid, OSError):  # cut in the middle of a message
                    return
                self.batch_bytes = file.tell() - self.whole_bytes
                self.whole_bytes = file.tell()
                self.count += batch.num_rows
                yield batch
            file.seek(self.whole_bytes)
            self.complete = file.read() == END_OF_STREAM

    def frames(self) -> Iterator[EngagementFrame]:
        """Every result."""
        for batch in self.batches():
            yield from from_batch(batch)


def write_session(folder: Path, info: SessionInfo) -> None:
    """session.json, whole or as it was before. Raises OSError."""
    draft = folder / f"{SESSION}.part"
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(info)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / SESSION)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def read_session(folder: Path) -> SessionInfo:
    """session.json. Raises RecordingError if it is missing or does not fit."""
    try:
        return msgspec.json.decode((folder / SESSION).read_bytes(), type=SessionInfo)
    except OSError as error:
        raise RecordingError(f"{folder} holds no recording: {SESSION}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise RecordingError(f"{folder / SESSION}: {error}") from error


def check_folder(folder: Path) -> None:
    """Makes the folder if need be and tries to write there. Raises ConfigError if it cannot be recorded into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = next(folder.iterdir(), None)
        if occupied is None:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"?")
                probe.flush()
    except FileExistsError:
        raise ConfigError(f"--record {folder}: that is a file; give a new or an empty folder") from None
    except OSError as error:
        raise ConfigError(f"--record {folder}: cannot write there: {error.strerror}") from error
    if occupied is not None:
        raise ConfigError(f"--record {folder}: the folder is not empty; give a new or an empty one")
