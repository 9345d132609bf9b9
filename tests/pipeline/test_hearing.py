"""A voice joined with pictures: the same however the sound was cut up, none where sound is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import Array, Tensors
from engines.spec import Manifest, TensorSpec
from engines.voice import HOP, Step, VoiceReading
from pipeline.align import AudioWindow
from pipeline.hearing import Ears, State

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
        rows = [Step(float(p > 0.05), 1.0, 12.0, 0.0, -23.0, 10.0, 5.0, float(p), 0.0) for p in peak]
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


def test_without_pictures_it_goes_on_listening() -> None:
    window, ears = AudioWindow(), Ears(Loud())
    for second in range(20):
        window.add(second * SECOND_NS, talk(1.0), RATE_HZ)
        ears.listen(window)
    reading = ears.reading(window, 20 * SECOND_NS)
    assert reading is not None
    assert reading.values[7] == 0.0, "it has spoken just now"


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
