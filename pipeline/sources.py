"""What `--camera` and `--mic` name: a camera, a network stream or a media file; opening it, and saying why not.

Every refusal is a WorkerError of one line that says what to do.
"""

from __future__ import annotations

import errno
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.device
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig

DEMO = Path(__file__).parents[1] / "examples" / "demo" / "demo.mp4"
OPEN_S = 10.0
WAIT_FOR_SENDER_S = 1.0
READ_S = 5.0
_DEVICE_FORMATS = {"Linux": "v4l2", "Darwin": "avfoundation", "Windows": "dshow"}
# A stream that has a pace of its own need not be watched for its rate before it is shown.
_LOW_DELAY = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "50000",
    "analyzeduration": "0",
    "fpsprobesize": "0",
}
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_TEXT_ART = ("tty", "bin", "xbin", "adf", "idf")  # formats that take any text for a picture
_NO_CAMERA = (errno.ENOTTY, errno.EINVAL, errno.EISDIR)

Microphone = Literal["none", "file", "device"]


@dataclass(frozen=True, slots=True)
class Source:
    """kind: a device and a stream deliver at their own pace, a file at ours. address, format: for the opener.

    text: as the user wrote it. name: `source` of its messages. awaited: the sender comes to us, at its own time.
    """

    kind: Literal["device", "stream", "file"]
    address: str
    text: str
    name: str
    format: str | None = None
    awaited: bool = False


def source_of(camera: str) -> Source:
    """What `--camera` means; looks at nothing but the text and whether such a path is a device."""
    if camera == "demo":
        return Source("file", str(DEMO), camera, "demo")
    if camera.isdigit() or camera.startswith("video="):
        return Source("device", _device_address(camera), camera, f"camera-{camera.removeprefix('video=')}", _format())
    scheme, colon, rest = camera.partition("://")
    if colon and scheme != "file":
        awaited = scheme in ("udp", "rtp") or re.search(r"[?&](listen=1|mode=listener)", rest) is not None
        return Source("stream", camera, camera, "stream", "mpegts" if scheme in ("tcp", "udp") else None, awaited)
    path = Path(rest if colon else camera)
    if path.is_char_device() or path.is_relative_to("/dev"):
        return Source("device", str(path), camera, f"camera-{path.name.removeprefix('video')}", _format())
    return Source("file", str(path), camera, path.stem)


def may_hear(capture: CaptureConfig) -> bool:
    """Whether there may be sound to join with frames; beside a file at full speed only the file's own is."""
    return capture.mic != "none" and (capture.pace == "realtime" or capture.mic in ("", "file"))


def microphone_of(capture: CaptureConfig) -> Microphone:
    """Where the sound of a session comes from."""
    if capture.mic in ("none", "file"):
        return "none" if capture.mic == "none" else "file"
    return "file" if not capture.mic and source_of(capture.camera).kind == "file" else "device"


def open_source(source: Source, capture: CaptureConfig) -> InputContainer:
    """The opened source. A camera that refuses the wanted size or rate is opened as it offers itself.

    Raises WorkerError with exit code 2, OpenTimeout while an awaited sender has not come.
    """
    if source.kind == "file":
        _check_file(source)
    wanted = _options(source, capture)
    try:
        return _open(source, wanted)
    except FFmpegError as error:
        if source.awaited and isinstance(error, av.error.ExitError):
            raise SenderAbsent(f"{source.text}: no sender yet") from error
        if source.kind == "device" and wanted and error.errno in (errno.EINVAL, errno.EIO):
            return _open_as_offered(source)
        raise refusal(source, error) from error


class SenderAbsent(TimeoutError):
    """An awaited sender has not come within WAIT_FOR_SENDER_S; to be tried again."""


def video_stream(container: InputContainer, source: Source) -> VideoStream:
    """The first moving picture (cover art is none). Raises WorkerError with exit code 2 if there is none."""
    for stream in () if container.format.name in _TEXT_ART else container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            # Threads over whole frames would hold back as many frames.
            stream.thread_type = "SLICE"
            return stream
    held = "holds sound but no picture" if container.streams.audio else "holds no video"
    raise WorkerError(f"{_noun(source)} {source.text!r} {held}; name a video, a camera or demo with --camera", 2)


