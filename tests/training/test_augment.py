"""Random views: the same for the same generator, and true about being mirrored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.preprocess import Luma
from training.data.augment import Augment, centre, vary

MARGIN, INNER = 16, 112
STILL = Augment(0, 0, 0, 0, 0, 0, 0, 0)
UNHIDDEN = Augment(hide_share=0)
few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)
sides = st.sampled_from([32, 80, 96, 112])


def noise(seed: int = 0) -> Luma:
    return np.random.default_rng(seed).integers(0, 256, (INNER + 2 * MARGIN,) * 2, dtype=np.uint8)


def lit_from_the_left() -> Luma:
    stored = np.full((INNER + 2 * MARGIN,) * 2, 60, np.uint8)
    stored[:, : stored.shape[1] // 2] = 190
    return stored


@few
@given(seeds, sides)
def test_the_generator_decides(seed: int, side: int) -> None:
    views = [vary(noise(), MARGIN, side, Augment(), np.random.default_rng(seed)) for _ in range(2)]
    np.testing.assert_array_equal(views[0].luma, views[1].luma)
    np.testing.assert_array_equal(views[0].affine, views[1].affine)
    assert views[0].mirrored == views[1].mirrored
    assert views[0].luma.shape == (side, side)
    assert views[0].luma.dtype == np.uint8
    other = vary(noise(), MARGIN, side, Augment(), np.random.default_rng(seed + 1))
    assert not np.array_equal(views[0].luma, other.luma)


@few
@given(seeds, sides)
def test_the_flag_is_true_exactly_when_the_picture_is_mirrored(seed: int, side: int) -> None:
    varied = vary(lit_from_the_left(), MARGIN, side, UNHIDDEN, np.random.default_rng(seed))
    view, mirrored = varied.luma, varied.mirrored
    left, right = view[:, : side // 3].mean(), view[:, -(side // 3) :].mean()
    assert (right > left) == mirrored
    assert abs(right - left) > 20


def test_half_of_the_views_are_mirrored() -> None:
    rng = np.random.default_rng(0)
    flags = [vary(noise(), MARGIN, 32, Augment(), rng).mirrored for _ in range(200)]
    assert 70 < sum(flags) < 130


@few
@given(seeds)
def test_without_changes_a_view_is_the_centre_or_its_mirror_image(seed: int) -> None:
    varied = vary(noise(seed), MARGIN, INNER, STILL, np.random.default_rng(seed))
    view, mirrored = varied.luma, varied.mirrored
    straight = view[:, ::-1] if mirrored else view
    np.testing.assert_array_equal(straight, centre(noise(seed), MARGIN, INNER))


@few
@given(seeds, sides)
def test_the_affine_says_where_a_place_of_the_stored_crop_went(seed: int, side: int) -> None:
    stored = np.zeros((INNER + 2 * MARGIN,) * 2, np.uint8)
    at = np.array([MARGIN + INNER * 0.4, MARGIN + INNER * 0.6])
    x, y = at.round().astype(int)
    stored[y - 2 : y + 3, x - 2 : x + 3] = 255
    varied = vary(
        stored, MARGIN, side, Augment(contrast=0, brightness=0, blur_share=0, hide_share=0), np.random.default_rng(seed)
    )
    weight = varied.luma.astype(float) + 1e-9
    seen = np.array([(weight.sum(0) * np.arange(side)).sum(), (weight.sum(1) * np.arange(side)).sum()]) / weight.sum()
    np.testing.assert_allclose(seen, varied.affine @ [x, y, 1.0], atol=0.35)


def test_the_stored_picture_is_not_touched() -> None:
    stored = noise()
    stored.setflags(write=False)
    for seed in range(20):
        vary(stored, MARGIN, 48, Augment(hide_share=1.0), np.random.default_rng(seed))
    np.testing.assert_array_equal(stored, noise())


@few
@given(seeds)
def test_what_is_hidden_is_one_rectangle_of_limited_size(seed: int) -> None:
    only_hide = Augment(0, 0, 0, 0, 0, 0, 0, hide_share=1.0)
    varied = vary(lit_from_the_left(), MARGIN, INNER, only_hide, np.random.default_rng(seed))
    view, mirrored = varied.luma, varied.mirrored
    clean = centre(lit_from_the_left(), MARGIN, INNER)
    rows, columns = np.nonzero(view != (clean[:, ::-1] if mirrored else clean))
    if len(rows):  # a rectangle of just the grey beneath it hides nothing
        high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0 < high <= INNER * 2 // 5
        assert 0 < wide <= INNER * 2 // 5


def test_light_never_turns_dark_into_bright() -> None:
    ramp = np.tile(np.linspace(0, 255, INNER + 2 * MARGIN).astype(np.uint8), (INNER + 2 * MARGIN, 1))
    only_light = Augment(0, 0, 0, blur_share=0, hide_share=0)
    for seed in range(20):
        varied = vary(ramp, MARGIN, INNER, only_light, np.random.default_rng(seed))
        view, mirrored = varied.luma, varied.mirrored
        steps = np.diff(view.astype(int), axis=1) * (-1 if mirrored else 1)
        assert (steps >= 0).all()
        assert steps.any()


def test_the_centre_is_the_inner_crop() -> None:
    np.testing.assert_array_equal(centre(noise(), MARGIN, INNER), noise()[MARGIN:-MARGIN, MARGIN:-MARGIN])
    np.testing.assert_array_equal(centre(noise(), 0, INNER + 2 * MARGIN), noise())


@pytest.mark.parametrize("side", [28, 56])
def test_a_smaller_centre_is_the_mean_of_its_pixels(side: int) -> None:
    block = INNER // side
    means = centre(noise(), MARGIN, INNER).reshape(side, block, side, block).mean((1, 3))
    np.testing.assert_allclose(centre(noise(), MARGIN, side), means, atol=0.51)


@pytest.mark.parametrize("how", [{"rotate_deg": -1.0}, {"hide_share": 1.5}, {"mixup": -0.1}])
def test_ranges_of_nonsense_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="nothing is below 0, and shares are at most 1"):
        Augment(**how)
