"""Voice concepts from steps that are made by hand; what is no voice is not read as a quiet person."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.voice import CONCEPTS, STEPS_HZ, Step, VoiceMeter, VoiceReading, activations, momentary, resting

F32 = npt.NDArray[np.float32]
QUIET = Step(0.02, 0.05, 12.0, 0.0, -60.0, -5.0, 5.0, 0.003, 0.0, np.nan)
TALK = Step(0.97, 0.9, 12.0, 0.0, -23.0, 15.0, 12.0, 0.2, 0.0, 0.9)


def steps(seconds: float, step: Step = TALK, **changed: npt.NDArray[np.floating] | float) -> F32:
    rows = np.tile(np.array(step, np.float32), (round(seconds * STEPS_HZ), 1))
    for name, value in changed.items():
        rows[:, Step._fields.index(name)] = value
    return rows


def after(*parts: F32) -> VoiceReading:
    meter = VoiceMeter()
    for part in parts:
        meter.push(part)
    return meter.reading()


def value(reading: VoiceReading, name: str) -> float | None:
    return reading.values[CONCEPTS.index(name)]


def active(reading: VoiceReading, name: str) -> float:
    return reading.activations[CONCEPTS.index(name)]


def test_a_voice_as_usual_is_in_the_middle() -> None:
    found = after(steps(5))
    assert found.sound == "heard"
    assert value(found, "loudness") == pytest.approx(-23.0)
    assert active(found, "loudness") == pytest.approx(0.5, abs=0.01)
    assert value(found, "pitch_height") == pytest.approx(0.0, abs=0.05)
    assert value(found, "pitch_movement") == pytest.approx(0.0, abs=0.01)
    assert value(found, "clear_voice") == pytest.approx(15.0)
    assert active(found, "vocal_effort") == pytest.approx(13 / 30)
    assert value(found, "jitter") == pytest.approx(0.9)
    assert active(found, "jitter") == pytest.approx(0.3)
    assert value(found, "silence") == 0.0


def test_pitch_and_loudness_are_against_the_speaker_s_own() -> None:
    for usual in (5.0, 25.0):
        found = after(steps(5, pitch_st=usual), steps(0.2, pitch_st=usual + 6, loud_db=-17.0))
        assert value(found, "pitch_height") == pytest.approx(6.0, abs=0.3)
        assert active(found, "pitch_height") == pytest.approx(0.75, abs=0.02)
    assert active(found, "loudness") > 0.6


def test_movement_is_the_spread_of_the_pitch() -> None:
    moving = 12 + 3 * np.sqrt(2) * np.sin(2 * np.pi * np.arange(300) / 50)
    assert value(after(steps(3, pitch_st=moving)), "pitch_movement") == pytest.approx(3.0, abs=0.1)


def test_jitter_is_the_mean_of_a_second_in_which_enough_periods_were_found() -> None:
    apart = np.tile([0.5, np.nan, 1.5, np.nan], 25)
    assert value(after(steps(1, jitter_percent=4.0), steps(1, jitter_percent=apart)), "jitter") == pytest.approx(1.0)
    few = np.where(np.arange(100) < 19, 1.0, np.nan)
    assert value(after(steps(1, jitter_percent=few)), "jitter") is None
    assert active(after(steps(1, jitter_percent=few)), "jitter") == 0.0
    assert value(after(steps(1, jitter_percent=1.0), steps(2, QUIET)), "jitter") is None


def test_syllables_are_counted_over_three_seconds() -> None:
    marks = np.tile(np.r_[np.zeros(19), 0.4, 0.9, 0.9, 0.5, 0.0, 0.0], 20)
    assert value(after(steps(5, syllable=marks)), "speech_rate") == pytest.approx(4.0, abs=0.4)
    assert value(after(steps(5, syllable=marks), steps(4, QUIET)), "speech_rate") == 0.0


def test_silence_and_turns_are_timed() -> None:
    talked = after(steps(3), steps(0.3, QUIET), steps(1))
    assert value(talked, "takes_turn") == pytest.approx(4.3, abs=0.02), "a short pause ends no turn"
    turned = after(steps(3), steps(2, QUIET), steps(0.5))
    assert value(turned, "takes_turn") == pytest.approx(0.5, abs=0.02)
    assert active(turned, "takes_turn") == pytest.approx(0.75, abs=0.02)
    silent = after(steps(3), steps(4, QUIET))
    assert value(silent, "silence") == pytest.approx(4.0)
    assert value(silent, "loudness") is None
    assert value(silent, "pitch_height") is None
    assert active(silent, "pitch_height") == 0.5, "an absent voice is no low voice"


def test_what_is_no_voice_is_told_apart() -> None:
    cases = {
        "muted": (steps(3), steps(2, QUIET, peak=0.0, loud_db=-120.0)),
        "clipped": (steps(3), steps(1, TALK, clipped=0.3, peak=1.0)),
        "tone": (steps(3), steps(2, TALK, hnr_db=39.0)),
    }
    for sound, parts in cases.items():
        found = after(*parts)
        assert found.sound == sound
        assert found.values == (None,) * len(CONCEPTS)
        assert found.activations == resting()
    assert VoiceMeter().reading().sound == "muted", "before anything is heard"
    assert after(steps(3), steps(2, QUIET)).sound == "heard", "a quiet room is heard"


def test_loudness_is_a_mean_of_powers_above_the_gate() -> None:
    assert momentary([-20.0, -20.0]) == pytest.approx(-20.0)
    assert momentary([-20.0, -100.0]) == pytest.approx(-20.0)
    assert momentary([-100.0]) is None
    assert momentary([-20.0, -10.0]) == pytest.approx(10 * np.log10((0.01 + 0.1) / 2))


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.none() | st.floats(-1e6, 1e6)] * len(CONCEPTS)).map(list), st.none() | st.floats(-100, 0))
def test_activations_stay_in_their_range(values: list[float | None], usual: float | None) -> None:
    if values[CONCEPTS.index("silence")] is not None:
        values[CONCEPTS.index("silence")] = abs(values[CONCEPTS.index("silence")] or 0.0)
    assert all(0.0 <= each <= 1.0 for each in activations(tuple(values), usual))


def test_it_does_not_matter_how_steps_arrive() -> None:
    rows = steps(3, syllable=np.tile([0.0, 0.9, 0.9, 0.1, 0.0, 0.0], 50))
    assert after(rows) == after(*(rows[i : i + 7] for i in range(0, 300, 7)))
