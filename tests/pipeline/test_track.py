"""The sound of files of any rate and number of channels, as 16 kHz mono."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from pipeline.track import CHUNK, RATE_HZ, chunks

SECONDS, TONE_HZ = 2, 300


def file_of(rate_hz: int, layout: str, *, broken: bool = False) -> io.BytesIO:
    """A tone of amplitude .25 in every channel. broken: some of its samples are not numbers."""
    data = io.BytesIO()
    with av.open(data, "w", format="matroska") as container:
        stream = container.add_stream("pcm_f32le", rate=rate_hz, layout=layout)
        channels = len(av.AudioLayout(layout).channels)
        tone = 0.25 * np.sin(2 * np.pi * TONE_HZ * np.arange(SECONDS * rate_hz) / rate_hz)
        if broken:
            tone[rate_hz // 2 : rate_hz // 2 + 5] = np.nan
        for at in range(0, len(tone), rate_hz // 10):
            part = np.repeat(tone[at : at + rate_hz // 10, None], channels, axis=1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data.seek(0)
    return data


def heard(data: io.BytesIO) -> np.ndarray:
    with av.open(data) as container:
        found = list(chunks(container, container.streams.audio[0], 0))
    assert [chunk.media_ns for chunk in found] == [n * 20_000_000 for n in range(len(found))]
    assert {len(chunk.samples) for chunk in found[:-1]} == {CHUNK}
    return np.concatenate([chunk.samples for chunk in found])


@pytest.mark.parametrize(
    ("rate_hz", "layout"), [(8_000, "mono"), (16_000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (96_000, "7.1")]
)
def test_every_kind_of_sound_becomes_ours(rate_hz: int, layout: str) -> None:
    sound = heard(file_of(rate_hz, layout))
    assert len(sound) == pytest.approx(SECONDS * RATE_HZ, abs=CHUNK)
    middle = sound[RATE_HZ // 2 : RATE_HZ // 2 + RATE_HZ]
    spectrum = np.abs(np.fft.rfft(middle))
    assert int(spectrum.argmax()) == TONE_HZ
    assert np.abs(sound).max() <= 1.0
    level = float(np.sqrt(2 * np.mean(middle**2)))
    if layout in ("mono", "stereo"):
        assert level == pytest.approx(0.25, rel=0.02)
    else:
        assert 0.05 < level <= 0.5, "many channels are mixed to fit"


def test_samples_that_are_no_numbers_do_not_spread() -> None:
    sound = heard(file_of(16_000, "mono", broken=True))
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0
