"""The arithmetic of concepts: contributions sum to the score, interventions are exact, maps point."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import Array, EngineError, Tensors
from engines.concept import half_width, intervene, peak, peaks, read
from engines.spec import HeadSpec, IntervalSpec, SpreadSpec

seeds = st.integers(0, 2**32 - 1)


def model_output(seed: int, faces: int = 2, concepts: int = 5, expressions: int = 3) -> tuple[Tensors, HeadSpec]:
    """Outputs of a concept model that is drawn at random, in the engine's float32."""
    rng = np.random.default_rng(seed)
    split = (faces, concepts, 1 + expressions)
    maps = rng.gamma(0.3, size=(faces, concepts, 7, 7)) + 1e-6
    tensors = {
        "activation": rng.uniform(size=split[:2]),
        "active": rng.normal(scale=3, size=split),
        "inactive": rng.normal(scale=3, size=split),
        "maps": maps / maps.sum(axis=(2, 3), keepdims=True),
    }
    heads = HeadSpec(
        tuple(f"e{i}" for i in range(expressions)),
        tuple(rng.normal(size=1 + expressions).tolist()),
        tuple(map(tuple, rng.normal(size=split[1:]).tolist())),
        (),
    )
    return {name: array.astype(np.float32) for name, array in tensors.items()}, heads


@given(seeds)
def test_base_and_contributions_sum_to_the_score(seed: int) -> None:
    tensors, heads = model_output(seed)
    rng = np.random.default_rng(seed)
    for readout in read(tensors, heads):
        shares = [heads.base[0], *readout.contributions[:, 0].tolist()]
        assert readout.score == math.fsum(shares)
        assert readout.score == math.fsum(rng.permutation(shares))
        assert readout.score == pytest.approx(sum(shares), abs=1e-12)


@given(seeds)
def test_the_score_is_the_linear_head_on_the_mixed_embeddings(seed: int) -> None:
    """Against the definition: bias + sum W c, with bias = base - sum of the means."""
    tensors, heads = model_output(seed)
    bias = np.array(heads.base) - np.sum(heads.mean, axis=0)
    for i, readout in enumerate(read(tensors, heads)):
        p = tensors["activation"][i].astype(np.float64)[:, None]
        y = bias + (p * tensors["active"][i] + (1 - p) * tensors["inactive"][i]).sum(axis=0)
        assert readout.score == pytest.approx(y[0], abs=1e-9)
        weights = np.exp(y[1:])
        np.testing.assert_allclose(readout.expressions, weights / weights.sum(), atol=1e-12)


@given(seeds)
def test_expressions_are_probabilities(seed: int) -> None:
    tensors, heads = model_output(seed)
    tensors["active"] *= np.float32(1000)  # logits far beyond what exp can hold
    for readout in read(tensors, heads):
        assert (readout.expressions >= 0).all()
        assert readout.expressions.sum() == pytest.approx(1.0, abs=1e-12)


@given(seeds, st.floats(0.2, 5.0))
@settings(deadline=None)
def test_a_temperature_divides_the_logits_and_nothing_else(seed: int, temperature: float) -> None:
    tensors, heads = model_output(seed)
    warm = msgspec.structs.replace(heads, temperature=temperature)
    for plain, scaled in zip(read(tensors, heads), read(tensors, warm), strict=True):
        weights = plain.expressions ** (1 / temperature)
        np.testing.assert_allclose(scaled.expressions, weights / weights.sum(), atol=1e-9)
        assert scaled.score == plain.score
        np.testing.assert_array_equal(scaled.contributions, plain.contributions)


def test_without_an_interval_there_is_no_width_and_without_a_spread_one_for_all() -> None:
    tensors, heads = model_output(4, faces=3)
    assert [half_width(readout, heads) for readout in read(tensors, heads)] == [None] * 3
    one = msgspec.structs.replace(heads, interval=IntervalSpec(0.9, 0.42))
    assert [half_width(readout, one) for readout in read(tensors, one)] == [0.42] * 3


@given(seeds)
@settings(deadline=None)
def test_the_width_is_linear_in_activations_and_contributions_above_its_floor(seed: int) -> None:
    tensors, heads = model_output(seed, faces=3)
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 5))
    spread = SpreadSpec(0.1, tuple(a.tolist()), tuple(b.tolist()), floor=0.5)
    heads = msgspec.structs.replace(heads, interval=IntervalSpec(0.9, 2.0, spread))
    for readout in read(tensors, heads):
        linear = 0.1 + a @ readout.activation + b @ readout.contributions[:, 0]
        assert half_width(readout, heads) == pytest.approx(2.0 * max(0.5, linear))


