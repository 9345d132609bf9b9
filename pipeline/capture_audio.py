"""Worker: a microphone -> audio, stream_end: 16 kHz mono in chunks of 20 ms.

out: audio, stream_end (audio); health, event. owns: the microphone. The sound of a media file leaves beside its
pictures (pipeline.playback); with that there is nothing to do here.
"""

from __future__ import annotations

from contextlib import ExitStack

from pipeline.bus import Publisher
from pipeline.clock import StopFlag
from pipeline.config import Link, LiveConfig
from pipeline.microphone import Microphone, MicrophoneError, look_again
from pipeline.outlet import AudioOutlet
from pipeline.report import Reporter
from pipeline.sources import microphone_of
from pipeline.track import RATE_HZ

POLL_S = 0.005
LOOK_AGAIN_S = 1.0
LISTEN_S = 1.0
GOES_ON = "the session goes on without sound"


def run(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
    """Capture until `stop` is set; without a microphone say so and end."""
    with ExitStack() as stack:
        results = stack.enter_context(Publisher(link.results_in, bind=False, lossless=True))
        reporter = Reporter(link.session, "capture_audio", results)
        results.wait_for_subscriber("health", stop, timeout_s=1.0)
        reporter.enter("starting")
        if microphone_of(cfg.capture) == "device":
            publisher = stack.enter_context(Publisher(link.audio, bind=True, lossless=True))
            outlet = AudioOutlet(publisher, link.session, "microphone", stop)
            _capture(cfg.capture.mic, outlet, reporter, stop)
        reporter.enter("ended")


def _capture(name: str, outlet: AudioOutlet, reporter: Reporter, stop: StopFlag) -> None:
    try:
        microphone: Microphone | None = Microphone(name)
    except MicrophoneError as error:
        reporter.event("microphone_missing", f"microphone: {error}; {GOES_ON}")
        outlet.has_listener(LISTEN_S)
        outlet.end("failed")
        return
    reporter.enter("ready")
    overflows = 0
    while microphone is not None:
        with microphone:
            _deliver(microphone, outlet, overflows, reporter, stop)
        overflows += microphone.overflows
        if stop.is_set():
            break
        reporter.event("microphone_missing", f"microphone: it is lost; {GOES_ON} and looks for it")
        microphone = _find(name, overflows, reporter, stop)
    outlet.end("stopped")


def _deliver(microphone: Microphone, outlet: AudioOutlet, overflows: int, reporter: Reporter, stop: StopFlag) -> None:
    """Send chunks until the device is lost or `stop` is set."""
    while not stop.wait(POLL_S) and microphone.is_alive():
        lost = overflows + microphone.overflows
        for heard in microphone.take():
            if outlet.has_listener():
                outlet.send(heard.samples, RATE_HZ, heard.t_ns, None, lost)
            reporter.handled()
        reporter.tick({"overflows": lost})


def _find(name: str, overflows: int, reporter: Reporter, stop: StopFlag) -> Microphone | None:
    """The device again, however long it takes; None if `stop` is set."""
    while not stop.wait(LOOK_AGAIN_S):
        reporter.tick({"overflows": overflows})
        try:
            look_again()
            microphone = Microphone(name)
        except MicrophoneError:
            continue
        reporter.event("notice", "microphone: it is back")
        return microphone
    return None