def refusal(source: Source, error: FFmpegError) -> WorkerError:
    """Why a source did not open, and what to do."""
    what = f"{_noun(source)} {source.text!r}"
    reason = error.strerror or str(error)
    if source.kind == "device":
        return WorkerError(f"{what} {_device_reason(error.errno, reason)}", 2)
    if source.kind == "stream":
        return WorkerError(f"{what} does not open: {reason}; check the address and that its sender runs", 2)
    if isinstance(error, av.error.InvalidDataError):
        return WorkerError(f"{what} is no video; name a media file, a camera or demo with --camera", 2)
    return WorkerError(f"{what} does not open: {reason}; name another media file, a camera or demo with --camera", 2)


def cameras_present() -> str:
    """The cameras of this machine in words."""
    if platform.system() == "Linux":
        nodes = sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda node: (len(node.name), node.name))
        found = [f"{node.name.removeprefix('video')} ({(node / 'name').read_text().strip()})" for node in nodes]
    else:
        devices = [each for each in av.device.enumerate_input_devices(_format()) if "video" in each.media_types]
        found = [f"{index} ({each.description or each.name})" for index, each in enumerate(devices)]
    return f"present: {', '.join(found)}" if found else "none is present"


def _device_reason(number: int | None, reason: str) -> str:
    if number in _ABSENT:
        return f"is not there; {cameras_present()}; name one with --camera"
    if number == errno.EBUSY:
        return "is in use by another program; end that program or name another camera with --camera"
    if number in (errno.EACCES, errno.EPERM):
        hint = "join the group video (sudo usermod -aG video $USER) and log in again"
        return f"may not be used by this user; {hint if platform.system() == 'Linux' else 'allow it in the settings'}"
    if number in _NO_CAMERA:
        return f"is no camera; {cameras_present()}; name one with --camera"
    return f"does not open: {reason}; {cameras_present()}"


def _check_file(source: Source) -> None:
    path = Path(source.address)
    if not path.exists():
        if source.text == "demo":
            raise WorkerError(f"the demo clip {path} is missing; get the whole repository or name another --camera", 2)
        raise WorkerError(f"file {source.text!r} is not there; --camera takes an index, URL, media file or demo", 2)
    if path.is_dir():
        raise WorkerError(f"file {source.text!r} is a folder; name one media file with --camera", 2)
    if path.stat().st_size == 0:
        raise WorkerError(f"file {source.text!r} is empty (0 bytes); name a video with --camera", 2)


def _options(source: Source, capture: CaptureConfig) -> dict[str, str]:
    if source.kind == "file":
        return {}
    if source.kind == "stream":
        return _LOW_DELAY | ({"rtsp_transport": "tcp"} if source.address.startswith("rtsp") else {})
    size = {"video_size": f"{capture.width_px}x{capture.height_px}"} if capture.width_px and capture.height_px else {}
    return size | ({"framerate": f"{capture.fps_hz:g}"} if capture.fps_hz else {})


def _open(source: Source, options: dict[str, str]) -> InputContainer:
    timeout = None
    if source.kind == "stream":
        timeout = (WAIT_FOR_SENDER_S if source.awaited else OPEN_S, READ_S)
    return av.open(source.address, format=source.format, options=options, timeout=timeout)


def _open_as_offered(source: Source) -> InputContainer:
    try:
        return _open(source, {})
    except FFmpegError as error:
        raise refusal(source, error) from error


def _noun(source: Source) -> str:
    return {"device": "camera", "stream": "stream", "file": "file"}[source.kind]


def _format() -> str:
    return _DEVICE_FORMATS.get(platform.system(), "v4l2")


def _device_address(camera: str) -> str:
    system = platform.system()
    if not camera.isdigit():
        return camera
    if system == "Darwin":
        return f"{camera}:none"
    if system == "Windows":
        devices = [each for each in av.device.enumerate_input_devices("dshow") if "video" in each.media_types]
        return f"video={devices[int(camera)].name}" if int(camera) < len(devices) else "video="
    return f"/dev/video{camera}"
