"""A voice joined with pictures: the same however the sound was cut up, none where sound is missing."""

from __future__ import annotations

from collections.abc import Mapping

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Array, Tensors
from engines.spec import MODELS_DIR, Manifest, TensorSpec, load_model_file
from engines.voice import CONCEPTS, HOP, VoiceReading
from pipeline.align import AudioWindow
from pipeline.hearing import Ears, State
from pipeline.sources import DEMO
from pipeline.track import chunks

RATE_HZ = 16_000
SECOND_NS = 1_000_000_000


class Loud:
    """Somebody speaks where a step is loud; counts how often it began anew."""

    backend = "none/fp32"

    def __init__(self) -> None:
        inputs = TensorSpec("samples", "float32", (1, -1)), TensorSpec("memory", "float32", (1, 1))
        self.manifest = Manifest("loud", "none", "0" * 64, inputs, ())
        self.beginnings = 0

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        self.beginnings += int(inputs["memory"][0, 0] == 0)
        steps = inputs["samples"].reshape(-1, HOP)
        peak = np.abs(steps).max(1)
        rows = [(float(p > 0.05), 1.0, 12.0, 0.0, -23.0, 10.0, 5.0, float(p), 0.0) for p in peak]
        return {"voice": np.array(rows, np.float32)[None], "memory_out": np.ones((1, 1), np.float32)}

    def close(self) -> None:
        pass


