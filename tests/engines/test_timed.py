"""A score that owes to the past: the memory at any rate, the state given and returned, shares that add up."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.fusion import BranchSpec, MemorySpec, ReadingSpec, TimedSpec
from engines.timed import Past, TimedHead, advance, start_of

TAPS, CONCEPTS, VALUES, VOICES = 3, 2, 4, 2
FRAME_NS = 40_000_000
MEMORY = MemorySpec(TAPS, 0.5, 20.0)


def branch(rng: np.random.Generator, concepts: int, values: int) -> BranchSpec:
    def numbers() -> tuple[tuple[tuple[float, ...], ...], ...]:
        found = rng.normal(0, 1, (concepts, values, 1 + MEMORY.size)).tolist()
        return tuple(tuple(tuple(row) for row in concept) for concept in found)

    return BranchSpec(numbers(), numbers())


def spec(*, hears: bool = True) -> TimedSpec:
    rng = np.random.default_rng(0)
    seen, heard = branch(rng, CONCEPTS, VALUES), branch(rng, VOICES, 1)
    usual = tuple(tuple(row) for row in rng.normal(0, 1, (CONCEPTS, VALUES)).tolist())
    return TimedSpec(MEMORY, usual, (0.2, 0.3) if hears else (), 0.5, seen, heard if hears else None)


@given(st.floats(0.001, 0.5), st.integers(1, 40))
def test_a_constant_is_remembered_at_any_rate(elapsed_s: float, frames: int) -> None:
    past = start_of(MEMORY, np.full(2, 0.7))
    for _ in range(frames):
        past = advance(MEMORY, past, np.full(2, 0.7), elapsed_s)[:, 1:]
    assert past == pytest.approx(np.full((2, TAPS + 1), 0.7))


def test_a_tap_lags_behind_by_its_time_constants() -> None:
    """A ramp is followed at the distance of one time constant a tap, at 25 pictures a second and at 5."""
    for rate_hz in (25, 5):
        past = start_of(MEMORY, np.zeros(1))
        for frame in range(600 * rate_hz):
            taps = advance(MEMORY, past, np.array([frame / rate_hz]), 1 / rate_hz)
            past = taps[:, 1:]
        lags_s = [*0.5 * np.arange(1 + TAPS), 20.0]
        assert taps[0, 0] - taps[0] == pytest.approx(lags_s, abs=1e-6)


def test_a_habit_is_where_a_value_mostly_is_and_a_short_change_hardly_moves_it() -> None:
    past = start_of(MEMORY, np.zeros(1))
    for _ in range(60 * 25):
        past = advance(MEMORY, past, np.full(1, 0.6), 0.04)[:, 1:]
    settled = past[0, -1]
    assert settled == pytest.approx(0.6, abs=0.04)
    for _ in range(25):
        past = advance(MEMORY, past, np.ones(1), 0.04)[:, 1:]
    assert past[0, -1] - settled == pytest.approx(0.4 / 20, abs=0.005)
    without = MemorySpec(TAPS, 0.5)
    assert advance(without, start_of(without, np.zeros(1)), np.ones(1), 0.04).shape == (1, 1 + TAPS)


def test_shares_add_up_to_weights_times_taps() -> None:
    head, rng = TimedHead(spec()), np.random.default_rng(1)
    before, taps_seen = None, start_of(MEMORY, np.array(spec().usual_seen))
    taps_heard = start_of(MEMORY, np.array(spec().usual_heard))
    for frame in range(5):
        seen, heard = rng.normal(0, 1, (CONCEPTS, VALUES)), rng.uniform(0, 1, VOICES)
        shares, before = head.score(seen, heard, FRAME_NS * frame, before)
        elapsed_s = 0.04 if frame else 0.0
        all_seen, all_heard = (
            advance(MEMORY, past, now, elapsed_s) for past, now in ((taps_seen, seen), (taps_heard, heard))
        )
        taps_seen, taps_heard = all_seen[..., 1:], all_heard[..., 1:]
    heard_by = spec().heard
    assert heard_by is not None and shares.heard is not None
    total = np.sum(np.array(spec().seen.weight) * (all_seen - spec().seen.mean))
    total += np.sum(np.array(heard_by.weight)[:, 0] * (all_heard - np.array(heard_by.mean)[:, 0]))
    assert shares.base == 0.5
    assert shares.seen.sum() + shares.heard.sum() == pytest.approx(total)


def test_a_head_that_reads_concepts_its_own_way_scores_what_it_reads() -> None:
    rng = np.random.default_rng(2)
    plain = TimedSpec(MEMORY, ((0.1,), (0.2,)), (), 0.4, branch(rng, CONCEPTS, 1))
    weight, bias = rng.normal(0, 1, (CONCEPTS, CONCEPTS)), rng.normal(0, 1, CONCEPTS)
    read = msgspec.structs.replace(plain, reading=ReadingSpec(tuple(map(tuple, weight.tolist())), tuple(bias.tolist())))
    before: list[Past | None] = [None, None]
    for frame in range(4):
        seen = rng.uniform(0, 1, (CONCEPTS, VALUES))
        told = (weight @ seen[:, 0] + bias)[:, None]
        ours, before[0] = TimedHead(read).score(seen, None, FRAME_NS * frame, before[0])
        theirs, before[1] = TimedHead(plain).score(told, None, FRAME_NS * frame, before[1])
        assert ours.seen == pytest.approx(theirs.seen)


def test_a_reading_of_another_size_is_refused() -> None:
    one, seen = ReadingSpec(((1.0,),), (0.0,)), branch(np.random.default_rng(0), CONCEPTS, 1)
    with pytest.raises(ValueError, match="as many concepts as the head, of one value each"):
        TimedSpec(MEMORY, ((0.1,), (0.2,)), (), 0.4, seen, None, one)
    with pytest.raises(ValueError, match="a bias and a weight for every activation"):
        ReadingSpec(((1.0,), (1.0,)), (0.0, 0.0))


def test_without_sound_nothing_is_heard_and_what_is_seen_contributes_as_ever() -> None:
    head = TimedHead(spec())
    seen = np.ones((CONCEPTS, VALUES))
    _, before = head.score(seen, np.ones(VOICES), 0, None)
    with_sound, _ = head.score(seen, np.ones(VOICES), FRAME_NS, before)
    shares, after = head.score(seen, None, FRAME_NS, before)
    assert (shares.base, shares.heard) == (with_sound.base, None)
    np.testing.assert_array_equal(shares.seen, with_sound.seen)
    assert after.heard[:, 0] == pytest.approx([0.2, 0.3]), "what was heard before the gap is forgotten"
    assert TimedHead(spec(hears=False)).score(seen, np.ones(VOICES), 0, None)[0].heard is None


def test_a_gap_and_time_that_runs_back_begin_anew() -> None:
    head, seen = TimedHead(spec()), np.ones((CONCEPTS, VALUES))
    fresh, _ = head.score(seen, None, 10**10, None)
    _, before = head.score(3 * seen, None, 10**10 - FRAME_NS, None)
    assert head.score(seen, None, 10**10, before)[0].seen.sum() != pytest.approx(fresh.seen.sum())
    for t_ns in (10**10 - 10**8, 2 * 10**10):
        assert head.score(seen, None, t_ns, before)[0].seen == pytest.approx(fresh.seen)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"memory": MemorySpec(2, 0.5, 20.0)}, "timed.seen: needs weights"),
        ({"memory": MemorySpec(TAPS, 0.5)}, "timed.seen: needs weights"),
        ({"usual_heard": (0.2,)}, "the 1 concepts that are heard"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(changed: dict[str, object], text: str) -> None:
    whole = {name: getattr(spec(), name) for name in TimedSpec.__struct_fields__}
    with pytest.raises(ValueError, match=text):
        TimedSpec(**(whole | changed))


@pytest.mark.parametrize("numbers", [(-1, 0.5, 0.0), (2, 0.0, 0.0), (2, float("nan"), 0.0), (2, 0.5, -1.0)])
def test_a_memory_of_nonsense_is_refused(numbers: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="constant_s > 0 and habit_s >= 0"):
        MemorySpec(*numbers)


def test_ragged_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="the same numbers of concepts"):
        _ = BranchSpec((((1.0, 2.0),), ((1.0,),)), (((1.0, 2.0),), ((1.0, 2.0),))).shape
