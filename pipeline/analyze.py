"""Worker: frames and sound in, engagement out.

in: frame, stream_end (video); audio, stream_end (audio). out: engagement, health, event. owns: the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from engines.base import DeviceError, EngineError
from engines.concept import ConceptReadout, read
from engines.cores import come_promptly, keep_to
from engines.eyes import Eyes, OnHost
from engines.face import Face, FaceFinder, FaceSettings
from engines.follow import ByFlow, ByLandmarks
from engines.hear import Heard
from engines.preprocess import Affine, Luma, Points
from engines.spec import Manifest
from engines.timed import FORGET_S, Past, TimedHead, seen_of
from engines.voice import VoiceReading
from pipeline.account import Account
from pipeline.bus import GPU_FAILED, Publisher, Received, Subscriber, WorkerError, wait_for_any
from pipeline.clock import NS_PER_S, StopFlag, WallClock, now_ns
from pipeline.config import FaceConfig, Link, LiveConfig
from pipeline.held import Held
from pipeline.messages import Drops, EngagementFrame, FramePacket, StreamEnd
from pipeline.networks import Networks, load
from pipeline.readout import (
    NOBODY,
    Context,
    Marks,
    Place,
    Smoother,
    Verdict,
    message,
    remembered,
    scored,
    spoken,
    stages,
    unsure,
)
from pipeline.report import Reporter
from pipeline.sound import Sound
from pipeline.sources import may_hear, microphone_of
from pipeline.sync import sync_of

WAIT_MS = 50
SMALLEST_PX = 16


class Analyzer:
    """One stream of frames -> results. The state is the faces that are followed, their averages,
    and what a score that owes to the past remembers of them.

    calibration: what the session is adapted by, as its results name it.
    """

    def __init__(self, cfg: LiveConfig, networks: Networks, calibration: str | None = None) -> None:
        self._networks = networks
        self._calibration = calibration
        follower = ByLandmarks() if follows_landmarks(cfg.face, networks.model.manifest) else ByFlow()
        frames = networks.frames
        self._eyes: Eyes = frames or OnHost(networks.model, networks.crop, cfg.face.max_faces)
        # A GPU's context belongs to the thread that made it.
        ahead = networks.detector.device == "cpu"
        look = None if frames is None else frames.detect
        self._finder = FaceFinder(networks.detector, face_settings(cfg.face), follower, ahead=ahead, look=look)
        self._smoother = Smoother(cfg.readout.smoothing_s)
        self._prior = networks.hearing.prior if networks.hearing is not None and cfg.readout.voice_prior else None
        self._timed = None if networks.timed is None else TimedHead(networks.timed)
        self._pasts: dict[int, Past] = {}
        self._wall = WallClock()

    def close(self) -> None:
        """Before the networks are closed."""
        self._finder.close()

    def results(
        self, received: Received, t_ns: int, heard: Heard | None, dropped: Drops, received_ns: int
    ) -> list[EngagementFrame]:
        """One result per face of a frame, at least one. t_ns: its time for whatever happens over time. heard:
        the sound that belongs to it.

        Raises WorkerError if an engine fails or the picture cannot be used.
        """
        packet, luma = picture(received)
        try:
            self._eyes.show(luma)
            found = self._finder.locate(luma, t_ns).faces
            located_ns = now_ns()
            good = [face for face in found if face.status == "tracked"]
            affines = self._eyes.aim([face.points for face in good])
            aligned_ns = now_ns()
            # All faces in one call.
            readouts = read(self._eyes.read(), self._networks.heads) if good else ()
            self._finder.settle(luma, seen_by(good, affines, readouts, self._networks.crop.size_px))
        except EngineError as error:
            raise WorkerError(f"analyze: {error}", GPU_FAILED if isinstance(error, DeviceError) else 1) from error
        marks = Marks(received_ns, located_ns, aligned_ns, now_ns())
        # Of several people nobody knows whose voice it is.
        voice = heard.voice if heard is not None and len(found) == 1 else None
        tracked = self._in_time(self._verdicts(good, affines, readouts, packet), readouts, voice, t_ns)
        verdicts = [tracked.get(face.id) or unsure(face.id) for face in found] or [NOBODY]
        engine = self._networks.model
        context = Context(packet, engine.manifest.identity, engine.backend, heard, dropped, self._calibration)
        smoothed = [
            None if each.score is None else self._smoother.add(each.face, t_ns, each.score) for each in verdicts
        ]
        wall_time = self._wall.iso(packet.t_capture_ns)
        t_publish_ns = now_ns()
        stages_ms = stages(packet, marks, t_publish_ns)
        return [
            message(each, context, value, stages_ms, t_publish_ns, wall_time)
            for each, value in zip(verdicts, smoothed, strict=True)
        ]

    def _in_time(
        self, verdicts: Mapping[int, Verdict], readouts: Sequence[ConceptReadout], voice: VoiceReading | None, t_ns: int
    ) -> Mapping[int, Verdict]:
        """The verdicts, by face, with the voice and the past in them, where the model knows either."""
        networks, prior = self._networks, self._prior
        if self._timed is None:
            if voice is None:
                return verdicts
            return {face: spoken(each, voice, networks.voice_concepts, prior) for face, each in verdicts.items()}
        activations = None if voice is None or voice.sound != "heard" else np.array(voice.activations)
        concepts, found = (networks.concepts, networks.voice_concepts), {}
        self._pasts = {face: past for face, past in self._pasts.items() if t_ns - past.t_ns <= FORGET_S * NS_PER_S}
        for (face, verdict), readout in zip(verdicts.items(), readouts, strict=True):
            shares, past = self._timed.score(seen_of(readout), activations, t_ns, self._pasts.get(face))
            self._pasts[face] = past
            found[face] = remembered(verdict, shares, voice, concepts)
        return found

    def _verdicts(
        self, faces: Sequence[Face], affines: Sequence[Affine], readouts: Sequence[ConceptReadout], packet: FramePacket
    ) -> dict[int, Verdict]:
        networks = self._networks
        places = [Place(affine, networks.crop.size_px, packet.width_px, packet.height_px) for affine in affines]
        return {
            face.id: scored(face.id, readout, networks.concepts, networks.heads, place)
            for face, readout, place in zip(faces, readouts, places, strict=True)
        }


def seen_by(
    faces: Sequence[Face], affines: Sequence[Affine], readouts: Sequence[ConceptReadout], size_px: int
) -> dict[int, tuple[Affine, Points]]:
    """By face, the similarity to shares of its crop, and the landmarks there. size_px: of the crop."""
    shares = np.float32(1 / size_px)
    return {
        face.id: (affine * shares, readout.landmarks.astype(np.float32))
        for face, affine, readout in zip(faces, affines, readouts, strict=True)
        if readout.landmarks is not None
    }


def run(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    """Analyse until the video ends or `stop` is set. Raises WorkerError."""
    with ExitStack() as stack:
        results = stack.enter_context(Publisher(link.results_in, bind=False, lossless=True))
        reporter = Reporter(link.session, "analyze", results)
        results.wait_for_subscriber("health", stop, timeout_s=1.0)
        reporter.enter("starting")
        come_promptly()  # before the networks and the sockets have threads
        if cfg.engine.pin:
            _pin(cfg.engine.pin)
        networks = load(cfg)
        stack.callback(networks.close)
        at_full_speed = cfg.capture.pace == "max"
        video = stack.enter_context(Subscriber(link.video, ("frame", "stream_end")))
        audio = stack.enter_context(Subscriber(link.audio, ("audio", "stream_end"))) if may_hear(cfg.capture) else None
        sync = sync_of(cfg.calibration)
        one_file = microphone_of(cfg.capture) == "file"
        sound = Sound(audio, networks.voice, in_file_time=one_file, waits=at_full_speed, lag_ns=sync.lag_ns)
        held = Held(sync.lag_ns if cfg.calibration.wait and audio is not None and not one_file else 0)
        analyzer = Analyzer(cfg, networks, sync.identity)
        stack.callback(analyzer.close)
        for notice in filter(None, (*networks.notices, sync.text)):
            reporter.event("notice", notice)
        reporter.enter("ready")
        account, ended = Account(), False
        while not ended and not stop.is_set():
            if at_full_speed:
                received = video.receive(WAIT_MS)
            else:
                wait_for_any((video, audio), 0 if held.more else WAIT_MS)
                if newest := video.receive_latest("frame", 0):
                    held.add(newest)
                if held.waits:
                    sound.drain()
                received = held.next(sound.holds, now_ns())
            if received is not None and isinstance(received.message, FramePacket):
                t_ns = frame_time_ns(received.message, at_full_speed)
                heard_ns = frame_time_ns(received.message, one_file)
                while not sound.has(heard_ns) and not stop.is_set():
                    reporter.tick(account.losses | sound.losses)
                dropped = account.take(received.message, video.lost["frame", received.message.source])
                heard = sound.at(heard_ns)
                for result in analyzer.results(received, t_ns, heard, dropped, received_ns=now_ns()):
                    results.send(result, stop=stop)
                if complaint := sound.complaint(t_ns, heard):
                    reporter.event("notice", f"microphone: {complaint}")
                reporter.handled((result.t_publish_ns - result.t_capture_ns) / 1e6)
            elif received is not None and isinstance(received.message, StreamEnd):
                account.end(received.message.seq)
                ended = True
            # Sound is heard after the frame that waited, so that hearing makes no result older.
            sound.drain()
            reporter.tick(account.losses | sound.losses)
        reporter.enter("ended", account.losses | sound.losses)
        reporter.event("ended", f"{'' if ended else 'stopped: '}{account}")


def _pin(cores: int) -> None:
    """Raises WorkerError, the user's to mend, where this process cannot be kept to so many cores."""
    try:
        keep_to(cores)
    except EngineError as error:
        raise WorkerError(str(error), 2) from error


