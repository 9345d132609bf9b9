"""Worker: a camera, a network stream or a media file -> frame, stream_end; of a file also its sound.

out: frame, stream_end (video); audio, stream_end (audio), when the sound is the file's own; health, event.
owns: the camera.
"""

from __future__ import annotations

from contextlib import ExitStack

from av.container import InputContainer
from av.error import FFmpegError

from pipeline.bus import Publisher, WorkerError
from pipeline.clock import NS_PER_S, StopFlag, now_ns
from pipeline.config import CaptureConfig, Link, LiveConfig
from pipeline.decode import Losses, pictures
from pipeline.outlet import AudioOutlet, VideoOutlet
from pipeline.playback import Player
from pipeline.report import Reporter
from pipeline.sources import SenderAbsent, Source, microphone_of, open_source, source_of, video_stream
from pipeline.sync import sync_of

LOOK_AGAIN_S = 0.5


def run(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    """Capture until the source ends or `stop` is set. Raises WorkerError."""
    capture = cfg.capture
    source = source_of(capture.camera)
    losses = Losses()
    with ExitStack() as stack:
        results = stack.enter_context(Publisher(link.results_in, bind=False, lossless=True))
        reporter = Reporter(link.session, "capture_video", results)
        results.wait_for_subscriber("health", stop, timeout_s=1.0)
        reporter.enter("starting")
        # Bound before the source is open: whoever listens is connected by the first picture.
        publisher = stack.enter_context(Publisher(link.video, bind=True, lossless=capture.pace == "max"))
        video = VideoOutlet(publisher, link.session, source.name, stop, _slots(capture, link))
        container = _open_patiently(source, capture, reporter, stop)
        if container is None:
            return
        stack.callback(container.close)
        if _is_file(source, container):
            sound = audio = None
            if microphone_of(capture) == "file":
                sound = stack.enter_context(open_source(source, capture))
                audio_publisher = stack.enter_context(Publisher(link.audio, bind=True, lossless=True))
                audio = AudioOutlet(audio_publisher, link.session, source.name, stop)
            # Sound that lags belongs to pictures that leave before it, and they wait for it.
            ahead_ns = max(0, sync_of(cfg.calibration).lag_ns)
            Player(source, capture.pace, video, audio, reporter, ahead_ns).play(container, sound, losses, stop)
        else:
            _check_live(source, capture)
            Camera(source, capture, video, reporter).deliver(container, losses, stop)
        reporter.enter("ended", {"decode": losses.decode})


class Camera:
    """A source with a pace of its own, looked for again when it is lost."""

    def __init__(self, source: Source, capture: CaptureConfig, outlet: VideoOutlet, reporter: Reporter) -> None:
        self._source, self._capture = source, capture
        self._outlet, self._reporter = outlet, reporter
        self._losses = Losses()

    def deliver(self, container: InputContainer | None, losses: Losses, stop: StopFlag) -> None:
        """Send every picture from the moment somebody listens. Raises WorkerError when the source is lost for good."""
        self._losses = losses
        self._reporter.enter("ready")
        while container is not None and not stop.is_set():
            with container:
                reason = self._deliver_from(container, stop)
            if stop.is_set():
                break
            self._reporter.event("camera_lost", f"{self._source.text!r} is lost ({reason}); looking for it")
            container = self._find(stop)
        if container is None and not stop.is_set():
            # No stream_end: a supervisor may start this worker anew, and then the stream goes on.
            looked_s = self._capture.reconnect_s
            raise WorkerError(f"camera {self._source.text!r} is lost and did not come back within {looked_s:g} s")
        self._outlet.end("stopped")

    def _deliver_from(self, container: InputContainer, stop: StopFlag) -> str:
        """Until the source fails or `stop` is set; why it failed. Pictures that nobody waits for are let go: they
        would be old by the time somebody does."""
        stream = video_stream(container, self._source)
        try:
            for picture in pictures(container, stream, self._losses):
                if stop.is_set():
                    return "stopped"
                if self._outlet.has_listener():
                    age_ms = self._outlet.send(picture.frame, picture.t_read_ns, None, self._losses.decode)
                    self._reporter.handled(age_ms)
                self._reporter.tick({"decode": self._losses.decode})
        except FFmpegError as error:
            return error.strerror or str(error)
        return "it ended"

    def _find(self, stop: StopFlag) -> InputContainer | None:
        """The source again; None if it does not come back in time or `stop` is set."""
        deadline_ns = now_ns() + round(self._capture.reconnect_s * NS_PER_S)
        while now_ns() < deadline_ns and not stop.wait(LOOK_AGAIN_S):
            self._reporter.tick({"decode": self._losses.decode})
            try:
                container = open_source(self._source, self._capture)
            except (WorkerError, SenderAbsent):
                continue
            self._reporter.event("camera_found", f"{self._source.text!r} is back")
            return container
        return None


def _slots(capture: CaptureConfig, link: Link) -> int:
    """How many pictures lie in shared memory. Where none may be lost they travel, and wait in the socket."""
    return capture.slots if capture.pace == "realtime" and link.video.startswith("ipc://") else 0


def _open_patiently(
    source: Source, capture: CaptureConfig, reporter: Reporter, stop: StopFlag
) -> InputContainer | None:
    """The opened source; None if `stop` was set while its sender had not come. Raises WorkerError."""
    if source.awaited:
        reporter.event("notice", f"waiting for a sender at {source.text}")
    while not stop.is_set():
        try:
            return open_source(source, capture)
        except SenderAbsent:
            reporter.tick({})
    return None


def _is_file(source: Source, container: InputContainer) -> bool:
    """A stream of known length is a file that lies elsewhere."""
    return source.kind == "file" or (source.kind == "stream" and container.duration is not None)


def _check_live(source: Source, capture: CaptureConfig) -> None:
    if capture.pace == "max":
        raise WorkerError(f"--pace max is for media files; {source.text!r} delivers at its own pace", 2)
    if microphone_of(capture) == "file":
        raise WorkerError(f"--mic file is the sound of a media file; {source.text!r} is none; name a device or none", 2)
