"""A stored lag is read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.signals import SyncError
from calibration.stored import SyncResult, read_sync, write_sync

RESULT = SyncResult(
    lag_ms=42.5,
    uncertainty_ms=3.0,
    method="clap",
    events=5,
    measured_at=datetime(2026, 11, 26, 4, 2, tzinfo=UTC),
    camera="0",
    microphone="USB",
    source="claps.mp4",
)


def refusal(path: Path) -> str:
    with pytest.raises(SyncError) as caught:
        read_sync(path)
    text = str(caught.value)
    assert text.isprintable()
    return text


@given(
    lag_ms=st.floats(-1000, 1000),
    uncertainty_ms=st.floats(0, allow_infinity=False),
    events=st.integers(1, 2**53),
    names=st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]))] * 3),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    lag_ms: float,
    uncertainty_ms: float,
    events: int,
    names: tuple[str, str, str],
) -> None:
    path = tmp_path_factory.getbasetemp() / "sync.json"
    result = msgspec.structs.replace(
        RESULT,
        lag_ms=lag_ms,
        uncertainty_ms=uncertainty_ms,
        events=events,
        camera=names[0],
        microphone=names[1],
        source=names[2],
    )
    write_sync(path, result)
    assert read_sync(path).result == result


@given(st.binary(max_size=200))
def test_any_other_bytes_are_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "other.json"
    path.write_bytes(data)
    assert "is no result of calibration.sync" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("lag_ms", 1001, "lag_ms"),
        ("lag_ms", "42", "lag_ms"),
        ("lag_ms", None, "lag_ms"),
        ("uncertainty_ms", -1, "uncertainty_ms"),
        ("method", "guess", "method"),
        ("events", 0, "events"),
        ("measured_at", "2026-11-26T04:02:00", "measured_at"),
        ("measured_at", "yesterday", "measured_at"),
        ("v", 2, "$.v"),
        ("more", 1, "more"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path: Path, field: str, value: object, says: str) -> None:
    path = tmp_path / "sync.json"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(RESULT) | {field: value}))
    assert says in refusal(path)


def test_the_name_follows_the_contents(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    write_sync(path, RESULT)
    first = read_sync(path).identity
    assert first.startswith("sync@") and len(first) == 17
    write_sync(path, msgspec.structs.replace(RESULT, lag_ms=43.0))
    assert read_sync(path).identity != first
    assert [each.name for each in tmp_path.iterdir()] == ["sync.json"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "none.json")
    assert "cannot read" in refusal(tmp_path)
    with pytest.raises(SyncError, match="cannot write"):
        write_sync(tmp_path / "none" / "sync.json", RESULT)
