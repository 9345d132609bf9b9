"""The real command on real files of the recorder's format."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import LiveConfig
from pipeline.export import FORMATS, ExportError, export
from pipeline.messages import Contribution, Drops, EngagementFrame, Stages, encode
from pipeline.recording import (
    END_OF_STREAM,
    HEADER,
    RESULTS,
    Counts,
    RecordingError,
    SessionEnd,
    SessionInfo,
    encode_results,
    write_session,
)
from pipeline.tables import survey

ROOT = Path(__file__).parents[2]
T0 = 5_000_000_000
reals = st.floats(allow_nan=False, allow_infinity=False)


def frame(seq: int, *contributions: Contribution, score: float | None = None) -> EngagementFrame:
    tracked = bool(contributions)
    return EngagementFrame(
        session="s",
        source="camera-0",
        seq=seq,
        face=int(tracked),
        t_capture_ns=T0 + 40_000_000 * seq,
        t_publish_ns=T0 + 40_000_000 * seq + 6_500_000,
        wall_time="2026-11-23T19:28:45.123456Z",
        status="tracked" if tracked else "no_face",
        score=score,
        base=None if score is None else 0.5,
        smoothed=score,
        uncertainty=None,
        contributions=contributions,
        expression={"neutral": 0.25, "happiness": 0.75} if tracked else None,
        audio={"level_dbfs": -31.5} if seq == 2 else None,
        stages_ms=Stages(0.4, 0.8, 1.9, 0.3, 2.9, 0.2),
        dropped=Drops(stale=seq),
        model="agcm-live@0123456789ab",
        backend="onnxruntime/fp32",
        calibration=None,
    )


def au(number: int, activation: float, contribution: float = 0.01) -> Contribution:
    return Contribution(f"AU{number}", "au", activation, contribution, (0.5, 0.25))


HEAD = Contribution("head_left", "pose", 0.3, -0.02, None)
FRAMES = [
    frame(0, HEAD, au(12, 0.8, 0.125), au(2, 0.5), au(28, 0.49), score=0.6),
    frame(1),
    frame(2, au(45, 1.0), au(12, 0.1), au(2, 0.0), au(28, 0.5), au(99, 0.5), HEAD, score=0.4),
]


def write(folder: Path, *batches: list[EngagementFrame], end: bytes = END_OF_STREAM) -> Path:
    (folder / RESULTS).write_bytes(HEADER + b"".join(encode_results(batch) for batch in batches) + end)
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write(tmp_path, FRAMES[:2], FRAMES[2:])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pipeline.export", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_jsonl_is_the_wire_messages(recording: Path) -> None:
    path, results = export(recording, "jsonl")
    assert path == recording / "results.jsonl"
    assert path.read_bytes().splitlines() == [bytes(encode(item)[1]) for item in FRAMES]
    assert (results.count, results.complete) == (3, True)


def test_csv_has_every_field_and_null_is_empty(recording: Path) -> None:
    path, _ = export(recording, "csv")
    rows = read_csv(path)
    assert [row["seq"] for row in rows] == ["0", "1", "2"]
    assert [row["status"] for row in rows] == ["tracked", "no_face", "tracked"]
    assert [row["score"] for row in rows] == ["0.6", "", "0.4"]
    assert [row["AU12_contribution"] for row in rows] == ["0.125", "", "0.01"]
    assert [row["AU45_activation"] for row in rows] == ["", "", "1.0"]
    assert (rows[0]["AU12_x"], rows[0]["AU12_y"], rows[0]["head_left_x"]) == ("0.5", "0.25", "")
    assert [row["expression_happiness"] for row in rows] == ["0.75", "", "0.75"]
    assert [row["audio_level_dbfs"] for row in rows] == ["", "", "-31.5"]
    assert [row["age_ms"] for row in rows] == ["6.5"] * 3
    assert [row["dropped_stale"] for row in rows] == ["0", "1", "2"]
    header = list(rows[0])
    assert header[:4] == ["session", "source", "seq", "face"]
    shares = [name for name in header if name.endswith("_contribution")]
    assert shares == [f"{name}_contribution" for name in ("AU2", "AU12", "AU28", "AU45", "AU99", "head_left")]
    assert len(set(header)) == len(header)


def test_every_field_of_the_message_is_in_the_flat_table(recording: Path) -> None:
    path, _ = export(recording, "csv")
    header = read_csv(path)[0].keys()
    nested = {"contributions", "expression", "audio", "stages_ms", "dropped", "v"}
    assert set(EngagementFrame.__struct_fields__) - nested <= header
    assert {f"{name}_ms" for name in Stages.__struct_fields__} <= header
    assert {f"dropped_{name}" for name in Drops.__struct_fields__} <= header


def test_parquet_is_the_same_table_with_types(recording: Path) -> None:
    parquet, _ = export(recording, "parquet")
    table = pyarrow.parquet.read_table(parquet)
    rows = read_csv(export(recording, "csv")[0])
    assert table.column_names == list(rows[0])
    assert table.schema.field("t_capture_ns").type == pa.int64()
    assert table.schema.field("score").type == pa.float64()
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    assert as_text == rows


@given(score=reals, activation=reals, t_ns=st.integers(0, 2**62))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_numbers_come_through_exactly(tmp_path: Path, score: float, activation: float, t_ns: int) -> None:
    item = msgspec.structs.replace(frame(0, au(1, activation), score=score), t_capture_ns=t_ns)
    write(tmp_path, [item])
    row = read_csv(export(tmp_path, "csv", force=True)[0])[0]
    assert (float(row["score"]), float(row["AU1_activation"]), int(row["t_capture_ns"])) == (score, activation, t_ns)
    table = pyarrow.parquet.read_table(export(tmp_path, "parquet", force=True)[0]).to_pylist()[0]
    assert (table["score"], table["AU1_activation"], table["t_capture_ns"]) == (score, activation, t_ns)


def test_openface_has_openfaces_names_order_and_ranges(recording: Path) -> None:
    path, _ = export(recording, "openface")
    assert path == recording / "results.openface.csv"
    rows = read_csv(path)
    identity = ["frame", "face_id", "timestamp", "confidence", "success"]
    strengths, presences = ["AU02_r", "AU12_r", "AU45_r"], ["AU02_c", "AU12_c", "AU28_c", "AU45_c"]
    assert list(rows[0]) == identity + strengths + presences  # AU28 has no _r there; AU99 is no AU of OpenFace
    assert [row["frame"] for row in rows] == ["1", "2", "3"]
    assert [float(row["timestamp"]) for row in rows] == [0.0, 0.04, 0.08]
    assert [row["success"] for row in rows] == ["1", "0", "1"]
    assert [float(row["confidence"]) for row in rows] == [1.0, 0.0, 1.0]
    assert [row["AU12_r"] for row in rows] == ["4.0", "", "0.5"]
    assert [row["AU02_c"] for row in rows] == ["1.0", "", "0.0"]
    assert [row["AU28_c"] for row in rows] == ["0.0", "", "1.0"]


def test_concepts_are_in_natural_order() -> None:
    assert survey(FRAMES).concepts == ("AU2", "AU12", "AU28", "AU45", "AU99", "head_left")


def test_the_command_says_what_it_wrote(recording: Path) -> None:
    out = recording / "table.csv"
    done = command(recording, "--to", "csv", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"3 results in {out}\n", "")
    assert len(read_csv(out)) == 3


@pytest.mark.parametrize("cut", [0, 100])
def test_a_recording_that_was_cut_off_is_exported_up_to_its_last_whole_batch(tmp_path: Path, cut: int) -> None:
    write(tmp_path, FRAMES[:2], FRAMES[2:], end=b"")
    whole = (tmp_path / RESULTS).read_bytes()
    (tmp_path / RESULTS).write_bytes(whole[: len(whole) - cut])
    done = command(tmp_path, "--to", "jsonl")
    expected = 2 if cut else 3
    assert done.returncode == 0
    assert done.stdout == f"{expected} results in {tmp_path / 'results.jsonl'}\n"
    assert "cut off" in done.stderr
    assert len((tmp_path / "results.jsonl").read_bytes().splitlines()) == expected


def test_results_that_found_no_room_on_the_disk_are_not_forgotten(recording: Path) -> None:
    lost = SessionEnd(how="stopped", wall_time="", t_ns=0, written=Counts(3, 0, 0), lost=Counts(42, 1, 0))
    info = SessionInfo(
        v=1,
        session="s",
        purpose="",
        consent="",
        started_wall_time="",
        started_ns=0,
        versions={},
        config=LiveConfig(),
        ended=lost,
    )
    write_session(recording, info)
    done = command(recording, "--to", "csv")
    assert (done.returncode, done.stdout) == (0, f"3 results in {recording / 'results.csv'}\n")
    assert done.stderr == "the disk was full: 42 results of the session are missing\n"


def test_an_unknown_format_is_one_line_that_names_the_known_ones(recording: Path) -> None:
    done = command(recording, "--to", "xdf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"unknown format 'xdf'; there are {', '.join(FORMATS)}\n"


def test_a_file_is_replaced_by_force_only(recording: Path) -> None:
    mine = recording / "results.csv"
    mine.write_text("mine")
    with pytest.raises(ExportError, match="exists; --force replaces it"):
        export(recording, "csv")
    assert mine.read_text() == "mine"
    export(recording, "csv", force=True)
    assert len(read_csv(mine)) == 3


def test_the_recording_itself_is_never_replaced(recording: Path) -> None:
    before = (recording / RESULTS).read_bytes()
    with pytest.raises(ExportError, match="the recording itself"):
        export(recording, "csv", recording / RESULTS, force=True)
    assert (recording / RESULTS).read_bytes() == before


@pytest.mark.parametrize("to", FORMATS)
def test_a_recording_without_results_gives_a_table_without_rows(tmp_path: Path, to: str) -> None:
    path, results = export(write(tmp_path), to)
    assert results.count == 0
    assert path.is_file()


def test_what_is_no_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such folder"):
        export(tmp_path / "nowhere", "csv")
    with pytest.raises(RecordingError, match=f"it has no {RESULTS}"):
        export(tmp_path, "csv")
    (tmp_path / RESULTS).write_text("no stream " * 300)
    with pytest.raises(RecordingError, match="no Arrow stream"):
        export(tmp_path, "csv")
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS]  # nothing half-written


def test_an_output_that_cannot_be_written_is_one_line(recording: Path) -> None:
    for out in (recording / "nowhere" / "x.csv", recording / RESULTS / "x.csv"):
        for to in FORMATS:
            with pytest.raises(ExportError, match="cannot write"):
                export(recording, to, out)
