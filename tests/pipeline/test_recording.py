from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import ConfigError, LiveConfig
from pipeline.messages import Contribution, Drops, EngagementFrame, Stages
from pipeline.recording import (
    END_OF_STREAM,
    HEADER,
    RESULTS,
    SCHEMA,
    Counts,
    RecordingError,
    Results,
    SessionEnd,
    SessionInfo,
    check_folder,
    encode_results,
    from_batch,
    read_session,
    to_batch,
    write_session,
)

texts = st.text(max_size=12)
reals = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(0, 2**63 - 1)
scores = st.none() | st.dictionaries(texts, reals, max_size=3)
contributions = st.builds(
    Contribution,
    concept=texts,
    kind=st.sampled_from(["au", "pose", "gaze", "voice"]),
    activation=reals,
    contribution=reals,
    at=st.none() | st.tuples(reals, reals),
    source=st.sampled_from(["learned", "prior"]),
)
frames = st.builds(
    EngagementFrame,
    session=texts,
    source=texts,
    seq=whole,
    face=st.integers(-1, 9),
    t_capture_ns=whole,
    t_publish_ns=whole,
    wall_time=texts,
    media_ns=st.none() | whole,
    status=st.sampled_from(["tracked", "no_face", "low_quality"]),
    score=st.none() | reals,
    base=st.none() | reals,
    smoothed=st.none() | reals,
    uncertainty=st.none() | reals,
    contributions=st.lists(contributions, max_size=3).map(tuple),
    expression=scores,
    audio=scores,
    stages_ms=st.builds(Stages, *[reals] * 6),
    dropped=st.builds(Drops, whole, whole),
    model=texts,
    backend=texts,
    calibration=st.none() | texts,
)


def frame(seq: int) -> EngagementFrame:
    return EngagementFrame(
        session="s",
        source="camera-0",
        seq=seq,
        face=1,
        t_capture_ns=seq,
        t_publish_ns=seq + 1,
        wall_time="2026-11-23T19:28:45.123456Z",
        status="tracked",
        score=0.6,
        base=0.5,
        smoothed=0.6,
        uncertainty=None,
        contributions=(Contribution("AU12", "au", 0.8, 0.1, (0.5, 0.7)),),
        expression=None,
        audio=None,
        stages_ms=Stages(0.0, 0.5, 1.0, 0.0, 1.5, 0.1),
        dropped=Drops(),
        model="agcm-live@0123456789ab",
        backend="onnxruntime/fp32",
        calibration=None,
    )


@given(st.lists(frames, min_size=1, max_size=3))
def test_what_was_sent_is_read_back_bit_by_bit(sent: list[EngagementFrame]) -> None:
    read = from_batch(to_batch(sent))
    assert [msgspec.json.encode(item) for item in read] == [msgspec.json.encode(item) for item in sent]


def test_a_column_for_every_field_with_its_nullability() -> None:
    hints = get_type_hints(EngagementFrame)
    optional = {
        name for name, hint in hints.items() if get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)
    }
    assert tuple(SCHEMA.names) == EngagementFrame.__struct_fields__
    assert {field.name for field in SCHEMA if field.nullable} == optional
    assert [field.name for field in SCHEMA.field("stages_ms").type] == list(Stages.__struct_fields__)
    assert [field.name for field in SCHEMA.field("dropped").type] == list(Drops.__struct_fields__)
    assert [field.name for field in SCHEMA.field("contributions").type.value_type] == list(
        Contribution.__struct_fields__
    )


def test_a_stream_cut_at_any_byte_gives_its_whole_batches(tmp_path: Path) -> None:
    pieces = [HEADER, encode_results([frame(0), frame(1)]), encode_results([frame(2)]), END_OF_STREAM]
    stream = b"".join(pieces)
    first, second = len(HEADER) + len(pieces[1]), len(stream) - len(END_OF_STREAM)
    cuts = {*range(0, len(stream), 97), *range(first - 3, first + 4), *range(second - 3, len(stream) + 1)}
    for cut in sorted(cuts):
        (tmp_path / RESULTS).write_bytes(stream[:cut])
        results = Results(tmp_path)
        read = list(results.frames())
        expected = 0 if cut < first else 2 if cut < second else 3
        assert read == [frame(seq) for seq in range(expected)], cut
        assert results.count == expected
        assert results.complete == (cut == len(stream))


def test_a_file_that_is_no_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b"seq,face,score\n" * 100)
    with pytest.raises(RecordingError, match="no Arrow stream"):
        list(Results(tmp_path).batches())


def test_session_metadata_is_read_back(tmp_path: Path) -> None:
    counts = Counts(results=3, events=2, health=1)
    info = SessionInfo(
        v=1,
        session="s",
        purpose="a test",
        consent="given in words",
        started_wall_time="2026-11-23T19:28:45.123456Z",
        started_ns=7,
        versions={"python": "3.11"},
        config=LiveConfig(),
        ended=SessionEnd(how="stopped", wall_time="2026-11-23T19:28:46.123456Z", t_ns=8, written=counts, lost=counts),
    )
    write_session(tmp_path, info)
    assert read_session(tmp_path) == info
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


def test_a_new_or_empty_folder_is_taken(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    check_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("full", "not empty"), ("full/file", "is a file"), ("full/file/below", "cannot write there")],
)
def test_a_folder_that_cannot_be_recorded_into_is_one_clear_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match=text) as caught:
        check_folder(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
