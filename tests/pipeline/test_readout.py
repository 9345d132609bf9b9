"""From what the engine said to the message."""

import math
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.concept import ConceptReadout, read
from engines.fusion import PriorSpec
from engines.hear import Heard
from engines.preprocess import TEMPLATE, similarity
from engines.spec import ConceptSpec, HeadSpec, IntervalSpec
from engines.timed import Shares
from engines.voice import CONCEPTS as VOICE_CONCEPTS
from engines.voice import VoiceReading
from pipeline.messages import Drops, FramePacket
from pipeline.readout import (
    NOBODY,
    Context,
    Marks,
    Place,
    Smoother,
    Verdict,
    audible,
    forced,
    in_picture,
    message,
    remembered,
    scored,
    spoken,
    stages,
    unsure,
)

SIZE_PX = 112
SECOND_NS = 1_000_000_000
EXPRESSIONS = ("neutral", "happiness")


def _model(seed: int, count: int = 26) -> tuple[ConceptReadout, tuple[ConceptSpec, ...], HeadSpec]:
    """A readout of drawn numbers: the arithmetic of this file must hold for any."""
    rng = np.random.default_rng(seed)
    columns = 1 + len(EXPRESSIONS)
    heads = HeadSpec(
        expressions=EXPRESSIONS,
        base=tuple(rng.normal(0.5, 1.0, columns).tolist()),
        mean=tuple(tuple(row) for row in rng.normal(0.0, 0.3, (count, columns)).tolist()),
        score_cuts=(),
    )
    maps = rng.random((1, count, 7, 7)).astype(np.float32)
    tensors = {
        "activation": rng.random((1, count)).astype(np.float32),
        "active": rng.normal(0.0, 0.3, (1, count, columns)).astype(np.float32),
        "inactive": rng.normal(0.0, 0.3, (1, count, columns)).astype(np.float32),
        "maps": maps / maps.sum(axis=(2, 3), keepdims=True),
    }
    concepts = tuple(ConceptSpec(f"C{k}", "au", "") for k in range(count))
    return read(tensors, heads)[0], concepts, heads


def _place(angle_deg: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (200.0, 100.0)) -> Place:
    """A face turned by `angle_deg` in a picture of 640x360; at scale 1 it is as large as the crop."""
    turn = np.exp(1j * math.radians(angle_deg)) * scale
    points = (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]) * SIZE_PX * turn + complex(*shift)
    picture = np.stack([points.real, points.imag], axis=1).astype(np.float32)
    return Place(similarity(picture, SIZE_PX), SIZE_PX, 640, 360)


