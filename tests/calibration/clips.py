"""Clips whose lag is known: hands that clap, drawn and heard, and the demo clip with its sound moved."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "demo.mp4"
RATE_HZ = 16_000
CLAPS_S = (0.83, 1.71, 2.94, 3.62, 4.87)
LONG_S = 5.8
_OPEN_S, _CLOSE_S = 0.35, 0.15

Floats = NDArray[np.float64]


def hands(times_s: Floats, claps_s: tuple[float, ...] = CLAPS_S, rebound: float = 0.2) -> Floats:
    """How far two hands are apart [N], 0 to 1: they open slowly, close fast, meet at each clap and rebound a little."""
    apart = np.zeros_like(times_s)
    for clap_s in claps_s:
        opening = (times_s - clap_s + _OPEN_S + _CLOSE_S) / _OPEN_S
        closing = 1 - np.clip((times_s - clap_s + _CLOSE_S) / _CLOSE_S, 0, 1) ** 1.5
        after = (times_s - clap_s) / 0.08
        apart = np.maximum(apart, np.where(times_s < clap_s, np.minimum(opening, closing), 0.0))
        apart = np.maximum(apart, rebound * np.where((after > 0) & (after < 2), 1 - np.abs(after - 1), 0.0))
    return np.clip(apart, 0, 1)


def clap_sound(lag_s: float, claps_s: tuple[float, ...] = CLAPS_S, long_s: float = LONG_S) -> NDArray[np.float32]:
    """Bursts of noise in a quiet room [N] at RATE_HZ, `lag_s` after each clap."""
    rng = np.random.default_rng(1)
    sound = rng.normal(0, 0.002, round(long_s * RATE_HZ))
    for clap_s in claps_s:
        at = round((clap_s + lag_s) * RATE_HZ)
        burst = rng.normal(0, 0.3, 2400) * np.exp(-np.arange(2400) / 320)
        sound[at : at + 2400] += burst[: len(sound[at : at + 2400])]
    return np.clip(sound, -1, 1).astype(np.float32)


def picture(apart: float) -> NDArray[np.uint8]:
    """Two bright hands on a dark ground, 320 x 180; their edges lie between pixels as they do for a camera."""
    x = np.arange(320) - 159.5
    inner = 8 + 90 * apart
    row = np.clip(np.abs(x) - inner + 0.5, 0, 1) * np.clip(inner + 40 - np.abs(x) + 0.5, 0, 1)
    shown = np.full((180, 320), 40.0)
    shown[50:130] += 160 * row
    return np.asarray(shown.round(), np.uint8)


def clap_clip(path: Path, lag_ms: float, fps: int = 30) -> Path:
    """H.264 and AAC; the sound of a clap comes `lag_ms` after its picture. The pictures start a little off the grid."""
    first_s = 0.3 / fps
    with av.open(str(path), "w") as container:
        seen = container.add_stream("libx264", rate=fps)
        seen.width, seen.height, seen.pix_fmt = 320, 180, "yuv420p"
        heard = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number, apart in enumerate(hands(first_s + np.arange(0, LONG_S, 1 / fps))):
            frame = av.VideoFrame.from_ndarray(picture(apart), format="gray")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(seen.encode(frame))
        container.mux(seen.encode())
        sound = clap_sound(lag_ms / 1000 - first_s)
        for at in range(0, len(sound) - 1023, 1024):
            part = av.AudioFrame.from_ndarray(sound[at : at + 1024].reshape(1, -1), format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
            container.mux(heard.encode(part))
        container.mux(heard.encode())
    return path


def moved(source: Path, path: Path, lag_ms: int, *, sound: bool = True, pictures: bool = True) -> Path:
    """The packets of a clip as they are, its sound `lag_ms` later (below 0: its pictures later), or one track alone."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        kept = [*(old.streams.video if pictures else ()), *(old.streams.audio if sound else ())]
        streams = {each.index: new.add_stream_from_template(each) for each in kept}
        for packet in old.demux(*kept):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            later_ms = max(0, lag_ms) if packet.stream.type == "audio" else max(0, -lag_ms)
            offset = round(Fraction(later_ms, 1000) / packet.time_base)
            packet.stream = streams[packet.stream.index]
            packet.pts += offset
            packet.dts += offset
            new.mux(packet)
    return path
