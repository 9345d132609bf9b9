"""The past adds up exactly, the state says all of it, and known weights and lags are found again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("scipy")

from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.head import Session, fit
from calibration.labelled import LabelError
from engines.fusion import MemorySpec
from engines.timed import advance, start_of
from training.metrics import ccc
from training.timed.memory import run

F64 = npt.NDArray[np.float64]
MEMORY = MemorySpec(taps=8, constant_s=0.4)


def trusted(sessions: list[Session]) -> tuple[list[Session], list[list[float]]]:
    """Sessions whose concepts are all as good."""
    return sessions, [[1.0] * taps.shape[1] for taps in sessions[0].taps]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 6), st.floats(0.05, 5.0), st.sampled_from([0.0, 3.0, 20.0]), st.integers(1, 40),
    st.integers(0, 2**31),
)  # fmt: skip
def test_frame_by_frame_and_all_at_once_are_the_same(
    taps: int, constant_s: float, habit_s: float, count: int, seed: int
) -> None:
    memory, rng = MemorySpec(taps, constant_s, habit_s), np.random.default_rng(seed)
    values, usual = rng.normal(size=(count, 3)), rng.normal(size=3)
    past, parts = start_of(memory, usual), []
    for frame, now in enumerate(values):
        parts.append(advance(memory, past, now, 1 / 25 if frame else 0.0))
        past = parts[-1][..., 1:]
    np.testing.assert_allclose(run(memory, 25.0, values, usual), np.stack(parts), atol=1e-9)


def test_a_tap_lags_by_its_constants_and_settles_on_what_stays() -> None:
    pulse = np.zeros((400, 1))
    pulse[1] = 1.0  # at the first frame no time has passed
    taps = run(MEMORY, 25.0, pulse, np.zeros(1))[:, 0]
    for j in range(1, 9):
        mean_s = (taps[:, j] * np.arange(-1, 399)).sum() / taps[:, j].sum() / 25.0
        assert mean_s == pytest.approx(j * 0.4, abs=0.1)
        assert taps[:, j].sum() == pytest.approx(1.0, abs=1e-3)
    usual = np.array([3.0])
    np.testing.assert_allclose(run(MEMORY, 25.0, np.full((10, 1), 3.0), usual), 3.0)


def walk(count: int, columns: int, rng: np.random.Generator) -> F64:
    """Slow random courses in [0, 1], as concepts have them."""
    steps = rng.normal(size=(count, columns))
    smooth = np.stack([np.convolve(each, np.hanning(50), mode="same") for each in steps.T], axis=1)
    return np.asarray(1 / (1 + np.exp(-smooth / smooth.std(0))))


def delayed(course: F64, frames: int) -> F64:
    return np.asarray(np.concatenate([np.repeat(course[:1], frames, axis=0), course[: len(course) - frames]]))


def simulated(seed: int, count: int = 1500) -> tuple[Session, F64]:
    """Three concepts seen, two heard. The first seen one counts 1 s late, the second heard one 2 s late and most."""
    rng = np.random.default_rng(seed)
    seen, heard = walk(count, 3, rng), walk(count, 2, rng)
    of_seen = (0.3 * delayed(seen[:, 0], 25), -0.2 * seen[:, 1], 0 * seen[:, 2])
    of_heard = (0 * heard[:, 0], 0.5 * delayed(heard[:, 1], 50))
    parts = np.stack([*of_seen, *of_heard], axis=1)
    label = 0.2 + parts.sum(1) + 0.02 * rng.normal(size=count)
    label[::7] = np.nan
    taps = tuple(run(MEMORY, 25.0, each, each.mean(0)).reshape(count, each.shape[1], 1, 9) for each in (seen, heard))
    return Session(taps, label), parts


def test_known_weights_and_lags_are_found_again() -> None:
    learnt = [simulated(seed)[0] for seed in range(8)]
    head = fit(*trusted(learnt))
    session, parts = simulated(99)
    score = head.score(session.taps)
    known = ~np.isnan(session.label)
    assert ccc(score[known], session.label[known]) > 0.9
    found = np.concatenate([b.contributions(t) for b, t in zip(head.branches, session.taps, strict=True)], axis=1)
    for k in (0, 1, 4):
        assert np.corrcoef(found[:, k], parts[:, k])[0, 1] > 0.9, k
    assert found[:, [2, 3]].std(0).max() < 0.1 * found[:, 4].std()


def test_contributions_sum_to_the_score() -> None:
    head = fit(*trusted([simulated(seed)[0] for seed in range(3)]))
    session, _ = simulated(50)
    shares = [b.contributions(t) for b, t in zip(head.branches, session.taps, strict=True)]
    np.testing.assert_allclose(head.score(session.taps), head.base + np.concatenate(shares, axis=1).sum(1), atol=1e-12)


def test_what_is_heard_is_not_credited_to_what_is_seen_with_it() -> None:
    """A mouth that moves with speech, and at other times as well, counts little where speech alone does: it stands in
    for speech only where that is left out."""
    learnt = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        speech, chewing = walk(1500, 2, rng).T
        mouth = np.maximum(speech, chewing)
        label = 0.3 + 0.4 * speech + 0.02 * rng.normal(size=1500)
        taps = tuple(
            run(MEMORY, 25.0, each[:, None], each[None].mean(1)).reshape(1500, 1, 1, 9) for each in (mouth, speech)
        )
        learnt.append(Session(taps, label))
    head = fit(*trusted(learnt))
    seen, heard = (b.contributions(t)[:, 0].std() for b, t in zip(head.branches, learnt[0].taps, strict=True))
    assert seen < 0.1 * heard


def test_both_together_beat_either_alone() -> None:
    learnt = [simulated(seed)[0] for seed in range(8)]
    tests = [simulated(seed)[0] for seed in range(90, 93)]
    label = np.concatenate([each.label for each in tests])
    known = ~np.isnan(label)
    figures = {}
    for name, rows in (("V", (0,)), ("A", (1,)), ("V+A", (0, 1))):
        head = fit(*trusted([Session(tuple(each.taps[i] for i in rows), each.label) for each in learnt]))
        answer = np.concatenate([head.score(tuple(each.taps[i] for i in rows)) for each in tests])
        figures[name] = ccc(answer[known], label[known])
    assert figures["V+A"] > max(figures["V"], figures["A"]) + 0.1


def test_without_sound_the_same_head_answers_almost_as_well_as_one_that_never_heard() -> None:
    learnt = [simulated(seed)[0] for seed in range(8)]
    tests = [simulated(seed)[0] for seed in range(90, 93)]
    label = np.concatenate([each.label for each in tests])
    known = ~np.isnan(label)
    both = fit(*trusted(learnt))
    never = fit(*trusted([Session(each.taps[:1], each.label) for each in learnt]))
    figures = [
        ccc(np.concatenate([head.score(each.taps[:1]) for each in tests])[known], label[known])
        for head in (both, never)
    ]
    assert figures[0] > figures[1] - 0.05
    assert both.explained[1] > both.explained[0] + 0.1 > 0.1
    assert never.explained == pytest.approx(both.explained[:1], abs=0.1)


def test_where_nothing_is_audible_what_was_heard_is_not_learnt_from() -> None:
    """The second half of every session has rubbish for its sound, and says so."""
    learnt = []
    for seed in range(8):
        session = simulated(seed)[0]
        audible = np.arange(len(session.label)) < 750
        rubbish = np.where(audible[:, None, None, None], session.taps[1], 7.0)
        learnt.append(Session((session.taps[0], rubbish), session.label, audible))
    session, parts = simulated(99)
    head = fit(*trusted(learnt))
    assert np.abs(head.branches[1].mean).max() < 1
    found = head.branches[1].contributions(session.taps[1])[:, 1]
    assert np.corrcoef(found, parts[:, 4])[0, 1] > 0.9
    silent = Session(learnt[0].taps, learnt[0].label, np.zeros(1500, bool))
    with pytest.raises(LabelError, match="no labelled moment has sound"):
        fit(*trusted([silent, silent]))


def test_too_little_is_refused() -> None:
    session, _ = simulated(0, 100)
    with pytest.raises(ValueError, match="two sessions"):
        fit(*trusted([session]))
    unlabelled = Session(session.taps, np.full(100, np.nan))
    with pytest.raises(LabelError, match="no session has a label"):
        fit(*trusted([unlabelled, unlabelled]))