def _packet(seq: int = 5) -> FramePacket:
    return FramePacket(
        session="s",
        source="camera-0",
        seq=seq,
        t_capture_ns=9_123_456_789,
        t_send_ns=9_124_000_001,
        width_px=640,
        height_px=360,
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_score_is_the_sum_of_what_is_printed(seed: int) -> None:
    readout, concepts, heads = _model(seed)
    verdict = scored(1, readout, concepts, heads, _place())
    text = msgspec.json.encode([verdict.base, verdict.score, [c.contribution for c in verdict.contributions]])
    base, score, parts = msgspec.json.decode(text)
    assert base + sum(parts) == pytest.approx(score, abs=1e-6)
    assert score == pytest.approx(readout.score, abs=1e-4)
    sizes = [abs(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(c.concept for c in verdict.contributions) == sorted(c.name for c in concepts)


@given(st.integers(0, 2**32 - 1), st.integers(0, 25), st.floats(0.0, 1.0))
@settings(max_examples=50, deadline=None)
def test_a_forced_activation_changes_its_own_share_and_the_score_by_the_same(seed: int, k: int, value: float) -> None:
    readout, concepts, heads = _model(seed)
    name = concepts[k].name
    before = scored(1, readout, concepts, heads, _place())
    after = scored(1, readout, concepts, heads, _place(), forced({name: value}, concepts))
    was = {c.concept: c for c in before.contributions}
    now = {c.concept: c for c in after.contributions}
    change = (value - float(readout.activation[k])) * float(readout.active[k, 0] - readout.inactive[k, 0])
    assert now[name].activation == pytest.approx(value, abs=1e-4)
    assert now[name].contribution - was[name].contribution == pytest.approx(change, abs=2e-6)
    assert after.score is not None and before.score is not None
    assert after.score - before.score == pytest.approx(change, abs=1e-5)
    assert {n: c for n, c in now.items() if n != name} == {n: c for n, c in was.items() if n != name}


def test_an_unknown_concept_is_named() -> None:
    _, concepts, _ = _model(0, count=3)
    with pytest.raises(ValueError, match="no such concept: AU99"):
        forced({"AU99": 1.0}, concepts)


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, -75.0, 160.0])
@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_at_is_the_place_in_the_picture_whatever_the_face_is_turned(angle_deg: float, scale: float) -> None:
    place = _place(angle_deg, scale, (300.0, 180.0))
    turn = np.exp(1j * math.radians(angle_deg)) * scale
    crop_share = np.array([[0.5002, 0.5997], [0.25, 0.4]])
    found = in_picture(crop_share, place)
    for (x, y), share in zip(found, crop_share, strict=True):
        # A share s of n pixels is coordinate s n - 0.5.
        crop_pixel = complex(share[0] * SIZE_PX - 0.5, share[1] * SIZE_PX - 0.5)
        pixel = crop_pixel * turn + complex(300.0, 180.0)
        want = (pixel.real + 0.5) / 640, (pixel.imag + 0.5) / 360
        assert (x, y) == pytest.approx(tuple(np.clip(want, 0, 1)), abs=2e-4)


def test_at_stays_inside_the_picture() -> None:
    for x, y in in_picture(np.array([[0.0, 0.0], [1.0, 1.0]]), _place(scale=9.0, shift=(-100.0, -50.0))):
        assert 0.0 <= x <= 1.0
        assert 0.0 <= y <= 1.0


def test_a_voice_is_seen_nowhere() -> None:
    readout, concepts, heads = _model(1, count=2)
    concepts = (concepts[0], ConceptSpec("speaking", "voice", ""))
    at = {c.concept: c.at for c in scored(1, readout, concepts, heads, _place()).contributions}
    assert at["speaking"] is None
    assert at["C0"] is not None


def test_expressions_are_probabilities_by_name() -> None:
    readout, concepts, heads = _model(2)
    expression = scored(1, readout, concepts, heads, _place()).expression
    assert expression is not None
    assert tuple(expression) == EXPRESSIONS
    assert sum(expression.values()) == pytest.approx(1.0, abs=1e-3)


def test_the_average_is_that_of_its_time_constant_and_starts_anew_after_a_gap() -> None:
    smoother = Smoother(0.5)
    assert smoother.add(1, 0, 0.0) == 0.0
    for step in range(1, 16):
        value = smoother.add(1, step * SECOND_NS // 30, 1.0)
    assert value == pytest.approx(1 - math.exp(-1), abs=1e-6)
    assert smoother.add(2, SECOND_NS // 2, 7.0) == 7.0, "another face has an average of its own"
    assert smoother.add(1, 2 * SECOND_NS, 0.25) == 0.25, "a gap of 1.5 s"
    assert smoother.add(1, SECOND_NS, 0.75) == 0.75, "time ran back"
    assert Smoother(0.0).add(1, 0, 0.3) == 0.3


def test_no_time_constant_is_no_average() -> None:
    smoother = Smoother(0.0)
    assert [smoother.add(1, t, float(t)) for t in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]


@given(st.lists(st.integers(0, 40_000_000), min_size=6, max_size=6))
def test_stages_are_consecutive_and_sum_to_the_age(steps: list[int]) -> None:
    times = [9_000_000_000_000_123]
    for step in steps:
        times.append(times[-1] + step)
    packet = msgspec.structs.replace(_packet(), t_capture_ns=times[0], t_send_ns=times[1])
    found = msgspec.structs.astuple(stages(packet, Marks(*times[2:6]), times[6]))
    assert sum(found) == pytest.approx((times[6] - times[0]) / 1e6, abs=1e-6)
    assert list(found) == pytest.approx([(b - a) / 1e6 for a, b in pairwise(times)], abs=1e-9)


def test_the_message_says_what_is_known_and_null_for_the_rest() -> None:
    readout, concepts, heads = _model(3)
    packet = _packet(77)
    stages_ms = stages(packet, Marks(*(packet.t_send_ns + step for step in (1, 2, 3, 4))), packet.t_send_ns + 5)

    def said(verdict: Verdict, smoothed: float | None, level_dbfs: float | None) -> object:
        heard = None if level_dbfs is None else Heard(level_dbfs)
        context = Context(packet, "agcm-live@0123456789ab", "onnxruntime/fp32", heard, Drops(stale=4))
        return message(verdict, context, smoothed, stages_ms, packet.t_send_ns + 5, "2026-01-01T00:00:00Z")

    there = said(scored(3, readout, concepts, heads, _place()), 0.5, -31.4159)
    assert (there.seq, there.source, there.face, there.status) == (77, "camera-0", 3, "tracked")
    assert (there.smoothed, there.audio, there.uncertainty) == (0.5, {"level_dbfs": -31.42}, None)
    measured = msgspec.structs.replace(heads, interval=IntervalSpec(0.9, 0.41954))
    known = said(scored(3, readout, concepts, measured, _place()), 0.5, None)
    assert known.uncertainty == 0.4195
    assert (known.score, known.base, known.contributions) == (there.score, there.base, there.contributions)
    what_if = said(scored(3, readout, concepts, measured, _place(), {0: 1.0}), 0.5, None)
    assert what_if.uncertainty is None, "nobody labelled a picture that does not exist"
    assert there.dropped.stale == 4
    assert there.calibration is None
    context = Context(packet, "agcm-live@0123456789ab", "onnxruntime/fp32", None, Drops(), "sync@0123456789ab")
    adapted = message(NOBODY, context, None, stages_ms, packet.t_send_ns + 5, "2026-01-01T00:00:00Z")
    assert adapted.calibration == "sync@0123456789ab"
    for verdict, face, status in ((NOBODY, 0, "no_face"), (unsure(2), 2, "low_quality")):
        other = said(verdict, None, None)
        assert (other.face, other.status) == (face, status)
        assert (other.score, other.base, other.smoothed, other.expression, other.audio) == (None,) * 5
        assert other.uncertainty is None
        assert other.contributions == ()


VOICES = tuple(ConceptSpec(name, "voice", "") for name in VOICE_CONCEPTS)


def _heard(sound: Literal["heard", "muted", "clipped", "tone"] = "heard") -> VoiceReading:
    values = (0.93, -24.0, None, 2.5, 3.25, 12.0, 8.0, 0.9, 0.0, 1.23456)
    rest = (None,) * len(values)
    return VoiceReading(sound, values if sound == "heard" else rest, tuple(np.linspace(0.1, 0.9, len(VOICES)).tolist()))


def test_a_voice_adds_its_prior_and_the_score_still_adds_up() -> None:
    readout, concepts, heads = _model(3)
    seen = scored(3, readout, concepts, heads, _place())
    prior = PriorSpec(tuple(np.linspace(-0.03, 0.05, len(VOICES)).tolist()), (0.5,) * len(VOICES))
    both = spoken(seen, _heard(), VOICES, prior)
    assert both.score is not None and both.base == seen.base
    assert both.score == pytest.approx(both.base + sum(each.contribution for each in both.contributions), abs=1e-9)
    said = {each.concept: each for each in both.contributions if each.kind == "voice"}
    assert tuple(said) != () and set(said) == set(VOICE_CONCEPTS)
    assert {each.source for each in said.values()} == {"prior"}
    assert {each.source for each in both.contributions if each.kind != "voice"} == {"learned"}
    assert said["speaking"].contribution == pytest.approx(-0.03 * (0.1 - 0.5))
    assert all(each.at is None for each in said.values())
    assert both.uncertainty is None


def test_a_voice_that_does_not_count_is_listed_and_changes_nothing() -> None:
    readout, concepts, heads = _model(3)
    seen = scored(3, readout, concepts, msgspec.structs.replace(heads, interval=IntervalSpec(0.9, 0.4)), _place())
    found = spoken(seen, _heard(), VOICES, None)
    assert (found.score, found.base, found.uncertainty) == (seen.score, seen.base, 0.4)
    said = [each for each in found.contributions if each.kind == "voice"]
    assert [each.activation for each in said] == pytest.approx(np.linspace(0.1, 0.9, len(VOICES)), abs=1e-4)
    assert {each.contribution for each in said} == {0.0}


@pytest.mark.parametrize("sound", ["muted", "clipped", "tone"])
def test_what_is_no_voice_contributes_nothing(sound: Literal["muted", "clipped", "tone"]) -> None:
    readout, concepts, heads = _model(3)
    seen = scored(3, readout, concepts, heads, _place())
    prior = PriorSpec((0.1,) * len(VOICES), (0.0,) * len(VOICES))
    assert spoken(seen, _heard(sound), VOICES, prior) == seen
    assert spoken(NOBODY, _heard(), VOICES, prior) == NOBODY
    assert audible(Heard(-80.0, _heard(sound))) == {"level_dbfs": -80.0, sound: 1.0}


def test_what_is_heard_is_published_with_its_units_and_what_is_not_known_is_left_out() -> None:
    assert audible(Heard(-31.4159, _heard())) == {
        "level_dbfs": -31.42, "speaking": 0.93, "loudness_lkfs": -24.0, "pitch_movement_st": 2.5,
        "speech_rate_hz": 3.25, "clear_voice_db": 12.0, "vocal_effort_db": 8.0, "jitter_percent": 0.9,
        "silence_s": 0.0, "takes_turn_s": 1.2346,
    }  # fmt: skip


def test_a_score_that_remembers_replaces_the_picture_s_and_adds_up() -> None:
    readout, concepts, heads = _model(3)
    seen = scored(3, readout, concepts, heads, _place())
    rng = np.random.default_rng(0)
    shares = Shares(0.4, rng.normal(0, 0.1, len(concepts)), rng.normal(0, 0.1, len(VOICES)))
    found = remembered(seen, shares, _heard(), (concepts, VOICES))
    assert found.score is not None and found.base == 0.4
    assert found.score == pytest.approx(0.4 + shares.seen.sum() + np.sum(shares.heard), abs=1e-4)
    assert found.score == pytest.approx(found.base + sum(each.contribution for each in found.contributions), abs=1e-9)
    named = {each.concept: each for each in found.contributions}
    assert len(named) == len(concepts) + len(VOICES)
    for concept, share in zip(concepts, shares.seen, strict=True):
        assert named[concept.name].contribution == pytest.approx(share, abs=1e-6)
        before = next(each for each in seen.contributions if each.concept == concept.name)
        assert (named[concept.name].activation, named[concept.name].at) == (before.activation, before.at)
    alone = remembered(seen, Shares(0.4, shares.seen, None), None, (concepts, VOICES))
    assert {each.kind for each in alone.contributions} == {concept.kind for concept in concepts}