@given(seeds, st.floats(0, 1), st.integers(0, 4))
def test_an_intervention_moves_its_own_concept_and_no_other(seed: int, value: float, k: int) -> None:
    tensors, heads = model_output(seed, faces=1)
    (before,) = read(tensors, heads)
    after = intervene(before, heads, {k: value})
    moved = (value - before.activation[k]) * (before.active[k] - before.inactive[k])
    np.testing.assert_allclose(after.contributions[k] - before.contributions[k], moved, atol=1e-12)
    assert after.score - before.score == pytest.approx(moved[0], abs=1e-12)
    rest = np.arange(5) != k
    np.testing.assert_array_equal(after.contributions[rest], before.contributions[rest])
    tensors["activation"][0, k] = value
    (measured,) = read(tensors, heads)
    assert after.score == pytest.approx(measured.score, abs=1e-5)


@given(seeds)
def test_an_intervention_that_changes_nothing_changes_nothing(seed: int) -> None:
    tensors, heads = model_output(seed, faces=1)
    (before,) = read(tensors, heads)
    after = intervene(before, heads, dict(enumerate(before.activation.tolist())))
    assert after.score == before.score
    np.testing.assert_array_equal(after.expressions, before.expressions)
    assert after.activation is not before.activation


@pytest.mark.parametrize(("k", "value"), [(-1, 0.5), (5, 0.5), (0, -0.1), (0, 1.1), (0, math.nan)])
def test_an_impossible_intervention_is_refused(k: int, value: float) -> None:
    tensors, heads = model_output(0, faces=1)
    (readout,) = read(tensors, heads)
    with pytest.raises(ValueError, match=r"needs an index below 5 and a value in \[0, 1\]"):
        intervene(readout, heads, {k: value})


def test_a_score_alone_needs_no_expressions() -> None:
    tensors, heads = model_output(3, expressions=0)
    assert all(readout.expressions.shape == (0,) for readout in read(tensors, heads))


def test_no_faces_are_no_readouts() -> None:
    tensors, heads = model_output(3, faces=0)
    assert read(tensors, heads) == ()


@pytest.mark.parametrize("name", ["activation", "active", "inactive", "maps"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(name: str, value: float) -> None:
    tensors, heads = model_output(1)
    tensors[name].flat[-1] = value
    with pytest.raises(EngineError, match=f"'{name}' with values that are not finite"):
        read(tensors, heads)


@pytest.mark.parametrize("name", ["activation", "active", "inactive", "maps"])
def test_a_missing_or_misshapen_tensor_is_an_error(name: str) -> None:
    tensors, heads = model_output(1)
    with pytest.raises(EngineError, match="not one model"):
        read({**tensors, name: tensors[name][:, 1:]}, heads)
    del tensors[name]
    with pytest.raises(EngineError, match=f"no '{name}'"):
        read(tensors, heads)


def spot(x: float, y: float, side: int = 7) -> Array:
    """A map with one round spot at x, y (shares)."""
    at = (np.arange(side) + 0.5) / side
    return np.exp(-((at[:, None] - y) ** 2 + (at - x) ** 2) / (2 * 0.08**2))


@given(st.floats(0.08, 0.92), st.floats(0.08, 0.92), st.sampled_from([7, 14]))
def test_the_peak_is_where_the_spot_is(x: float, y: float, side: int) -> None:
    found = peak(spot(x, y, side))
    assert found == pytest.approx((x, y), abs=0.5 / side)


def test_the_peak_lies_between_two_equal_cells() -> None:
    attention = np.zeros((7, 7))
    attention[2, 3] = attention[2, 4] = 0.5
    assert peak(attention) == pytest.approx((4 / 7, 2.5 / 7))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 6), (6, 0), (6, 6), (3, 0), (6, 2)])
def test_a_peak_at_the_border_stays_inside(row: int, column: int) -> None:
    attention = np.full((7, 7), 1e-3)
    attention[row, column] = 1.0
    x, y = peak(attention)
    assert column / 7 < x < (column + 1) / 7
    assert row / 7 < y < (row + 1) / 7


@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_peaks_of_any_map_are_in_range(seed: int, height: int, width: int) -> None:
    maps = np.random.default_rng(seed).gamma(0.2, size=(4, height, width))
    found = peaks(maps)
    assert found.shape == (4, 2)
    assert (found > 0).all()
    assert (found < 1).all()
    np.testing.assert_allclose(found, [peak(each) for each in maps])


def test_an_empty_map_has_a_peak_in_range() -> None:
    assert peak(np.zeros((7, 7))) == pytest.approx((0.5 / 7, 0.5 / 7))