def talk(seconds: float = 4.0) -> np.ndarray:
    """Loud in every second half of a second."""
    rng = np.random.default_rng(0)
    count = round(seconds * RATE_HZ)
    on = (np.arange(count) // (RATE_HZ // 2)) % 2
    return (rng.uniform(-1, 1, count) * np.where(on, 0.2, 0.01)).astype(np.float32)


def readings(sizes: list[int], t_ms: range) -> list[VoiceReading | None]:
    """Fed chunk by chunk, asked as soon as a moment has come."""
    window, ears, found, at, samples = AudioWindow(), Ears(Loud()), [], 0, talk()
    waiting = list(t_ms)
    for size in sizes:
        window.add(at * SECOND_NS // RATE_HZ, samples[at : at + size], RATE_HZ)
        at += size
        ears.listen(window)
        while waiting and (window.end_ns or 0) >= waiting[0] * 1_000_000:
            found.append(ears.reading(window, waiting.pop(0) * 1_000_000))
    return found


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(40, 3000), min_size=30, max_size=30))
def test_however_sound_is_cut_up_it_is_heard_the_same(sizes: list[int]) -> None:
    moments = range(37, sum(sizes) * 1000 // RATE_HZ, 33)
    assert readings(sizes, moments) == readings([320] * (sum(sizes) // 320 + 1), moments)[: len(list(moments))]


def test_a_moment_is_answered_by_what_came_before_it() -> None:
    window, ears = AudioWindow(), Ears(Loud())
    window.add(0, talk(), RATE_HZ)
    ears.listen(window)
    speaking = [ears.reading(window, t_ms * 1_000_000) for t_ms in (5, 495, 515, 995, 1015)]
    assert speaking[0] is None, "no whole step has passed"
    assert [None if each is None else each.values[0] for each in speaking[1:]] == [0.0, 1.0, 1.0, 0.0]
    assert ears.reading(window, 4_200_000_000) is not None
    assert ears.reading(window, 4_300_000_000) is None, "that is too old"


def test_sound_that_never_came_is_passed_over() -> None:
    engine, window = Loud(), AudioWindow()
    ears, samples = Ears(engine), talk(1.0)
    window.add(0, samples, RATE_HZ)
    ears.listen(window)
    window.add(2 * SECOND_NS, samples, RATE_HZ)
    ears.listen(window)
    assert engine.beginnings == 2
    assert ears.reading(window, SECOND_NS) is not None
    assert ears.reading(window, 3 * SECOND_NS // 2) is None
    late = ears.reading(window, 3 * SECOND_NS)
    assert late is not None
    assert late.values[0] == 1.0


def test_a_piece_of_a_step_before_a_gap_stops_nothing() -> None:
    window, ears = AudioWindow(), Ears(Loud())
    window.add(0, talk(1.0)[: RATE_HZ - 100], RATE_HZ)
    ears.listen(window)
    window.add(2 * SECOND_NS, talk(1.0), RATE_HZ)
    ears.listen(window)
    late = ears.reading(window, 3 * SECOND_NS)
    assert late is not None
    assert late.values[0] == 1.0


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_times_that_jump_are_followed(jump_s: int) -> None:
    window, ears, start_s = AudioWindow(), Ears(Loud()), 10_000
    moments = [start_s + i / 10 for i in range(20)] + [start_s + jump_s + i / 10 for i in range(30)]
    for t_s in moments:
        window.add(round(t_s * SECOND_NS), talk(0.1), RATE_HZ)
        ears.listen(window)
    reading = ears.reading(window, round((moments[-1] + 0.1) * SECOND_NS))
    assert reading is not None
    assert reading.sound == "heard"


def test_without_pictures_it_goes_on_listening() -> None:
    window, ears = AudioWindow(), Ears(Loud())
    for second in range(20):
        window.add(second * SECOND_NS, talk(1.0), RATE_HZ)
        ears.listen(window)
    reading = ears.reading(window, 20 * SECOND_NS)
    assert reading is not None
    assert reading.values[CONCEPTS.index("silence")] == 0.0, "it has spoken just now"


@pytest.mark.parametrize("sound", ["muted", "clipped", "tone"])
def test_people_are_told_once_what_is_wrong_with_the_sound(sound: str) -> None:
    state = State()
    said = [state.change(t * SECOND_NS // 10, sound) for t in range(50)]  # type: ignore[arg-type]
    assert [t for t, text in enumerate(said) if text] == [20]
    assert sound[:4] in said[20] or "silent" in said[20]
    assert state.change(6 * SECOND_NS, "heard") == ""
    assert "again" in state.change(9 * SECOND_NS, "heard")


def test_a_moment_of_silence_is_nothing_to_tell() -> None:
    state = State()
    said = [state.change(t * SECOND_NS // 10, "muted" if t % 15 else "heard") for t in range(60)]
    assert not any(said)


SPEAKING = CONCEPTS.index("speaking")
needs_voice = pytest.mark.skipif(not (MODELS_DIR / "agcm-voice" / "manifest.json").is_file(), reason="no agcm-voice")


def voice() -> np.ndarray:
    """Ten seconds of the demo clip's sound."""
    with av.open(str(DEMO)) as container:
        parts = [chunk.samples for chunk in chunks(container, container.streams.audio[0], 0)]
    return np.concatenate(parts)[: 10 * RATE_HZ]


def heard_of(samples: np.ndarray) -> list[VoiceReading]:
    """Every tenth of a second, by the network that ships."""
    window, ears, found = AudioWindow(), Ears(OnnxRuntimeEngine(load_model_file("agcm-voice"))), []
    for at in range(0, len(samples), 1600):
        window.add(at * SECOND_NS // RATE_HZ, samples[at : at + 1600].astype(np.float32), RATE_HZ)
        ears.listen(window)
        reading = ears.reading(window, (at + 1600) * SECOND_NS // RATE_HZ)
        assert reading is not None
        found.append(reading)
    return found


@needs_voice
@pytest.mark.parametrize(
    ("sound", "samples"),
    [
        ("muted", np.zeros(3 * RATE_HZ)),
        ("muted", np.full(3 * RATE_HZ, 0.1)),
        ("muted", 1e-5 * np.random.default_rng(0).normal(size=3 * RATE_HZ)),
        ("tone", 0.2 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)),
        ("clipped", np.clip(40 * 0.1 * np.random.default_rng(0).normal(size=3 * RATE_HZ), -1, 1)),
        ("clipped", np.ones(3 * RATE_HZ)),
    ],
    ids=["zeros", "offset", "dither", "sine", "overdriven", "stuck"],
)
def test_what_is_no_voice_is_told_apart_by_the_network_that_ships(sound: str, samples: np.ndarray) -> None:
    reading = heard_of(samples)[-1]
    assert reading.sound == sound
    assert set(reading.values) == {None}


@needs_voice
@pytest.mark.parametrize("kind", ["as it is", "quiet", "offset", "telephone", "noise"])
def test_the_same_voice_is_heard_through_worse_microphones(kind: str) -> None:
    clean = voice()
    rng = np.random.default_rng(0)
    spectrum, hz = np.fft.rfft(clean), np.fft.rfftfreq(len(clean), 1 / RATE_HZ)
    through = {
        "as it is": clean,
        "quiet": 0.05 * clean,
        "offset": clean + 0.1,
        "telephone": np.fft.irfft(np.where((hz > 300) & (hz < 3400), spectrum, 0), len(clean)),
        "noise": clean + 0.01 * rng.normal(size=len(clean)),
    }[kind]
    known, found = heard_of(clean), heard_of(through)
    assert {each.sound for each in found} == {"heard"}
    speaks = [[(each.values[SPEAKING] or 0.0) >= 0.5 for each in side] for side in (known, found)]
    assert 0.2 < np.mean(speaks[0]) < 0.9
    assert np.mean(np.array(speaks[0]) == np.array(speaks[1])) >= 0.9


@needs_voice
def test_noise_alone_is_nobody() -> None:
    readings = heard_of(0.02 * np.random.default_rng(0).normal(size=4 * RATE_HZ))
    assert {each.sound for each in readings} == {"heard"}
    assert max(each.values[SPEAKING] or 0.0 for each in readings[10:]) < 0.5
