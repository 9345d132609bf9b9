"""A clip made longer holds the same packets at times that go on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import pytest

from benchmarks.media import count_pictures, file_of, lengthen, look_at
from pipeline.bus import WorkerError
from pipeline.sources import DEMO

FRAMES, PERIOD_S = 720, 1 / 30


def _times_s(path: Path, kind: Literal["video", "audio"]) -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.best(kind)
        assert stream is not None
        return sorted(float(each.pts * each.time_base) for each in container.demux(stream) if each.pts is not None)


def test_the_demo_clip_is_what_the_targets_speak_of() -> None:
    clip = look_at("demo")
    assert (clip.name, clip.width_px, clip.height_px, clip.fps_hz) == ("demo", 640, 360, 30.0)
    assert clip.duration_s == pytest.approx(FRAMES * PERIOD_S, abs=0.1)


def test_a_longer_clip_repeats_every_packet_and_time_goes_on(tmp_path: Path) -> None:
    longer = lengthen(DEMO, tmp_path, 30.0)
    pictures, sound = _times_s(longer, "video"), _times_s(longer, "audio")
    assert len(pictures) == 2 * FRAMES
    assert len(sound) == 2 * len(_times_s(DEMO, "audio"))
    steps = [b - a for a, b in pairwise(pictures)]
    seam = steps.pop(FRAMES - 1)
    assert steps == pytest.approx([PERIOD_S] * len(steps), abs=1e-3)
    assert PERIOD_S <= seam < 5 * PERIOD_S
    assert look_at(str(longer)).duration_s >= 30.0
    # Sound stays where its pictures are.
    assert sound[len(sound) // 2] - sound[0] == pytest.approx(pictures[FRAMES] - pictures[0], abs=1e-3)


def test_pictures_are_counted_by_decoding(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "short.mp4"), "w") as container:
        stream = container.add_stream("h264", rate=30)
        stream.width, stream.height = 64, 48
        for _ in range(7):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    assert count_pictures(str(tmp_path / "short.mp4")) == 7


def test_only_files_can_be_counted_and_repeated(tmp_path: Path) -> None:
    assert file_of("demo") == DEMO
    assert file_of("0") is None
    assert file_of("rtsp://host/stream") is None
    (tmp_path / "words.txt").write_text("no video")
    with pytest.raises(WorkerError, match="is no video"):
        look_at(str(tmp_path / "words.txt"))
