"""The real worker in its own process, behind a forwarder as a session has it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.bus import Publisher, Subscriber, WorkerError
from pipeline.clock import NS_PER_S, Rate, now_ns
from pipeline.config import Link, LiveConfig, OutputConfig, SessionConfig
from pipeline.forwarder import Forwarder
from pipeline.messages import Contribution, Drops, EngagementFrame, Event, Health, Stages, Wire
from pipeline.record import run
from pipeline.recording import EVENTS, HEALTH, RESULTS, SESSION, Results, read_session
from pipeline.recording_writer import WAITING_LIMIT

WAIT_S = 30.0
WAIT_MS = 1000
spawn = multiprocessing.get_context("spawn")


def frame(seq: int) -> EngagementFrame:
    t_ns = now_ns()
    return EngagementFrame(
        session="session",
        source="camera-0",
        seq=seq,
        face=1,
        t_capture_ns=t_ns,
        t_publish_ns=t_ns,
        wall_time="2026-11-23T19:28:45.123456Z",
        status="tracked",
        score=0.6,
        base=0.5,
        smoothed=0.6,
        uncertainty=None,
        contributions=(Contribution("AU12", "au", 0.8, 0.1, (0.5, 0.7)),),
        expression={"happiness": 0.75, "neutral": 0.25},
        audio=None,
        stages_ms=Stages(0.0, 0.5, 1.0, 0.0, 1.5, 0.1),
        dropped=Drops(),
        model="agcm-live@0123456789ab",
        backend="onnxruntime/fp32",
        calibration=None,
    )


class Session:
    """A forwarder, what analyze would be, a listener, and recorders on demand."""

    def __init__(self, folder: Path) -> None:
        self.link = Link(session="session", video="", audio="", results_in=f"ipc://{folder}/results_in")
        self.cfg = LiveConfig(
            session=SessionConfig(purpose="a test", consent="nobody is filmed"),
            output=OutputConfig(bind=f"ipc://{folder}/results", record=str(folder / "recording")),
        )
        self.folder = folder / "recording"
        self.stop = spawn.Event()
        self.sent: list[EngagementFrame] = []
        self._forwarder = Forwarder(self.link.results_in, self.cfg.output.bind)
        self.analyze = Publisher(self.link.results_in, bind=False, lossless=True)
        self.listener = Subscriber(self.cfg.output.bind, ["event", "health"])
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def start(self) -> multiprocessing.process.BaseProcess:
        """A recorder that is ready; it has a new `stop`, for a killed one may hold the old one's lock."""
        self.stop = spawn.Event()
        process = spawn.Process(target=run, args=(self.cfg, self.link, self.stop), daemon=True)
        self._processes.append(process)
        process.start()
        self.hear(lambda message: isinstance(message, Health) and message.state == "ready")
        assert self.analyze.wait_for_subscriber("engagement", None, WAIT_S)
        return process

    def hear(self, wanted: Callable[[Wire], bool]) -> Wire:
        """The next message of the recorder that is `wanted`."""
        deadline_ns = now_ns() + round(WAIT_S * NS_PER_S)
        while now_ns() < deadline_ns:
            received = self.listener.receive(WAIT_MS)
            if received is not None and received.message.source == "record" and wanted(received.message):
                return received.message
        raise AssertionError("the recorder did not say it")

    def hear_event(self, kind: str) -> Event:
        message = self.hear(lambda message: isinstance(message, Event) and message.kind == kind)
        assert isinstance(message, Event)
        return message

    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent.append(frame(len(self.sent)))
            self.analyze.send(self.sent[-1])

    def end(self, source: str = "analyze") -> None:
        """What analyze says last, or the supervisor on a request to stop."""
        self.analyze.send(Event(session="session", source=source, seq=0, t_ns=now_ns(), kind="ended", text="end"))

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
            process.close()
        self.analyze.close()
        self.listener.close()
        self._forwarder.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()


def recorded(folder: Path) -> list[EngagementFrame]:
    return list(Results(folder).frames())


def test_everything_sent_is_recorded_until_the_source_ends(session: Session) -> None:
    process = session.start()
    session.send(100)
    marker = Event(session="session", source="user", seq=0, t_ns=now_ns(), kind="marker", text="look")
    session.analyze.send(marker)
    session.end()
    process.join(WAIT_S)

    assert process.exitcode == 0
    assert recorded(session.folder) == session.sent
    results = Results(session.folder)
    assert sum(batch.num_rows for batch in results.batches()) == 100
    assert results.complete
    events = [msgspec.json.decode(line, type=Event) for line in (session.folder / EVENTS).read_bytes().splitlines()]
    assert events[0] == marker
    assert events[-1].kind == "ended"
    lines = (session.folder / HEALTH).read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Health).source for line in lines] == ["record"] * len(lines)
    info = read_session(session.folder)
    assert (info.session, info.purpose, info.consent) == ("session", "a test", "nobody is filmed")
    assert (info.model, info.backend, info.config) == ("agcm-live@0123456789ab", "onnxruntime/fp32", session.cfg)
    assert info.ended is not None
    assert (info.ended.how, info.ended.written.results, info.ended.lost.results) == ("source_ended", 100, 0)
    assert info.ended.written.events == len(events) and info.ended.written.health == len(lines)
    # Nothing else is written: no picture, no sound, no draft.
    assert {path.name for path in session.folder.iterdir()} == {RESULTS, EVENTS, HEALTH, SESSION}