def frame_time_ns(packet: FramePacket, in_file_time: bool) -> int:
    """The time of a frame: its place in the file when that is what must come out the same every time."""
    return packet.media_ns if in_file_time and packet.media_ns is not None else packet.t_capture_ns


def picture(received: Received) -> tuple[FramePacket, Luma]:
    """The packet and its luma plane [H, W]. Raises WorkerError if it is too small for a face."""
    packet = received.message
    if not isinstance(packet, FramePacket) or received.payload is None:
        raise TypeError(f"expected a frame, got {type(packet).__name__}")
    if min(packet.width_px, packet.height_px) < SMALLEST_PX:
        size = f"{packet.width_px}x{packet.height_px}"
        raise WorkerError(f"the pictures of {packet.source} are {size}: a face needs {SMALLEST_PX} pixels or more", 2)
    return packet, np.frombuffer(received.payload, np.uint8).reshape(packet.height_px, packet.width_px)


def follows_landmarks(face: FaceConfig, model: Manifest) -> bool:
    """Whether known faces are found again by the network's own landmarks. Raises WorkerError if they are asked for and
    the network has none."""
    has_them = any(spec.name == "landmarks" for spec in model.outputs)
    if face.follow == "landmarks" and not has_them:
        raise WorkerError(f"configuration, [face]: {model.name} has no landmarks to follow a face by; use flow", 2)
    return has_them and face.follow != "flow"


def face_settings(face: FaceConfig) -> FaceSettings:
    """The settings of the face finder. Raises WorkerError if they are impossible."""
    try:
        return FaceSettings(
            detect_px=face.longest_px,
            redetect_s=face.redetect_s,
            new_confidence=face.threshold,
            keep_confidence=min(FaceSettings().keep_confidence, face.threshold),
            min_eyes_px=face.min_eye_distance_px,
            max_faces=face.max_faces,
        )
    except ValueError as error:
        raise WorkerError(f"configuration, [face]: {error}", 2) from error
