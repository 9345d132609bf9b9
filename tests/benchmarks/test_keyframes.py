"""The key frames of a session are found again from its frames and times alone."""

from __future__ import annotations

import av
import pytest

from benchmarks.figures import STAGES, Sample
from benchmarks.keyframes import Look, detector_of, open_detector, replay, summary
from engines.face import FaceFinder
from pipeline.analyze import face_settings
from pipeline.config import FaceConfig
from pipeline.luma import LumaReader
from pipeline.messages import Event
from pipeline.sources import DEMO

PERIOD_NS = 33_333_333


def sample(seq: int, age_ms: float = 5.0) -> Sample:
    t_ns = seq * PERIOD_NS
    return Sample(seq, t_ns, t_ns + round(age_ms * 1e6), 0, 0, True, (0.0,) * len(STAGES), 0.0)


def notice(text: str) -> Event:
    return Event(session="s", source="analyze", seq=0, t_ns=0, kind="notice", text=text)


def test_the_detector_is_the_one_that_the_session_announced() -> None:
    events = [notice("engine: openvino/bf16 (0.9 ms)"), notice("detector: openvino/fp32")]
    assert detector_of(events) == ("openvino", "fp32")
    assert detector_of(()) == ("onnxruntime", "fp32")


def test_frames_that_were_passed_over_are_not_seen_by_the_replay() -> None:
    published = [sample(seq) for seq in (0, 1, 2, 5, 6, 14, 15, 16, 17)]
    detector = open_detector("onnxruntime", "fp32")
    seen: list[int] = []
    looks = replay(DEMO, FaceConfig(), detector, published, lambda each: seen.append(each.seq))
    assert seen == list(looks) == [0, 1, 2, 5, 6, 14, 15, 16, 17]

    finder, reader = FaceFinder(detector, face_settings(FaceConfig()), ahead=True), LumaReader()
    with av.open(str(DEMO)) as container:
        for seq, frame in enumerate(container.decode(video=0)):
            if seq > 17:
                break
            if seq in looks:
                found = finder.locate(reader.read(frame), seq * PERIOD_NS)
                assert looks[seq] == Look(found.detected, sum(face.status == "tracked" for face in found.faces))
    assert looks[0] == Look(is_key=True, tracked=1)
    assert looks[1] == Look(is_key=False, tracked=1)
    assert any(look.is_key for seq, look in looks.items() if seq > 9), "a third of a second later it looks again"


def test_ages_are_told_apart_by_key_frame() -> None:
    frames = [sample(0, 20.0), sample(1, 4.0), sample(2, 6.0), sample(3, 5.0)]
    looks = {0: Look(True, 1), 1: Look(False, 1), 2: Look(False, 2), 3: Look(False, 0)}
    found = summary(frames, {0: 1, 1: 1, 2: 1}, looks)
    assert found is not None
    assert found.age_on_key_frames_ms is not None and found.age_between_ms is not None
    assert (found.share, found.agreement) == (0.25, 0.75)
    assert (found.age_on_key_frames_ms.p50, found.age_between_ms.p50) == pytest.approx((20.0, 5.0))
    assert summary(frames, {}, {}) is None
