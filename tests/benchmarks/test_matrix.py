"""Sources of any size and rate, and the figures of made-up sessions on them."""

from __future__ import annotations

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from benchmarks.figures import STAGES, Sample
from benchmarks.matrix import Cells, Row, row_of
from benchmarks.matrix_tables import tables, targets
from benchmarks.media import count_pictures, look_at
from benchmarks.raw_clip import FASTEST_HZ, RawClip, scaled, write
from benchmarks.session import Observed
from benchmarks.workers import Usage
from pipeline.bus import WorkerError
from pipeline.messages import Event
from pipeline.sources import DEMO


def test_a_source_plays_a_scene_forth_and_back_at_its_size_and_rate(tmp_path: Path) -> None:
    frames = scaled(DEMO, 120, 6, 2)
    assert [(frame.width, frame.height) for frame in frames] == [(214, 120)] * 3
    clip = write(tmp_path, frames, 90.0, 13)
    assert (clip.count, clip.rate_hz) == (18, 90), "whole rounds of 6"
    assert count_pictures(str(clip.playlist)) == 18
    seen = look_at(str(clip.playlist))
    assert (seen.width_px, seen.height_px, seen.fps_hz) == (214, 120, 90.0)
    with av.open(str(clip.playlist)) as container:
        stream = container.streams.video[0]
        played = [(float(frame.pts * stream.time_base), frame.to_ndarray()) for frame in container.decode(stream)]  # type: ignore[operator]
    assert np.diff([at_s for at_s, _ in played]) == pytest.approx(1 / 90, abs=1.1e-3)
    assert np.mean(np.diff([at_s for at_s, _ in played])) == pytest.approx(1 / 90, rel=0.05)
    for place, (_, picture) in enumerate(played):
        np.testing.assert_array_equal(picture, frames[(0, 1, 2, 2, 1, 0)[place % 6]].to_ndarray())
    assert write(tmp_path, frames, 5000.0, 1).rate_hz == FASTEST_HZ


def test_a_clip_that_is_too_short_for_a_source_is_one_line() -> None:
    with pytest.raises(WorkerError, match="fewer than 721 pictures") as caught:
        scaled(DEMO, 96, 721, 720)
    assert caught.value.exit_code == 2


def observed(numbers: list[int], ages_ms: list[float], period_ms: float, captured: int) -> Observed:
    """A session whose frames with these numbers were published, of a source with that period."""
    samples, stale = [], 0
    for place, (seq, age_ms) in enumerate(zip(numbers, ages_ms, strict=True)):
        stale = seq - place
        t_ns = round(seq * period_ms * 1e6)
        parts = (0.1 * age_ms, 0.9 * age_ms, *(0.0,) * (len(STAGES) - 2))
        samples.append(Sample(seq, t_ns, t_ns + round(age_ms * 1e6), t_ns, stale, True, parts, 0.0))
    stale = captured - len(numbers)
    text = f"captured {captured} = published {len(numbers)} + stale {stale}, decode errors 0"
    event = Event(session="s", source="analyze", seq=0, t_ns=0, kind="ended", text=text)
    ends = samples[0].t_publish_ns, samples[-1].t_publish_ns
    usage = [
        Usage(t_ns, name, share * t_ns / 1e9, 50.0) for t_ns in ends for name, share in (("analyze", 0.5), ("x", 0.1))
    ]
    return Observed(tuple(samples), tuple(usage), (event,), "m@0", "openvino/fp32", 0, 1)


def row(load: int = 1, height_px: int = 720) -> Row:
    """At 1x 30 frames a second, each 6 ms old; at 3x every third of 300 a second, 12 ms old, two of them 25."""
    size_px, clip = (height_px * 16 // 9, height_px), RawClip(Path("x"), 91, 300)
    if load == 1:
        session = observed(list(range(91)), [6.0] * 91, 1e3 / 30, 91)
        return row_of(session, clip, size_px, 30, None)
    return row_of(observed(list(range(0, 91, 3)), [12.0] * 29 + [25.0] * 2, 1e3 / 300, 91), clip, size_px, 30, 100.0)


def test_a_row_of_a_camera_that_is_kept_up_with() -> None:
    found = row()
    assert (found.name, found.load, found.capacity_hz) == ("720p, 30/s, 1x", 1, None)
    assert found.offered_hz == pytest.approx(30.0)
    assert found.period_ms == pytest.approx(1e3 / 30)
    assert found.periods(6.0) == pytest.approx(0.18)
    assert found.cpu_percent == pytest.approx(60.0)
    assert found.rss_mb == 100.0
    assert all(check.holds for check in found.checks)


def test_stages_of_a_row_sum_to_its_age() -> None:
    found = row(3)
    assert found.mean_age_ms == pytest.approx((29 * 12 + 2 * 25) / 31)
    assert sum(found.stages_ms.values()) == pytest.approx(found.mean_age_ms)


def test_a_row_of_overload_says_what_came_what_was_done_and_what_was_passed_over() -> None:
    found = row(3)
    assert found.load == 3
    assert found.offered_hz == pytest.approx(300.0)
    assert found.account is not None
    assert (found.account.captured, found.account.published, found.account.stale) == (91, 31, 60)
    assert found.period_ms == pytest.approx((90 / 300 + 0.013) / 30 * 1e3)
    assert all(check.holds for check in found.checks)
    assert found.periods(None) is None


def test_a_frame_that_nobody_counted_does_not_hold() -> None:
    session = observed([0, 1, 2, 4], [6.0] * 4, 33.0, 5)
    assert all(check.holds for check in row_of(session, RawClip(Path("x"), 5, 30), (64, 48), 30, None).checks)
    found = row_of(session, RawClip(Path("x"), 6, 30), (64, 48), 30, None)
    assert [check.what for check in found.checks if not check.holds] == [
        "as many frames were captured as the file holds"
    ]
    assert tables([found])[1].rows[0][-1] == "DO NOT HOLD"


def test_targets_are_of_the_rows_that_they_name() -> None:
    rows = [row(1, 480), row(1), row(3), row(3, 1080)]
    names = [name for name, *_ in targets(rows)]
    assert [("720p, 30/s" in name) for name in names] == [True, True, True, False, False, False, False]
    period_ms, own = row(3).period_ms, row(3).own_periods
    assert period_ms is not None
    assert own is not None
    pressed = [age_ms / period_ms for age_ms in (12.0, 18.5, 25.0)]
    assert [figure for _, figure, *_ in targets(rows)] == pytest.approx([6.0, 6.0, 6.0, *pressed, own.p99])
    assert [figure for _, figure, *_ in targets([row(1, 480)])] == [None] * 7


def test_both_tables_have_a_line_for_every_row() -> None:
    ages, frames = tables([row(), row(3)])
    assert [line[0] for line in ages.rows] == ["720p, 30/s, 1x", "720p, 30/s, 3x"]
    assert [line[4:7] for line in ages.rows] == [("0.18", "0.18", "0.18"), ("1.15", "1.77", "2.40")]
    assert [line[7:9] for line in ages.rows] == [("0.18", "–"), ("1.52", "–")]
    assert tables([msgspec.structs.replace(row(3), alone_tail=1.7)])[0].rows[0][8] == "1.70"
    assert [line[4:7] for line in frames.rows] == [("91", "0", "0"), ("31", "60", "0")]
    assert all(len(line) == len(table.columns) for table in (ages, frames) for line in table.rows)
    assert tables(()) == []
    assert Cells().rows == 12
    assert Cells((720,), (30,), 2.0).rows == 2
