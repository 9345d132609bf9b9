"""The analyze worker on real sockets: a real face goes in as frames, results come out."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.base import Array, Device, Engine, Tensors
from engines.spec import Manifest, load_model_file
from pipeline.analyze import Analyzer, run
from pipeline.bus import Received, WorkerError
from pipeline.clock import now_ns
from pipeline.config import FaceConfig, Link
from pipeline.messages import Drops, EngagementFrame, Event
from pipeline.networks import load
from tests.pipeline.bench import (
    BLACK,
    LIMIT_MS,
    MODEL,
    PERIOD_NS,
    astronaut,
    config,
    needs_model,
    packet,
    send,
    worker,
)


def _check(result: EngagementFrame) -> None:
    """What holds for every result."""
    age_ms = (result.t_publish_ns - result.t_capture_ns) / 1e6
    assert sum(msgspec.structs.astuple(result.stages_ms)) == pytest.approx(age_ms, abs=0.1)
    assert min(msgspec.structs.astuple(result.stages_ms)) >= 0.0
    if result.status == "tracked":
        assert result.score is not None and result.base is not None
        total = result.base + sum(share.contribution for share in result.contributions)
        assert total == pytest.approx(result.score, abs=1e-4)
        assert all(0.0 <= share.activation <= 1.0 for share in result.contributions)
    else:
        assert (result.score, result.base, result.smoothed, result.contributions) == (None, None, None, ())


@needs_model
def test_every_frame_is_answered_by_its_number_and_truthfully() -> None:
    face = astronaut()
    with worker(config()) as bench:
        send(bench, [*[face] * 4, *[BLACK] * 4, *[face] * 4], decode_errors=3)
        seen = bench.end(sent=12)
    assert [result.seq for result in seen] == list(range(12))
    assert [result.status for result in seen] == ["tracked"] * 4 + ["no_face"] * 4 + ["tracked"] * 4
    assert [result.face for result in seen] == [1] * 4 + [0] * 4 + [2] * 4
    for result in seen:
        _check(result)
        assert (result.source, result.session) == ("demo", "s")
        assert result.model.startswith("agcm-live@")
        assert result.backend == "onnxruntime/fp32"
        assert (result.dropped.stale, result.dropped.decode) == (0, 3)
        assert result.audio is None
        heads = load_model_file(MODEL).manifest.heads
        known = heads is not None and heads.interval is not None and result.score is not None
        assert (result.uncertainty is not None) == known
    assert bench.events[-1].text == "captured 12 = published 12 + stale 0, decode errors 3"
    assert any("onnxruntime/fp32" in event.text for event in bench.events if event.kind == "notice")
    assert [health.state for health in bench.health][-1] == "ended"


@needs_model
def test_a_concept_is_seen_on_the_face() -> None:
    with worker(config()) as bench:
        send(bench, [astronaut()])
        (result,) = bench.end(sent=1)
    # The astronaut's face fills about x 170..275 and y 60..190 of 512; the crop reaches a little further.
    for share in result.contributions:
        assert share.at is not None
        assert 0.25 < share.at[0] < 0.62, share
        assert 0.02 < share.at[1] < 0.48, share


@needs_model
def test_two_faces_are_two_results_of_one_frame() -> None:
    face = astronaut()
    with worker(config()) as bench:
        send(bench, [np.hstack([face, face])] * 3)
        seen = bench.end(sent=3)
    assert [result.seq for result in seen] == [0, 0, 1, 1, 2, 2]
    assert {result.face for result in seen} == {1, 2}
    for result in seen:
        _check(result)
    first, second = seen[0], seen[1]
    assert first.score == pytest.approx(second.score, abs=0.15), "the same face twice"
    left, right = sorted(result.contributions[0].at[0] for result in (first, second))
    assert left < 0.5 < right


@needs_model
def test_a_flood_is_answered_by_the_newest_and_every_loss_is_counted() -> None:
    face, count = astronaut(), 300
    with worker(config(pace="realtime")) as bench:
        send(bench, [face] * count)
        seen = bench.end(sent=count)
    numbers = [result.seq for result in seen]
    assert numbers == sorted(set(numbers))
    stale = count - len(seen)
    assert stale > 0, "the flood was no flood"
    for published, result in enumerate(seen):
        assert result.dropped.stale == result.seq - published
        _check(result)
    assert bench.events[-1].text == f"captured {count} = published {len(seen)} + stale {stale}, decode errors 0"


@needs_model
def test_the_same_frames_at_full_speed_give_the_same_results() -> None:
    face = astronaut()
    pictures = [np.roll(face, 3 * step, axis=1) for step in range(15)]
    runs = []
    for _ in range(2):
        with worker(config()) as bench:
            send(bench, pictures)
            runs.append(bench.end(sent=len(pictures)))
    first, second = (
        [(r.seq, r.face, r.status, r.score, r.smoothed, r.contributions, r.expression) for r in each] for each in runs
    )
    assert first == second


@needs_model
def test_stop_is_obeyed_and_the_account_is_given() -> None:
    with worker(config()) as bench:
        send(bench, [BLACK] * 2)
        while len(bench.seen) < 2:
            received = bench.results.receive(LIMIT_MS)
            assert received is not None
            if isinstance(received.message, EngagementFrame):
                bench.seen.append(received.message)
        bench.stop.set()
        bench.read_until(Event, "ended")
        bench.done.result(timeout=2)
    assert bench.events[-1].text == "stopped: captured 2 = published 2 + stale 0, decode errors 0"


@needs_model
def test_an_engine_that_fails_is_an_error_and_never_a_result() -> None:
    cfg, face = config(), astronaut()
    networks = load(cfg)
    analyzer = Analyzer(cfg, networks)
    frame = Received(packet(0, face), memoryview(face).cast("B"))
    assert analyzer.results(frame, 0, None, Drops(), now_ns())[0].status == "tracked"
    networks.model.close()
    with pytest.raises(WorkerError, match="closed") as caught:
        analyzer.results(frame, 1, None, Drops(), now_ns())
    assert caught.value.exit_code == 1
    networks.close()


@dataclass
class Counting:
    """An engine that keeps how many rows each of its calls had."""

    engine: Engine
    rows: list[int] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        return self.engine.manifest

    @property
    def backend(self) -> str:
        return self.engine.backend

    @property
    def device(self) -> Device:
        return self.engine.device

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        (rows,) = map(len, inputs.values())
        self.rows.append(rows)
        return self.engine.infer(inputs)

    def close(self) -> None:
        self.engine.close()


@needs_model
def test_all_faces_of_a_frame_are_one_call_of_the_network() -> None:
    cfg, face = config(), astronaut()
    networks = load(cfg)
    counting = Counting(networks.model)
    analyzer = Analyzer(cfg, replace(networks, model=counting))
    for seq, count in enumerate((3, 1, 2)):
        picture = np.hstack([face] * count + [BLACK] * (3 - count))
        frame = Received(packet(seq, picture), memoryview(picture).cast("B"))
        results = analyzer.results(frame, seq * 10**10, None, Drops(), now_ns())
        assert [result.status for result in results] == ["tracked"] * count
    assert counting.rows == [3, 1, 2]
    networks.close()


@needs_model
def test_a_followed_face_costs_one_call_of_the_concept_network_and_none_of_the_detector() -> None:
    """The detector is called on the first frame and on one each `redetect_s`, and by nothing else."""
    cfg, face, frames = config(), astronaut(), 25
    networks = load(cfg)
    concepts, detector = Counting(networks.model), Counting(networks.detector)
    analyzer = Analyzer(cfg, replace(networks, model=concepts, detector=detector))
    for seq in range(frames):
        frame = Received(packet(seq, face), memoryview(face).cast("B"))
        (result,) = analyzer.results(frame, seq * PERIOD_NS, None, Drops(), now_ns())
        assert (result.status, result.face) == ("tracked", 1)
        assert concepts.rows == [1] * (seq + 1)
    analyzer.close()  # waits for a detection that is under way
    apart = math.ceil(cfg.face.redetect_s * 1e9 / PERIOD_NS)
    assert detector.rows == [1] * len(range(0, frames, apart)) == [1] * 3
    networks.close()


@needs_model
def test_memory_that_is_used_again_is_in_no_result() -> None:
    """Frames of different faces and sizes: what was said of one stays, and is what would be said of it alone."""
    cfg, face = config(), astronaut()
    pictures = [face, np.ascontiguousarray(face[:, ::-1]), np.roll(face, 40, axis=1), face[:300], np.hstack([face] * 2)]
    networks = load(cfg)
    analyzer = Analyzer(cfg, networks)

    def ask(who: Analyzer, seq: int) -> list[EngagementFrame]:
        luma = np.array(pictures[seq], order="C")
        frame = Received(packet(seq, luma), memoryview(luma).cast("B"))
        results = who.results(frame, seq * 10**10, None, Drops(), now_ns())
        luma[:] = 0  # the socket takes its memory back
        return results

    answers = [ask(analyzer, seq) for seq in range(len(pictures))]
    kept = [[msgspec.json.encode(result) for result in each] for each in answers]
    ask(analyzer, 0)
    assert [[msgspec.json.encode(result) for result in each] for each in answers] == kept
    for seq in (0, 3, 4):  # the first picture, or a new size: nobody was followed here
        alone = ask(Analyzer(cfg, networks), seq)
        said = [[(r.status, r.expression, r.contributions) for r in some] for some in (answers[seq], alone)]
        assert said[0] == said[1]
    networks.close()


def test_more_cores_than_there_are_is_the_users_to_mend() -> None:
    cfg = config()
    too_many = msgspec.structs.replace(cfg, engine=msgspec.structs.replace(cfg.engine, pin=4096))
    with tempfile.TemporaryDirectory() as folder:
        ends = {name: f"ipc://{Path(folder) / name}" for name in ("video", "audio", "results_in")}
        with pytest.raises(WorkerError, match=r"engine\.pin = 4096") as caught:
            run(too_many, Link(session="s", **ends), threading.Event())
    assert caught.value.exit_code == 2


@needs_model
def test_a_picture_too_small_for_a_face_is_refused() -> None:
    networks = load(config())
    tiny = np.zeros((8, 8), np.uint8)
    with pytest.raises(WorkerError, match="8x8") as caught:
        Analyzer(config(), networks).results(Received(packet(0, tiny), memoryview(tiny).cast("B")), 0, None, Drops(), 0)
    assert caught.value.exit_code == 2
    networks.close()


@needs_model
def test_settings_that_cannot_be_are_named() -> None:
    cfg = msgspec.structs.replace(config(), face=FaceConfig(max_faces=0))
    networks = load(cfg)
    with pytest.raises(WorkerError, match=r"\[face\].*max_faces") as caught:
        Analyzer(cfg, networks)
    assert caught.value.exit_code == 2
    networks.close()