@pytest.mark.parametrize("by_flag", [True, False])
def test_stop_completes_the_recording(session: Session, by_flag: bool) -> None:
    process = session.start()
    session.send(10)
    if by_flag:  # analyze is gone, nobody says the last word
        session.stop.set()
    else:  # analyze is asked first
        session.end("supervise")
        session.end("analyze")
    process.join(WAIT_S)

    assert process.exitcode == 0
    assert recorded(session.folder) == session.sent
    info = read_session(session.folder)
    assert info.ended is not None
    assert info.ended.how == "stopped"


def test_a_kill_at_any_moment_costs_at_most_the_last_second(session: Session) -> None:
    process = session.start()
    rate, end_ns = Rate(100.0), now_ns() + 3 * NS_PER_S
    while now_ns() < end_ns:
        session.send(1)
        rate.sleep()
    killed_ns = now_ns()
    process.kill()
    process.join()

    read = recorded(session.folder)
    assert read == session.sent[: len(read)]
    due = [item for item in session.sent if item.t_publish_ns < killed_ns - NS_PER_S]
    assert len(due) > 100
    assert len(read) >= len(due)
    info = read_session(session.folder)
    assert info.ended is None
    assert info.model == "agcm-live@0123456789ab"


def test_a_recorder_that_was_killed_goes_on_in_the_same_recording(session: Session) -> None:
    process = session.start()
    session.send(50)
    session.hear(lambda message: isinstance(message, Health) and message.fps > 0)
    process.kill()
    process.join()
    before = recorded(session.folder)
    with (session.folder / RESULTS).open("ab") as torn:
        torn.write((session.folder / RESULTS).read_bytes()[-100:])
    with (session.folder / EVENTS).open("ab") as torn:
        torn.write(b'{"v":1,"sess')

    sent_before = len(session.sent)
    process = session.start()
    session.send(50)
    session.end()
    process.join(WAIT_S)

    assert process.exitcode == 0
    assert recorded(session.folder) == before + session.sent[sent_before:]
    info = read_session(session.folder)
    assert info.resumed == 1
    assert info.ended is not None
    assert info.ended.written.results == len(before) + 50
    for line in (session.folder / EVENTS).read_bytes().splitlines():
        msgspec.json.decode(line, type=Event)


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit, which stands for a full disk, is Linux's")
def test_a_full_disk_is_announced_and_counted_and_the_session_goes_on(session: Session) -> None:
    import resource

    process = session.start()
    assert process.pid is not None
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    session.send(20)
    written = (session.folder / RESULTS).stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (written + 10_000, hard))  # now no file may grow beyond this
    session.send(2 * WAITING_LIMIT)
    lost = session.hear_event("recording_lost")
    assert str(session.folder) in lost.text
    assert "results" in lost.text
    session.hear(lambda message: isinstance(message, Health) and message.drops["results"] > 0)
    assert process.is_alive()
    for item, expected in zip(recorded(session.folder), session.sent, strict=False):
        assert item == expected

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert "are missing" in session.hear_event("notice").text
    session.end()
    process.join(WAIT_S)

    assert process.exitcode == 0
    info = read_session(session.folder)
    assert info.ended is not None
    assert info.ended.lost.results > 0
    assert info.ended.written.results + info.ended.lost.results == len(session.sent)
    read = recorded(session.folder)
    assert len(read) == info.ended.written.results
    by_seq = {item.seq: item for item in session.sent}
    assert all(item == by_seq[item.seq] for item in read)
    assert read[-1] == session.sent[-1]
    assert [item.seq for item in read] == sorted({item.seq for item in read})


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit, which stands for a full disk, is Linux's")
def test_a_recording_whose_last_results_found_no_room_says_that_it_was_cut_off(session: Session) -> None:
    import resource

    process = session.start()
    assert process.pid is not None
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    session.send(20)
    session.hear(lambda message: isinstance(message, Health) and message.fps > 0)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10_000, hard))  # more than the end of a stream takes
    session.send(500)
    session.hear_event("recording_lost")
    session.end()
    process.join(WAIT_S)

    assert process.exitcode == 0
    info = read_session(session.folder)
    assert info.ended is not None
    assert info.ended.lost.results > 0
    results = Results(session.folder)
    assert sum(batch.num_rows for batch in results.batches()) == info.ended.written.results
    assert not results.complete


def test_a_folder_that_is_not_empty_is_the_users_mistake(session: Session) -> None:
    session.folder.mkdir()
    (session.folder / "thesis.txt").write_text("mine")
    with pytest.raises(WorkerError, match="not empty") as caught:
        run(session.cfg, session.link, session.stop)
    assert caught.value.exit_code == 2
    assert [path.name for path in session.folder.iterdir()] == ["thesis.txt"]
